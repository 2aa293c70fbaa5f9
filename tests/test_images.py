"""Image files: what can be read, one clear error for what cannot, and the resizing that the published code uses."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from crdkit.data.images import (
    check_array,
    read_file,
    read_image,
    read_mask,
    read_tiff,
    resize_image,
    resize_mask,
    resize_nearest,
)
from crdkit.errors import DataError

GOLDEN = Path(__file__).parent / "data" / "preprocessing.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as archive:
        return {name: archive[name] for name in archive.files if not name.startswith(("xyz", "normals", "depth"))}


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)


def save_png(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path)
    return path


@pytest.mark.parametrize(
    "array", [noise(5, 7, 3), noise(5, 7), noise(5, 7, 4), noise(5, 7, dtype=np.uint16)], ids=["rgb", "l", "rgba", "16"]
)
def test_png_comes_back_as_it_was_stored(tmp_path: Path, array: np.ndarray) -> None:
    read = read_image(save_png(tmp_path / "a.png", array))
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


def test_palette_image_becomes_its_colours(tmp_path: Path) -> None:
    palette = Image.new("P", (4, 3), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), np.full((3, 4, 3), (10, 20, 30)))


@pytest.mark.parametrize(("fill", "expected"), [(0, 0), (1, 255), (252, 255), (255, 255)])
def test_every_class_id_but_zero_is_anomalous(tmp_path: Path, fill: int, expected: int) -> None:
    mask = read_mask(save_png(tmp_path / "m.png", np.full((3, 4), fill, np.uint8)))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, np.full((3, 4), expected))


def palette_mask(path: Path, ids: list[list[int]], palette: list[tuple[int, int, int]]) -> Path:
    image = Image.new("P", (len(ids[0]), len(ids)))
    image.putpalette([value for colour in palette for value in colour])
    image.putdata([index for row in ids for index in row])
    image.save(path)
    return path


BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (200, 0, 0)


@pytest.mark.parametrize(
    ("palette", "ids", "expected"),
    [
        ([BLACK, WHITE, RED], [[0, 1], [2, 0]], [[0, 255], [255, 0]]),
        ([WHITE, BLACK, RED], [[0, 1], [2, 0]], [[255, 0], [255, 255]]),  # index 0 is the colour of the defect
        ([WHITE, BLACK, BLACK], [[0, 1], [2, 0]], [[255, 0], [0, 255]]),
        ([WHITE, RED, BLACK], [[2, 2], [2, 2]], [[0, 0], [0, 0]]),
        ([BLACK, WHITE], [[1, 1], [1, 1]], [[255, 255], [255, 255]]),
    ],
)
def test_palette_masks_are_read_by_their_colours(
    tmp_path: Path, palette: list[tuple[int, int, int]], ids: list[list[int]], expected: list[list[int]]
) -> None:
    np.testing.assert_array_equal(read_mask(palette_mask(tmp_path / "p.png", ids, palette)), expected)


@pytest.mark.parametrize(
    ("palette", "ids", "message"),
    [
        ([WHITE, RED], [[0, 1], [0, 0]], r"index 0 is the colour \(255, 255, 255\)"),
        ([WHITE, RED], [[0, 0], [0, 0]], r"index 0 is the colour \(255, 255, 255\)"),
        ([BLACK, BLACK], [[0, 1], [0, 0]], r"the indices 0, 1 are all black"),
    ],
)
def test_palette_masks_whose_colours_say_nothing_are_refused(
    tmp_path: Path, palette: list[tuple[int, int, int]], ids: list[list[int]], message: str
) -> None:
    with pytest.raises(DataError, match=rf"p\.png: in a palette mask black is normal .*{message}.* greyscale PNG"):
        read_mask(palette_mask(tmp_path / "p.png", ids, palette))


def test_one_bit_masks_are_read(tmp_path: Path) -> None:
    Image.fromarray(np.array([[False, True], [True, False]])).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "bits.png"), [[0, 255], [255, 0]])


def test_mask_with_channels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rgba\.png: expected a mask with one channel .* found uint8 \(3, 4, 4\)"):
        read_mask(save_png(tmp_path / "rgba.png", noise(3, 4, 4)))


def test_sixteen_bit_colour_is_refused_and_not_cut_to_eight(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = chunk(b"IHDR", (2).to_bytes(4, "big") * 2 + bytes([16, 2, 0, 0, 0]))
    body = chunk(b"IDAT", zlib.compress((b"\0" + bytes(12)) * 2))
    path = tmp_path / "deep.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b""))
    with pytest.raises(DataError, match=r"deep\.png: expected 8 bits a channel, found a 16-bit RGB image"):
        read_image(path)


def test_every_truncation_of_a_png_is_an_error(tmp_path: Path) -> None:
    whole = save_png(tmp_path / "whole.png", noise(9, 8, 3)).read_bytes()
    cut = tmp_path / "cut.png"
    for length in range(len(whole) - 4):  # the last 4 bytes are the checksum of the empty end mark
        cut.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut\.png: ") as caught:
            read_image(cut)
        message = str(caught.value)
        assert ("truncated or damaged" in message) == (length >= 4), message
        assert f"{length} bytes" in message
        assert "BytesIO" not in message
        assert "\n" not in message


def test_every_truncation_of_a_large_png_is_an_error(tmp_path: Path) -> None:
    whole = save_png(tmp_path / "whole.png", noise(200, 150, 3)).read_bytes()
    cut = tmp_path / "cut.png"
    for length in (8, 33, 60, 1000, len(whole) // 2, len(whole) - 20, len(whole) - 12, len(whole) - 5):
        cut.write_bytes(whole[:length])
        with pytest.raises(DataError, match="truncated or damaged"):
            read_image(cut)


def test_damaged_pixels_of_a_png_are_an_error(tmp_path: Path) -> None:
    path = save_png(tmp_path / "a.png", noise(40, 40, 3))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match="truncated or damaged"):
        read_image(path)


@pytest.mark.parametrize("layout", ["plain", "compressed", "tiled", "directory last"])
def test_every_truncation_of_a_tiff_is_an_error(
    tmp_path: Path, layout: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    array = noise(16, 16, 3).astype(np.float32)
    whole_path = tmp_path / "whole.tiff"
    if layout == "directory last":
        array = array[..., 0]
        Image.fromarray(array).save(whole_path, compression="tiff_adobe_deflate")
    else:
        compression = "zlib" if layout == "compressed" else None
        tile = (16, 16) if layout == "tiled" else None
        tifffile.imwrite(whole_path, array, photometric="rgb", metadata=None, compression=compression, tile=tile)
    np.testing.assert_array_equal(read_tiff(whole_path), array)
    whole = whole_path.read_bytes()
    cut = tmp_path / "cut.tiff"
    complete = len(whole) - 8 if layout == "directory last" else len(whole)  # then only "no further page" is cut
    for length in {*range(0, complete, 7 if len(whole) > 1500 else 1), complete - 1}:
        cut.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut\.tiff: ") as caught:
            read_tiff(cut)
        assert "\n" not in str(caught.value)
        assert ("truncated or damaged" in str(caught.value)) == (length >= 2)
    caplog.clear()
    cut.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(DataError, match=r"the TIFF file is truncated or damaged: .* missing"):
        read_tiff(cut)
    assert not caplog.records  # the error says it all
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiff_comes_back_in_native_byte_order(tmp_path: Path, byteorder: Literal["<", ">"]) -> None:
    array = noise(6, 5, 3).astype(np.float32) / 7
    tifffile.imwrite(tmp_path / "a.tiff", array, byteorder=byteorder, photometric="rgb")
    read = read_tiff(tmp_path / "a.tiff")
    assert read.dtype == np.float32
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, array)


def test_tiff_with_pages_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tiff", np.zeros((4, 6, 5), np.float32), photometric="minisblack")
    with pytest.raises(DataError, match=r"a\.tiff: expected a TIFF file with one page, found 4 pages"):
        read_tiff(tmp_path / "a.tiff")


@pytest.mark.parametrize(("read", "name"), [(read_image, "a.png"), (read_mask, "a.png"), (read_tiff, "a.tiff")])
def test_what_is_not_the_promised_file_is_named(tmp_path: Path, read: object, name: str) -> None:
    assert callable(read)
    path = tmp_path / name
    with pytest.raises(DataError, match=rf"{name}: the file does not exist; check the path"):
        read(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=rf"{name}: the file is empty"):
        read(path)
    path.write_text("hello world, I am text")
    with pytest.raises(
        DataError, match=rf"{name}: expected a .* file, found 22 bytes that start with b'hello wo'; replace"
    ):
        read(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=rf"{name}: the file cannot be opened"):
        read(path)


def test_array_of_other_shape_or_dtype_is_refused() -> None:
    check_array(np.zeros((4, 5, 3), np.float64), source="s", channels=3, dtype=np.floating, hint="h")
    check_array(np.zeros((4, 5), np.uint8), source="s", channels=None, dtype=np.uint8, hint="h")
    for array in (np.zeros((4, 5), np.uint8), np.zeros((4, 5, 3), np.uint16), np.zeros((0, 5, 3), np.uint8)):
        with pytest.raises(DataError, match=r"the file: expected uint8 \(H, W, 3\), found .*; do this"):
            check_array(array, source="the file", channels=3, dtype=np.uint8, hint="do this")
    with pytest.raises(DataError, match=r"expected float \(H, W\), found uint8"):
        check_array(np.zeros((4, 5), np.uint8), source="s", channels=None, dtype=np.floating, hint="h")


def test_colour_is_resized_as_the_published_code_does(golden: dict[str, np.ndarray]) -> None:
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    resized = resize_image(golden["rgb/image"], 256)[::4, ::4] / 255.0
    expected = golden["rgb/tensor"].transpose(1, 2, 0)
    np.testing.assert_allclose((resized - mean) / std, expected, atol=1e-6)


def test_masks_are_resized_as_the_published_code_does(golden: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(resize_mask(golden["mask/image"], 256), golden["mask/resized"] > 0)


def test_mask_pixel_half_covered_is_normal_and_more_is_anomalous() -> None:
    columns = np.zeros((8, 8), np.uint8)
    columns[:, 4:] = 255
    np.testing.assert_array_equal(resize_mask(columns, 2), [[False, True]] * 2)


@pytest.mark.parametrize("array", [noise(4, 4, 4), noise(4, 4, dtype=np.uint16), np.zeros((4, 4), np.float32)])
def test_other_images_cannot_be_resized_exactly(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="resize_image needs uint8"):
        resize_image(array, 2)


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 900), width=st.integers(1, 900), power=st.integers(4, 9))
def test_nearest_is_torch_nearest(height: int, width: int, power: int) -> None:
    size = 2**power  # torch computes the scale in float32, which is exact for powers of two
    array = np.arange(height * width, dtype=np.float32).reshape(height, width) % 65_521
    expected = torch.nn.functional.interpolate(torch.from_numpy(array)[None, None], size=(size, size), mode="nearest")
    np.testing.assert_array_equal(resize_nearest(array, size), expected[0, 0].numpy())


def test_nearest_keeps_trailing_axes_and_squashes_to_a_square() -> None:
    array = noise(6, 9, 3)
    resized = resize_nearest(array, 3)
    assert resized.shape == (3, 3, 3)
    np.testing.assert_array_equal(resized, array[::2, ::3])


def test_files_are_read_by_the_end_of_their_name(tmp_path: Path) -> None:
    array = noise(6, 5)
    np.save(tmp_path / "a.npy", array)
    Image.fromarray(array).save(tmp_path / "a.PNG")
    tifffile.imwrite(tmp_path / "a.Tif", array, photometric="minisblack")
    for name in ("a.npy", "a.PNG", "a.Tif"):
        np.testing.assert_array_equal(read_file(tmp_path / name), array)
    np.save(tmp_path / "c.npy", array.astype(">f4"))
    assert read_file(tmp_path / "c.npy").dtype.isnative
    np.testing.assert_array_equal(read_file(tmp_path / "c.npy"), array)
    with pytest.raises(DataError, match=r"a\.raw: expected a file that ends in one of \.png, .*, \.npy; convert it"):
        read_file(tmp_path / "a.raw")
    (tmp_path / "b.npy").write_text("hello world, I am text")
    with pytest.raises(DataError, match=r"b\.npy: expected a NPY file, found 22 bytes that start with b'hello wo'"):
        read_file(tmp_path / "b.npy")
