"""A run end to end on a tiny synthetic data set: artefacts, determinism, what an interruption leaves."""

from __future__ import annotations

import csv
import importlib.resources
import json
import math
import platform
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch

import crdkit
from crdkit._core.branches import side_by_side
from crdkit._core.device import select_device
from crdkit.config import RunConfig
from crdkit.config.build import build_dataset, build_model, build_scorer, build_views
from crdkit.detector import Detector
from crdkit.errors import ConfigError, CrdkitError, DataError
from crdkit.runs.directory import read_metrics
from crdkit.runs.evaluate import evaluate_run
from crdkit.runs.fit import fit
from crdkit.scoring.measure import measure
from crdkit.scoring.metrics import evaluate, label_regions
from crdkit.scoring.scorer import Maps
from crdkit.training import TrainingConfig
from crdkit.training.loop import learning_rate
from crdkit.training.step import build_optimizers, train_step, uses_bf16
from crdkit.views.split import load_split

KEYS = [
    *(f"{level}_{metric}" for level in ("image", "pixel") for metric in ("auroc", "ap", "f1_max")),
    *(f"aupro_{limit}" for limit in ("0.30", "0.10", "0.05", "0.01")),
]


def without_times(folder):
    metrics = read_metrics(folder)
    return {key: value for key, value in metrics.items() if key not in ("seconds", "environment")}


def test_run_directory_follows_the_contract(finished, tiny):
    assert {entry.name for entry in finished.iterdir()} == {
        "config.yaml", "data.json", "log.jsonl", "metrics.json", "scores.csv", "report.html", "figures", "detector",
        "checkpoints",
    }  # fmt: skip
    assert RunConfig.from_yaml(finished / "config.yaml") == tiny
    metrics = read_metrics(finished)
    assert sorted(metrics["aggregate"]) == sorted(KEYS)
    assert list(metrics["branches"]) == ["rgb", "depth"]
    assert all(sorted(values) == sorted(KEYS) for values in metrics["branches"].values())
    assert all(set(values) == {"image_auroc", "aupro_0.30"} for values in metrics["defect_types"].values())
    assert set(metrics["seconds"]) == {"load", "teacher", "train", "evaluate", "total"}
    assert metrics["counts"]["train"] == 6
    assert set(metrics["environment"]) == {"device", "torch", "crdkit", "python"}
    precision = "bf16" if uses_bf16(tiny.training, torch.device("cpu")) else "fp32"
    device = f"cpu ({platform.machine()}, {torch.get_num_threads()} threads, {precision})"
    assert metrics["environment"]["device"] == device
    assert metrics["parameters"]["student"] > 0 < metrics["parameters"]["teacher"]
    log = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in log] == [1, 2]
    assert all(math.isfinite(entry["loss"]) and entry["seconds"] > 0 for entry in log)
    assert (finished / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_scores_csv_agrees_with_the_metrics(finished):
    with (finished / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["image_path", "defect_type", "gt_label", "pred_score"]
    assert rows[0]["image_path"].startswith("biscuit/test/")
    labels = [int(row["gt_label"]) for row in rows]
    assert labels == [int(row["defect_type"] != "good") for row in rows]
    from sklearn.metrics import roc_auc_score

    expected = roc_auc_score(labels, [float(row["pred_score"]) for row in rows])
    assert read_metrics(finished)["aggregate"]["image_auroc"] == pytest.approx(expected)


@pytest.mark.usefixtures("without_reports")
def test_two_runs_give_the_same_bytes(finished, tiny, tmp_path):
    fit(tiny, tmp_path / "again")
    for name in ("detector/model.safetensors", "scores.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (finished / name).read_bytes()
    assert without_times(tmp_path / "again") == without_times(finished)


@pytest.mark.usefixtures("without_reports")
def test_another_seed_gives_other_weights(finished, tiny, tmp_path):
    fit(tiny.with_overrides("training.seed=1"), tmp_path / "other")
    assert (tmp_path / "other/scores.csv").read_bytes() != (finished / "scores.csv").read_bytes()


def test_fit_leaves_the_global_random_state_alone(tiny):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fit(tiny.with_overrides("training.epochs=1"))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("without_reports")
def test_the_run_directory_alone_repeats_the_run(finished, tmp_path):
    fit(RunConfig.from_yaml(finished / "config.yaml"), tmp_path / "repeated")
    assert (tmp_path / "repeated/scores.csv").read_bytes() == (finished / "scores.csv").read_bytes()


def test_one_adam_per_branch_equals_a_joint_one(tiny):
    options = tiny.training
    results = []
    for joint in (False, True):
        model = build_model(tiny)
        features = {
            name: [
                torch.rand(4, c, s, s, generator=torch.Generator().manual_seed(0))
                for c, s in zip(spec.channels, spec.sizes, strict=True)
            ]
            for name, spec in model.specs.items()
        }
        optimizers = build_optimizers(model, options)
        assert len(optimizers) == 2
        if joint:
            adam = torch.optim.Adam(
                model.student_parameters(), lr=options.learning_rate, betas=options.betas, fused=True
            )
            optimizers = [Mock(), SimpleNamespace(zero_grad=adam.zero_grad, step=adam.step)]
        model.train()
        results.append([train_step(model, features, optimizers, options) for _ in range(3)])
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_calibration_is_the_population_statistics_of_unsmoothed_maps(tiny):
    dataset, views = build_dataset(tiny), build_views(tiny)
    split = load_split(dataset, "validation", views=views)
    model, scorer = build_model(tiny).eval(), build_scorer(tiny)
    Detector(config=tiny, model=model, scorer=scorer).calibrate(split)
    with torch.no_grad():
        out = model(split.inputs)
        raw = scorer.raw_maps(out.teacher, out.output)
    for index, name in enumerate(model.modalities):
        values = raw[name].double().numpy()
        assert scorer.aggregation.mean[index].item() == pytest.approx(np.mean(values), rel=1e-6)
        assert scorer.aggregation.std[index].item() == pytest.approx(np.std(values), rel=1e-6)
        normalised = scorer.aggregation.normalised(raw)[name]
        assert normalised.mean().item() == pytest.approx(0, abs=1e-4)
        assert normalised.std().item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("exponential", [1.0, 0.95, 0.95**2, 0.95**3]),
        ("constant", [1.0] * 4),
        ("cosine", [1.0, 0.853553, 0.5, 0.146447]),
    ],
)
def test_learning_rate_per_epoch(schedule, expected):
    config = TrainingConfig(learning_rate=1.0, schedule=schedule, epochs=4)
    assert [learning_rate(config, epoch) for epoch in range(4)] == pytest.approx(expected, abs=1e-6)


@pytest.mark.usefixtures("without_reports")
def test_bf16_trains_close_to_fp32(tiny, tmp_path):
    losses = {}
    for precision in ("fp32", "bf16"):
        fit(tiny.with_overrides(f"training.precision={precision}"), tmp_path / precision)
        assert read_metrics(tmp_path / precision)["environment"]["device"].endswith(f", {precision})")
        losses[precision] = json.loads((tmp_path / precision / "log.jsonl").read_text().splitlines()[-1])["loss"]
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)


