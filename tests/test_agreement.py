"""Whether the edges of two sensors lie on each other: shifts that are known, and data that say nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_cli import fails, run

from crdkit.data import RawSample, SampleRecord
from crdkit.data.adapters.folder import Folder
from crdkit.data.agreement import Agreement, EdgeAgreement
from crdkit.data.agreement._edges import REACH, edge_map
from crdkit.data.synthetic import OBJECT_KINDS, make_scene, render_sensors, sample_key, scanner_camera, write_folder

SENSORS = ("rgb", "xyz", "infrared")
MARGIN = 16


@pytest.fixture(scope="module")
def scans():
    camera = scanner_camera(160)
    return {
        kind: [
            render_sensors(make_scene(kind, camera=camera, key=sample_key(0, kind, "train", "good", number)), SENSORS)
            for number in range(5)
        ]
        for kind in OBJECT_KINDS
    }


def raw(sensors, split="train", **files):
    record = SampleRecord(
        sample_id="a", split=split, label=0, defect_type="good", files={name: Path(name) for name in sensors} | files
    )
    return RawSample(record=record, sensors=sensors)


def measured(samples):
    edges, data = EdgeAgreement(), Folder(Folder.Config())
    warned = list(edges.findings(data, [(one.record, edges.sample(one)) for one in samples]))
    return {(found.first, found.second): found for found in edges.found}, warned


def cut(array, down=0, right=0):
    height, width = array.shape[:2]
    return array[MARGIN - down : height - MARGIN - down, MARGIN - right : width - MARGIN - right]


@pytest.mark.parametrize("kind", OBJECT_KINDS)
def test_a_shift_of_one_sensor_is_found(scans, kind):
    for shift in ((0, 0), (3, -2), (0, 4)):
        samples = [
            raw({name: cut(array, *(shift if name == "xyz" else ())) for name, array in sensors.items()})
            for sensors in scans[kind]
        ]
        found, warned = measured(samples)
        assert found["rgb", "xyz"].shift == shift
        assert found["xyz", "infrared"].shift == (-shift[0], -shift[1])
        assert found["rgb", "infrared"].shift == (0, 0)
        assert len(warned) == (0 if shift == (0, 0) else 2)
        for warning in warned:
            assert (warning.severity, warning.path.name in ("xyz", "infrared")) == ("warning", True)
    assert "'xyz' lies 0 pixels below and 4 right of 'rgb': there the edges of 5 samples" in warned[0].message
    assert "reference: rgb, sensors: {xyz: {method: affine, matrix: [[1, 0, -4], [0, 1, 0]]}}" in warned[0].message


def test_nothing_is_said_of_what_is_not_sure(scans):
    rng = np.random.default_rng(0)
    shifted = [raw({"rgb": cut(s["rgb"]), "xyz": cut(s["xyz"], 4, 0)}) for s in scans["gear"]]
    assert len(measured(shifted)[1]) == 1
    assert measured(shifted[:3])[1] == []  # too few
    assert measured(shifted[:1])[1] == []
    assert measured([replace(one, record=replace(one.record, split="test")) for one in shifted]) == ({}, [])
    apart = [raw({"rgb": s["rgb"], "xyz": np.roll(s["xyz"], 25, axis=0)}) for s in scans["gear"]]
    assert measured(apart)[1] == []  # beyond the reach
    noise = [raw({name: rng.random((64, 64)).astype("f4") for name in "ab"}) for _ in range(6)]
    found, warned = measured(noise)
    assert warned == []
    assert "do not say whether" in found["a", "b"].in_words()


def test_sensors_without_edges_and_files_of_two_sensors_are_left_out(tmp_path):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    blank = {"flat": np.full((40, 50), 7, np.uint8), "blank": np.zeros((40, 50, 3)), "nan": np.full((40, 50), np.nan)}
    assert [edge_map(array) for array in blank.values()] == [None] * 3
    sample = raw({"rgb": image, **blank})
    assert measured([sample]) == ({}, [])
    sample = raw({"rgb": image, "again": image, "other": image}, rgb=tmp_path, again=tmp_path, other=tmp_path / "o")
    assert list(measured([sample])[0]) == [("rgb", "other")]
    many = raw(dict.fromkeys("abcde", image))
    assert list(measured([many])[0]) == [("a", name) for name in "bcde"]


def test_images_of_any_sizes_can_be_compared():
    rng = np.random.default_rng(0)
    sizes = (12, 40), (8, 8), (64, 20), (30, 30)
    samples = [raw({"rgb": rng.integers(0, 255, (*size, 3), np.uint8), "ir": rng.random(size)}) for size in sizes]
    assert measured(samples)[0]["rgb", "ir"].samples == 4
    small = rng.random((12, 12))
    assert measured([raw({"a": small, "b": np.roll(small, 3, axis=1)})] * 4)[0]["a", "b"].shift == (0, 3)
    for height, width in ((1, 1), (1, 30), (2, 500)):  # the last is a pixel high once it is made smaller
        assert edge_map(rng.random((height, width))) is None
    assert edge_map(rng.random((4, 500))).shape == (2, 250)


def test_holes_of_a_scan_are_as_far_as_what_is_around_them():
    scan = np.ones((40, 40, 3), np.float32)
    scan[10:20, 10:20, 2] = 0.5
    scan[8:22, 20:23, 2] = [[0], [np.nan]] * 7  # a shadow beside it
    edges = edge_map(scan)
    assert edges[15, 19:21].min() > 0.9  # at the outline, and not in the middle of the hole or behind it
    assert edges[15, 23:].max() < 0.1
    assert edges[15, :7].max() < 0.1


def test_large_images_are_made_smaller():
    image = np.zeros((700, 900), np.uint16)
    image[300:400, 200:500] = 9
    assert edge_map(image).shape == (233, 300)
    samples = [raw({"a": image, "b": np.roll(image, (9, 0), axis=(0, 1))}) for _ in range(4)]
    found, _ = measured(samples)
    assert found["a", "b"].shift == (9, 0)
    assert found["a", "b"].size == 900


def test_a_shift_is_worth_a_word_from_a_hundredth_of_the_side_on():
    pair = {"first": "a", "second": "b", "agreement": 0.5, "unmoved": 0.2, "samples": 9, "size": 256}
    for shift, said in (((0, 0), False), ((2, -2), False), ((0, -3), True), ((3, 0), True)):
        found = Agreement(shift=shift, certain=True, **pair)
        assert found.is_shifted is said
        assert ("lie on each other" in found.in_words()) is not said
        assert not replace(found, certain=False).is_shifted
    assert "3 pixels below and 0 right" in found.in_words()
    assert "2 pixels above and 5 left" in Agreement(shift=(-2, -5), certain=True, **pair).in_words()
    assert REACH > 4
    small = pair | {"size": 48}  # a hundredth of it is half a pixel
    assert not Agreement(shift=(-1, 1), certain=True, **small).is_shifted
    assert Agreement(shift=(0, 2), certain=True, **small).is_shifted


def test_the_command_warns_and_draws(tmp_path, capsys):
    options = {
        "train": 4,
        "validation": 1,
        "test_good": 1,
        "test_per_defect": 0,
        "size": 128,
        "sensors": ["rgb", "xyz"],
    }
    root = write_folder(tmp_path / "parts", categories=["gear"], **options)
    code, out, _ = run(capsys, "-q", "data", "check", root)
    assert code == 0
    assert "the edges of 'rgb' and 'xyz' lie on each other (4 samples, correlation 0." in out
    for file in root.glob("gear/train/*/rgb/*.png"):
        Image.fromarray(np.roll(np.asarray(Image.open(file)), (4, 0), axis=(0, 1))).save(file)
    code, out, _ = run(capsys, "-q", "data", "check", root, "--out", tmp_path / "seen", "--json")
    (found,) = json.loads(out)["datasets"]
    assert code == 0
    assert found["edges"][0] | {"agreement": 0, "unmoved": 0} == {
        "first": "rgb", "second": "xyz", "shift": [-4, 0], "agreement": 0, "unmoved": 0, "samples": 4,
        "certain": True, "size": 128, "is_shifted": True,
    }  # fmt: skip
    assert any("'xyz' lies 4 pixels above" in finding["message"] for finding in found["findings"])
    picture = np.asarray(Image.open(tmp_path / "seen/gear-rgb-xyz.png")).astype(int)
    assert picture.shape == (128, 256, 3)
    before, after = (np.abs(half[..., 0] - half[..., 1]).mean() for half in (picture[:, :128], picture[:, 128:]))
    assert after < before / 2
    assert "not an empty folder" in fails(capsys, "data", "check", root, "--out", tmp_path / "seen")
    registered = "data.registration={reference: rgb, sensors: {xyz: {method: affine, matrix: [[1,0,0],[0,1,1]]}}}"
    _, out, _ = run(capsys, "-q", "data", "check", root, registered)
    assert "'xyz' lies 3 pixels above" in out
    assert "and correct data.registration" in " ".join(out.split())
    unknown = "data.registration={reference: rgb, sensors: {scan: {method: resize}}}"
    assert "data.registration: unknown sensor 'scan'" in fails(capsys, "data", "check", root, unknown)
    test_only = EdgeAgreement()
    assert test_only.pictures(Folder(Folder.Config(root=root, category="gear"))) == {}
