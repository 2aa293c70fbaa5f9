"""One sensor's part of a file that holds several: a page of a TIFF file, or some of the channels of an image."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crdkit.data.images import SUFFIXES, describe, read_file, read_tiff
from crdkit.errors import DataError, shorten

_MARK = "#"
_SETTING = re.compile(r"(page|channels)=([1-9]\d{0,5})(?:-([1-9]\d{0,5}))?")
_HOW = "write file.tiff#page=2, file.tiff#channels=1-3, or file.tiff#page=2&channels=4, counted from 1"


@dataclass(frozen=True, kw_only=True)
class FilePart:
    """What a sensor takes of its file.

    Examples:
        >>> str(FilePart(page=2)), str(FilePart(channels=(1, 3))), str(FilePart(page=2, channels=(4, 4)))
        ('#page=2', '#channels=1-3', '#page=2&channels=4')
    """

    page: int | None = None
    """Of a TIFF file, counted from 1; None: it has one page."""
    channels: tuple[int, int] | None = None
    """The first and the last, counted from 1; None for all."""

    def __str__(self) -> str:
        settings = [] if self.page is None else [f"page={self.page}"]
        if self.channels is not None:
            first, last = self.channels
            settings.append(f"channels={first}" if first == last else f"channels={first}-{last}")
        return _MARK + "&".join(settings)


def split_part(text: str) -> tuple[str, FilePart | None]:
    """Return a path, or a manifest's pattern, without the part that it names at its end, and that part.

    A ``#`` counts only behind the ending of an image, or behind a pattern's ``*``, if the text does not end as an image
    does: no file that is read is called so.

    Raises:
        ValueError: what follows it is no part.

    Examples:
        >>> split_part("scans/07.tiff#page=2"), split_part("#3/07.png")
        (('scans/07.tiff', FilePart(page=2, channels=None)), ('#3/07.png', None))
    """
    path, mark, settings = text.rpartition(_MARK)
    if not mark or text.lower().endswith(SUFFIXES) or not path.lower().endswith((*SUFFIXES, "*")):
        return text, None
    found: dict[str, tuple[int, int]] = {}
    for setting in settings.split("&"):
        match = _SETTING.fullmatch(setting)
        if match is None or match[1] in found:
            raise ValueError(f"{shorten(repr(mark + settings))} is no part of a file: {_HOW}")
        found[match[1]] = int(match[2]), int(match[3] or match[2])
    page, channels = found.get("page"), found.get("channels")
    if (page and page[0] != page[1]) or (channels and channels[0] > channels[1]):
        raise ValueError(f"{shorten(repr(mark + settings))} is no part of a file: {_HOW}")
    return path, FilePart(page=page[0] if page else None, channels=channels)


def without_part(path: Path | str) -> str:
    """Return a path without the part that it names, if it names one.

    Examples:
        >>> without_part("07.tiff#channels=4"), without_part("07.tiff#nonsense")
        ('07.tiff', '07.tiff#nonsense')
    """
    try:
        return split_part(str(path))[0]
    except ValueError:
        return str(path)


def read_part(path: Path, part: FilePart | None) -> np.ndarray:
    """Decode a file as `crdkit.data.images.read_file` does, or a part of it.

    Raises:
        DataError: the file cannot be read, or has no such page or channels.
    """
    if part is None:
        return read_file(path)
    if part.page is not None and path.suffix.lower() not in (".tiff", ".tif"):
        raise DataError(f"{path}: {part}: only TIFF files have pages; name channels, or no part")
    array = read_file(path) if part.page is None else read_tiff(path, page=part.page)
    if part.channels is None:
        return array
    first, last = part.channels
    if array.ndim != 3 or last > array.shape[2]:
        raise DataError(f"{path}: {part}: there are no such channels in {describe(array)}; correct the manifest")
    return np.ascontiguousarray(array[..., first - 1] if first == last else array[..., first - 1 : last])