def test_aupro_with_100_thresholds_is_measured_on_demand(tiny, finished, tmp_path):
    metrics = evaluate_run(finished)
    assert not any(key.startswith("aupro100t") for key in metrics["aggregate"])
    fit(tiny.with_overrides("scoring.sampled_thresholds=true"), tmp_path / "run")
    sampled = read_metrics(tmp_path / "run")
    for values, exact in ((sampled["aggregate"], metrics["aggregate"]), (sampled["branches"]["rgb"], None)):
        extra = {key: value for key, value in values.items() if key.startswith("aupro100t")}
        assert set(extra) == {f"aupro100t_{limit}" for limit in ("0.30", "0.10", "0.05", "0.01")}
        assert all(0 <= value <= 1 for value in extra.values())
        if exact is not None:
            assert {key: value for key, value in values.items() if key not in extra} == exact
    assert "AU-PRO@30% (100 thresholds)" in (tmp_path / "run/report.html").read_text()


def test_regions_are_labelled_once_per_evaluation(tiny, monkeypatch):
    split = load_split(build_dataset(tiny), "test", views=build_views(tiny))
    maps = Maps(
        anomaly_map=torch.rand(len(split), 64, 64, generator=torch.Generator().manual_seed(0)),
        pred_score=torch.rand(len(split), generator=torch.Generator().manual_seed(1)),
        branches={},
    )
    expected = measure(maps, split)
    kinds = np.array([record.defect_type for record in split.records])
    for kind, values in expected["defect_types"].items():
        rows = np.flatnonzero((kinds == "good") | (kinds == kind))
        alone = evaluate(maps.anomaly_map[rows], split.masks[rows], maps.pred_score[rows], labels=split.labels[rows])
        assert values == {key: alone[key] for key in values}
    labelled = []
    monkeypatch.setattr("crdkit.scoring.metrics.label_regions", lambda _: pytest.fail("labelled again"))
    monkeypatch.setattr(
        "crdkit.scoring.measure.label_regions", lambda masks: labelled.append(1) or label_regions(masks)
    )
    assert measure(maps, split) == expected
    assert labelled == [1]


def test_evaluate_a_finished_run(finished, scans, tmp_path):
    metrics = evaluate_run(finished, f"data.root={scans}", out=tmp_path / "again")
    assert metrics["aggregate"] == read_metrics(finished)["aggregate"]
    assert (tmp_path / "again/scores.csv").read_bytes() == (finished / "scores.csv").read_bytes()
    with pytest.raises(ConfigError, match=r"'training\.epochs=3': a finished run can only be evaluated on other data"):
        evaluate_run(finished, "training.epochs=3")
    assert metrics["seconds"].keys() == read_metrics(finished)["seconds"].keys()
    assert metrics["counts"] == {"train": None, "validation": None, "test": read_metrics(finished)["counts"]["test"]}
    assert {entry.name for entry in (tmp_path / "again").iterdir()} == {
        "figures",
        "metrics.json",
        "report.html",
        "scores.csv",
    }
    with pytest.raises(ConfigError, match=r"'data\.image_size=32': the image size belongs to the detector"):
        evaluate_run(finished, "data.image_size=32")
    with pytest.raises(ConfigError, match=r"training\.device \(='gpu'\) is not available here"):
        evaluate_run(finished, "training.device=gpu")
    with pytest.raises(DataError, match="category"):
        evaluate_run(finished, "data.category=biscuits")
    with pytest.raises(CrdkitError, match="holds no detector"):
        evaluate_run(tmp_path)


