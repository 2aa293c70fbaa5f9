"""Damage to files: bytes at random, and fields, chunks and words where a format keeps what its readers trust."""

from __future__ import annotations

import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable

Mutation = Callable[[random.Random, bytes, bytes], bytes]
"""Takes a generator, a valid file and another one; returns a damaged file."""

EXTREMES = (0, 1, 2, 3, 7, 127, 128, 255, 256, 32767, 65535, 65536, 10**6, 2**31 - 1, 2**31, 2**32 - 1)
WORDS = (
    *("null", "~", "[]", "{}", "''", "-1", "0", "1e308", ".inf", "-.inf", ".nan", "true", "9" * 30, "9" * 5000, "1.5"),
    *("2020-13-45", "!!timestamp x", "!!bool x", "!!python/object/apply:os.getcwd []", "&a [*a]", "*a", "<<: 1", "? x"),
    *("..", "../outside", "/etc", "link", "good/../../outside", ".", "*", "*/*", "**", "a*b*c", "%s", "\\", "日本"),
    *("NaN", "Infinity", '"', "'", "{", "}", "[", "]", ":", ",", "- ", "\t", "\0", "\ufeff", "x" * 5000, "[" * 2000),
)


def flip_bits(rng: random.Random, data: bytes, _: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8, 64))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def set_bytes(rng: random.Random, data: bytes, _: bytes) -> bytes:
    changed = bytearray(data)
    start = rng.randrange(len(changed))
    length = rng.choice((1, 2, 4, 8, 100))
    changed[start : start + length] = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    return bytes(changed)


def truncate(rng: random.Random, data: bytes, _: bytes) -> bytes:
    return data[: rng.choice((rng.randrange(len(data)), max(0, len(data) - rng.randrange(1, 20))))]


def cut_out(rng: random.Random, data: bytes, _: bytes) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.choice((1, 2, 4, rng.randrange(1, max(2, len(data))))) :]


def repeat_range(rng: random.Random, data: bytes, _: bytes) -> bytes:
    start = rng.randrange(len(data))
    end = start + rng.choice((1, 4, rng.randrange(1, max(2, len(data)))))
    return data[:end] + data[start:]


def splice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


def append(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data + rng.choice((other, b"\0", rng.randbytes(50)))


def set_word(rng: random.Random, data: bytes, _: bytes) -> bytes:
    """Put an extreme number into one of the first fields, where most formats keep sizes, counts and offsets."""
    changed = bytearray(data)
    width = rng.choice((2, 4, 8))
    start = rng.randrange(0, max(1, min(len(data) - width, 200)))
    value = rng.choice((*EXTREMES, 2**63 - 1, 2**64 - 1)) % 256**width
    changed[start : start + width] = value.to_bytes(width, rng.choice(("little", "big")))
    return bytes(changed)


BINARY: tuple[Mutation, ...] = (flip_bits, set_bytes, truncate, cut_out, repeat_range, append)
"""Damage that a checksum must reveal, or that changes nothing."""
ANY_BINARY: tuple[Mutation, ...] = (*BINARY, splice, set_word)


# PNG


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, place = [], 8
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    return chunks


def join_png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, body) for kind, body in chunks)


