"""The decision from good parts: how a detector sets its thresholds, and their way through files and commands."""

from __future__ import annotations

import csv
import json
import shutil
import warnings
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

import crdkit
from crdkit._core.locks import hold
from crdkit.cli import main
from crdkit.config.build import build_dataset
from crdkit.detector import Detector, read_thresholds
from crdkit.detector.deciding import decide_saved
from crdkit.errors import ConfigError, DataError, DetectorFormatError, FewNormalsWarning
from crdkit.scoring.conformal import Normals
from crdkit.scoring.thresholds import Thresholds
from crdkit.views.split import load_split

BOTH = ("rgb", "depth")
FEW = pytest.mark.filterwarnings("ignore::crdkit.errors.FewNormalsWarning")


@pytest.fixture
def own(finished):
    """A detector of its own, for tests that change it."""
    return Detector.load(finished / "detector", device="cpu")


@pytest.fixture
def saved(finished, tmp_path):
    """A detector's folder of its own."""
    return shutil.copytree(finished / "detector", tmp_path / "detector")


@pytest.fixture(scope="module")
def spared(tiny, tmp_path_factory):
    """A detector that can do without a sensor."""
    return crdkit.fit(tiny.with_overrides("training.modality_dropout=0.3", "training.epochs=1"))


def left_out(detector, split, *missing):
    """Return scores and peaks of samples without some modalities, each by a fit to the others with all, ascending."""
    engine = detector._engine()
    raw = engine.raw_maps(split.inputs.__getitem__).branches
    seen = split.without(*missing)
    lacking = engine.raw_maps(seen.inputs.__getitem__, seen.present).branches if missing else raw
    every = list(range(len(split)))

    def scored(scorer, rows):
        present = {name: has[rows] for name, has in seen.present.items()} if missing else None
        maps = scorer({name: values[rows] for name, values in lacking.items()}, present)
        return np.array([maps.pred_score.tolist(), maps.anomaly_map.flatten(1).amax(1).tolist()])

    final, found = deepcopy(detector.scorer), []
    final.calibrate(dict(raw), None)
    for row in every:
        others = [other for other in every if other != row]
        fitted = deepcopy(detector.scorer)
        fitted.calibrate({name: maps[others] for name, maps in raw.items()}, None)
        shift = (scored(final, others) - scored(fitted, others)).mean(axis=1)  # two others: the slope stays 1
        found.append(scored(fitted, [row])[:, 0] + shift)
    return np.sort(np.array(found).T)


def test_held_out_samples_are_scored_by_fits_that_have_not_seen_them(tiny, detector):
    split = load_split(build_dataset(tiny), "validation", views=detector.views)
    scores, peaks = left_out(detector, split)
    kept = detector.thresholds
    assert kept.scores[BOTH].values == pytest.approx(scores, rel=1e-5)
    assert kept.peaks[BOTH].values == pytest.approx(peaks, rel=1e-5)
    assert kept.scores[BOTH].rule == "jackknife"
    in_sample = sorted(detector.score(split).pred_score.tolist())
    assert in_sample != pytest.approx(scores, rel=1e-3)


def test_fits_of_another_scale_are_brought_to_that_of_the_final_one():
    from crdkit.detector._calibration import _line

    own = torch.tensor([1.0, 2.0, 4.0, 9.0], dtype=torch.float64)
    assert [value.item() for value in _line(own, 3 * own - 2)] == pytest.approx([-2, 3])
    assert [value.item() for value in _line(own[:2], 3 * own[:2])] == pytest.approx([3, 1])  # too few for a slope
    assert [value.item() for value in _line(own * 0, own)] == pytest.approx([4, 1])
    assert [value.item() for value in _line(own, -own)] == pytest.approx([-8, 1])


def test_the_deployed_scorer_is_fitted_to_all(tiny, detector):
    split = load_split(build_dataset(tiny), "validation", views=detector.views)
    raw = detector._engine().raw_maps(split.inputs.__getitem__)
    fitted = deepcopy(detector.scorer)
    fitted.calibrate(dict(raw.branches), None)
    for name, value in fitted.state_dict().items():
        assert torch.allclose(value, detector.scorer.state_dict()[name], rtol=1e-6), name


def test_many_samples_are_held_out_in_ten_folds(detector, tiny):
    from crdkit.detector._calibration import folds

    assert [len(folds(count)) for count in (1, 2, 25, 26, 1000)] == [1, 2, 25, 9, 10]
    for count in (26, 99, 101, 1000):
        covered = [row for fold in folds(count) for row in range(fold.start, fold.stop)]
        assert covered == list(range(count))


