"""Image files in, arrays out, and the one geometric transform: everything is squashed to a square."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crdkit.data._formats.encoded import check_declared, not_readable, read_bytes
from crdkit.data._formats.npy import npy_view
from crdkit.data._formats.palette import normal_indices
from crdkit.data._formats.png import MAGIC as PNG_MAGIC
from crdkit.data._formats.png import pixels_only
from crdkit.data._formats.tiff import read_page
from crdkit.errors import CrdkitError, DataError

if TYPE_CHECKING:
    from PIL import Image

_IMAGE_MAGIC = {"PNG": b"\x89PNG", "JPEG": b"\xff\xd8\xff", "BMP": b"BM"}  # format: first bytes of the file
_NPY_MAGIC = {"NPY": b"\x93NUMPY"}
_STRIP_PIXELS = 2**22


def read_image(path: Path) -> np.ndarray:
    """Decode a PNG, JPEG or BMP file to (H, W) or (H, W, C) uint8, or to (H, W) uint16; palettes become RGB.

    Raises:
        DataError: the file is missing, truncated, not an image, or a 16-bit image of several channels,
            which Pillow would silently cut down to 8 bits.
    """
    image = _open_image(path)
    if image.mode in ("P", "PA"):
        image = image.convert("RGB")
    array = _pixels(image)
    stored = {"1": np.uint8, "I": np.uint16}.get(image.mode)  # I: how older Pillows open 16 bits
    return array if stored is None else array.astype(stored)


def read_mask(path: Path) -> np.ndarray:
    """Decode a ground-truth file to (H, W) uint8: 255 where the id is not zero or the palette's colour is not black.

    Raises:
        DataError: the file is missing, truncated, not an image, has several channels, or an unclear palette.
    """
    image = _open_image(path)
    array = _pixels(image)
    if image.mode == "P":
        array = ~normal_indices(image, path=path)[array]
    if array.ndim != 2:
        raise DataError(
            f"{path}: expected a mask with one channel (H, W), found {describe(array)}; "
            "save it as a greyscale PNG in which 0 is normal"
        )
    return np.where(array != 0, np.uint8(255), np.uint8(0))


def read_tiff(path: Path, *, page: int | None = None) -> np.ndarray:
    """Decode a TIFF file to an array (H, W) or (H, W, C) of the stored dtype, in native byte order.

    Args:
        path: the file.
        page: which page of it, counted from 1; None if it has only one.

    Raises:
        DataError: the file is missing, truncated, not a TIFF file, has several pages, or not the named one.
    """
    return _native(read_page(path, page))


def read_npy(path: Path) -> np.ndarray:
    """Decode a NumPy file of numbers, in native byte order.

    Raises:
        DataError: the file is missing, truncated, not a NumPy file, or holds Python objects, which are never unpickled.
    """
    data = read_bytes(path)
    try:
        return _native(npy_view(data, path).copy(order="C"))
    except CrdkitError:
        raise
    except Exception as error:  # a damaged header raises many types
        raise not_readable(path, data, _NPY_MAGIC, str(error)) from error


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

    This is torch's ``nearest`` (not ``nearest-exact``): no value is invented between two surfaces. An array that has
    that size already is returned itself.

    Examples:
        >>> resize_nearest(np.arange(20).reshape(4, 5), 2)
        array([[ 0,  2],
               [10, 12]])
    """
    if array.shape[:2] == (size, size):
        return array
    rows, columns = (np.arange(size) * n // size for n in array.shape[:2])
    return np.asarray(array[rows].take(columns, axis=1))


def _open_image(path: Path) -> Image.Image:
    """Decode a file; by Pillow's classes of formats, since Image.open has a limit and a warning of its own."""
    from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin

    data = read_bytes(path)
    try:
        if data.startswith(PNG_MAGIC[:4]):
            header, data = pixels_only(data)
            if header.depth == 16 and header.colour != 0:
                raise DataError(
                    f"{path}: expected 8 bits a channel, found a 16-bit {header.mode} image; convert it to 8 bits"
                )
            check_declared(path, height=header.height, width=header.width)
            if header.fewest_bytes > len(data):
                raise ValueError("pixels are missing")  # Pillow would take memory for all of them first
            image: Image.Image = PngImagePlugin.PngImageFile(io.BytesIO(data))
        elif data.startswith(_IMAGE_MAGIC["JPEG"]):
            image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
        else:
            image = BmpImagePlugin.BmpImageFile(io.BytesIO(data))
        check_declared(path, height=image.height, width=image.width)
        image.load()
    except CrdkitError:
        raise
    except Exception as error:  # Pillow's plug-ins raise many types on damaged bytes
        raise not_readable(path, data, _IMAGE_MAGIC, str(error)) from error
    return image


def _pixels(image: Image.Image) -> np.ndarray:
    """Return the pixels of an image; of a large one strip by strip, since NumPy's way to Pillow copies them twice."""
    rows = max(_STRIP_PIXELS // image.width, 1)
    if image.height <= rows:
        return np.asarray(image)
    first = np.asarray(image.crop((0, 0, image.width, 1)))
    pixels = np.empty((image.height, *first.shape[1:]), first.dtype)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return pixels


def _native(array: np.ndarray) -> np.ndarray:
    """Return an array in C order and native byte order, swapped in place."""
    if not array.dtype.isnative:
        array = array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))
    return np.ascontiguousarray(array)
