"""A made-up scene that a scanner and a camera see, each by casting rays onto a surface that is known everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TABLE = 0.5  # metres from the scanner
MARKS = np.array([[-0.06, -0.05], [0.05, -0.045], [0.055, 0.05], [-0.05, 0.055], [0.0, 0.0], [0.0, 0.065]])
RADIUS = 0.006


def height(x, y):
    """Metres above the table: a bump, a ramp and a step of 20 mm."""
    bump = 0.015 * np.exp(-((x - 0.05) ** 2 + (y + 0.045) ** 2) / 0.03**2)
    step = 0.02 * ((np.abs(x + 0.02) < 0.05) & (np.abs(y - 0.005) < 0.02))
    return bump + step + 0.05 * (x + 0.1)


def is_marked(x, y):
    return (np.hypot(x[..., None] - MARKS[:, 0], y[..., None] - MARKS[:, 1]) < RADIUS).any(axis=-1)


@dataclass(frozen=True)
class PinholeCamera:
    size: tuple[int, int]
    intrinsics: np.ndarray
    rotation: np.ndarray
    """From the scene's coordinates, the scanner's, to the camera's."""
    translation: np.ndarray

    def see(self):
        """Return the point (H, W, 3) that each pixel's ray meets first, in the scene's coordinates."""
        rows, columns = np.mgrid[: self.size[0], : self.size[1]]
        pixels = np.stack([columns, rows, np.ones_like(rows)], -1).astype(float)
        rays = pixels @ np.linalg.inv(self.intrinsics).T @ self.rotation  # row vectors: R^T on the left
        start = -self.rotation.T @ self.translation
        near = (TABLE - 0.06 - start[2]) / rays[..., 2]
        far = (TABLE + 0.03 - start[2]) / rays[..., 2]
        entered = far.copy()
        for share in np.linspace(1, 0, 150):  # from behind, so that the first meeting is kept
            t = near + share * (far - near)
            entered = np.where(self._is_inside(start, rays, t), t, entered)
        low, high = entered - (far - near) / 149, entered
        for _ in range(20):
            middle = (low + high) / 2
            inside = self._is_inside(start, rays, middle)
            low, high = np.where(inside, low, middle), np.where(inside, middle, high)
        return start + rays * high[..., None]

    @staticmethod
    def _is_inside(start, rays, t):
        x, y, z = np.moveaxis(start + rays * t[..., None], -1, 0)
        return z >= TABLE - height(x, y)

    def project(self, points):
        seen = points @ self.rotation.T + self.translation
        return (seen @ self.intrinsics.T)[..., :2] / seen[..., 2:]


def scanner(size=(120, 150)):
    focal = size[1] * 2.4
    intrinsics = np.array([[focal, 0, (size[1] - 1) / 2], [0, focal, (size[0] - 1) / 2], [0, 0, 1]])
    return PinholeCamera(size, intrinsics, np.eye(3), np.zeros(3))


def side_camera(size=(110, 130)):
    """A camera 0.1 m beside the scanner, turned towards the part, with another lens."""
    yaw, roll = np.arctan2(0.1, TABLE), 0.1
    turn = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    spin = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    rotation = spin @ turn
    intrinsics = np.array([[270.0, 0, 62.3], [0, 266.0, 57.1], [0, 0, 1]])
    return PinholeCamera(size, intrinsics, rotation, -rotation @ np.array([-0.1, 0.01, 0.02]))
