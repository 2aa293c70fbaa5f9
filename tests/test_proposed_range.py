"""The range that `data check` proposes for an image with one channel: one, without pixels of "not measured"."""

from __future__ import annotations

import json
import re
import shlex
import warnings

import numpy as np
import pytest
from PIL import Image

from crdkit._core.progress import set_quiet
from crdkit.cli import main
from crdkit.config import RunConfig
from crdkit.data.statistics import summarise
from crdkit.runs._pipeline import Pipeline
from crdkit.views.ranges import propose_range
from crdkit.views.summary import SampleSummary, from_json, to_json


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Six good parts: 16-bit infrared, height in tenths of a millimetre with holes, a dark 8-bit camera."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    part = (rows - 32) ** 2 + (columns - 32) ** 2 < 300
    for number in range(6):
        height = 6000 - 120 * part + rng.integers(0, 8, (64, 64))
        height[:6] = 0  # "not measured"
        arrays = {
            "infrared": rng.integers(29_400, 30_100, (64, 64)).astype(np.uint16),
            "hoehe": height.astype(np.uint16),
            "dark": (5 + rng.integers(0, 15, (64, 64))).astype(np.uint8),
        }
        for name, array in arrays.items():
            path = tmp_path / "parts/train" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return tmp_path / "parts"


def check(capsys, folder, *options):
    assert main(["data", "check", str(folder), *options]) == 0
    set_quiet(True)
    out = capsys.readouterr().out
    (line,) = (line for line in out.splitlines() if line.startswith("train: "))
    return out, shlex.split(line)[3:-2]


def warned(words):
    """Return the warnings of a training with these words, up to its views."""
    preset, *overrides = words
    pipeline = Pipeline(RunConfig.preset(preset).with_overrides(*overrides, "data.image_size=64"))
    pipeline.list(("train", "validation"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pipeline.load()
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("options", [(), ("data.scale.hoehe=0.0001",)])
def test_the_printed_command_is_warned_of_nothing_and_agrees_with_the_warnings(parts, capsys, options):
    out, words = check(capsys, parts, *options)
    assert warned(words) == []
    proposed = re.findall(r"the view '(\w+)' is nearly flat.*; give its modality range=(\[.*\])", out)
    assert {name for name, _ in proposed} == {"infrared", "dark"} | ({"hoehe"} if not options else set())
    modalities = {name: word for name, _ in proposed for word in words if word.startswith(f"modalities.{name}=")}
    for name, limits in proposed:
        assert f", range: {limits}, " in modalities[name]
        low, high = json.loads(limits)
        assert f"note: sensor {name!r} is seen from {low} to {high}, by 6 normal samples" in out


def test_a_sensor_with_a_scale_holds_metres_and_is_seen_as_depth(parts, capsys):
    _, words = check(capsys, parts, "data.scale.hoehe=0.0001")
    assert "modalities.hoehe={name: depth, sensor: hoehe, encoder: {name: efficientnet_lite0}}" in words


def test_one_with_a_scale_that_depth_cannot_read_is_seen_with_a_range(parts, capsys):
    _, words = check(capsys, parts, "data.scale.infrared=0.01")  # kelvin
    (modality,) = (word for word in words if word.startswith("modalities.infrared="))
    assert "name: single_channel" in modality
    assert not [message for message in warned(words) if "infrared" in message]


def test_holes_do_not_widen_a_range(parts, capsys):
    _, words = check(capsys, parts)
    (modality,) = (word for word in words if word.startswith("modalities.hoehe="))
    low, high = json.loads(re.search(r"\[.*\]", modality).group())
    assert 5700 < low < 5880
    assert 6007 < high < 6200


@pytest.mark.parametrize(
    ("values", "dtype", "lowest", "highest"),
    [
        ((0, 200), np.uint16, 0, 301),  # zeros among the rest are values; and no unsigned integer is below 0
        ((3, 9), np.uint8, 0, 13),
        ((65_000, 65_535), np.uint16, 64_500, 65_535),
        ((-20, 20), np.float32, -41, 41),
    ],
)
def test_a_range_holds_the_values_with_room_and_what_integers_can_hold(values, dtype, lowest, highest):
    image = np.random.default_rng(0).uniform(*values, (64, 64)).astype(dtype)
    low, high = propose_range([summarise({"x": image})["x"]])
    assert lowest <= low <= values[0]
    assert values[1] - 1 <= high <= highest


def test_a_fill_value_does_not_widen_it_either_and_survives_the_cache():
    image = np.random.default_rng(0).uniform(290, 310, (64, 64)).astype(np.float32)
    image[:8] = -9999
    summary = summarise({"x": image})
    assert propose_range([summary["x"]])[0] > 270
    kept = json.loads(json.dumps(to_json(SampleSummary(sensors=summary, views={}))))
    assert from_json(kept).sensors == summary
    del kept["sensors"]["x"]["usual"]  # as caches of before have it
    assert from_json(kept).sensors["x"].limits == (summary["x"].low, summary["x"].high)
