"""Image files in, arrays out, and the one geometric transform: everything is squashed to a square."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from crdkit.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

_IMAGE_MAGIC = {"PNG": b"\x89PNG", "JPEG": b"\xff\xd8\xff", "BMP": b"BM"}  # format: first bytes of the file
_TIFF_MAGIC = {"TIFF": b"II", "big-endian TIFF": b"MM"}
_NPY_MAGIC = {"NPY": b"\x93NUMPY"}
_DAMAGED_HINT = "copy the file again or leave the sample out"


def read_image(path: Path) -> np.ndarray:
    """Decode a PNG, JPEG or BMP file to (H, W) or (H, W, C) uint8, or to (H, W) uint16; palettes become RGB.

    Raises:
        DataError: the file is missing, truncated, not an image, or a 16-bit image of several channels,
            which Pillow would silently cut down to 8 bits.
    """
    image = _open_image(path)
    if image.mode in ("P", "PA"):
        image = image.convert("RGB")
    array = np.asarray(image)
    return array.astype(np.uint8) if array.dtype == bool else array


def read_mask(path: Path) -> np.ndarray:
    """Decode a ground-truth file of class ids to (H, W) uint8: 255 where the id is not zero, 0 elsewhere.

    Raises:
        DataError: the file is missing, truncated, not an image, or has several channels.
    """
    array = np.asarray(_open_image(path))
    if array.ndim != 2:
        raise DataError(
            f"{path}: expected a mask with one channel (H, W), found {describe(array)}; "
            "save it as a greyscale or palette PNG in which 0 is normal"
        )
    return np.where(array != 0, np.uint8(255), np.uint8(0))


def read_tiff(path: Path) -> np.ndarray:
    """Decode a TIFF file with one page to an array of the stored shape and dtype, in native byte order.

    Raises:
        DataError: the file is missing, truncated, not a TIFF file, or has several pages.
    """
    import tifffile

    data = _read_bytes(path)
    array = None
    try:
        _check_directory(data)
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            pages = len(tiff.pages)
            page = tiff.pages.first
            # tifffile reads what a file lacks as zeros, which would pass for missing measurements
            stored = sum(page.databytecounts)
            end = max((o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
            if end > len(data) or stored == 0 or (page.compression == 1 and stored < page.nbytes):
                raise ValueError("pixels are missing")
            if pages == 1:
                array = page.asarray()
    except Exception as error:  # tifffile raises many types on damaged bytes
        raise _not_readable(path, data, _TIFF_MAGIC, str(error)) from error
    if array is None:
        raise DataError(f"{path}: expected a TIFF file with one page, found {pages} pages; keep the first one only")
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def read_npy(path: Path) -> np.ndarray:
    """Decode a NumPy file of numbers, in native byte order.

    Raises:
        DataError: the file is missing, truncated, not a NumPy file, or holds Python objects, which are never unpickled.
    """
    data = _read_bytes(path)
    try:
        array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # a damaged header raises many types
        raise _not_readable(path, data, _NPY_MAGIC, str(error)) from error
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


_READERS: Mapping[str, Callable[[Path], np.ndarray]] = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp"), read_image),
    **dict.fromkeys((".tiff", ".tif"), read_tiff),
    ".npy": read_npy,
}
SUFFIXES = tuple(_READERS)
"""Suffixes of the files that `read_file` can read."""


def read_file(path: Path) -> np.ndarray:
    """Decode a sensor's file by its suffix, in upper or lower case: PNG, JPEG, BMP, TIFF or NPY.

    Raises:
        DataError: the suffix is another, or the file is missing, truncated or not what its suffix says.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: expected a file that ends in one of {', '.join(SUFFIXES)}; convert it")
    return reader(path)


def check_array(array: np.ndarray, *, source: object, channels: int | None, dtype: type, hint: str) -> None:
    """Refuse an array that is not (H, W, ``channels``), or (H, W) if None, of ``dtype``.

    Args:
        array: what was read or handed over.
        source: the file or sensor that the message names.
        channels: length of the last axis; None for an array of two axes.
        dtype: the NumPy scalar type, or an abstract one such as ``np.floating``.
        hint: what to do about it.

    Raises:
        DataError: the shape or the dtype differs, or a side is empty.
    """
    fits = array.ndim == 2 if channels is None else array.ndim == 3 and array.shape[2] == channels
    if not fits or array.size == 0 or not np.issubdtype(array.dtype, dtype):
        shape = "(H, W)" if channels is None else f"(H, W, {channels})"
        kind = "float" if dtype is np.floating else np.dtype(dtype).name
        raise DataError(f"{source}: expected {kind} {shape}, found {describe(array)}; {hint}")