def move_chunks(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Delete, repeat, swap or take over a chunk, with checksums that are right."""
    chunks = png_chunks(data)
    place, target = rng.randrange(len(chunks)), rng.randrange(len(chunks))
    action = rng.randrange(4)
    if action == 0:
        del chunks[place]
    elif action == 1:
        chunks.insert(target, chunks[place])
    elif action == 2:
        chunks[place], chunks[target] = chunks[target], chunks[place]
    else:
        chunks.insert(place, rng.choice(png_chunks(other)))
    return join_png(chunks)


def edit_chunk(rng: random.Random, data: bytes, _: bytes) -> bytes:
    """Edit the header's fields, or a chunk's body or kind, with checksums that are right."""
    chunks = png_chunks(data)
    place = rng.choice((0, 0, rng.randrange(len(chunks))))
    kind, body = chunks[place]
    if rng.random() < 0.1:
        kind = rng.choice((b"zTXt", b"iCCP", b"acTL", b"fcTL", b"eXIf", b"tRNS", b"PLTE", b"CgBI", b"IDAT"))
    if body and place == 0 and rng.random() < 0.7:
        width, height, *rest = struct.unpack(">IIBBBBB", body)
        fields = [width, height, *rest]
        field = rng.randrange(7)
        fields[field] = rng.choice(EXTREMES) % (2**32 if field < 2 else 256) if rng.random() < 0.7 else rng.randrange(8)
        body = struct.pack(">IIBBBBB", *fields)
    elif body:
        body = rng.choice((flip_bits, truncate, cut_out))(rng, body, body)
    chunks[place] = (kind, body)
    return join_png(chunks)


# TIFF


def edit_tag(rng: random.Random, data: bytes, _: bytes) -> bytes:
    """Edit kind, type, count or value of a tag of the first page."""
    order = "little" if data[:2] == b"II" else "big"
    big = int.from_bytes(data[2:4], order) == 43
    size = 8 if big else 4
    start = int.from_bytes(data[size : 2 * size], order)
    count_width, entry = (8, 20) if big else (2, 12)
    count = int.from_bytes(data[start : start + count_width], order)
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2))):
        tag = start + count_width + entry * rng.randrange(count)
        offset, width = rng.choice(((0, 2), (2, 2), (4, size), (4 + size, size), (4 + size, 2), (4 + size, size)))
        value = rng.choice((rng.choice(EXTREMES), rng.randrange(1, 20), rng.choice((5, 6, 7, 8, 32773, 32946, 34925))))
        changed[tag + offset : tag + offset + width] = (value % 256**width).to_bytes(width, order)
    return bytes(changed)


# JPEG


def move_segments(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Delete, repeat or edit a segment between two markers."""
    places = [match.start() for match in re.finditer(rb"\xff[\xc0-\xfe]", data)]
    segments = [data[a:b] for a, b in zip(places, [*places[1:], len(data)], strict=True)]
    place = rng.randrange(len(segments))
    action = rng.randrange(4)
    if action == 0:
        del segments[place]
    elif action == 1:
        segments.insert(rng.randrange(len(segments)), segments[place])
    elif action == 2:
        segments[place] = flip_bits(rng, segments[place], b"")
    else:
        frame = next(index for index, segment in enumerate(segments) if segment[1] in (0xC0, 0xC2))
        edited = bytearray(segments[frame])
        edited[5 + 2 * rng.randrange(2) :][:2] = b""
        start = 5 + 2 * rng.randrange(2)
        edited = bytearray(segments[frame])
        edited[start : start + 2] = (rng.choice(EXTREMES) % 65536).to_bytes(2, "big")
        segments[frame] = bytes(edited)
    return b"".join(segments) or other


# NPY and safetensors: a text in front of the numbers


def edit_npy_header(rng: random.Random, data: bytes, other: bytes) -> bytes:
    length = int.from_bytes(data[8:10], "little")
    text = edit_text(rng, data[10 : 10 + length].strip(), other[10:100]).strip() + b"\n"
    return data[:8] + (len(text) % 65536).to_bytes(2, "little") + text + data[10 + length :]


def edit_safetensors_header(rng: random.Random, data: bytes, _: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    if rng.random() < 0.2:
        return rng.choice((*EXTREMES, 2**63, 2**64 - 1)).to_bytes(8, "little") + data[8:]
    header = json.loads(data[8 : 8 + length])
    name = rng.choice(list(header))
    value = header[name]
    if isinstance(value, dict) and "shape" in value:
        action = rng.randrange(4)
        if action == 0:
            value["dtype"] = rng.choice(("F64", "F16", "BF16", "I64", "U8", "BOOL", "X", "F8_E4M3", "C64"))
        elif action == 1 and value["shape"]:
            value["shape"][rng.randrange(len(value["shape"]))] = rng.choice((*EXTREMES, -1, 2**63, 1.5))
        elif action == 2:
            value["data_offsets"][rng.randrange(2)] = rng.choice((*EXTREMES, -1))
        else:
            header[name + "x"] = header.pop(name)
        text = json.dumps(header).encode()
    else:
        text = edit_text(rng, data[8 : 8 + length], b"{}")
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


# texts


def edit_text(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Edit words, numbers, lines and indents of a text."""
    text = data.decode("utf-8", "replace")
    action = rng.randrange(9)
    if action == 0:
        return (flip_bits if rng.random() < 0.5 else truncate)(rng, data, other)
    if action == 1:
        lines = text.split("\n")
        place = rng.randrange(len(lines))
        line = lines.pop(place)
        if rng.random() < 0.6:
            lines.insert(
                rng.randrange(len(lines) + 1), rng.choice((line, line + "\n" + line, "  " + line, line.strip()))
            )
        return "\n".join(lines).encode()
    if action == 2:
        numbers = list(re.finditer(r"-?\d+(\.\d+)?", text))
        if numbers:
            found = rng.choice(numbers)
            value = str(rng.choice((*EXTREMES, -1, -(2**31), 1e308, 1e-308, 0.5, "1e999", "9" * 400)))
            return (text[: found.start()] + value + text[found.end() :]).encode()
    if action == 3:
        return splice(rng, data, other)
    words = list(re.finditer(r"[\w./*-]+", text))
    if not words:
        return rng.choice(WORDS).encode()
    found = rng.choice(words)
    if action == 4:
        word = rng.choice(words)[0]
    elif action == 5:
        word = found[0] + rng.choice(WORDS)
    else:
        word = rng.choice(WORDS)
    return (text[: found.start()] + word + text[found.end() :]).encode()


def edit_zip(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Damage a member of a zip archive and pack it again, with checksums that are right."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(packed, "w") as target:
        names = archive.namelist()
        chosen = rng.choice([name for name in names if name.endswith(".pkl")] * len(names) + names)
        drop = rng.random() < 0.1
        for name in names:
            content = archive.read(name)
            if name == chosen and content:
                if drop:
                    continue
                content = rng.choice(ANY_BINARY)(rng, content, other)
            target.writestr(name, content)
    return packed.getvalue()
