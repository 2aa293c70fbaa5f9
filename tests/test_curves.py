"""A training that is followed: in the terminal and in TensorBoard, without a change of what is trained."""

from __future__ import annotations

import json
import sys

import pytest

import crdkit
from crdkit._core.progress import set_quiet
from crdkit.errors import ConfigError
from crdkit.training.epochs import epoch_log, last_in_words


@pytest.fixture(scope="module")
def followed(tiny, tmp_path_factory):
    """A run whose curves are written, and what it said."""
    folder = tmp_path_factory.mktemp("followed") / "run"
    with pytest.MonkeyPatch.context() as patch:  # the report is most of a tiny run's time
        patch.setattr("crdkit.runs.directory.write_report", lambda *_args, **_options: None)
        crdkit.fit(tiny, folder, log="tensorboard")
    return folder


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return {name: [(event.step, event.value) for event in found.Scalars(name)] for name in found.Tags()["scalars"]}


def test_event_files_hold_what_the_log_holds(followed):
    logs = [json.loads(line) for line in (followed / "log.jsonl").read_text().splitlines()]
    found = scalars(followed)
    assert found["loss/total"] == [(log["epoch"], pytest.approx(log["loss"], rel=1e-6)) for log in logs]
    assert found["learning_rate"][0] == (1, pytest.approx(logs[0]["learning_rate"]))
    for name, terms in logs[1]["losses"].items():
        for term, value in terms.items():
            assert found[f"loss/{name}/{term}"][1] == (2, pytest.approx(value, rel=1e-6))
    pace = 6 / logs[0]["seconds"]
    assert found["samples_per_second"][0] == (1, pytest.approx(pace, rel=1e-5))


def test_what_is_trained_does_not_change(followed, finished):
    weights = "detector/model.safetensors"
    assert (followed / weights).read_bytes() == (finished / weights).read_bytes()
    assert not (finished / "tensorboard").exists()


def test_a_run_that_is_replaced_loses_its_curves_and_nothing_else_is_in_the_way(followed, tiny, without_reports):
    crdkit.fit(tiny, followed, overwrite=True)
    assert not (followed / "tensorboard").exists()


def test_a_missing_package_is_one_error_before_anything_is_read(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"pip install 'crdkit\[tensorboard\]'"):
        crdkit.fit(tiny, tmp_path / "run", log="tensorboard")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("log", "message"), [("wandb", "must be one of tensorboard"), ("tensorboard", "give out")])
def test_a_log_that_cannot_be_written_is_refused(tiny, log, message):
    with pytest.raises(ConfigError, match=message):
        crdkit.fit(tiny, log=log)


def test_the_terminal_shows_losses_and_pace(tiny, capsys, monkeypatch):
    monkeypatch.setattr("crdkit._core.progress.time.monotonic", iter(range(0, 100_000, 20)).__next__)
    set_quiet(False)
    crdkit.fit(tiny)
    line = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("training: 2/2"))
    assert "; loss " in line
    assert " (how far students are from their teachers; fell from " in line
    assert " samples/s; rgb: filter " in line
    assert "; depth: filter " in line


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([0.4], "loss 0.4 (how far students are from their teachers; it should fall)"),
        ([0.4, 0.3], "loss 0.3 (how far students are from their teachers; fell from 0.4)"),
        ([0.4, 0.5], "from their teachers; not below the 0.4 of the start: try a smaller training.learning_rate)"),
    ],
)
def test_the_loss_says_whether_it_falls_and_what_to_do_if_not(losses, words):
    logs = [epoch_log(["rgb"], [[value, 0, 0, 0]], epoch=1, rate=0.1, seconds=0.0) for value in losses]
    assert words in last_in_words(logs, samples=1)[0]


def test_the_command_takes_the_option(tiny, tmp_path, without_reports):
    from crdkit.cli import main

    (tmp_path / "run.yaml").write_text(tiny.to_yaml())
    options = ["--out", str(tmp_path / "run"), "--log", "tensorboard", "-q"]
    assert main(["train", str(tmp_path / "run.yaml"), "training.epochs=1", *options]) == 0
    assert [step for step, _ in scalars(tmp_path / "run")["loss/total"]] == [1]
