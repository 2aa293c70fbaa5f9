"""Files that declare or inflate to more than they should: refused from the header, before memory is taken."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from crdkit.data.images import read_file, read_image, read_mask, read_npy, read_tiff
from crdkit.errors import ConfigError, DataError

HUGE = 30_000


def png_chunk(kind, body):
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def png(*chunks, width=2, height=2, depth=8, colour=0, pixels=b"\0\1\2\0\3\4"):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(pixels))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + data + png_chunk(b"IEND", b"")


def saved(ending, array):
    file = io.BytesIO()
    if ending == "tiff":
        tifffile.imwrite(file, array, metadata=None)
    elif ending == "npy":
        np.save(file, array)
    else:
        Image.fromarray(array).save(file, {"jpg": "JPEG"}.get(ending, ending.upper()))
    return file.getvalue()


def huge(ending):
    """Return a small file whose header declares ``HUGE`` x ``HUGE`` pixels."""
    whole = bytearray(saved(ending, np.full((8, 8), 7, np.uint8)))
    if ending == "png":
        return png(width=HUGE, height=HUGE)
    if ending == "jpg":
        start = whole.index(b"\xff\xc0") + 5
        whole[start : start + 4] = struct.pack(">HH", HUGE, HUGE)
    elif ending == "bmp":
        whole[18:26] = struct.pack("<II", HUGE, HUGE)
    elif ending == "npy":
        whole = whole.replace(b"(8, 8), }        ", f"({HUGE}, {HUGE}), }}".encode())
    else:
        with tifffile.TiffFile(io.BytesIO(bytes(whole))) as tiff:
            for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
                tag = tiff.pages.first.tags[name]
                size = "<I" if tag.dtype.name == "LONG" else "<H"
                struct.pack_into(size, whole, tag.valueoffset, HUGE)
    return bytes(whole)


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tiff", "npy"])
def test_a_size_above_the_limit_is_refused_from_the_header(tmp_path, ending):
    path = tmp_path / f"huge.{ending}"
    path.write_bytes(huge(ending))
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as caught:
            read_file(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert f"{path}: its header declares 30000 x 30000 pixels, more than 64 megapixels" in str(caught.value)
    assert "CRDKIT_MAX_MEGAPIXELS to 900 or more" in str(caught.value)
    assert peak < 2**24


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tiff", "npy"])
def test_the_limit_is_the_callers_to_set(tmp_path, monkeypatch, ending):
    path = tmp_path / f"small.{ending}"
    path.write_bytes(saved(ending, np.full((30, 40), 7, np.uint8)))
    monkeypatch.setenv("CRDKIT_MAX_MEGAPIXELS", "0.0012")
    assert read_file(path).shape == (30, 40)
    monkeypatch.setenv("CRDKIT_MAX_MEGAPIXELS", "0.001")
    with pytest.raises(DataError, match=r"declares 30 x 40 pixels, more than 0\.001 megapixels"):
        read_file(path)


@pytest.mark.parametrize("text", ["many", "0", "-1", "nan"])
def test_a_limit_that_is_no_number_is_refused(tmp_path, monkeypatch, text):
    (tmp_path / "a.png").write_bytes(png())
    monkeypatch.setenv("CRDKIT_MAX_MEGAPIXELS", text)
    with pytest.raises(ConfigError, match=f"CRDKIT_MAX_MEGAPIXELS={text}: expected millions of pixels, e.g. 64"):
        read_image(tmp_path / "a.png")


def test_an_image_above_pillows_own_limit_is_read_without_its_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = tmp_path / "a.png"
    array = np.arange(400, dtype=np.uint16).reshape(20, 20)
    Image.fromarray(array).save(path)
    np.testing.assert_array_equal(read_image(path), array)


def test_a_large_image_is_read_strip_by_strip(tmp_path, monkeypatch):
    monkeypatch.setattr("crdkit.data.images._STRIP_PIXELS", 100)
    rng = np.random.default_rng(0)
    for shape, dtype in [((37, 30, 3), np.uint8), ((37, 30), np.uint8), ((3, 200), np.uint16)]:
        array = rng.integers(0, np.iinfo(dtype).max, shape).astype(dtype)
        Image.fromarray(array).save(tmp_path / "a.png")
        read = read_image(tmp_path / "a.png")
        assert read.dtype == dtype
        np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_text_that_inflates_to_gigabytes_is_never_inflated(tmp_path, kind):
    bomb = png_chunk(kind, b"Comment\0\0" + zlib.compress(bytes(2**28), 9))
    path = tmp_path / "a.png"
    path.write_bytes(png(bomb, bomb))
    tracemalloc.start()
    try:
        np.testing.assert_array_equal(read_image(path), [[1, 2], [3, 4]])
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_an_animation_that_pillow_warns_of_is_its_first_image(tmp_path):
    (tmp_path / "a.png").write_bytes(png(png_chunk(b"acTL", bytes(8)), png_chunk(b"acTL", bytes(8))))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (png(png_chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 2, 8, 0, 0, 0, 0))), "chunk IHDR is there twice"),
        (png(colour=3), "the palette is missing"),
        (png(png_chunk(b"ABCD", b"")), "chunk b'ABCD' is unknown"),
        (png(colour=5), "its header is damaged"),
        (png() + b"more", None),
    ],
)
def test_chunks_that_would_change_pixels_unnoticed_are_refused(tmp_path, content, why):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    if why is None:
        np.testing.assert_array_equal(read_image(path), [[1, 2], [3, 4]])
        return
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match=f"the PNG file is truncated or damaged: {why}"):
            read(path)


def test_a_strip_that_inflates_beyond_the_image_is_refused(tmp_path):
    path = tmp_path / "a.tiff"
    tifffile.imwrite(path, np.zeros((8, 8), np.float32), compression="zlib", metadata=None)
    content = bytearray(path.read_bytes())
    bomb = zlib.compress(bytes(2**28), 9)
    with tifffile.TiffFile(path) as tiff:
        tags = tiff.pages.first.tags
        struct.pack_into("<I", content, tags["StripOffsets"].valueoffset, len(content))
        struct.pack_into("<I", content, tags["StripByteCounts"].valueoffset, len(bomb))
    path.write_bytes(content + bomb)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="its pixels inflate to more than the image"):
            read_tiff(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_strip_that_is_not_there_is_not_read_as_zeros(tmp_path):
    path = tmp_path / "a.tiff"
    tifffile.imwrite(path, np.ones((8, 8), np.float32), rowsperstrip=4, compression="zlib", metadata=None)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages.first.tags["StripByteCounts"]
        struct.pack_into("<" + tag.dtype.name[0].replace("L", "I").replace("S", "H"), content, tag.valueoffset, 0)
    path.write_bytes(content)
    with pytest.raises(DataError, match="pixels are missing"):
        read_tiff(path)


@pytest.mark.parametrize(("before", "after"), [(b"(8, 8)", b"(8, 7)"), (b"(8, 8)", b"(9, 8)"), (b"<f4", b"<f2")])
def test_a_numpy_file_holds_what_its_header_says_to_the_byte(tmp_path, before, after):
    file = io.BytesIO()
    np.save(file, np.ones((8, 8), np.float32))
    (tmp_path / "a.npy").write_bytes(file.getvalue().replace(before, after))
    with pytest.raises(DataError, match=r"the NPY file is truncated or damaged: its header declares \d+ bytes"):
        read_npy(tmp_path / "a.npy")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">u2", "|u1", "<c8"])
def test_a_numpy_file_comes_back_as_it_was_stored(tmp_path, order, dtype):
    array = np.asarray(np.arange(24).reshape(2, 4, 3), dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    read = read_npy(tmp_path / "a.npy")
    assert (read.dtype, read.flags.c_contiguous) == (array.dtype.newbyteorder("="), True)
    np.testing.assert_array_equal(read, array)


def test_a_png_that_declares_more_than_its_bytes_can_hold_takes_no_memory(tmp_path):
    (tmp_path / "a.png").write_bytes(png(width=6000, height=6000, colour=2))
    with pytest.raises(DataError, match="the PNG file is truncated or damaged: pixels are missing"):
        read_image(tmp_path / "a.png")


def test_a_header_that_pythons_parser_warns_of_is_damaged(tmp_path):
    file = io.BytesIO()
    np.save(file, np.ones((8, 8), np.float32))
    (tmp_path / "a.npy").write_bytes(file.getvalue().replace(b"(8, 8)", b"(8, 8x"))
    with pytest.raises(DataError, match="the NPY file is truncated or damaged: its header is damaged"):
        read_npy(tmp_path / "a.npy")