def test_a_prediction_is_judged(detector, samples):
    image, pixel = detector.thresholds.images[BOTH], detector.thresholds.pixels[BOTH]
    for result in (detector.predict(samples[0]), *detector.predict_batch(samples), *detector.predict_stream(samples)):
        assert (result.threshold, result.pixel_threshold) == (image.value, pixel.value)
        assert result.p_value == detector.thresholds.scores[BOTH].p_value(result.score)
        assert result.label is (result.score > result.threshold)
        assert np.array_equal(result.mask, result.anomaly_map > pixel.value)
    above = replace(result, score=result.threshold + 1)
    assert (above.label, replace(above, threshold=None).label) == (True, None)
    assert above.to_dict()["pred_label"] is True


def test_without_thresholds_nothing_is_decided(own, samples):
    own.thresholds = None
    result = own.predict(samples[0])
    assert (result.threshold, result.p_value, result.label, result.mask, result.pixel_threshold) == (None,) * 5
    with pytest.raises(ConfigError, match="no normal samples"):
        own.decide(0.1)


def test_every_set_of_sensors_has_a_threshold_where_they_may_be_missing(spared, tiny):
    names = {BOTH, ("rgb",), ("depth",)}
    assert set(spared.thresholds.images) == set(spared.thresholds.pixels) == names
    sensors = build_dataset(tiny).read(build_dataset(tiny).records("test")[0]).sensors
    for seen, kept in ((BOTH, ("rgb", "xyz")), (("rgb",), ("rgb",)), (("depth",), ("xyz",))):
        result = spared.predict({name: sensors[name] for name in kept})
        assert result.threshold == spared.thresholds.images[seen].value
        assert result.p_value == spared.thresholds.scores[seen].p_value(result.score)
    split = load_split(build_dataset(tiny), "validation", views=spared.views)
    assert spared.thresholds.scores[("rgb",)].values == pytest.approx(left_out(spared, split, "depth")[0], rel=1e-4)
    assert "without depth: threshold" in spared.thresholds.describe()


def test_sets_of_modalities_are_bounded(detector):
    from crdkit.detector._calibration import MAX_SETS, sets_of_modalities
    from crdkit.views.single_channel import SingleChannel

    def found(count, spares=True):
        views = {f"s{i}": SingleChannel(SingleChannel.Config(sensor=f"s{i}")) for i in range(count)}
        return sets_of_modalities(views, spares=spares)

    assert [len(found(count)) for count in (1, 2, 3, 4, 5, 6, 20)] == [1, 3, 7, 15, 16, 7, 1]
    assert found(6)[1:] == [tuple(f"s{i}" for i in range(6) if i != lost) for lost in range(6)]
    assert found(3, spares=False) == [("s0", "s1", "s2")]
    assert max(len(found(count)) for count in range(1, 21)) <= MAX_SETS


@FEW
def test_normals_may_be_samples_predictions_or_scores(own, samples):
    predicted = own.predict_batch(samples)
    scores, kept = sorted(result.score for result in predicted), own.thresholds.pixels[BOTH].value
    for normals in (samples, iter(samples), predicted, scores, np.array(scores), torch.tensor(scores)):
        decided = own.decide(0.4, normals)
        assert own.thresholds.scores[BOTH].values == pytest.approx(scores, rel=1e-4)
        assert (decided.normals, decided.rule, decided.needed) == (5, "split", 0)
        assert decided.threshold == own.thresholds.images[BOTH].value
        assert own.predict(samples[0]).threshold == decided.threshold
    assert decided.rate == 0.4
    assert decided.interval == pytest.approx((0.0764, 0.6574), abs=1e-3)  # Beta(2, 4)
    assert kept != own.thresholds.pixels[BOTH].value  # by samples and predictions


@FEW
def test_scores_leave_the_pixel_threshold_to_the_kept_samples(own):
    before = own.thresholds.peaks
    decided = own.decide(0.25, [1.0, 2.0, 3.0, 4.0])
    assert own.thresholds.peaks == before
    assert (decided.threshold, decided.pixel_threshold) == (4.0, before[BOTH].values[-1])


@FEW
def test_normals_are_added_where_that_is_wanted(own):
    kept = own.thresholds.scores[BOTH].values
    decided = own.decide(0.1, [1.0, 2.0], add=True)
    assert own.thresholds.scores[BOTH].values == tuple(sorted((*kept, 1.0, 2.0)))
    assert (decided.rule, decided.normals) == ("mixed", len(kept) + 2)


