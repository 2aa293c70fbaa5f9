"""Arguments of metrics: arrays of the right shape, type and values, or an error that says what is wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from crdkit.errors import CrdkitError, first_line, shorten
from crdkit.scoring._ranking import Array, to_host


def as_array(values: Array | Sequence[float]) -> Array:
    """Return a GPU tensor unchanged and anything else as an array, without losing precision."""
    if not isinstance(values, torch.Tensor):
        try:
            array = np.asarray(values)
        except (TypeError, ValueError) as error:
            raise CrdkitError(
                f"expected an array of numbers, got {shorten(repr(values))}: {first_line(error)}"
            ) from error
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    values = values.detach()
    if values.is_floating_point() and values.element_size() < 4:  # NumPy has no bfloat16
        values = values.float()
    return values if values.is_cuda else values.cpu().numpy()


def image_max(stack: Array) -> Array:
    return stack.amax((1, 2)) if isinstance(stack, torch.Tensor) else np.max(stack, axis=(1, 2))


def check_maps(maps: Array) -> Array:
    maps = as_array(maps)
    if "float" not in str(maps.dtype):
        raise CrdkitError(f"maps (dtype {maps.dtype}) must be floating point")
    if maps.ndim != 3 or 0 in maps.shape:
        raise CrdkitError(f"maps (shape {tuple(maps.shape)}) must be (N, H, W) with at least one pixel")
    finite = torch.isfinite(maps) if isinstance(maps, torch.Tensor) else np.isfinite(maps)
    if not finite.all():
        bad = np.argwhere(~to_host(finite)).tolist()
        raise CrdkitError(f"maps{bad[0]} (={float(maps[tuple(bad[0])])}) must be finite; {len(bad)} values are not")
    return maps


def check_masks(masks: Array, maps: Array | None = None) -> Array:
    """Return the masks as bool, on the maps' device."""
    masks = as_array(masks)
    if not any(kind in str(masks.dtype) for kind in ("bool", "int")):
        raise CrdkitError(f"masks (dtype {masks.dtype}) must be bool or integer; write `masks > 0.5` for soft masks")
    if masks.ndim != 3:
        raise CrdkitError(f"masks (shape {tuple(masks.shape)}) must be (N, H, W)")
    if maps is not None and masks.shape != maps.shape:
        raise CrdkitError(f"masks (shape {tuple(masks.shape)}) must have the shape of maps, {tuple(maps.shape)}")
    if isinstance(maps, torch.Tensor):
        return (masks if isinstance(masks, torch.Tensor) else torch.tensor(masks != 0)).to(maps.device).bool()
    return to_host(masks).astype(bool, copy=False)


def check_scores(scores: Array | Sequence[float], length: int | None = None) -> NDArray[Any]:
    vector = check_vector("scores", scores, length)
    if vector.dtype.kind not in "fiu" or not np.isfinite(vector).all():
        raise CrdkitError(f"scores (={in_line(vector)}) must be finite numbers")
    return vector


def check_labels(labels: Array | Sequence[int], length: int) -> NDArray[np.bool_]:
    vector = check_vector("labels", labels, length)
    if vector.dtype.kind not in "biu" or not np.isin(vector, (0, 1)).all():
        raise CrdkitError(f"labels (={in_line(vector)}) must be bools or integers, 0 = normal and 1 = anomalous")
    return vector.astype(bool)


def check_vector(name: str, values: Array | Sequence[float], length: int | None) -> NDArray[Any]:
    vector = to_host(as_array(values))
    if vector.ndim != 1 or (length is not None and len(vector) != length):
        expected = "(N,)" if length is None else f"({length},), one value per image"
        raise CrdkitError(f"{name} (shape {vector.shape}) must be {expected}")
    return vector


def in_line(vector: NDArray[Any]) -> str:
    return shorten(" ".join(str(vector).split()))


def check_limits(limits: Sequence[float], *, name: str = "limits") -> dict[str, float]:
    """Name the rates: 0.3 is "0.30", but 0.005 stays itself."""
    vector = to_host(as_array(limits))
    if vector.ndim != 1 or vector.dtype.kind not in "fiu" or not all(0 < limit <= 1 for limit in limits):
        shown = shorten(" ".join(str(limits).split()))
        raise CrdkitError(f"{name} (={shown}) must be false-positive rates in (0, 1]")
    return {max(f"{limit:.2f}", f"{limit:g}", key=len): limit for limit in limits}


def check_share(name: str, value: float, *, what: str) -> float:
    """Refuse what is no number above 0 and below 1, such as a confidence level."""
    number = check_number(name, value, what=f"{what} above 0 and below 1")
    if not 0 < number < 1:
        raise CrdkitError(f"{name} (={number:g}) must be {what} above 0 and below 1")
    return number


def check_number(name: str, value: float, *, what: str) -> float:
    """Return a number, infinite ones included, as a float; refuse NaN and anything else."""
    try:
        number = math.nan if isinstance(value, (bool, str, bytes)) or np.ndim(value) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isnan(number):
        raise CrdkitError(f"{name} (={shorten(' '.join(repr(value).split()))}) must be {what}")
    return number
