"""Sweeps: what is run, read, skipped and resumed, and the tables over seeds."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from statistics import mean, stdev

import pytest
from made_up_runs import make_up, metrics_of

from crdkit.cli import main
from crdkit.data.discover import list_categories
from crdkit.errors import ConfigError, CrdkitError, DataError
from crdkit.runs import fit as run_module
from crdkit.runs import sweep as sweep_module
from crdkit.runs.directory import read_metrics
from crdkit.runs.sweep import sweep

CATEGORIES, SEEDS = ("biscuit", "gear"), (0, 1)


@pytest.fixture
def made_up(monkeypatch):
    """Replace training by made-up metrics, and list the run directories that were written."""
    folders = []

    def fit(config, folder, *, resume):
        shutil.rmtree(folder, ignore_errors=True)
        folders.append(folder)
        make_up(config, folder, resume=resume)

    monkeypatch.setattr(sweep_module, "fit", fit)
    monkeypatch.setattr(sweep_module, "require_category", lambda _config: None)
    monkeypatch.setattr(sweep_module, "list_categories", lambda _config: list(CATEGORIES))
    return folders


def state(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("seed*/*") if path.is_file()}


def test_one_run_per_category_and_seed(made_up, tiny, tmp_path):
    out = tmp_path / "out"
    outcome = sweep(tiny, out=out, categories=CATEGORIES, seeds=SEEDS)
    folders = [out / category / f"seed{seed}" for category in CATEGORIES for seed in SEEDS]
    assert made_up == folders
    assert [run.folder for run in outcome.results] == folders
    assert (outcome.skipped, outcome.is_main) == ([], True)
    for job in outcome.jobs:
        expected = tiny.with_overrides(f"data.category={job.category}", f"training.seed={job.seed}")
        assert job.config == expected
    outcome.raise_if_skipped()


def test_tables_hold_the_numbers_of_the_runs(made_up, tiny, tmp_path):
    out = tmp_path
    sweep(tiny, out=out, categories=CATEGORIES, seeds=SEEDS)
    runs = {c: [metrics_of(out / c / f"seed{seed}") for seed in SEEDS] for c in CATEGORIES}
    values = {c: [run["aggregate"]["image_auroc"] for run in runs[c]] for c in CATEGORIES}
    seconds = {c: mean(run["seconds"]["total"] for run in runs[c]) for c in CATEGORIES}
    by_seed = [mean(values[c][place] for c in CATEGORIES) for place in range(len(SEEDS))]
    expected = {c: (mean(values[c]), stdev(values[c])) for c in CATEGORIES}
    expected["mean"] = (mean(by_seed), stdev(by_seed))

    content = json.loads((out / "results.json").read_text())
    with (out / "results.csv").open() as file:
        rows = {row["category"]: row for row in csv.DictReader(file)}
    lines = (out / "results.md").read_text().splitlines()
    assert lines[0] == ("| category | runs | I-AUROC | P-AUROC | I-AP | P-AP | AU-PRO@30% | AU-PRO@1% | seconds |")
    assert list(rows) == [*CATEGORIES, "mean"]
    for place, (name, (average, deviation)) in enumerate(expected.items()):
        entry = content["mean"] if name == "mean" else content["categories"][name]
        assert entry["image_auroc"] == pytest.approx({"mean": average, "std": deviation})
        assert float(rows[name]["I-AUROC"]) == pytest.approx(100 * average, rel=1e-5)
        assert float(rows[name]["I-AUROC std"]) == pytest.approx(100 * deviation, rel=1e-5)
        cells = [cell.strip() for cell in lines[2 + place].strip("|").split("|")]
        assert cells[:3] == [name, "4" if name == "mean" else "2", f"{100 * average:.1f} ± {100 * deviation:.1f}"]
    assert content["mean"]["seconds"]["mean"] == pytest.approx(mean(seconds.values()))
    assert content["categories"]["gear"]["runs"]["1"]["image_auroc"] == values["gear"][1]
    assert content["seeds"] == list(SEEDS)


def test_finished_runs_are_read_not_repeated(made_up, tiny, tmp_path):
    sweep(tiny, out=tmp_path, categories=CATEGORIES, seeds=SEEDS)
    (tmp_path / "gear/seed1/metrics.json").unlink()  # as if it had been killed
    before = state(tmp_path)
    tables = (tmp_path / "results.csv").read_bytes()
    made_up.clear()
    sweep(tiny, out=tmp_path, categories=CATEGORIES, seeds=SEEDS, resume=True)
    assert made_up == [tmp_path / "gear/seed1"]
    after = state(tmp_path)
    assert all(after[path] == before[path] for path in before if "gear/seed1" not in path.as_posix())
    assert (tmp_path / "results.csv").read_bytes() == tables
    made_up.clear()
    assert len(sweep(tiny, out=tmp_path, categories=["gear"], seeds=(1, 2), resume=True).results) == 2
    assert made_up == [tmp_path / "gear/seed2"]


def test_another_configuration_or_folder_is_refused(made_up, tiny, tmp_path):
    out = tmp_path / "out"
    sweep(tiny, out=out, categories=["gear"])
    with pytest.raises(CrdkitError, match=r"out: is not empty; give --resume"):
        sweep(tiny, out=out, categories=["gear"])
    with pytest.raises(ConfigError, match=r"seed0: holds a run with another .*: training\.epochs is 2 there"):
        sweep(tiny.with_overrides("training.epochs=3"), out=out, categories=["gear"], resume=True)
    other = tiny.with_overrides("graph.filter=null")
    with pytest.raises(ConfigError, match=r"configuration: graph\.filter"):
        sweep(other, out=out, categories=["gear"], resume=True)
    assert len(made_up) == 1
    for name in ("a/b", "..", ".hidden"):
        with pytest.raises(ConfigError, match="must be the name of a folder"):
            sweep(tiny, out=tmp_path / "new", categories=[name])
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(CrdkitError, match="file: cannot be written"):
        sweep(tiny, out=tmp_path / "file", categories=["gear"])


def test_runs_with_bad_data_are_skipped_and_tried_again(made_up, tiny, tmp_path, monkeypatch):
    outcome = sweep(tiny, out=tmp_path, categories=["bad", "gear"])
    assert [(skip.job.name, skip.reason) for skip in outcome.skipped] == [
        ("bad seed 0", f"{tiny.data.root}/bad/train/good/xyz/001.tiff: is truncated")
    ]
    assert outcome.summary().categories == ["gear"]
    assert "skipped: bad seed 0: " in (tmp_path / "results.md").read_text()
    assert json.loads((tmp_path / "results.json").read_text())["skipped"][0]["category"] == "bad"
    with pytest.raises(CrdkitError, match=r"1 of 2 runs were skipped \(bad seed 0\)"):
        outcome.raise_if_skipped()
    made_up.clear()
    rerun = []
    monkeypatch.setattr(sweep_module, "fit", lambda config, folder, *, resume: rerun.append(folder))
    sweep(tiny, out=tmp_path, categories=["bad", "gear"], resume=True)
    assert rerun == [tmp_path / "bad/seed0"]


def test_an_interruption_leaves_finished_runs(made_up, tiny, tmp_path, monkeypatch):
    def interrupted(config, folder, *, resume):
        if folder.parent.name == "gear":
            raise KeyboardInterrupt
        make_up(config, folder, resume=resume)

    with monkeypatch.context() as patch:
        patch.setattr(sweep_module, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sweep(tiny, out=tmp_path, categories=CATEGORIES)
    sweep(tiny, out=tmp_path, categories=CATEGORIES, resume=True)
    assert made_up == [tmp_path / "gear/seed0"]


def test_variants_are_sweeps_of_their_own(made_up, tiny, tmp_path):
    variants = {"rgb + depth": [], "rgb": ["modalities.depth=null"]}
    outcome = sweep(tiny, out=tmp_path, categories=["gear"], variants=variants)
    assert made_up == [tmp_path / "rgb_+_depth/gear/seed0", tmp_path / "rgb/gear/seed0"]
    assert list(outcome.results[1].metrics["branches"]) == ["rgb"]
    assert all((tmp_path / name / "results.md").is_file() for name in ("rgb_+_depth", "rgb"))
    with pytest.raises(CrdkitError, match="has no branch 'depth', but rgb"):
        outcome.results[1].value("image_auroc", branch="depth")
    with pytest.raises(ConfigError, match="must be the name of a folder"):
        sweep(tiny, out=tmp_path / "new", categories=["gear"], variants={"a/b": []})


def test_variants_of_aggregation_and_scoring_are_trained_once(tiny, tmp_path, monkeypatch):
    trained = []

    def fit(config, folder, *, resume):
        trained.append(folder)
        return run_module.fit(config, folder, resume=resume)

    monkeypatch.setattr(sweep_module, "fit", fit)
    short = tiny.with_overrides("training.epochs=1")
    variants = {"max": ["aggregation.name=max"], "sum": ["aggregation.name=sum", "scoring.sigma=2"]}
    outcome = sweep(short, out=tmp_path / "both", variants=variants, categories=["biscuit"])
    assert trained == [tmp_path / "both/max/biscuit/seed0"]
    sweep(short, out=tmp_path / "alone", variants={"sum": variants["sum"]}, categories=["biscuit"])
    assert len(trained) == 2
    shared, alone = (tmp_path / out / "sum/biscuit/seed0" for out in ("both", "alone"))
    for name in ("scores.csv", "config.yaml", "detector/model.safetensors"):
        assert (shared / name).read_bytes() == (alone / name).read_bytes(), name
    assert read_metrics(shared)["aggregate"] == read_metrics(alone)["aggregate"]
    assert read_metrics(shared)["students"] == str(trained[0])
    assert read_metrics(shared)["seconds"]["train"] is None
    assert f"students of {trained[0]}, not trained here" in (shared / "report.html").read_text()
    assert outcome.results[0].metrics["aggregate"] != outcome.results[1].metrics["aggregate"]

    shutil.rmtree(trained[0] / "detector")  # its students are gone: the next one trains its own
    sweep(short, out=tmp_path / "both", variants={"max": variants["max"], "norm": ["aggregation.name=normalised_sum"]},
          categories=["biscuit"], resume=True)  # fmt: skip
    assert trained[2:] == [tmp_path / "both/norm/biscuit/seed0"]


def test_an_unknown_category_is_refused_before_the_others_are_trained(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_module, "fit", lambda *_args, **_options: pytest.fail("nothing may be trained"))
    with pytest.raises(ConfigError, match=r"unknown category 'biscit' - did you mean 'biscuit'\? known: biscuit"):
        sweep(tiny, out=tmp_path / "out", categories=["biscuit", "biscit"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "runs"),
    [
        (["training.seed=4"], ["biscuit/seed4", "gear/seed4"]),
        (["data.category=gear", "training.seed=4"], ["gear/seed4"]),
        (["data={name: mvtec3d, category: gear}", "--seeds", "1", "2"], ["gear/seed1", "gear/seed2"]),
        (["training.seed=0", "--categories", "gear"], ["gear/seed0"]),
        ([], ["biscuit/seed0", "gear/seed0"]),
    ],
)
def test_category_and_seed_may_be_given_as_overrides(made_up, tiny, tmp_path, arguments, runs):
    (tmp_path / "base.yaml").write_text(tiny.to_yaml())
    assert main(["--quiet", "sweep", str(tmp_path / "base.yaml"), *arguments, "--out", str(tmp_path / "out")]) == 0
    assert [folder.relative_to(tmp_path / "out").as_posix() for folder in made_up] == runs


def test_categories_are_those_that_the_dataset_lists(tiny, scans, tmp_path):
    assert list_categories(tiny.data) == ["biscuit"]
    root = Path(shutil.copytree(scans, tmp_path / "data"))
    (root / "notes").mkdir()
    shutil.rmtree(root / "biscuit/validation")  # damaged, but the user's: the sweep will say so
    config = tiny.with_overrides(f"data.root={root}")
    assert list_categories(config.data) == ["biscuit"]
    with pytest.raises(DataError, match="holds no category in the layout 'mvtec3d'"):
        sweep(tiny.with_overrides(f"data.root={root / 'notes'}"), out=tmp_path / "out")
    with pytest.raises(DataError, match="does not exist"):
        sweep(tiny.with_overrides("data.root=nowhere"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