@FEW
def test_samples_given_later_count_without_their_sensors_too(spared, tiny):
    dataset = build_dataset(tiny)
    sensors = [dataset.read(record).sensors for record in dataset.records("validation")]
    detector = spared.with_config(spared.config)
    del sensors[0]["rgb"]
    detector.decide(0.3, sensors)
    found = detector.thresholds.scores
    assert {names: len(normals) for names, normals in found.items()} == {BOTH: 2, ("rgb",): 2, ("depth",): 3}
    assert {normals.rule for normals in found.values()} == {"split"}
    result = detector.predict(sensors[0])
    assert any(value == pytest.approx(result.score, rel=1e-5) for value in found[("depth",)].values)
    assert spared.thresholds.scores[BOTH].rule == "jackknife"  # decided on a copy


def test_a_rate_that_is_not_supported_is_said_once_and_taken_as_near_as_can_be(own):
    with pytest.warns(
        FewNormalsWarning,
        match=r"3 good parts set the threshold, so about 1 good part in 4 \(25 %\) raises a false alarm; 1 % needs 96",
    ):
        decided = own.decide(0.01)
    assert (decided.rate, decided.needed, decided.extrapolated) == (0.25, 96, False)
    scores = np.random.default_rng(0).exponential(size=30)
    with pytest.warns(FewNormalsWarning, match="the extrapolated threshold is taken") as seen:
        decided = own.decide(0.01, scores, extrapolate=True)
    assert len(seen) == 1
    assert (decided.rate, decided.extrapolated, decided.interval) == (0.01, True, None)
    assert decided.threshold == decided.tail["threshold"] > max(scores)
    assert "extrapolated" in str(decided)
    assert json.loads(json.dumps(decided.to_dict()))["extrapolated"] is True
    assert own.decide(0.1).extrapolated is False  # supported


@pytest.mark.parametrize("rate", [0, 1, 0.6, -0.1, float("nan"), True, "0.1"])
def test_rates_that_make_no_sense_are_refused(own, rate):
    with pytest.raises(ConfigError, match="must be a rate above 0 and at most"):
        own.decide(rate)


@pytest.mark.parametrize(
    ("normals", "message"),
    [
        ([], "there are none"),
        (np.array(1.0), "there are none"),
        (3.0, "found float"),
        ("samples", "found str"),
        ({"rgb": 1}, "found dict"),
        ([1.0, float("nan")], "nan at place 1"),
        ([1.0, True], "True at place 1"),
        ([1.0, {}], "dict at place 1"),
        ([[1.0, 2.0]], "list at place 0"),
        (np.zeros((2, 2)), "ndarray at place 0"),
        ([{"rgb": np.zeros((4, 4, 3), np.uint8)}], "normal sample 0: "),
    ],
)
def test_normals_that_cannot_be_used_are_refused_and_nothing_changes(own, normals, message):
    before = own.thresholds
    with pytest.raises(DataError, match=message):
        own.decide(0.1, normals)
    assert own.thresholds is before


def test_predictions_of_another_detector_are_refused(own, samples):
    found = own.predict(samples[0])
    other = replace(found, maps={"rgb": found.maps["rgb"]})
    with pytest.raises(DataError, match="of another detector"):
        own.decide(0.5, [other])
    with pytest.raises(DataError, match="dict at place 1; expected predictions"):
        own.decide(0.5, [found, samples[0]])


def test_thresholds_travel_with_the_detector(own, tmp_path):
    own.thresholds = Thresholds(
        scores={BOTH: Normals(range(30), rule="split"), ("rgb",): Normals([1.5], rule="mixed")},
        peaks={BOTH: Normals(range(5, 40), rule="jackknife")},
        false_alarms=0.01,
        extrapolate=True,
        sha256="ab",
    )
    own.save(tmp_path / "saved")
    kept, loaded = own.thresholds, Detector.load(tmp_path / "saved", device="cpu").thresholds
    for part in ("scores", "peaks", "images", "pixels", "false_alarms", "extrapolate", "sha256"):
        assert getattr(loaded, part) == getattr(kept, part), part
    entry = json.loads((tmp_path / "saved/config.json").read_text())["thresholds"]
    (both, alone), (pixels,) = entry["image"], entry["pixels"]
    assert (both["n"], both["rate"], both["extrapolated"], alone["rule"]) == (30, 0.01, True, "mixed")
    assert (pixels["threshold"], set(entry["made_from"])) == (kept.pixels[BOTH].value, {"normals", "weights", "config"})
    assert str(tmp_path) not in json.dumps(entry)


