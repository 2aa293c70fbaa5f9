"""Samples that lack a modality: what is drawn, what the model leaves out, how maps are fused, what users see."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from test_model import CNN, build, random_features

import crdkit
from crdkit.config.build import build_dataset, build_views
from crdkit.errors import ConfigError, CrdkitError, DataError
from crdkit.runs.directory import read_metrics
from crdkit.runs.evaluate import evaluate_run
from crdkit.runs.fit import fit
from crdkit.scoring.aggregations import aggregations
from crdkit.training.dropout import draw_presence
from crdkit.training.losses import TERMS, cosine_loss, crd_losses
from crdkit.views.split import list_split, load_split

THREE = {"a": CNN, "b": CNN, "c": CNN}
SHARED = {"rgb": ["rgb"], "depth": ["xyz"], "normals": ["xyz"], "registered": ["rgb", "xyz"]}


def flags(**modalities):
    return {name: torch.tensor(values, dtype=torch.bool) for name, values in modalities.items()}


def draw(sensors, dropout, *, count=20000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return draw_presence(sensors, count=count, dropout=dropout, generator=generator)


def test_sensors_fail_by_themselves_and_take_all_their_modalities_along():
    present = draw(SHARED, 0.25)
    assert list(present) == list(SHARED)
    assert torch.equal(present["depth"], present["normals"])
    assert torch.equal(present["registered"], present["rgb"] & present["depth"])
    # 1/16 of the samples would keep nothing: a quarter of them each is spared for one modality
    missing = {"rgb": 1 / 4 - (1 / 4 + 1 / 4) / 16, "depth": 1 / 4 - (3 / 4) / 16, "registered": 7 / 16 - (1 / 4) / 16}
    for name, share in missing.items():
        assert (~present[name]).float().mean().item() == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("dropout", [0.1, 0.9])
def test_one_modality_always_stays(dropout):
    present = draw({"a": ["a"], "b": ["b"]}, dropout)
    assert bool((present["a"] | present["b"]).all())
    assert bool((~present["a"]).any())
    assert bool(draw({"a": ["a"]}, dropout)["a"].all())
    again = draw({"a": ["a"], "b": ["b"]}, dropout)
    assert all(torch.equal(present[name], again[name]) for name in present)


@pytest.mark.parametrize("merge", ["concat", "mean"])
def test_what_is_missing_never_reaches_the_others(merge):
    model = build(THREE, merge=merge, depths=1).eval()
    features = random_features(THREE)
    absurd = {**features, "c": [1e3 * level + 7 for level in features["c"]]}
    present = flags(a=[1, 1], b=[1, 1], c=[0, 1])
    with torch.no_grad():
        first, second = model.distill(features, present), model.distill(absurd, present)
    for target in "ab":
        for mine, theirs in zip(first.output[target], second.output[target], strict=True):
            torch.testing.assert_close(mine[0], theirs[0], rtol=0, atol=0)
            assert not torch.allclose(mine[1], theirs[1])


@pytest.mark.parametrize("merge", ["concat", "mean"])
def test_a_sample_that_has_all_is_as_it_is_without_flags(merge):
    model = build(THREE, merge=merge, depths=1).eval()
    features = random_features(THREE)
    with torch.no_grad():
        plain, flagged = model.distill(features), model.distill(features, flags(a=[1, 1], b=[1, 1], c=[1, 0]))
    assert plain.present is None
    for target in "ab":
        for mine, theirs in zip(plain.output[target], flagged.output[target], strict=True):
            torch.testing.assert_close(mine[0], theirs[0])


def test_filters_of_missing_sources_are_zeros_or_left_out_of_the_mean():
    features = random_features(THREE)
    seen = {}
    for merge in ("concat", "mean"):
        model = build(THREE, merge=merge, depths=1).eval()
        student = model.branch("a").student
        student.bottleneck.levels[0].register_forward_pre_hook(lambda _, args, key=merge: seen.update({key: args[0]}))
        with torch.no_grad():
            out = model.distill(features, flags(a=[1, 1], b=[1, 1], c=[0, 1]))
        b, c = (out.filtered["a"][source][0] for source in "bc")
        own, first, *second = seen[merge].split(CNN.channels[0], dim=1)
        torch.testing.assert_close(own, features["a"][0], rtol=0, atol=0)
        if merge == "concat":
            torch.testing.assert_close(first, b, rtol=0, atol=0)
            torch.testing.assert_close(second[0][0], torch.zeros_like(c[0]), rtol=0, atol=0)
            torch.testing.assert_close(second[0][1], c[1], rtol=0, atol=0)
        else:
            torch.testing.assert_close(first, torch.stack([b[0], (b[1] + c[1]) / 2]))


def test_amplifier_weights_are_renormalised_over_the_present_ones():
    model = build(THREE, depths=1).eval()
    weights = model.branch("a").student.decoder.merge_weights[0]
    with torch.no_grad():
        weights.copy_(torch.tensor([1.0, 2.0, 3.0]))
        out = model.distill(random_features(THREE), flags(a=[1, 1], b=[1, 0], c=[0, 0]))
        share = torch.softmax(weights[:2], dim=0)
    decoder, merged, amplified = out.decoder["a"][-1], out.output["a"][-1], out.amplified["a"]["b"][-1]
    torch.testing.assert_close(merged[0], share[0] * decoder[0] + share[1] * amplified[0])
    torch.testing.assert_close(merged[1], decoder[1], rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["flattened", "per_position", "hard_position"])
def test_losses_are_means_over_the_samples_that_have_both_ends(kind):
    out = (
        build(THREE, depths=1)
        .eval()
        .distill(random_features(THREE, batch=3), flags(a=[1, 1, 0], b=[0, 1, 1], c=[0, 0, 1]))
    )
    losses = crd_losses(out, kind=kind)["a"]

    def of(levels, rows):
        return cosine_loss(
            [level[rows] for level in out.teacher["a"]], [level[rows] for level in levels], kind=kind
        ).item()

    assert losses["decoder"].item() == pytest.approx(of(out.decoder["a"], [0, 1]))
    assert losses["output"].item() == pytest.approx(of(out.output["a"], [0, 1]))
    assert losses["filter"].item() == pytest.approx(of(out.filtered["a"]["b"], [1]))  # a and c never meet: 0
    assert losses["amplifier"].item() == pytest.approx(of(out.amplified["a"]["b"], [1]))


def test_a_target_that_all_samples_lack_has_losses_and_gradients_of_zero():
    model = build(THREE, depths=1)
    losses = crd_losses(model.distill(random_features(THREE), flags(a=[0, 0], b=[1, 1], c=[1, 1])))
    assert [losses["a"][term].item() for term in TERMS] == [0, 0, 0, 0]
    sum(sum(terms.values()) for terms in losses.values()).backward()
    assert all(bool((p.grad == 0).all()) for p in model.branch("a").parameters())
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.student_parameters())


def test_flags_must_name_every_modality():
    with pytest.raises(CrdkitError, match=r"presence flags of modality 'b', 'c' are missing"):
        build(THREE, depths=1).distill(random_features(THREE), flags(a=[1, 1]))


@pytest.mark.parametrize("name", aggregations.names())
def test_every_aggregation_fuses_what_is_present(name):
    options = {"weights": {"a": 1, "b": 0.5, "c": 2}} if name == "weighted" else {}
    part = aggregations.get(name)(aggregations.build_config({"name": name, **options}), modalities=list("abc"))
    generator = torch.Generator().manual_seed(0)
    part.calibrate({key: torch.rand(5, 8, 8, generator=generator) for key in "abc"})
    maps = {key: torch.rand(2, 8, 8, generator=generator) for key in "abc"}
    present = flags(a=[1, 1], b=[1, 1], c=[0, 1])
    fused = part.fuse(maps, present)
    assert fused.dtype == torch.float32
    torch.testing.assert_close(fused[1], part(maps)[1], rtol=0, atol=0)
    torch.testing.assert_close(part.fuse(maps), part(maps), rtol=0, atol=0)
    nothing = {**maps, "c": torch.full_like(maps["c"], torch.nan)}
    torch.testing.assert_close(part.fuse(nothing, present)[0], fused[0], rtol=0, atol=0)
    worse = {**maps, "a": maps["a"] + 5}
    assert bool((part.fuse(worse, present)[0] > fused[0]).all())
    if name == "normalised_sum":
        two = [part.normalised(maps)[key][0] for key in "ab"]
        torch.testing.assert_close(fused[0], 1.5 * (two[0] + two[1]))


@pytest.fixture(scope="module")
def config(tiny):
    """Three modalities on two sensors, trained with dropout."""
    encoder = "{name: timm, model: test_resnet, pretrained: false}"
    return tiny.with_overrides(
        f"modalities.normals.encoder={encoder}", "training.modality_dropout=0.4", "student.min_width=1"
    )


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dropout") / "run"
    fit(config, folder)
    return folder


@pytest.fixture(scope="module")
def detector(run):
    return crdkit.Detector.load(run / "detector", device="cpu")


@pytest.fixture(scope="module")
def sensors(config):
    dataset = build_dataset(config)
    return dataset.read(dataset.records("test")[-1]).sensors


def test_training_with_dropout_gives_the_same_bytes_twice_and_others_than_without(run, config, tmp_path):
    fit(config).save(tmp_path / "again")
    first = (run / "detector/model.safetensors").read_bytes()
    assert (tmp_path / "again/model.safetensors").read_bytes() == first
    fit(config.with_overrides("training.modality_dropout=0")).save(tmp_path / "without")
    assert (tmp_path / "without/model.safetensors").read_bytes() != first
    assert "missing" not in read_metrics(run)["counts"]
    assert "missing" not in (run / "scores.csv").read_text()


def test_a_sample_without_a_sensor_is_scored_and_flagged(detector, sensors):
    result = detector.predict({"rgb": sensors["rgb"]})
    assert result.missing == ("depth", "normals")  # one sensor, two views of it
    assert result.to_dict()["missing"] == ["depth", "normals"]
    assert list(result.maps) == ["rgb"]
    assert np.isfinite(result.anomaly_map).all()
    assert result.score > 0
    assert list(detector.predict({"xyz": sensors["xyz"]}).maps) == ["depth", "normals"]
    assert detector.predict(sensors).missing == ()
    with pytest.raises(DataError, match=r"sensor 'rgb', 'xyz' is missing: .*every modality lacks one of its sensors"):
        detector.predict({})


def test_a_saved_detector_still_does_without_a_sensor(detector, sensors, tmp_path):
    detector.save(tmp_path / "copy")
    mine, theirs = (d.predict({"rgb": sensors["rgb"]}) for d in (detector, crdkit.Detector.load(tmp_path / "copy")))
    np.testing.assert_array_equal(mine.anomaly_map, theirs.anomaly_map)
    assert mine.missing == theirs.missing


@pytest.fixture
def broken(scans, tmp_path):
    """A copy of the data in which one defective and one normal test sample lack their scan, and one its image."""
    shutil.copytree(scans, tmp_path / "data")
    for name in ("crack/xyz/000.tiff", "good/xyz/001.tiff", "good/rgb/002.png"):
        (tmp_path / "data/biscuit/test" / name).unlink()
    return tmp_path / "data"


def test_incomplete_test_samples_are_scored_and_counted(detector, run, broken, tmp_path):
    metrics = evaluate_run(run, f"data.root={broken}", out=tmp_path / "out")
    assert metrics["counts"]["test"] == read_metrics(run)["counts"]["test"]
    assert metrics["counts"]["missing"] == {"rgb": 1, "depth": 2, "normals": 2}
    assert json.loads((tmp_path / "out/metrics.json").read_text()) == metrics
    assert all(value is not None for value in metrics["branches"]["depth"].values())
    with (tmp_path / "out/scores.csv").open() as file:
        rows = {row["image_path"]: row for row in csv.DictReader(file)}
    flagged = {path: row["missing"] for path, row in rows.items() if row["missing"]}
    assert flagged == {
        "biscuit/test/crack/rgb/000.png": "depth normals",
        "biscuit/test/good/rgb/001.png": "depth normals",
        "biscuit/test/good/xyz/002.tiff": "rgb",
    }
    row = rows["biscuit/test/crack/rgb/000.png"]
    assert row["pred_score_depth"] == row["pred_score_normals"] == ""
    assert float(row["pred_score_rgb"]) > 0
    dataset = build_dataset(detector.config.with_overrides(f"data.root={broken}", "data.on_bad_sample=skip"))
    record = next(record for record in dataset.records("test") if record.sample_id == "crack/000")
    alone = detector.predict(dataset.read(record_without(record, "xyz"), ["rgb"]).sensors)
    assert alone.score == pytest.approx(float(row["pred_score"]), rel=1e-4)
    assert "2 test samples lack depth" in (tmp_path / "out/report.html").read_text()


def record_without(record, sensor):
    return type(record)(**{**vars(record), "files": {k: path for k, path in record.files.items() if k != sensor}})


def test_without_dropout_incomplete_samples_are_errors_as_ever(finished, run, broken):
    with pytest.raises(DataError, match=r"crack/xyz/000\.tiff: the file does not exist"):
        evaluate_run(finished, f"data.root={broken}")
    (broken / "biscuit/test/crack/rgb/000.png").unlink()
    with pytest.raises(DataError, match=r"crack/rgb/000\.png: the file does not exist \(and 1 more\)"):
        evaluate_run(run, f"data.root={broken}")  # a mask is left, but no sensor


def test_a_split_without_a_modality_is_what_missing_files_give(config, scans, detector, tmp_path):
    shutil.copytree(scans, tmp_path / "data")
    for path in (tmp_path / "data/biscuit/test").glob("*/xyz/*.tiff"):
        path.unlink()
    views = build_views(config)
    empty = build_dataset(config.with_overrides(f"data.root={tmp_path / 'data'}"))
    listed = list_split(empty, "test", views=views, incomplete=True)
    found = load_split(empty, "test", views=views, records=listed)
    hidden = load_split(build_dataset(config), "test", views=views).without("depth", "normals")
    assert {name: has.tolist() for name, has in found.present.items()} == {
        name: has.tolist() for name, has in hidden.present.items()
    }
    out = [detector.score(split).anomaly_map for split in (found, hidden)]
    torch.testing.assert_close(out[0], out[1], rtol=0, atol=0)


@pytest.mark.parametrize("value", ["1", "-0.1", "much"])
def test_dropout_is_a_probability_below_one(tiny, value):
    with pytest.raises(ConfigError, match=rf"training\.modality_dropout \(='?{value}'?\)"):
        tiny.with_overrides(f"training.modality_dropout={value}")
