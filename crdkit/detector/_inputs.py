"""What may be given for a sensor: an array, a file, a Pillow image or a tensor; all become the arrays of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from crdkit.config.build import build_dataset
from crdkit.data import UNLABELLED, DatasetConfig, SampleRecord, Sensors
from crdkit.data.images import describe
from crdkit.data.parts import FilePart, split_part, without_part
from crdkit.errors import DataError, unknown_name

if TYPE_CHECKING:
    from PIL.Image import Image

    from crdkit.config.run_config import RunConfig

SensorData: TypeAlias = "np.ndarray | torch.Tensor | Image | Path | str"
"""One sensor of one sample, (H, W) or (H, W, C)."""

_MODES = ("1", "L", "RGB", "I", "F")  # of Pillow; what else there is has other colours or transparency
_EXAMPLE = "e.g. {'rgb': array, 'xyz': 'part.tiff'}"


def read_files(files: Mapping[str, Path | str], config: RunConfig, *, known: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return one sample's sensors as the data set of ``config`` reads them from files, each checked.

    Args:
        files: by sensor.
        config: of the detector.
        known: the sensors that there are.

    Raises:
        DataError: a file is missing or cannot be read; the message starts with the sensor.
        UnknownNameError: there is no such sensor.
    """
    if not isinstance(files, Mapping):
        raise DataError(f"expected a mapping from sensor names to files, e.g. {{'rgb': 'a.png'}}, found {_type(files)}")
    for sensor in files:
        if sensor not in known:
            raise unknown_name("sensor", str(sensor), known, hint="; this detector reads no other")
    paths, parts = split_parts(files)
    for sensor, path in paths.items():
        if not path.is_file():
            raise DataError(f"sensor {sensor!r}: {path}: {'is not a file' if path.exists() else 'does not exist'}")
    if not paths:
        return {}
    dataset = build_dataset(config)
    record = SampleRecord(
        sample_id=next(iter(paths.values())).stem,
        split="test",
        label=None,
        defect_type=UNLABELLED,
        files=paths,
        parts=parts,
    )
    arrays: dict[str, np.ndarray] = {}
    for sensor in paths:
        try:
            arrays[sensor] = dataset.read(record, [sensor]).sensors[sensor]
        except DataError as error:
            raise DataError(f"sensor {sensor!r}: {error}") from error
    return arrays


def split_parts(files: Mapping[str, Path | str]) -> tuple[dict[str, Path], dict[str, FilePart]]:
    """Return the files of sensors, and the parts that are named behind them, as in ``07.tiff#page=2``.

    Raises:
        DataError: what follows a # is no part of a file.
    """
    paths: dict[str, Path] = {}
    parts: dict[str, FilePart] = {}
    for sensor, file in files.items():
        try:
            path, part = split_part(str(file))
        except ValueError as error:
            raise DataError(f"sensor {sensor!r}: {error}") from error
        paths[sensor] = Path(path).expanduser()
        parts |= {} if part is None else {sensor: part}
    return paths, parts


def to_arrays(sensors: Mapping[str, SensorData], config: RunConfig, *, wanted: tuple[str, ...]) -> Sensors:
    """Return the ``wanted`` of one sample's sensors as arrays; files are read as `read_files` does.

    Raises:
        DataError: a value is nothing that an array can be made of; the message names the sensor.
    """
    given = {sensor: sensors[sensor] for sensor in wanted if sensor in sensors}
    files = {sensor: value for sensor, value in given.items() if isinstance(value, (str, Path))}
    read = read_files(files, config, known=wanted)
    return {
        sensor: read[sensor] if sensor in read else _measured(_to_array(value, sensor), sensor, config.data)
        for sensor, value in given.items()
    }


def require_mapping(sensors: object) -> None:
    """Refuse what is not one sample's sensors by name.

    Raises:
        DataError: it is something else.
    """
    if isinstance(sensors, Mapping):
        return
    several = "; for several samples there is predict_batch" if isinstance(sensors, (list, tuple)) else ""
    raise DataError(f"expected a mapping from sensor names to their data, {_EXAMPLE}, found {_type(sensors)}{several}")


