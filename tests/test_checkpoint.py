"""Going on after an interruption: the same bytes after kill -9, clear errors, finished runs left alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from crdkit.cli import main
from crdkit.config import RunConfig
from crdkit.errors import ConfigError, CrdkitError, DetectorFormatError
from crdkit.runs.directory import read_metrics, require_same_config
from crdkit.runs.fit import fit
from crdkit.runs.provenance import training_hash
from crdkit.training import _checkpoint as checkpoint
from crdkit.training._checkpoint import Checkpoints

SAME = ("detector/model.safetensors", "scores.csv")


class Parts:
    """A model with BatchNorm, its optimisers and a generator."""

    def __init__(self, seed):
        torch.manual_seed(seed)
        self.students = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1))
        self.students.to(memory_format=torch.channels_last)
        self.optimizers = [
            torch.optim.Adam(part.parameters(), lr=0.1) for part in (self.students[:2], self.students[2])
        ]
        self.generator = torch.Generator().manual_seed(seed)

    def step(self):
        loss = self.students(torch.rand(4, 2, 6, 6, generator=self.generator)).square().mean()
        self.students.zero_grad()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.item()

    @property
    def all(self):
        return self.students, self.optimizers, self.generator


@pytest.fixture
def kept(tmp_path):
    """A checkpoint after two steps, and the parts that were written."""
    parts = Parts(0)
    log = [{"epoch": number, "loss": parts.step()} for number in (1, 2)]
    Checkpoints(tmp_path / "checkpoints").keep(*parts.all, log=log, last=True)
    return parts, log, tmp_path / "checkpoints"


def test_a_restored_training_goes_on_bit_by_bit(kept):
    parts, log, folder = kept
    other = Parts(1)
    other.step()  # whatever it was before is gone
    checkpoints = Checkpoints(folder)
    assert checkpoints.restore(*other.all) == log
    assert checkpoints.restored == 2
    assert [other.step() for _ in range(3)] == [parts.step() for _ in range(3)]
    for mine, theirs in zip(parts.students.state_dict().values(), other.students.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    moments = [next(iter(p.optimizers[0].state.values()))["exp_avg"].stride() for p in (parts, other)]
    assert moments[0] == moments[1]


def test_without_a_checkpoint_nothing_changes(tmp_path):
    parts, twin = Parts(0), Parts(0)
    assert Checkpoints(tmp_path / "none").restore(*parts.all) == []
    assert parts.step() == twin.step()


def test_only_the_newest_is_kept_and_not_more_often_than_it_pays(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    real, parts, folder = checkpoint._write, Parts(0), tmp_path / "checkpoints"

    def slow(*arguments, **options):
        real(*arguments, **options)
        now[0] += 3

    monkeypatch.setattr(checkpoint, "_write", slow)
    folder.mkdir()
    (folder / ".epoch-000001.safetensors.0123.partial").touch()  # of a process that was killed while writing
    checkpoints, written = Checkpoints(folder), []
    for epoch in range(1, 16):
        now[0] += 10
        before = now[0]
        checkpoints.keep(*parts.all, log=[{}] * epoch, last=epoch == 15)
        if now[0] > before:
            written.append(epoch)
        assert len(list(folder.glob("epoch-*"))) == bool(written)
    # after 30 s, then after twenty times the three seconds that writing takes, and the last
    assert written == [3, 9, 15]
    assert [file.name for file in folder.iterdir()] == ["epoch-000015.safetensors"]


def test_a_failure_while_writing_leaves_the_older_one(kept, monkeypatch):
    parts, _, folder = kept

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(CrdkitError, match=r"epoch-000003\.safetensors: cannot be written: No space left"):
        Checkpoints(folder).keep(*parts.all, log=[{}] * 3, last=True)
    assert [file.name for file in folder.iterdir()] == ["epoch-000002.safetensors"]


DAMAGED = r"epoch-000002\.safetensors: is a damaged checkpoint: .*; delete the file to start over"


def open_checkpoint(file):
    """Return the tensors of a checkpoint and its header."""
    with safe_open(file, framework="pt") as opened:
        header = json.loads(opened.metadata()["crdkit"])
        return {name: opened.get_tensor(name) for name in opened.keys()}, header  # noqa: SIM118


def test_every_flipped_bit_of_a_checkpoint_is_noticed(kept):
    _, _, folder = kept
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    values = 8 + int.from_bytes(whole[:8], "little")  # where the tensors begin, behind their list
    for place in [0, 8, *range(values, len(whole), (len(whole) - values) // 12), len(whole) - 1]:
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DetectorFormatError, match=DAMAGED):
            Checkpoints(folder).restore(*Parts(0).all)
    file.write_bytes(whole)
    assert len(Checkpoints(folder).restore(*Parts(0).all)) == 2


def test_exchanged_tensors_and_files_and_a_changed_log_are_noticed(kept, tmp_path):
    _, log, folder = kept
    (file,) = folder.iterdir()
    state, header = open_checkpoint(file)
    twins = [name for name in state if name.endswith(("0.exp_avg", "0.exp_avg_sq"))][:2]
    changes = [
        ({**state, twins[0]: state[twins[1]], twins[1]: state[twins[0]]}, header),
        (state, {**header, "log": [{**line, "loss": 0.0} for line in log]}),
        (state, {key: value for key, value in header.items() if key != "sha256"}),
    ]
    for tensors, about in changes:
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, file, {"crdkit": json.dumps(about)})
        with pytest.raises(DetectorFormatError, match=DAMAGED):
            Checkpoints(folder).restore(*Parts(0).all)
    other = Parts(0)
    Checkpoints(tmp_path / "other").keep(*other.all, log=[{"epoch": 1, "loss": other.step()}], last=True)
    (tmp_path / "other/epoch-000001.safetensors").replace(file)
    with pytest.raises(
        DetectorFormatError, match=r"damaged checkpoint: its content is that of epoch-000001\.safetensors"
    ):
        Checkpoints(folder).restore(*Parts(0).all)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    parts, folder = Parts(0), tmp_path / "checkpoints"
    Checkpoints(folder, run="one").keep(*parts.all, log=[{}], last=True)
    with pytest.raises(
        DetectorFormatError, match=r"epoch-000001\.safetensors: is a checkpoint of another run; put this run's back, or"
    ):
        Checkpoints(folder, run="other").restore(*Parts(0).all)
    assert Checkpoints(folder, run="one").restore(*Parts(0).all) == [{}]
    assert Checkpoints(folder).restore(*Parts(0).all) == [{}]  # a training outside of any run


def test_what_makes_a_training_another_one(tiny):
    same = tiny.with_overrides("data.workers=1", "data.cache=elsewhere", "data.cache_gib=3")
    assert training_hash(same) == training_hash(tiny)
    others = [
        tiny.with_overrides(override) for override in ("training.seed=5", "data.category=gear", "scoring.sigma=2")
    ]
    assert len({training_hash(config) for config in (tiny, *others)}) == 4


def test_a_checkpoint_without_a_checksum_of_version_1_is_resumed(kept):
    parts, log, folder = kept
    (file,) = folder.iterdir()
    state, header = open_checkpoint(file)
    before = {key: value for key, value in header.items() if key != "sha256"} | {"format_version": 1}
    save_file(state, file, {"crdkit": json.dumps(before)})
    other = Parts(1)
    assert Checkpoints(folder).restore(*other.all) == log
    assert other.step() == parts.step()


def test_damaged_checkpoints_are_named(kept):
    _, _, folder = kept
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    message = DAMAGED
    for size in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(DetectorFormatError, match=message):
            Checkpoints(folder).restore(*Parts(0).all)
    file.write_bytes(whole)
    state, header = open_checkpoint(file)
    for name in ("students.0.weight", "generator"):
        save_file({key: value for key, value in state.items() if key != name}, file, {"crdkit": json.dumps(header)})
        with pytest.raises(DetectorFormatError, match=message):
            Checkpoints(folder).restore(*Parts(0).all)
    save_file(state, file)
    with pytest.raises(DetectorFormatError, match=message):
        Checkpoints(folder).restore(*Parts(0).all)
    save_file(state, file, {"crdkit": json.dumps({**header, "format_version": 9})})
    with pytest.raises(
        DetectorFormatError, match=r"not a checkpoint of format version 1 or 2 \(found 'crdkit-checkpoint' 9\)"
    ):
        Checkpoints(folder).restore(*Parts(0).all)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs=3", r"training\.epochs is 2 there, but 3 now"),
        ("modalities.depth=null", r"modalities\.depth\.[a-z_.]+ is .* there, but not set now"),
        ("data.category=gear", r"data\.category is 'biscuit' there, but 'gear' now"),
    ],
)
def test_another_configuration_is_refused_by_its_first_key(finished, tiny, override, message):
    with pytest.raises(ConfigError, match=rf"tiny: holds a run with another configuration: {message}"):
        fit(tiny.with_overrides(override), finished, resume=True)


def test_the_configuration_is_compared_where_there_is_one(finished, tiny, tmp_path):
    assert require_same_config(finished, tiny)
    assert not require_same_config(tmp_path, tiny)
    assert not require_same_config(tmp_path / "nowhere", tiny)


@pytest.mark.parametrize("override", ["data.cache=elsewhere", "data.cache_gib=3", "data.workers=1"])
def test_how_data_are_read_may_differ(finished, tiny, override):
    assert require_same_config(finished, tiny.with_overrides(override))


def test_resuming_a_finished_run_does_nothing(finished, tiny, capsys):
    before = {file: file.stat().st_mtime_ns for file in finished.rglob("*")}
    overrides = [f"{key}" for key in (f"data.root={tiny.data.root}",)]
    (finished.parent / "run.yaml").write_text(tiny.to_yaml())
    assert main(["train", str(finished.parent / "run.yaml"), *overrides, "--out", str(finished), "--resume"]) == 0
    assert "tiny: this run is already finished" in capsys.readouterr().err
    assert {file: file.stat().st_mtime_ns for file in finished.rglob("*")} == before


def test_what_others_left_is_not_resumed(tiny, tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(CrdkitError, match="is not empty"):
        fit(tiny, tmp_path, resume=True)


SCRIPT = """
import sys, time
from crdkit.training import _checkpoint as checkpoint
from crdkit.runs import fit as run
from crdkit.config import RunConfig
checkpoint.EVERY_SECONDS = checkpoint.MIN_TRAINING_PER_WRITING = 0
keep = checkpoint.Checkpoints.keep
def slowly(self, *arguments, **options):
    keep(self, *arguments, **options)
    time.sleep(0.5)