def test_the_rate_of_the_configuration_is_what_a_training_sets(tiny):
    with pytest.raises(ConfigError, match=r"scoring.false_alarms"):
        tiny.with_overrides("scoring.false_alarms=0.6")
    detector = crdkit.fit(tiny.with_overrides("scoring.false_alarms=0.5", "training.epochs=1"))
    assert (detector.thresholds.false_alarms, detector.thresholds.images[BOTH].rate) == (0.5, 0.5)
    assert detector.thresholds.images[BOTH].value == detector.thresholds.scores[BOTH].values[1]  # of three
    other = detector.with_config(detector.config.with_overrides("scoring.false_alarms=0.25"))
    assert other.thresholds.images[BOTH].value == detector.thresholds.scores[BOTH].values[2]


@pytest.mark.parametrize("change", ["scoring.sigma=2", "aggregation.name=max"])
def test_another_scoring_has_no_thresholds(own, change):
    assert own.with_config(own.config.with_overrides(change)).thresholds is None
    same = own.config.with_overrides("scoring.sampled_thresholds=true", "training.batch_size=3")
    assert own.with_config(same).thresholds is not None


def test_changed_weights_have_no_thresholds(own, samples, tmp_path, caplog):
    assert own.to("cpu").thresholds is not None
    next(own.model.branch("rgb").parameters()).data_ptr()
    with torch.no_grad():
        next(own.model.branch("rgb").parameters()).mul_(1.5)
    assert own.to("cpu").thresholds is None
    assert "they are dropped" in caplog.text
    own.save(tmp_path / "saved")
    assert json.loads((tmp_path / "saved/config.json").read_text())["thresholds"] is None
    assert own.predict(samples[0]).label is None


def test_a_changed_scorer_has_no_thresholds(own, samples):
    own.scorer.aggregation.mean.add_(1)
    assert own.predict(samples[0]).threshold is None


def test_thresholds_of_other_weights_or_another_scoring_are_left_out(saved, own, caplog):
    header = json.loads((saved / "config.json").read_text())
    header["config"]["scoring"]["sigma"] = 1.0
    (saved / "config.json").write_text(json.dumps(header))
    assert Detector.load(saved, device="cpu").thresholds is None
    assert "other weights or another scoring" in caplog.text
    own.thresholds = None
    with torch.no_grad():
        next(own.model.branch("rgb").parameters()).mul_(1.5)
    own.save(saved.with_name("other"))
    header = json.loads((saved / "config.json").read_text())
    header["config"]["scoring"]["sigma"] = own.config.scoring.sigma
    header["sha256"] = json.loads((saved.with_name("other") / "config.json").read_text())["sha256"]
    (saved / "config.json").write_text(json.dumps(header))
    shutil.copy(saved.with_name("other") / "model.safetensors", saved)
    assert Detector.load(saved, device="cpu").thresholds is None


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda entry: entry["image"][0].update(threshold=0.5), "do not follow from its normals"),
        (lambda entry: entry["image"][0].update(n=4), "do not follow from its normals"),
        (lambda entry: entry["pixels"][0]["normals"].append(1e9), "do not follow from its normals"),
        (lambda entry: entry["image"][0].update(modalities=["depth", "rgb"]), "in that order"),
        (lambda entry: entry["image"][0].update(modalities=["other"]), "are not some of those there are"),
        (lambda entry: entry["image"].append(entry["image"][0]), "do not follow"),
        (lambda entry: entry["image"][0].update(normals=[]), "thresholds.image.0.normals"),
        (lambda entry: entry["image"][0].update(rule="guess"), "thresholds.image.0.rule"),
        (lambda entry: entry.update(false_alarms=0), "thresholds.false_alarms"),
        (lambda entry: entry.pop("pixels"), "thresholds.pixels is missing"),
    ],
)
def test_edited_thresholds_are_refused(saved, edit, message):
    header = json.loads((saved / "config.json").read_text())
    edit(header["thresholds"])
    (saved / "config.json").write_text(json.dumps(header))
    with pytest.raises(DetectorFormatError, match=message):
        Detector.load(saved, device="cpu")


def test_detectors_of_before_are_read(saved, samples):
    header = json.loads((saved / "config.json").read_text())
    del header["thresholds"]
    (saved / "config.json").write_text(json.dumps(header))
    with pytest.raises(DetectorFormatError, match="thresholds are missing"):
        Detector.load(saved, device="cpu")
    header |= {"format_version": 3, "normal_scores": [1.0, 2.0, 3.0]}
    (saved / "config.json").write_text(json.dumps(header))
    found = Detector.load(saved, device="cpu")
    assert (found.thresholds.scores[BOTH].rule, found.predict(samples[0]).threshold) == ("in-sample", 3.0)
    assert found.predict(samples[0]).mask is None
    header |= {"format_version": 2, "sha256": {}}
    del header["normal_scores"]
    (saved / "config.json").write_text(json.dumps(header))
    assert Detector.load(saved, device="cpu").predict(samples[0]).label is None