def describe(array: np.ndarray) -> str:
    """Return dtype and shape as they are written in messages.

    Examples:
        >>> describe(np.zeros((4, 5, 3), np.uint8))
        'uint8 (4, 5, 3)'
    """
    return f"{array.dtype} {array.shape}"


def resize_image(image: np.ndarray, size: int) -> np.ndarray:
    """Squash a uint8 image, (H, W) or (H, W, 3), to ``size`` x ``size`` with Pillow's antialiased bilinear filter.

    It rounds to 8 bits after each axis, as the published code does; filtering in float gives other values.

    Raises:
        ValueError: another dtype or number of channels, for which Pillow's arithmetic differs.
    """
    from PIL import Image

    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ValueError(f"resize_image needs uint8 (H, W) or (H, W, 3), got {describe(image)}")
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def resize_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """Squash a mask of 0 and 255, (H, W) uint8, to (``size``, ``size``) bool: more than half anomalous."""
    return resize_image(mask, size) > 127


def resize_nearest(array: np.ndarray, size: int) -> np.ndarray:
    """Squash (H, W, ...) to ``size`` x ``size`` by copying source pixel floor(i * n / size) of each axis of length n.

    This is torch's ``nearest`` (not ``nearest-exact``): no value is invented between two surfaces.

    Examples:
        >>> resize_nearest(np.arange(20).reshape(4, 5), 2)
        array([[ 0,  2],
               [10, 12]])
    """
    rows, columns = (np.arange(size) * n // size for n in array.shape[:2])
    return np.asarray(array[rows].take(columns, axis=1))


def _open_image(path: Path) -> Image.Image:
    from PIL import Image

    data = _read_bytes(path)
    try:
        with Image.open(io.BytesIO(data), formats=tuple(_IMAGE_MAGIC)) as probe:
            deep = probe.mode not in ("I;16", "I") and any(";16" in str(tile.args) for tile in probe.tile)
            mode = probe.mode
            probe.verify()  # Pillow silently decodes a PNG without its last chunks, or with wrong checksums
        image = Image.open(io.BytesIO(data), formats=tuple(_IMAGE_MAGIC))
        image.load()
    except Exception as error:  # Pillow's plug-ins raise many types on damaged bytes
        raise _not_readable(path, data, _IMAGE_MAGIC, str(error)) from error
    if deep:
        raise DataError(f"{path}: expected 8 bits a channel, found a 16-bit {mode} image; convert it to 8 bits")
    return image


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: the file does not exist; check the path or restore the file") from error
    except OSError as error:
        raise DataError(f"{path}: the file cannot be opened: {error.strerror or error}") from error
    if not data:
        raise DataError(f"{path}: the file is empty (0 bytes); {_DAMAGED_HINT}")
    return data


def _check_directory(data: bytes) -> None:
    # tifffile would log this to standard error, beside our own message
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    width, start = (8, 8) if int.from_bytes(data[2:4], order) == 43 else (4, 4)  # 43: BigTIFF
    if data.startswith(tuple(_TIFF_MAGIC.values())) and int.from_bytes(data[start : start + width], order) >= len(data):
        raise ValueError("the list of its pages is missing")


def _not_readable(path: Path, data: bytes, formats: Mapping[str, bytes], reason: str) -> DataError:
    found = f"found {len(data)} bytes that start with {data[:8]!r}"
    for name, magic in formats.items():
        if data.startswith(magic):
            reason = " ".join(reason.split()).removesuffix(".")
            # Pillow's reason may name the buffer in memory
            why = f": {reason}" if reason and "BytesIO" not in reason else ""
            return DataError(f"{path}: the {name} file is truncated or damaged{why}; {found}; {_DAMAGED_HINT}")
    return DataError(f"{path}: expected a {' or '.join(formats)} file, {found}; replace it, or correct its name")
