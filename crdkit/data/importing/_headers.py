"""What the headers of files declare: dtype, channels, size and pages; no pixel is decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crdkit._core.sources import State, state
from crdkit.data._formats.png import MAGIC as PNG_MAGIC
from crdkit.data._formats.tiff import keep_quiet
from crdkit.data.parts import FilePart
from crdkit.errors import DataError

if TYPE_CHECKING:
    import tifffile

_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # a palette is read as colour
_PALETTE = 3
_REDUCED = 1
_PAGE_NAME = 285
_MAX_PAGES = 64


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One picture in a file."""

    kind: str
    """Name of the dtype."""
    channels: int
    height: int
    width: int
    part: FilePart | None = None
    """None: it is the whole file."""
    name: str = ""
    """That the file gives it."""
    palette: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def form(self) -> tuple[str, int]:
        """Dtype and channels."""
        return self.kind, self.channels

    @property
    def words(self) -> str:
        """For messages."""
        return f"{self.kind}, {self.channels} channel{'s' * (self.channels > 1)}, {self.height} x {self.width}"


Layers = tuple[Layer, ...]


def read_header(path: Path) -> Layers:
    """Return the pictures in a file.

    Raises:
        DataError: it cannot be opened, or its header is damaged.
    """
    return _read(path, state(path))


@lru_cache(maxsize=4096)
def _read(path: Path, _: State) -> Layers:
    try:
        return _READERS[path.suffix.lower()](path)
    except Exception as error:  # damaged headers raise many types
        raise DataError(f"{path}: its header cannot be read: {str(error) or type(error).__name__}") from error


def _of_png_or_picture(path: Path) -> Layers:
    from PIL import BmpImagePlugin, JpegImagePlugin

    with path.open("rb") as file:
        start = file.read(26)
    if start.startswith(PNG_MAGIC):
        width, height = (int.from_bytes(start[place : place + 4], "big") for place in (16, 20))
        depth, colour = start[24], start[25]
        kind = "uint16" if depth == 16 else "uint8"
        channels = _PNG_CHANNELS[colour]
        return (Layer(kind=kind, channels=channels, height=height, width=width, palette=colour == _PALETTE),)
    opener = JpegImagePlugin.JpegImageFile if start.startswith(b"\xff\xd8") else BmpImagePlugin.BmpImageFile
    with opener(path) as image:
        channels = 3 if image.mode == "P" else len(image.getbands())
        palette = image.mode == "P"
        return (Layer(kind="uint8", channels=channels, height=image.height, width=image.width, palette=palette),)


def _of_tiff(path: Path) -> Layers:
    import tifffile

    keep_quiet()
    with tifffile.TiffFile(path) as tiff:
        pages = len(tiff.pages)
        if pages > _MAX_PAGES:
            raise ValueError(f"it has {pages} pages, more than {_MAX_PAGES}")
        found = [tiff.pages[number] for number in range(pages)]
        layers = [
            (number, _of_page(page))
            for number, page in enumerate(found, start=1)
            if isinstance(page, tifffile.TiffPage) and not page.subfiletype & _REDUCED
        ]
        if not layers:
            raise ValueError("it holds no picture")
        if pages == 1:
            return (layers[0][1],)
        return tuple(replace(layer, part=FilePart(page=number)) for number, layer in layers)


def _of_page(page: tifffile.TiffPage) -> Layer:
    if page.imagedepth != 1 or page.dtype is None:
        raise ValueError("a page is no picture")
    name = page.tags.valueof(_PAGE_NAME, default="")
    return Layer(
        kind=np.dtype(page.dtype).name,
        channels=page.samplesperpixel,
        height=page.imagelength,
        width=page.imagewidth,
        name=name if isinstance(name, str) else "",
    )


def _of_npy(path: Path) -> Layers:
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    if len(shape) not in (2, 3):
        raise ValueError(f"its shape is {shape}")
    height, width, channels = (*shape, 1)[:3]
    return (Layer(kind=dtype.name, channels=channels, height=height, width=width),)


_READERS: dict[str, Callable[[Path], Layers]] = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp"), _of_png_or_picture),
    **dict.fromkeys((".tiff", ".tif"), _of_tiff),
    ".npy": _of_npy,
}