def test_decide_writes_a_detector_of_before_in_this_format(saved):
    header = json.loads((saved / "config.json").read_text())
    del header["thresholds"], header["sha256"]
    header |= {"format_version": 2}
    (saved / "config.json").write_text(json.dumps(header))
    with pytest.raises(ConfigError, match="no normal samples"):
        decide_saved(saved, false_alarms=0.2)
    detector = Detector.load(saved, device="cpu")
    detector.decide(0.2, np.arange(9.0))
    from crdkit.detector._saved import write_thresholds

    write_thresholds(saved, detector.thresholds)
    header = json.loads((saved / "config.json").read_text())
    assert (header["format_version"], len(header["sha256"]["model.safetensors"])) == (4, 64)
    assert Detector.load(saved, device="cpu").thresholds.images[BOTH].value == 7


def test_the_command_sets_thresholds_in_place(finished, scans, tmp_path, capsys):
    run = shutil.copytree(finished, tmp_path / "run")
    weights = (run / "detector/model.safetensors").read_bytes()
    assert main(["-q", "decide", str(run), "--false-alarms", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("threshold ")
    assert "for 50 % false alarms, from 3 normal samples (jackknife" in printed
    assert read_thresholds(run).false_alarms == 0.5
    assert Detector.load(run / "detector", device="cpu").thresholds.describe() == printed.strip()
    folder = str(scans / "biscuit/validation/good")
    few = "3 good parts set the threshold, so about 1 good part in 4 (25 %) raises a false alarm; "
    few += "1 % needs 96 more good parts; 25 % is taken"
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["-q", "decide", str(run), "--normals", folder, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == f"warning: {few}\n"
    document = json.loads(out)
    assert (document["rule"], document["normals"], document["rate"], document["needed"]) == ("split", 3, 0.25, 96)
    assert [found["modalities"] for found in document["sets"]] == [["rgb", "depth"]]
    assert main(["-q", "decide", str(run), "--normals", folder, "--add", "--false-alarms", "0.2"]) == 0
    assert len(read_thresholds(run).scores[BOTH]) == 6
    assert (run / "detector/model.safetensors").read_bytes() == weights
    names = [path.name for path in (run / "detector").iterdir()]
    assert sorted(names) == ["README.md", "config.json", "model.safetensors"]
    assert not (run / ".lock").exists()


def test_defective_samples_set_no_threshold(finished, scans, capsys):
    before = (finished / "detector/config.json").read_bytes()
    assert main(["-q", "decide", str(finished), "--normals", str(scans / "biscuit")]) == 2
    assert "samples are defective" in capsys.readouterr().err
    assert (finished / "detector/config.json").read_bytes() == before


@pytest.mark.parametrize("inside", [False, True])
def test_a_run_that_is_being_written_is_left_alone(finished, tmp_path, capsys, inside):
    run = shutil.copytree(finished, tmp_path / "run")
    with hold(run):
        assert main(["-q", "decide", str(run / "detector" if inside else run), "--false-alarms", "0.5"]) == 2
    assert "is being written by another run" in capsys.readouterr().err


def test_the_decision_is_in_the_table_and_in_scores_csv(finished, scans, tmp_path, capsys):
    folder = str(scans / "biscuit")
    assert main(["-q", "predict", str(finished), folder, "--out", str(tmp_path / "found")]) == 0
    capsys.readouterr()
    assert main(["-q", "predict", str(finished), folder]) == 0
    table = capsys.readouterr().out.splitlines()
    thresholds = Detector.load(finished / "detector").thresholds
    image = thresholds.images[BOTH]
    assert table[0].split()[:4] == ["image_path", "pred_score", "p_value", "pred_label"]
    assert table[-1] == thresholds.describe()
    with (tmp_path / "found/scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(table) - 2
    for row, line in zip(rows, table[1:-1], strict=True):
        score = float(row["pred_score"])
        assert float(row["threshold"]) == pytest.approx(image.value)
        assert row["pred_label"] == str(int(score > image.value))
        assert float(row["p_value"]) == pytest.approx(thresholds.scores[BOTH].p_value(score))
        assert line.split()[2:4] == [f"{float(row['p_value']):.3g}", ("normal", "anomalous")[int(row["pred_label"])]]
