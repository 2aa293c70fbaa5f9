"""PNG files, chunk by chunk: all checksums are compared, and Pillow gets only what makes pixels."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_MAX_DEFLATE_RATIO = 1032
_MODES = {0: "greyscale", 2: "RGB", 3: "palette", 4: "greyscale with alpha", 6: "RGB with alpha"}


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the first chunk declares."""

    width: int
    height: int
    depth: int
    """Bits a channel."""
    colour: int

    @property
    def mode(self) -> str:
        """In words."""
        return _MODES[self.colour]

    @property
    def fewest_bytes(self) -> int:
        """A file of this size cannot be shorter."""
        return self.height * (self.width * self.depth * _CHANNELS[self.colour] // 8) // _MAX_DEFLATE_RATIO


def pixels_only(data: bytes) -> tuple[Header, bytes]:
    """Return the header of a PNG file and the file without text, profiles and animation.

    Those chunks can inflate to gigabytes or make Pillow warn, and none of them changes a pixel that is read here.

    Raises:
        ValueError: a checksum differs, or a chunk is missing, out of place, unknown and critical, or there twice.
    """
    if not data.startswith(MAGIC):
        raise ValueError("its first bytes are damaged")
    kept: list[bytes] = [MAGIC]
    kinds: list[bytes] = []
    header: Header | None = None
    for kind, chunk in _chunks(data):
        if header is None:
            header = _read_header(kind, chunk)
        if kind in _PIXEL_CHUNKS:
            if kind in kinds and not kind == kinds[-1] == b"IDAT":
                raise ValueError(f"chunk {kind.decode()} is there twice")
            kept.append(chunk)
        elif not kind[0] & 0x20:
            raise ValueError(f"chunk {kind!r} is unknown")
        kinds.append(kind)
    if header is None or b"IDAT" not in kinds or kinds[-1] != b"IEND":
        raise ValueError("chunks are missing")
    palettes = kinds[: kinds.index(b"IDAT")].count(b"PLTE")
    if palettes != kinds.count(b"PLTE") or (header.colour == 3) > palettes:
        raise ValueError("the palette is missing")
    return header, b"".join(kept)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and bytes of each chunk up to the end mark; what follows it is not part of the image."""
    place = len(MAGIC)
    while place < len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        end = place + 12 + length
        if end > len(data):
            raise ValueError("it ends early")
        if zlib.crc32(memoryview(data)[place + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ValueError(f"the checksum of chunk {kind!r} differs")
        yield kind, data[place:end]
        if kind == b"IEND":
            return
        place = end
    raise ValueError("it ends early")


def _read_header(kind: bytes, chunk: bytes) -> Header:
    if kind != b"IHDR" or len(chunk) != 25:
        raise ValueError("it does not begin with its header")
    header = Header(
        width=int.from_bytes(chunk[8:12], "big"),
        height=int.from_bytes(chunk[12:16], "big"),
        depth=chunk[16],
        colour=chunk[17],
    )
    if header.colour not in _MODES or not header.width or not header.height:
        raise ValueError("its header is damaged")
    return header