checkpoint.Checkpoints.keep = slowly
run.fit(RunConfig.from_yaml(sys.argv[1]), sys.argv[2])
"""


def kill_after(config, out, *, epoch):
    """Train in another process and kill it as soon as the checkpoint after ``epoch`` is there."""
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, config, out], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while not (out / f"checkpoints/epoch-{epoch:06d}.safetensors").exists():
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.usefixtures("without_reports")
def test_kill_9_and_resume_give_the_bytes_of_an_undisturbed_run(tiny, tmp_path, monkeypatch):
    config = tiny.with_overrides("training.epochs=5", "training.modality_dropout=0.3")
    (tmp_path / "run.yaml").write_text(config.to_yaml())
    fit(config, tmp_path / "undisturbed")
    out = tmp_path / "killed"
    kill_after(tmp_path / "run.yaml", out, epoch=2)
    assert not (out / "metrics.json").exists()
    assert len((out / "log.jsonl").read_text().splitlines()) < 5
    trained = []
    monkeypatch.setattr("crdkit.runs.fit.train", counting(trained))
    fit(RunConfig.from_yaml(tmp_path / "run.yaml"), out, resume=True)
    assert trained in ([3], [2])  # it may have got one epoch further before the signal came
    for name in SAME:
        assert (out / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    logs = [
        [(line["epoch"], line["loss"]) for line in map(json.loads, (folder / "log.jsonl").read_text().splitlines())]
        for folder in (out, tmp_path / "undisturbed")
    ]
    assert logs[0] == logs[1]
    assert [file.name for file in (out / "checkpoints").iterdir()] == ["epoch-000005.safetensors"]
    assert read_metrics(out)["seconds"]["train"] > 0

    # killed after the training, while results are written: nothing is trained again
    (out / "metrics.json").unlink()
    fit(config, out, resume=True)
    assert trained[1:] == [0]
    assert (out / SAME[0]).read_bytes() == (tmp_path / "undisturbed" / SAME[0]).read_bytes()


def counting(trained):
    """Return `train`, which appends to ``trained`` how many epochs it did not find in a checkpoint."""
    from crdkit.training.loop import train

    def train_and_count(*arguments, checkpoints, **options):
        train(*arguments, checkpoints=checkpoints, **options)
        trained.append(arguments[2].epochs - checkpoints.restored)

    return train_and_count


@pytest.mark.usefixtures("without_reports")
def test_a_damaged_checkpoint_stops_the_command_line_and_starting_over_replaces_it(tiny, tmp_path, capsys):
    out = tmp_path / "run"
    (out / "checkpoints").mkdir(parents=True)
    (out / "config.yaml").write_text(tiny.to_yaml())
    (out / "checkpoints/epoch-000001.safetensors").write_bytes(b"half of it")
    assert main(["--quiet", "train", str(out / "config.yaml"), "--out", str(out), "--resume"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "epoch-000001.safetensors: is a damaged checkpoint" in error
    fit(tiny, out, overwrite=True)
    assert [Path(file).name for file in (out / "checkpoints").iterdir()] == ["epoch-000002.safetensors"]
