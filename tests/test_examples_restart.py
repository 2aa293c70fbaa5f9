"""Studies on files: a missing category is reported and skipped; the same command picks up what was interrupted."""

from __future__ import annotations

import logging
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from crdkit.data.synthetic import LAYOUTS
from crdkit.runs.directory import read_metrics
from crdkit.training import loop as training

EXAMPLES = Path(__file__).parent.parent / "examples"


CATEGORIES = {"mvtec3d": ("biscuit", "gear"), "eyecandies": ("Biscuit", "Gear")}


@pytest.fixture(params=list(CATEGORIES))
def study(request, tiny, tmp_path, monkeypatch):
    """Runs the example of a data set on ``data`` as a command, into ``out``, and returns its exit code."""
    layout = request.param
    counts = {"train": 4, "validation": 2, "test_good": 1, "test_per_defect": 1, "size": 64}
    LAYOUTS[layout](tmp_path / "data", categories=["biscuit", "gear"], **counts)
    values = yaml.safe_load(tiny.to_yaml())
    values["data"] = {"name": layout, "image_size": 64}
    if layout == "eyecandies":
        values["modalities"]["normals"] = {"encoder": values["modalities"].pop("depth")["encoder"]}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    places = {"--data": tmp_path / "data", "--preset": tmp_path / "tiny.yaml", "--out": tmp_path / "out"}
    options = [str(word) for pair in places.items() for word in pair]
    name = f"reproduce_{layout}"
    monkeypatch.setattr(sys, "argv", [name, *options, "--categories", *CATEGORIES[layout], "--seeds", "0"])
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def run():
        logger = logging.getLogger("crdkit")
        level = logger.level
        try:
            runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        except SystemExit as ended:
            return ended.code
        finally:
            logger.setLevel(level)  # a program may set it; the tests after this one run in the same process
        return 0

    run.categories = CATEGORIES[layout]
    return run


def test_what_is_missing_or_interrupted_is_picked_up(study, tmp_path, monkeypatch, capsys):
    out, (category, lacking) = tmp_path / "out", study.categories
    metrics = out / category / "seed0" / "metrics.json"
    shutil.move(tmp_path / "data" / lacking, tmp_path / lacking)
    with monkeypatch.context() as patch:
        patch.setattr(training, "train_step", interrupt_after(1))  # after its first epoch
        assert study() == 130
    assert "interrupted; the same command goes on" in capsys.readouterr().err
    assert not metrics.exists()

    assert study() == 2  # the other category is not there
    assert f"1 of 2 runs were skipped ({lacking} seed 0)" in capsys.readouterr().err
    assert f"skipped: {lacking} seed 0" in (out / "comparison.md").read_text()
    finished = metrics.stat().st_mtime_ns

    shutil.move(tmp_path / lacking, tmp_path / "data" / lacking)
    assert study() == 0
    assert metrics.stat().st_mtime_ns == finished
    assert read_metrics(out / lacking / "seed0")["counts"]["train"] == 4
    page = (out / "comparison.md").read_text()
    assert "skipped" not in page
    assert f"| {lacking} |" in page
    for name in ("comparison.csv", "comparison.tex", "comparison.html", f"figures/{lacking}.png"):
        assert (out / name).stat().st_size > 0


def interrupt_after(steps):
    train_step, done = training.train_step, []

    def step(*arguments, **options):
        if len(done) == steps:
            raise KeyboardInterrupt
        done.append(1)
        return train_step(*arguments, **options)

    return step
