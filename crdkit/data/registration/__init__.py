"""Registration: sensors of other sizes or places are brought onto the pixels of one of them, the reference."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import AfterValidator, Field, field_validator, model_validator

from crdkit._core.registry import StrictConfig
from crdkit.data.registration._calibration_file import with_calibration
from crdkit.data.registration._pinhole import places_seen, project
from crdkit.data.registration._warp import Size, backwards, places_of, scaling, take, take_between
from crdkit.errors import DataError, unknown_name

Row = tuple[float, float, float]
_IDENTITY: tuple[Row, Row, Row] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))


ImageSize = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]
"""Height and width."""
M = TypeVar("M", bound=tuple[Row, ...])


def _invertible(matrix: M) -> M:
    square = np.array(matrix)
    square = square[:2, :2] if len(square) == 2 else square
    largest = np.abs(square).max(axis=0)  # each column has its unit: a shift by thousands of pixels is none of scale
    if not largest.all() or abs(np.linalg.det(square / largest)) < 1e-12:
        raise ValueError("the matrix cannot be inverted: it brings whole lines of pixels to one")
    return matrix


class Resize(StrictConfig):
    """The sensor shows the same field of view in an image of another size: corners lie on corners."""

    method: Literal["resize"]


class _ByMatrix(StrictConfig):
    """A matrix holds for images of one size."""

    size: ImageSize | None = Field(
        None, description="height and width of the sensor's images, for which the matrix holds; others are refused"
    )


class Affine(_ByMatrix):
    """A 2 x 3 matrix moves, turns, scales and shears."""

    method: Literal["affine"]
    matrix: Annotated[tuple[Row, Row], AfterValidator(_invertible)] = Field(
        description="from pixels (x, y, 1) of the sensor to (x, y) of the reference"
    )


class Homography(_ByMatrix):
    """A 3 x 3 matrix brings one flat view to another, as between cameras that see one plane."""

    method: Literal["homography"]
    matrix: Annotated[tuple[Row, Row, Row], AfterValidator(_invertible)] = Field(
        description="from pixels (x, y, 1) of the sensor to those of the reference"
    )


class Pinhole(StrictConfig):
    """A scan is projected into the calibrated camera that is the reference."""

    method: Literal["pinhole"]
    intrinsics: tuple[Row, Row, Row] = Field(description="of the camera, pixels: [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]")
    distortion: tuple[float, ...] = Field(
        (), max_length=8, description="of its lens: k1, k2, p1, p2, k3, k4, k5, k6, as OpenCV orders them"
    )
    rotation: tuple[Row, Row, Row] = Field(_IDENTITY, description="from the scan's coordinates to the camera's")
    translation: Row = Field((0, 0, 0), description="from the scan's coordinates to the camera's, metres")
    close: int = Field(
        0, ge=0, le=32, description="reach in pixels within which holes between points are filled; 0: they stay invalid"
    )

    @model_validator(mode="after")
    def _is_a_camera(self) -> Pinhole:
        camera = np.array(self.intrinsics)
        if camera[0, 0] <= 0 or camera[1, 1] <= 0 or camera[1, 0] != 0 or (camera[2] != [0, 0, 1]).any():
            raise ValueError("intrinsics must be [[fx, skew, cx], [0, fy, cy], [0, 0, 1]] with fx and fy above 0")
        turned = np.array(self.rotation)
        if not np.allclose(turned @ turned.T, np.eye(3), atol=1e-3) or np.linalg.det(turned) < 0:
            raise ValueError("rotation must be a rotation matrix: its rows of length 1, at right angles, not mirrored")
        return self


Move = Resize | Affine | Homography | Pinhole


class RegisteredSensors(dict[str, np.ndarray]):
    """Sensors of one sample that are on one grid already: a detector does not register them again.

    Examples:
        >>> RegisteredSensors(rgb=np.zeros((4, 5, 3), np.uint8))["rgb"].shape
        (4, 5, 3)
    """


class Registration(StrictConfig):
    """Brings sensors onto the pixels of the reference, whose height and width all then have.

    8-bit images are interpolated; all else takes the nearest pixel, so that no value is made of two surfaces, or of a
    measurement and a pixel without one.

    Examples:
        >>> moved = {"xyz": {"method": "affine", "matrix": [[1, 0, 1], [0, 1, 0]]}}
        >>> registration = Registration(reference="rgb", sensors=moved)
        >>> scan, picture = np.ones((2, 3, 3), np.float32), np.zeros((2, 3, 3), np.uint8)
        >>> found, _ = registration.bring({"rgb": picture, "xyz": scan})
        >>> found["xyz"][0, :, 2]
        array([0., 1., 1.], dtype=float32)
    """

    reference: str = Field(description="sensor onto whose pixels the others are brought")
    sensors: dict[str, Annotated[Move, Field(discriminator="method")]] = Field(
        min_length=1, description="how each sensor that is moved is brought there; any other has its pixels already"
    )
    masks: str | None = Field(None, description="sensor on whose pixels ground truth was drawn; None: the reference")
    size: ImageSize | None = Field(
        None, description="height and width of the reference; needed if a sample may lack it, or no modality reads it"
    )

    @field_validator("sensors", mode="before")
    @classmethod
    def _read_files(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            name: with_calibration(options, sensor=str(name)) if isinstance(options, dict) else options
            for name, options in value.items()
        }

    @model_validator(mode="after")
    def _reference_stays(self) -> Registration:
        if self.reference in self.sensors:
            raise ValueError(f"the reference {self.reference!r} cannot be moved itself; take it out of 'sensors'")
        return self

    def require_known(self, sensors: Collection[str]) -> None:
        """Refuse names that the data does not have.

        Raises:
            DataError: there is one.
        """
        for name in (self.reference, *self.sensors, *([self.masks] if self.masks else [])):
            if name not in sensors:
                raise DataError(f"data.registration: {unknown_name('sensor', name, sensors)}")

    def also_read(self, sensors: Collection[str]) -> list[str]:
        """Return what must be read besides ``sensors`` to bring these, or the mask, onto the grid."""
        wanted = [self.reference] if self.size is None else []
        if self.masks is not None and isinstance(self.sensors.get(self.masks), Pinhole):
            wanted.append(self.masks)
        return [name for name in wanted if name not in sensors]

    def bring(
        self, sensors: Mapping[str, np.ndarray], mask: np.ndarray | None = None
    ) -> tuple[RegisteredSensors, np.ndarray | None]:
        """Return one sample's sensors, those of ``sensors`` that are moved on the grid of the reference, and its mask.

        Args:
            sensors: (H, W) or (H, W, C) by name; some may be missing.
            mask: (H, W) of the sensor that `masks` names.

        Raises:
            DataError: the size of the grid is unknown, or a sensor cannot be moved.
        """
        for name in (self.reference, *self.sensors):
            array = sensors.get(name)
            if array is not None and (array.ndim not in (2, 3) or not array.size):
                raise DataError(f"sensor {name!r}: expected (H, W) or (H, W, C), found {array.dtype} {array.shape}")
        grid = self._grid(sensors)
        found = RegisteredSensors(sensors)
        for name, move in self.sensors.items():
            array = sensors.get(name)
            if array is None:
                continue
            if array.dtype == np.uint8 and array.ndim in (2, 3) and not isinstance(move, Pinhole):
                found[name] = take_between(array, _backwards(move, name, array.shape[:2], grid), grid)
            else:
                found[name] = take(array, _places(move, name, array, grid))
        owner = self.masks or self.reference
        if mask is None or owner not in self.sensors:
            return found, mask
        move = self.sensors[owner]
        drawn_on = sensors.get(owner, mask)
        if drawn_on.shape[:2] != mask.shape:
            raise DataError(f"the mask has {mask.shape} pixels, but sensor {owner!r} has {drawn_on.shape[:2]}")
        return found, take(mask, _places(move, owner, drawn_on, grid))

    def _grid(self, sensors: Mapping[str, np.ndarray]) -> Size:
        reference = sensors.get(self.reference)
        shape = None if reference is None else reference.shape[:2]
        if shape is not None and self.size is not None and self.size != shape:
            raise DataError(
                f"data.registration.size is {list(self.size)}, but sensor {self.reference!r} has height and "
                f"width {list(shape)}"
            )
        grid = self.size or shape
        if grid is None:
            raise DataError(
                f"sensor {self.reference!r} is missing, onto whose pixels others are brought; set "
                "data.registration.size=[HEIGHT, WIDTH] to do without it"
            )
        return grid


def _backwards(move: Resize | Affine | Homography, sensor: str, source: Size, grid: Size) -> np.ndarray:
    if isinstance(move, _ByMatrix) and move.size not in (None, source):
        raise DataError(
            f"data.registration.sensors.{sensor}.size is {list(move.size)}, but sensor {sensor!r} has height and width "
            f"{list(source)}, for which the matrix does not hold; give images like those that it was measured on, or "
            "another matrix"
        )
    try:
        return backwards(scaling(source, grid) if isinstance(move, Resize) else move.matrix, grid)
    except ValueError as error:
        raise DataError(f"data.registration.sensors.{sensor}: {error}; is it of other images?") from error


def _places(move: Move, sensor: str, array: np.ndarray, grid: Size) -> np.ndarray:
    if not isinstance(move, Pinhole):
        source = array.shape[:2]
        return places_of(_backwards(move, sensor, source, grid), source=source, grid=grid)
    if array.ndim != 3 or array.shape[2] != 3 or not np.issubdtype(array.dtype, np.floating):
        raise DataError(
            f"sensor {sensor!r}: 'pinhole' moves scans, float (H, W, 3) in metres, found {array.dtype} {array.shape}"
        )
    points = array.reshape(-1, 3)
    measured = np.isfinite(points).all(axis=1) & (points[:, 2] != 0)
    points = np.where(measured[:, None], points, array.dtype.type(0))
    pixels, depth = project(
        points,
        intrinsics=move.intrinsics,
        rotation=move.rotation,
        translation=move.translation,
        distortion=move.distortion,
    )
    focal_length = move.intrinsics[0][0]
    return places_seen(pixels, depth, measured=measured, grid=grid, focal_length=focal_length, close=move.close)
