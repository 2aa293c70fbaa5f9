"""A table with one object on it, as one camera sees it: what every sensor measures comes from here."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crdkit.data.synthetic.defects import DEFECTS, INFRARED_DEFECTS
from crdkit.data.synthetic.objects import OBJECT_KINDS
from crdkit.data.synthetic.surface import MM, Field, Solid, colour, mix, stream, value_noise
from crdkit.errors import CrdkitError, unknown_name

TABLE_SIDE = 130.0 * MM
"""How much of the table the shorter side of the image shows."""


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pin-hole camera that looks straight down: X to the right, Y down the image, Z away from it."""

    height: int
    """Image rows."""
    width: int
    """Image columns."""
    focal_length: float
    """Pixels."""
    distance: float
    """From the camera to the table, metres."""

    @property
    def pitch(self) -> float:
        """Side of one pixel on the table, metres."""
        return self.distance / self.focal_length

    def rays(self) -> tuple[Field, Field]:
        """Slopes X / Z and Y / Z of each pixel's ray, each (H, W)."""
        columns = (np.arange(self.width) - (self.width - 1) / 2.0) / self.focal_length
        rows = (np.arange(self.height) - (self.height - 1) / 2.0) / self.focal_length
        x, y = np.meshgrid(columns, rows)
        return x, y


def scanner_camera(size: int | tuple[int, int]) -> Camera:
    """Place a camera of ``size`` pixels, a side or (H, W), 0.6 m above the table.

    Raises:
        CrdkitError: a side is shorter than 32 pixels.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 32:
        raise CrdkitError(f"size (={size}) must be at least 32 pixels a side")
    return Camera(height=height, width=width, focal_length=min(height, width) * 0.6 / TABLE_SIDE, distance=0.6)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything the sensors can see, per pixel, and the ground truth."""

    camera: Camera
    key: tuple[int, ...]
    """Seeds the noise of each sensor: two scenes with the same key differ only where their objects do."""
    height: Field
    """(H, W) above the table, metres."""
    tilt: tuple[float, float]
    """Slope of the table along X and Y."""
    albedo: Field
    """(3, H, W) diffuse reflectance, linear, 0 to 1."""
    gloss: Field
    """(H, W) strength of the specular lobe, 0 to 1."""
    heat: Field
    """(H, W) heat that the object still holds, 0 (like the table) to 1."""
    mask: NDArray[np.bool_]
    """(H, W) where the defect changes the scene by more than 0.3 mm, 4 % reflectance or 5 % heat."""
    covered: NDArray[np.bool_]
    """(H, W) where the intact object lies."""

    def depth(self) -> Field:
        """Distance along the optical axis without noise or holes, (H, W), metres."""
        x, y = self.camera.rays()
        table = self.camera.distance * (1.0 + self.tilt[0] * x + self.tilt[1] * y)
        depth: Field = table - self.height
        return depth


def sample_key(seed: int, category: str, split: str, defect: str, index: int) -> tuple[int, ...]:
    """Return the key of one sample's randomness, independent of all other samples."""
    return (seed, *(zlib.crc32(part.encode()) for part in (category, split, defect)), index)


def make_scene(kind: str, *, camera: Camera, key: tuple[int, ...], defect: str | None = None) -> Scene:
    """Lay one object of ``kind`` on the table, with ``defect`` or without.

    The same ``key`` gives the same object in the same place, so a scene has an intact twin.

    Raises:
        UnknownNameError: ``kind`` or ``defect`` is unknown.

    Examples:
        >>> camera = scanner_camera(64)
        >>> key = sample_key(0, "gear", "test", "dent", 0)
        >>> bool(make_scene("gear", camera=camera, key=key, defect="dent").mask.any())
        True
        >>> bool(make_scene("gear", camera=camera, key=key).mask.any())
        False
    """
    if kind not in OBJECT_KINDS:
        raise unknown_name("synthetic category", kind, OBJECT_KINDS)
    defects = DEFECTS | INFRARED_DEFECTS
    if defect is not None and defect not in defects:
        raise unknown_name("synthetic defect", defect, defects)
    pose = stream(key, "pose")
    angle = pose.uniform(-1.0, 1.0) * OBJECT_KINDS[kind].rotation
    shift_x, shift_y = pose.uniform(-4.0, 4.0, 2) * MM
    tilt_x, tilt_y = pose.normal(0.0, 0.004, 2)
    ray_x, ray_y = camera.rays()
    table_x, table_y = ray_x * camera.distance, ray_y * camera.distance
    dx, dy = table_x - shift_x, table_y - shift_y
    x, y = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)

    intact = OBJECT_KINDS[kind].build(x, y, stream(key, "shape"))
    solid = intact if defect is None else defects[defect](intact, OBJECT_KINDS[kind], stream(key, "defect"))
    cloth = value_noise(table_x, table_y, cell=1.2 * MM, rng=stream(key, "table"))
    table = colour("343a43") * (1.0 + 0.10 * cloth)
    height, albedo, cover = _place_on_table(solid, table=table, pitch=camera.pitch)
    # thick parts cool slowly; pressing a part moves its material but takes none away
    stored_heat = 1.0 - np.exp(-np.maximum(intact.height, 0.0) / (7.0 * MM))
    mask = np.zeros(height.shape, dtype=np.bool_)
    if defect is not None:
        intact_height, intact_albedo, _ = _place_on_table(intact, table=table, pitch=camera.pitch)
        mask = (np.abs(height - intact_height) > 0.3 * MM) | (np.abs(albedo - intact_albedo).max(axis=0) > 0.04)
        mask |= np.abs(solid.warmth - intact.warmth) * stored_heat * cover > 0.05
    return Scene(
        camera=camera,
        key=key,
        height=height,
        tilt=(float(tilt_x), float(tilt_y)),
        albedo=albedo,
        gloss=solid.gloss * cover,
        heat=solid.warmth * stored_heat * cover,
        mask=mask,
        covered=intact.inside > 0.0,
    )


def _place_on_table(solid: Solid, *, table: Field, pitch: float) -> tuple[Field, Field, Field]:
    """Height, albedo and coverage of the whole image: colours blend over one pixel at the outline."""
    cover = np.clip(solid.inside / pitch + 0.5, 0.0, 1.0)
    return np.where(solid.inside > 0.0, solid.height, 0.0), mix(table, solid.albedo, cover), cover
