"""Calibrations of cameras in files: JSON, YAML or NumPy's npz, read without running anything."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from crdkit.errors import ConfigError, first_line, shorten

_KNOWN_AS = {
    "K": "intrinsics",
    "camera_matrix": "intrinsics",
    "D": "distortion",
    "dist_coeffs": "distortion",
    "distortion_coefficients": "distortion",
    "R": "rotation",
    "t": "translation",
    "T": "translation",
    "M": "matrix",
    "H": "matrix",
}
"""What other programs call the values."""
_LEFT_OUT = {
    "image_width",
    "image_height",
    "camera_name",
    "distortion_model",
    "rectification_matrix",
    "projection_matrix",
}
"""What ROS's files of cameras hold besides (format of camera_calibration_parsers)."""
_LENSES = ("plumb_bob", "rational_polynomial")
"""Models of distortion that are those of OpenCV's five and eight numbers."""
_VECTORS = ("distortion", "translation")
_MAX_BYTES = 2**20


def with_calibration(options: dict[str, Any], *, sensor: str) -> dict[str, Any]:
    """Return a sensor's options with those in the file that ``file`` names, which is left out.

    Args:
        options: of one sensor's registration.
        sensor: its name; a file with a key of that name holds its values below it.

    Raises:
        ConfigError: the file cannot be read or holds no such values, or a value is given twice.
    """
    if options.get("file") is None:
        return {key: value for key, value in options.items() if key != "file"}
    path = Path(os.path.expanduser(str(options["file"])))  # a home that does not exist stays as it is written
    content = _read(path)
    found = content[sensor] if isinstance(content.get(sensor), dict) else content
    _require_known_lens(found.get("distortion_model"), path)
    values: dict[str, Any] = {key: value for key, value in options.items() if key != "file"}
    for key, value in found.items():
        name = _KNOWN_AS.get(key, key)
        if name in values:
            raise ConfigError(f"{path}: data.registration.sensors.{sensor}.{name} is given here and elsewhere; once is")
        if name in _LEFT_OUT:
            continue
        try:
            values[name] = _plain(value, flat=name in _VECTORS)
        except ValueError as error:
            raise ConfigError(f"{path}: {shorten(repr(key))}: {error}") from error
    return values


def _require_known_lens(model: Any, path: Path) -> None:
    if model is not None and model not in _LENSES:
        raise ConfigError(
            f"{path}: distortion_model {shorten(repr(model))} is not known; expected {' or '.join(_LENSES)}"
        )


def _read(path: Path) -> dict[str, Any]:
    """Return the mapping in a file.

    Raises:
        ConfigError: it is missing, too large, or something else.
    """
    from crdkit._core.documents import parse_json, parse_yaml

    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise ConfigError(f"{path}: has {size} bytes; a calibration is a few numbers")
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        text = path.read_text(encoding="utf-8")
        content = parse_json(text) if path.suffix.lower() == ".json" else parse_yaml(text)
    except ConfigError:
        raise
    except Exception as error:  # a damaged npz raises many types
        reason = first_line(error)
        raise ConfigError(f"{path}: the calibration cannot be read: {reason}; give JSON, YAML or npz") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{path}: expected a mapping such as {{matrix: [[...]]}}, found {shorten(repr(content))}")
    return content


def _plain(value: Any, *, flat: bool) -> Any:
    """Return a value as lists of numbers; vectors may be stored as rows or columns.

    Raises:
        ValueError: a matrix with rows, cols and data does not hold rows x cols numbers.
    """
    if isinstance(value, dict) and {"rows", "cols", "data"} <= value.keys():  # as OpenCV and ROS write matrices
        rows, columns, data = value["rows"], value["cols"], value["data"]
        counts = isinstance(rows, int) and isinstance(columns, int) and min(rows, columns) > 0
        if not (counts and isinstance(data, list) and len(data) == rows * columns):
            raise ValueError("expected rows and cols above 0, and as data a list of rows x cols numbers")
        value = [data[row * columns :][:columns] for row in range(rows)]
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if flat and isinstance(value, list):
        return [number for part in value for number in (part if isinstance(part, list) else [part])]
    return value
