"""What predict takes for a sensor: arrays, files, Pillow images and tensors give the same scores; the rest is named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from crdkit.config import RunConfig
from crdkit.config.build import build_dataset, build_model, build_scorer
from crdkit.detector import Detector
from crdkit.errors import DataError, UnknownNameError

TEACHER = {"name": "timm", "model": "test_resnet", "pretrained": False}


@pytest.fixture(scope="module")
def record(tiny):
    return build_dataset(tiny).records("test")[0]


def test_every_kind_of_input_gives_the_same_result_mixed_too(detector, record):
    arrays = detector.read(record.files)
    expected = detector.predict(arrays)
    assert expected.image_path is None
    kinds = {
        "rgb": [
            record.files["rgb"],
            str(record.files["rgb"]),
            Image.open(record.files["rgb"]),
            torch.tensor(arrays["rgb"]),
        ],
        "xyz": [record.files["xyz"], str(record.files["xyz"]), torch.tensor(arrays["xyz"]).requires_grad_()],
    }
    for rgb in kinds["rgb"]:
        for xyz in kinds["xyz"]:
            found = detector.predict({"rgb": rgb, "xyz": xyz})
            assert found.score == expected.score
            np.testing.assert_array_equal(found.anomaly_map, expected.anomaly_map)
    found = detector.predict({"rgb": arrays["rgb"], "xyz": record.files["xyz"]})
    assert found.image_path == str(record.files["xyz"])
    (batched,) = detector.predict_batch([record.files])
    (streamed,) = detector.predict_stream([record.files])
    assert batched.image_path == streamed.image_path == str(record.files["rgb"])
    assert batched.score == streamed.score == pytest.approx(expected.score, rel=1e-5)


def test_files_are_read_as_the_data_set_reads_them(detector, record, tiny):
    read = detector.read(record.files)
    expected = build_dataset(tiny).read(record).sensors
    assert list(read) == list(expected)
    for sensor, array in expected.items():
        np.testing.assert_array_equal(read[sensor], array)
    assert list(detector.read({"xyz": record.files["xyz"]})) == ["xyz"]
    assert detector.read({}) == {}


@pytest.fixture(scope="module")
def scaled(tmp_path_factory):
    """A detector of a camera that stores millimetres as 16-bit numbers, 65535 where it measured nothing; and a file."""
    folder = tmp_path_factory.mktemp("scaled")
    config = RunConfig.from_dict(
        {
            "data": {
                "name": "folder",
                "root": folder / "gone",
                "image_size": 32,
                "scale": {"depth": 0.001},
                "invalid": {"depth": 65535},
            },
            "modalities": {"depth": {"sensor": "depth", "encoder": TEACHER}},
            "student": {"depths": 1},
            "training": {"device": "cpu"},
        }
    )
    rows, columns = np.mgrid[:32, :32]
    stored = np.where((rows - 16) ** 2 + (columns - 16) ** 2 < 80, 500, 700).astype(np.uint16)
    stored[:3, :4] = 65535
    Image.fromarray(stored).save(folder / "depth.png")
    detector = Detector(config=config, model=build_model(config), scorer=build_scorer(config))
    return detector, folder / "depth.png", stored


def test_scale_and_invalid_apply_to_files_and_stored_numbers_are_refused(scaled):
    detector, file, stored = scaled
    metres = stored.astype(np.float32) * np.float32(0.001)
    metres[:3, :4] = np.nan
    np.testing.assert_array_equal(detector.read({"depth": file})["depth"], metres)
    assert detector.predict({"depth": file}).score == detector.predict({"depth": metres}).score
    for raw in (stored, torch.tensor(stored.astype(np.int32)), Image.open(file)):
        with pytest.raises(
            DataError,
            match=r"^sensor 'depth': expected float measurements, found u?int.*as stored in a file; "
            r"data\.scale\.depth=0\.001 and data\.invalid\.depth=65535 was applied .*detector\.read\({'depth': file}\)",
        ):
            detector.predict({"depth": raw})
    with pytest.raises(DataError, match=r"^sensor 'depth': holds 65535, which means 'not measured' in files"):
        detector.predict({"depth": stored.astype(np.float32)})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nowhere.png", r"nowhere\.png: does not exist"),
        (".", r"\.: is not a file"),
        (None, r"expected a numpy array, torch tensor or Pillow image, .*, or the path of a file, found None"),
        ([[1, 2]], r"expected a numpy array, .* found list"),
        (torch.zeros(3, 64, 64, dtype=torch.uint8), r"channels first; give \(H, W, C\): tensor\.permute\(1, 2, 0\)"),
        (torch.zeros(64, 64, 3, dtype=torch.bfloat16), r"a tensor of torch\.bfloat16 is no array"),
        (torch.zeros(64, 64, 3).to_sparse(), r"a tensor of torch\.float32 is no array"),
        (Image.new("RGBA", (64, 64)), r"a Pillow image of mode 'RGBA'; .*image\.convert\('RGB'\)"),
        (Image.new("YCbCr", (64, 64)), r"a Pillow image of mode 'YCbCr'"),
        (np.zeros((1, 64, 64, 3), np.uint8), r"expected a numpy array .* found uint8 \(1, 64, 64, 3\)"),
    ],
)
def test_what_is_no_sensor_is_named(detector, samples, value, message):
    with pytest.raises(DataError, match=rf"^sensor 'rgb': .*{message}"):
        detector.predict({**samples[0], "rgb": value})


def test_damaged_files_and_images_are_named(detector, samples, record, tmp_path):
    whole = record.files["rgb"].read_bytes()
    file = tmp_path / "half.png"
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"^sensor 'rgb': .*half\.png"):
        detector.predict({**samples[0], "rgb": file})
    message = r"^sensor 'rgb': the Pillow image cannot be read"
    with Image.open(file) as image, pytest.raises(DataError, match=message):
        detector.predict({**samples[0], "rgb": image})
    with pytest.raises(UnknownNameError, match=r"unknown sensor 'rgp' - did you mean 'rgb'\?.*this detector reads no"):
        detector.read({"rgp": file})
    with pytest.raises(DataError, match=r"expected a mapping from sensor names to files, .*found str"):
        detector.read("a.png")


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (None, "None"),
        ([], "list; for several samples there is predict_batch"),
        ("a.png", "str"),
        (np.zeros((4, 4)), "ndarray"),
        (3, "int"),
    ],
)
def test_what_is_no_sample_says_what_one_is(detector, wrong, found):
    with pytest.raises(DataError, match=rf"^expected a mapping from sensor names to their data, .* found {found}$"):
        detector.predict(wrong)
    with pytest.raises(DataError, match=rf"^sample 0: expected a mapping .* found {found}$"):
        detector.predict_batch([wrong])


def test_keys_that_are_no_names_are_shown(detector):
    with pytest.raises(DataError, match=r"sensor 'rgb', 'xyz' is missing: .* got \['3', 'a'\]"):
        detector.predict({3: None, "a": None})


@pytest.mark.parametrize("wrong", [None, 3, "ab", {"rgb": None}, np.zeros((2, 2))])
def test_what_is_no_list_of_samples_is_refused(detector, wrong):
    one = "; for one sample there is predict" if isinstance(wrong, dict) else ""
    message = rf"^expected samples, each a mapping from sensor names to their data, found \w+{one}$"
    with pytest.raises(DataError, match=message):
        detector.predict_batch(wrong)
    with pytest.raises(DataError, match=message):
        next(detector.predict_stream(wrong))
