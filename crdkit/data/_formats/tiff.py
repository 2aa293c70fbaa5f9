"""TIFF files: the checks that tifffile leaves to its caller, then the pixels of a page."""

from __future__ import annotations

import io
import logging
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from crdkit.data._formats.encoded import check_declared, not_readable, read_bytes
from crdkit.errors import CrdkitError, DataError

if TYPE_CHECKING:
    import tifffile

_MAGIC = {"TIFF": b"II", "big-endian TIFF": b"MM"}
_PIXEL_TAGS = {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 338, 339}
_ALLOWED = {"planarconfig": (1, 2), "predictor": (1, 2, 3, 34892, 34893, 34894, 34895), "fillorder": (1, 2)}
_UNCOMPRESSED = 1
_PLANES = 2  # one channel after the other
_DEFLATE = (8, 32946, 50013)
_MAX_DEFLATE_RATIO = 1032
_SPARE = 2**20


def read_page(path: Path, page: int | None = None) -> np.ndarray:
    """Decode the only page of a TIFF file, or one that is named; see `crdkit.data.images.read_tiff`.

    Raises:
        DataError: the file is missing, truncated, not a TIFF file, too large, has several pages, or not the named one.
    """
    import tifffile

    keep_quiet()
    data = read_bytes(path)
    try:
        _check_directory(data)
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            first = _checked(tiff.pages.first, path, data)
            pages = len(tiff.pages)
            if page is None:
                array = _decode(first) if pages == 1 else None
            else:
                array = _decode(_checked(tiff.pages[page - 1], path, data)) if page <= pages else None
    except CrdkitError:
        raise
    except Exception as error:  # tifffile raises many types on damaged bytes
        raise not_readable(path, data, _MAGIC, str(error)) from error
    if array is None and page is not None:
        raise DataError(f"{path}: page {page} is named, but it has {pages}; correct the manifest")
    if array is None:
        raise DataError(
            f"{path}: expected a TIFF file with one page, found {pages} pages; keep the first one only, or name one "
            "in a manifest: file.tiff#page=1"
        )
    return array


def keep_quiet() -> None:
    """Print nothing of what tifffile logs of a damaged file: our own message says it."""
    log = logging.getLogger("tifffile")
    if not log.handlers:
        log.addHandler(logging.NullHandler())


def _checked(page: object, path: Path, data: bytes) -> tifffile.TiffPage:
    import tifffile

    if not isinstance(page, tifffile.TiffPage):
        raise ValueError("a page is incomplete")
    _check_tags(page, data)
    _check_page(page, path, data)
    return page


def _decode(page: tifffile.TiffPage) -> np.ndarray:
    """Return the pixels of a page, its channels last."""
    array = np.asarray(page.asarray())
    planes = page.planarconfig == _PLANES and page.samplesperpixel > 1 and array.ndim == 3
    return np.moveaxis(array, 0, -1) if planes else array


def _check_directory(data: bytes) -> None:
    # tifffile would log this to standard error, beside our own message
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    width, start = (8, 8) if int.from_bytes(data[2:4], order) == 43 else (4, 4)  # 43: BigTIFF
    if data.startswith(tuple(_MAGIC.values())) and int.from_bytes(data[start : start + width], order) >= len(data):
        raise ValueError("the list of its pages is missing")


def _check_tags(page: tifffile.TiffPage, data: bytes) -> None:
    """Refuse a page with a damaged tag that decides pixels: tifffile leaves it out and takes its default."""
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    width, entry = (8, 20) if page.parent.is_bigtiff else (2, 12)
    count = int.from_bytes(data[page.offset : page.offset + width], order)
    for place in range(page.offset + width, page.offset + width + entry * count, entry):
        code = int.from_bytes(data[place : place + 2], order)
        if code in _PIXEL_TAGS and code not in page.tags:
            raise ValueError(f"tag {code} is damaged")
    for name, allowed in _ALLOWED.items():
        value = int(getattr(page, name))
        if value not in allowed:
            raise ValueError(f"{name} is {value}")


def _check_page(page: tifffile.TiffPage, path: Path, data: bytes) -> None:
    """Refuse a page that declares too much, or less than all of its pixels: tifffile reads what is missing as zeros."""
    pixels = max(page.imagelength * page.imagewidth, 1)
    check_declared(path, height=page.imagelength, width=page.imagewidth, pixel_bytes=-(-page.nbytes // pixels))
    if page.is_tiled:
        tile = page.tilelength, page.tilewidth
        check_declared(path, height=tile[0] * max(page.tiledepth, 1), width=tile[1])
    counts, offsets = page.databytecounts, page.dataoffsets
    segments = list(zip(offsets, counts, strict=True))
    ends = [offset + count for offset, count in segments]
    stored = sum(counts)
    if min(counts, default=0) <= 0 or max(ends) > len(data) or len(counts) < int(np.prod(page.chunked)):
        raise ValueError("pixels are missing")
    if page.compression == _UNCOMPRESSED and stored < page.nbytes:
        raise ValueError("pixels are missing")
    if page.compression in _DEFLATE:
        for offset, count in segments:
            _check_deflated(data[offset : offset + count], at_most=2 * page.nbytes + _SPARE)


def _check_deflated(segment: bytes, *, at_most: int) -> None:
    """Refuse a segment that inflates to more than the whole page; tifffile would inflate all of it."""
    if len(segment) * _MAX_DEFLATE_RATIO <= at_most:
        return
    inflate, size = zlib.decompressobj(), 0
    while segment and not inflate.eof:
        size += len(inflate.decompress(segment, _SPARE))
        segment = inflate.unconsumed_tail
        if size > at_most:
            raise ValueError("its pixels inflate to more than the image")