@pytest.mark.parametrize(
    ("step", "left"),
    [
        ("detector.Detector.calibrate", set()),
        ("runs._pipeline.write_results", {"detector"}),
        ("runs._pipeline.finish", {"scores.csv", "report.html", "figures", "detector"}),
    ],
)
def test_an_interrupted_run_can_be_resumed(tiny, tmp_path, monkeypatch, step, left):
    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"crdkit.{step}", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny, tmp_path / "run")
    always = {"config.yaml", "data.json", "log.jsonl", "checkpoints"}
    assert {entry.name for entry in (tmp_path / "run").iterdir()} == always | left
    monkeypatch.setattr("crdkit.runs.directory.write_report", lambda *_args, **_options: None)
    fit(tiny, tmp_path / "run", resume=True)
    assert (tmp_path / "run/metrics.json").is_file()
    with pytest.raises(CrdkitError, match="run: is not empty: it holds a finished run"):
        fit(tiny, tmp_path / "run")


def test_what_others_left_is_never_removed(tiny, finished, tmp_path):
    for names in (["detector"], ["config.yaml", "notes.txt"], ["scores.csv", "metrics.json"]):
        folder = tmp_path / "-".join(names)
        folder.mkdir()
        for name in names:
            (folder / name).touch()
        with pytest.raises(CrdkitError, match="is not empty"):
            fit(tiny, folder)
        assert {entry.name for entry in folder.iterdir()} == set(names)


def test_bad_requests_are_refused_before_anything_is_written(tiny, tmp_path):
    with pytest.raises(ConfigError, match=r"training\.device \(='gpu'\) is not available here"):
        fit(tiny.with_overrides("training.device=gpu"), tmp_path / "run")
    with pytest.raises(DataError, match=r"data\.root"):
        fit(tiny.with_overrides("data.root=null"), tmp_path / "run")
    with pytest.raises(DataError, match="biscut"):
        fit(tiny.with_overrides("data.category=biscut"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(CrdkitError, match="file: cannot be written"):
        fit(tiny, tmp_path / "file")
    assert select_device("auto").type in ("cpu", "cuda")


def test_divergence_is_reported(tiny):
    # a rate that no configuration may have
    training = tiny.training.model_copy(update={"learning_rate": 1e30, "epochs": 20})
    with pytest.raises(CrdkitError, match=r"the loss is (nan|inf) in epoch \d+, step [12] of 2: branch '.*; lower tr"):
        fit(tiny.model_copy(update={"training": training}))


def test_one_value_per_channel_is_refused_before_training(tiny, scans, tmp_path):
    narrow = tiny.with_overrides("graph.filter.size=1", "data.image_size=64")
    with pytest.raises(
        ConfigError, match=r"batch_size \(=5\) leaves a batch with one of 6 samples, .*branch 'rgb' shrink"
    ):
        fit(narrow.with_overrides("training.batch_size=5"), tmp_path / "run")
    assert (tmp_path / "run/log.jsonl").read_text() == ""
    fit(narrow.with_overrides("training.batch_size=4", "training.epochs=1"))
    fit(
        tiny.with_overrides("training.batch_size=5", "training.epochs=1")
    )  # a last batch of one is kept where it can be


def test_public_names():
    assert set(crdkit.__all__) <= set(dir(crdkit))
    assert all(getattr(crdkit, name) is not None for name in crdkit.__all__)
    assert importlib.resources.files("crdkit").joinpath("py.typed").is_file()  # type checkers may trust the package
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = crdkit.nothing


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_branches_side_by_side_train_as_one_after_the_other(tiny, threads):
    """Each on one thread, whatever the number of threads: equal bytes, and the caller's count stays."""
    before = torch.get_num_threads()
    config = tiny.with_overrides("modalities.normals={encoder: {name: timm, model: test_resnet, pretrained: false}}")
    model = build_model(config)
    features = model.teacher_features({name: torch.rand(4, 3, 64, 64) for name in config.modalities})
    state = {key: value.clone() for key, value in model.state_dict().items()}
    results = []
    try:
        for branches in (1, len(config.modalities)):
            model.load_state_dict(state)
            optimizers = build_optimizers(model.train(), config.training)
            torch.set_num_threads(1 if branches == 1 else threads)
            with side_by_side(branches, torch.device("cpu")) as each_branch:
                steps = [
                    train_step(model, features, optimizers, config.training, each_branch=each_branch) for _ in range(2)
                ]
            assert torch.get_num_threads() == (1 if branches == 1 else threads)
            results.append([*steps, *model.state_dict().values()])
    finally:
        torch.set_num_threads(before)
    for alone, together in zip(*results, strict=True):
        assert torch.equal(alone, together)
