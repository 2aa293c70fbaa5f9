"""What a decision holds: regions, and which modality raised an alarm; the same in every way of predicting."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from predictions import same
from test_inference import Replays

from crdkit.detector import Detector, Prediction
from crdkit.detector._engine import Engine
from crdkit.errors import ConfigError
from crdkit.report.marks import colour_of
from crdkit.report.wording import reasons
from crdkit.scoring.regions import find_regions

JUDGE = "crdkit.detector._explaining.judge"


@pytest.fixture
def decide(monkeypatch):
    """Return a function that sets thresholds for every detector."""

    def set_thresholds(image, pixel):
        def judge(found, _thresholds):
            return [replace(one, threshold=image, p_value=0.25, pixel_threshold=pixel) for one in found]

        monkeypatch.setattr(JUDGE, judge)

    return set_thresholds


@pytest.fixture
def split_in_two(detector, samples, decide):
    """Set thresholds that some of the samples are above; return those that are."""
    found = [detector.predict(sample) for sample in samples]
    middle = float(np.median([one.score for one in found]))
    decide(middle, float(np.quantile([one.anomaly_map for one in found], 0.98)))
    return [one.score > middle for one in found]


def equal_decisions(one, other):
    same(one, other)
    assert [region.box for region in one.regions] == [region.box for region in other.regions]
    assert [region.modality for region in one.regions] == [region.modality for region in other.regions]
    assert (one.attribution is None) == (other.attribution is None)
    if one.attribution is not None:
        assert one.attribution == pytest.approx(other.attribution, abs=1e-3)


def test_every_way_of_predicting_decides_alike(detector, samples, split_in_two):
    single = [detector.predict(sample) for sample in samples]
    assert [one.label for one in single] == split_in_two
    assert any(split_in_two)
    assert not all(split_in_two)
    stream = list(detector.predict_stream(iter(samples), batch_size=2, workers=1))
    for one, many, streamed in zip(single, detector.predict_batch(samples), stream, strict=True):
        equal_decisions(many, one)
        equal_decisions(streamed, one)
    captured = Detector(config=detector.config, model=detector.model, scorer=detector.scorer)
    captured._predictor.engine = Engine(captured.model, captured.scorer, fold=True, capture=Replays())
    for _ in range(4):
        for one, sample in zip(single, samples, strict=True):
            equal_decisions(captured.predict(sample), one)


def test_regions_are_those_of_the_mask(detector, samples, split_in_two):
    for sample in samples:
        found = detector.predict(sample)
        maps = {name: torch.from_numpy(values)[None] for name, values in found.maps.items()}
        surprise = {name: values[0].numpy() for name, values in detector.scorer.aggregation.surprise(maps).items()}
        assert found.regions == find_regions(found.mask, found.anomaly_map, surprise)
        assert sum(region.area for region in found.regions) == found.mask.sum()


def test_alarms_are_attributed_and_others_on_request(detector, samples, split_in_two):
    assert detector.attribution == "alarms"
    for sample, alarm in zip(samples, split_in_two, strict=True):
        found = detector.predict(sample)
        assert (found.attribution is not None) == alarm
        if alarm:
            assert list(found.attribution) == list(found.attribution_paths) == ["rgb", "depth"]
            assert sum(found.attribution.values()) == pytest.approx(1)
            assert found.attribution_sensors == pytest.approx(
                {"rgb": found.attribution["rgb"], "xyz": found.attribution["depth"]}
            )
            assert found.attribution["rgb"] == pytest.approx(sum(found.attribution_paths["rgb"].values()))
    other = detector.with_config(detector.config)
    other.attribution = "always"
    assert all(one.attribution for one in other.predict_batch(samples))
    other.attribution = "never"
    assert not any(one.attribution for one in other.predict_batch(samples))
    assert detector.attribution == "alarms"
    with pytest.raises(ConfigError, match=r"attribution \(='often'\) must be one of alarms, always, never"):
        other.attribution = "often"


def test_the_second_pass_sees_the_maps_of_the_first(detector, samples, decide, monkeypatch):
    decide(-np.inf, np.inf)
    seen = []
    attribute = "crdkit.detector._explaining.attribute"
    from crdkit.scoring.attribution import attribute as original

    def record(aggregation, maps, *, without_amplifier, place):
        seen.append((maps, without_amplifier, place))
        return original(aggregation, maps, without_amplifier=without_amplifier, place=place)

    monkeypatch.setattr(attribute, record)
    prepared = [detector.prepare(sample) for sample in samples[:2]]
    found = detector.predict_prepared(prepared)
    engine = Engine(detector.model, detector.scorer)
    for one, sample, (maps, without, place) in zip(found, prepared, seen, strict=True):
        expected = engine.raw_maps(lambda name, views=sample.views: views[name][None]).branches
        for name, values in maps.items():
            torch.testing.assert_close(values, expected[name][0], atol=1e-4, rtol=1e-4)
        assert {target: list(sources) for target, sources in without.items()} == {"rgb": ["depth"], "depth": ["rgb"]}
        for target, sources in without.items():
            for values in sources.values():  # what changes everywhere is no part of the alarm
                assert float((maps[target] - values).median()) == pytest.approx(0, abs=1e-5)
                assert float((maps[target] - values).abs().max()) > 1e-3
        top = np.unravel_index(int(place.argmax()), place.shape)
        assert np.hypot(*np.subtract(top, np.unravel_index(one.anomaly_map.argmax(), place.shape))) < 2  # as of 64 x 64


def test_an_alarm_without_a_region_says_so(detector, samples, decide):
    decide(-np.inf, np.inf)
    found = detector.predict(samples[0])
    assert (found.label, found.regions, found.mask.any()) == (True, [], False)
    assert sum(found.attribution.values()) == pytest.approx(1)
    assert reasons(found)[0] == "no region above the pixel threshold inf"


def test_without_thresholds_nothing_is_decided(detector, samples, decide):
    decide(None, None)
    found = detector.predict(samples[0])
    assert (found.label, found.mask, found.regions, found.attribution) == (None, None, [], None)
    assert reasons(found) == []


def test_a_missing_modality_has_no_share(detector, samples, decide):
    decide(-np.inf, -np.inf)
    spared = detector.with_config(detector.config.with_overrides("training.modality_dropout=0.3"))
    found = spared.predict({"rgb": samples[0]["rgb"]})
    assert found.attribution == found.attribution_sensors == {"rgb": 1.0}
    assert [region.modality for region in found.regions] == ["rgb"]


def test_a_decision_is_json(detector, samples, decide):
    decide(-1e9, -1e9)
    found = detector.predict(samples[0])
    read = json.loads(json.dumps(found.to_dict(maps=False)))
    (region,) = read["regions"]
    assert (region["box"], region["area"]) == ([0, 0, 64, 64], 64 * 64)
    assert found.anomaly_map[tuple(region["peak"])] == np.float32(region["score"]) == found.anomaly_map.max()
    assert read["attribution"] == found.attribution
    assert read["attribution_paths"]["rgb"].keys() == {"rgb", "depth"}
    assert read["attribution_sensors"].keys() == {"rgb", "xyz"}
    assert found != replace(found, regions=[])
    assert "raised by" in found._repr_html_()


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_of_predictions_holds_decisions(finished, scans, decide, tmp_path, capsys):
    from crdkit.cli import main

    decide(5.0, 1.0)
    assert main(["predict", str(finished), str(scans), "--out", str(tmp_path / "out")]) == 0
    rows = read_csv(tmp_path / "out/scores.csv")
    lines = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert [row["image_path"] for row in rows] == [line["image_path"] for line in lines]
    assert any(line["regions"] for line in lines)
    for row, line in zip(rows, lines, strict=True):
        name = line["image_path"].split("/test/")[-1].replace("/rgb/", "/").removesuffix(".png")
        mask = np.asarray(Image.open(tmp_path / f"out/masks/{name}.png"))
        assert set(np.unique(mask)) <= {0, 255}
        assert int(row["regions"]) == len(line["regions"])
        assert (mask > 0).sum() == sum(region["area"] for region in line["regions"])
        assert (line["attribution"] is not None) == (row["pred_label"] == "1") == (row["attribution_rgb"] != "")
        overlay = np.asarray(Image.open(tmp_path / f"out/overlays/{name}.png"))
        if line["regions"]:
            top = line["regions"][0]
            assert row["region_box"] == " ".join(map(str, top["box"]))
            assert row["region_modality"] == top["modality"]
            if not mask.all():
                assert (overlay == colour_of(top["modality"], ["rgb", "depth"])).all(axis=2).any()
    capsys.readouterr()
    assert main(["predict", str(finished), str(scans), "--jsonl"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == lines


def test_one_sample_is_printed_with_its_reasons(finished, scans, decide, capsys):
    from crdkit.cli import main

    decide(-1e9, -1e9)
    files = [f"{sensor}={next((scans / 'biscuit/test/good' / sensor).iterdir())}" for sensor in ("rgb", "xyz")]
    assert main(["predict", str(finished), *files]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["image_path", "pred_score", "p_value", "pred_label", "regions", "raised_by"]
    assert lines[2] == "1 region above the pixel threshold -1e+09"
    assert lines[3].startswith("  rows 0 to 63, columns 0 to 63: 4096 pixels, highest ")
    assert lines[4].startswith("raised by ")
    assert main(["predict", str(finished), *files, "--attribution", "never"]) == 0
    assert "raised by " not in capsys.readouterr().out
    for other in (["--json"], ["--out", "there"]):
        assert main(["predict", str(finished), *files, "--jsonl", *other]) == 2
        assert f"give --jsonl or {other[0]}" in capsys.readouterr().err


def test_a_run_shows_decisions(finished):
    rows = read_csv(finished / "scores.csv")
    assert list(rows[0])[-5:] == ["regions", "region_box", "region_modality", "attribution_rgb", "attribution_depth"]
    alarms = [row for row in rows if row["pred_label"] == "1"]
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert page.count("decided anomalous") == page.count('"raised":"raised by') == len(alarms)
    assert page.count("decided normal") == len(rows) - len(alarms)
    for row in alarms:
        assert float(row["attribution_rgb"]) + float(row["attribution_depth"]) == pytest.approx(1, abs=1e-5)


def test_a_prediction_made_by_hand_needs_no_decision():
    found = Prediction(anomaly_map=np.zeros((3, 4), np.float32), score=0.0, maps={})
    assert found.to_dict(maps=False)["regions"] == []
