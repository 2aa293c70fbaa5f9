"""Single-channel images: any bit depth, a range in the sensor's own units, no rounding to 8 bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdkit.errors import ConfigError, DataError
from crdkit.views import views

NAMES = ("single_channel", "infrared")


def view(image: np.ndarray, image_size: int = 16, **options: object) -> np.ndarray:
    config = views.build_config({"name": "single_channel", "sensor": "camera"} | options)
    return views.get(config.name)(config)({"camera": image}, image_size=image_size).numpy()


@pytest.mark.parametrize("name", NAMES)
def test_both_names_read_infrared_with_the_same_options(name: str) -> None:
    config = views.build_config({"name": name, "range": [0, 10]})
    assert views.build(config).sensors == ("infrared",)
    view = views.build(config)({"infrared": np.full((4, 4), 5, np.uint8)}, image_size=16)
    assert view.unique().tolist() == [0.5]


@pytest.mark.parametrize("name", ["thermal"])
def test_a_removed_name_says_what_to_use(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"modality '{name}' was removed: use single_channel with sensor: {name}"):
        views.build_config(name)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [(np.uint8, 0, 255), (np.uint16, 0, 65535), (np.int16, -32768, 32767), (np.float32, 0, 1), (np.float64, 0, 1)],
)
def test_without_a_range_all_that_the_type_holds_is_zero_to_one(dtype: type, low: int, high: int) -> None:
    image = np.full((16, 16), low, dtype)
    image[8:] = high
    out = view(image)
    assert out.shape == (1, 16, 16)
    assert (out[0, 0, 0], out[0, -1, 0]) == (0.0, 1.0)


def test_values_are_linear_in_the_range_and_clipped_beyond_it() -> None:
    kelvin = np.array([[280.0, 290.0, 295.0, 310.0, 400.0]]).repeat(5, axis=0).repeat(4, axis=0).repeat(4, axis=1)
    row = view(kelvin, image_size=20, range=[290, 310])[0, 0, 1::4]
    np.testing.assert_allclose(row, [0, 0, 0.25, 1, 1], atol=1e-6)
    hundredths = np.rint(kelvin * 100).astype(np.uint16)
    np.testing.assert_allclose(
        view(hundredths, image_size=20, range=[29000, 31000]), view(kelvin, image_size=20, range=[290, 310]), atol=1e-6
    )


def test_the_middle_of_a_signed_type_is_half() -> None:
    np.testing.assert_allclose(view(np.zeros((9, 9), np.int16)), 0.5, atol=1e-4)


def test_one_hot_pixel_is_clipped_before_it_can_spread() -> None:
    image = np.zeros((64, 64))
    image[32, 32] = 1e6
    assert 0 < view(image, range=[0, 1]).max() < 0.1


def test_one_count_of_sixteen_bits_survives_resizing() -> None:
    image = np.full((64, 64), 30000, np.uint16)
    image[:, 32:] += 1
    out = view(image, image_size=32)
    assert out[0, 0, -1] - out[0, 0, 0] == pytest.approx(1 / 65535, rel=0.01)


def test_resizing_is_antialiased() -> None:
    stripes = np.zeros((64, 64), np.uint16)
    stripes[:, ::2] = 65535
    np.testing.assert_allclose(view(stripes, image_size=16)[..., 2:-2], 0.5, atol=0.01)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), size=st.sampled_from([16, 31, 64]), last=st.booleans())
def test_any_range_gives_unit_values(seed: int, size: int, last: bool) -> None:
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 100, (40, 30))
    low, high = sorted(rng.normal(0, 50, 2).tolist())
    out = view(image[..., None] if last else image, image_size=size, range=[low, high])
    assert out.shape == (1, size, size)
    assert out.dtype == np.float32
    assert 0 <= out.min() <= out.max() <= 1
    np.testing.assert_array_equal(out, view(image, image_size=size, range=[low, high]))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            np.zeros((9, 9, 3), np.uint8),
            r"sensor 'camera': expected integers or floats \(H, W\) or \(H, W, 1\), found uint8",
        ),
        (np.zeros((9, 9), bool), r"found bool \(9, 9\); keep one channel, or view a colour image as 'rgb'"),
        (np.zeros((0, 9), np.uint8), r"found uint8 \(0, 9\)"),
        (np.zeros(9, np.uint8), r"found uint8 \(9,\)"),
        (np.full((9, 9), np.nan), "81 pixels hold NaN; set the modality's 'missing' to the value that they shall have"),
        (np.full((9, 9), -np.inf), "holds infinite values"),
        (
            np.full((9, 9), 293.15),
            r"expected floats in \[0, 1\], found 293.15 to 293.15; set the modality's 'range' to \[",
        ),
        (np.full((9, 9), -0.5), r"expected floats in \[0, 1\], found -0.5 to -0.5"),
    ],
)
def test_other_images_are_refused(image: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        view(image)


@pytest.mark.parametrize("limits", [[1, 1], [2, 1], [0], [0, 1, 2], [0, float("inf")], "auto"])
def test_a_range_is_two_ascending_numbers(limits: object) -> None:
    with pytest.raises(ConfigError, match="range"):
        views.build_config({"name": "infrared", "range": limits})


def test_a_range_survives_the_written_configuration() -> None:
    config = views.build_config({"name": "single_channel", "sensor": "thermal", "range": [290, 310]})
    assert views.build_config(config.model_dump(mode="json")) == config