def require_samples(samples: object) -> None:
    """Refuse what is not several samples.

    Raises:
        DataError: it is something else.
    """
    if isinstance(samples, (Mapping, str, np.ndarray, torch.Tensor)) or not isinstance(samples, Iterable):
        one = "; for one sample there is predict" if isinstance(samples, Mapping) else ""
        raise DataError(
            f"expected samples, each a mapping from sensor names to their data, found {_type(samples)}{one}"
        )


def first_file(sensors: Mapping[str, object]) -> str | None:
    """Return the first path among the data of one sample."""
    return next((without_part(value) for value in sensors.values() if isinstance(value, (str, Path))), None)


def _to_array(value: Any, sensor: str) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    from PIL import Image

    if isinstance(value, Image.Image):
        return _of_image(value, sensor)
    if isinstance(value, torch.Tensor):
        return _of_tensor(value, sensor)
    raise DataError(
        f"sensor {sensor!r}: expected a numpy array, torch tensor or Pillow image, (H, W) or (H, W, C), or the path of "
        f"a file, found {_type(value)}"
    )


def _of_image(image: Image, sensor: str) -> np.ndarray:
    if image.mode in ("P", "PA"):
        image = image.convert("RGB")
    if image.mode not in _MODES and not image.mode.startswith("I;16"):
        raise DataError(
            f"sensor {sensor!r}: a Pillow image of mode {image.mode!r}; expected greyscale or RGB: "
            "image.convert('L') or image.convert('RGB')"
        )
    try:
        array = np.asarray(image)
    except OSError as error:  # it reads the file only now
        raise DataError(f"sensor {sensor!r}: the Pillow image cannot be read: {error}") from error
    if image.mode == "1":
        return array.astype(np.uint8)
    if image.mode == "I" and array.size and array.min() >= 0 and array.max() <= np.iinfo(np.uint16).max:
        return array.astype(np.uint16)  # how Pillow opens 16-bit files
    return array


def _of_tensor(tensor: torch.Tensor, sensor: str) -> np.ndarray:
    if tensor.ndim == 3 and tensor.shape[0] in (1, 3) and tensor.shape[2] not in (1, 3):
        raise DataError(
            f"sensor {sensor!r}: a tensor {tuple(tensor.shape)} has its channels first; give (H, W, C): "
            "tensor.permute(1, 2, 0)"
        )
    try:
        array: np.ndarray = tensor.detach().cpu().numpy()
    except (TypeError, RuntimeError) as error:  # bfloat16, sparse
        raise DataError(f"sensor {sensor!r}: a tensor of {tensor.dtype} is no array: {error}") from error
    return array


def _measured(array: np.ndarray, sensor: str, data: DatasetConfig) -> np.ndarray:
    """Refuse stored numbers where files would be converted: they would be taken for measurements."""
    scale, invalid = (_option(data, option).get(sensor) for option in ("scale", "invalid"))
    advice = f"let detector.read({{{sensor!r}: file}}) read the file, or convert the array as it does"
    if np.issubdtype(array.dtype, np.integer) and (scale is not None or invalid is not None):
        options = {"scale": scale, "invalid": invalid}
        applied = " and ".join(
            f"data.{name}.{sensor}={value:g}" for name, value in options.items() if value is not None
        )
        raise DataError(
            f"sensor {sensor!r}: expected float measurements, found {describe(array)}, as stored in a file; "
            f"{applied} was applied to the files of training: {advice}"
        )
    if invalid is not None and (array == invalid).any():
        raise DataError(
            f"sensor {sensor!r}: holds {invalid:g}, which means 'not measured' in files (data.invalid.{sensor}); "
            f"give NaN there: {advice}"
        )
    return array


def _option(data: DatasetConfig, name: str) -> Mapping[str, float]:
    value = getattr(data, name, None)  # not every data set has it
    return value if isinstance(value, Mapping) else {}


def _type(value: object) -> str:
    return "None" if value is None else type(value).__name__
