"""Checkpoints in the published layout, read by the command line: calibrated and scored like students trained here."""

from __future__ import annotations

import os
import pickle

import golden
import pytest
import torch

from crdkit._core.progress import set_quiet
from crdkit.cli import main
from crdkit.detector import Detector
from crdkit.errors import DetectorFormatError
from crdkit.paper import checkpoints as reference
from crdkit.runs.directory import read_metrics


@pytest.fixture(scope="module")
def students(finished):
    """The students of the tiny run under the names of the published code, as its checkpoints hold them."""
    model = Detector.load(finished / "detector", device="cpu").model
    states = {}
    for target, source in (("rgb", "depth"), ("depth", "rgb")):
        own = model.branch(target).state_dict()
        names = {name: reference.own_name(name, source=source) for name, _ in golden.description()["state"]}
        states[f"student_{target}"] = {name: own[ours] for name, ours in names.items() if ours in own}
        assert len(states[f"student_{target}"]) == len(own)
    return states


@pytest.fixture
def checkpoint(students, tmp_path):
    torch.save(students, tmp_path / "crd_biscuit.pth")
    return tmp_path / "crd_biscuit.pth"


def evaluate(capsys, *arguments):
    code = main(["--quiet", "evaluate", *map(str, arguments)])
    captured = capsys.readouterr()
    set_quiet(True)
    return code, captured.out, captured.err


def test_the_command_line_scores_a_published_checkpoint(capsys, finished, checkpoint, tmp_path):
    out = tmp_path / "out"
    code, printed, err = evaluate(capsys, finished / "config.yaml", "--published", checkpoint, "--out", out)
    assert (code, err) == (0, "")
    assert "AU-PRO@30%" in printed
    assert (out / "scores.csv").read_bytes() == (finished / "scores.csv").read_bytes()
    metrics, trained = read_metrics(out), read_metrics(finished)
    assert metrics["aggregate"] == trained["aggregate"]
    assert metrics["students"] == str(checkpoint)
    assert metrics["counts"] == {**trained["counts"], "train": None}
    assert (metrics["seconds"]["train"], metrics["parameters"]) == (None, trained["parameters"])
    assert "crd_biscuit.pth, not trained here" in (out / "report.html").read_text()
    assert {entry.name for entry in out.iterdir()} == {
        "config.yaml", "data.json", "metrics.json", "scores.csv", "report.html", "figures", "detector",
    }  # fmt: skip
    code, again, _ = evaluate(capsys, out)  # the detector is one like any other
    assert code == 0
    assert [line for line in again.splitlines() if "fused" in line] == [
        line for line in printed.splitlines() if "fused" in line
    ]


def test_without_out_nothing_is_written(capsys, finished, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, printed, _ = evaluate(capsys, finished / "config.yaml", "--published", checkpoint, "aggregation.name=max")
    assert code == 0
    assert "fused" in printed
    assert [entry.name for entry in tmp_path.iterdir()] == [checkpoint.name]


class Runs:
    """What a pickle can do to whoever loads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_what_cannot_be_scored_ends_in_one_line(capsys, finished, students, tmp_path):
    harm = tmp_path / "harm"
    rgb = students["student_rgb"]
    name = "decoder.w_a"
    broken = {
        "normals.pth": ({"student_rgb": rgb, "student_normals": rgb}, "students of ['normals', 'rgb'], but the"),
        "shape.pth": ({**students, "student_rgb": {**rgb, name: torch.ones(7)}}, "has shape (7,), expected (2,)"),
        "lacks.pth": (
            {**students, "student_rgb": {k: v for k, v in rgb.items() if k != name}},
            "1 tensors are missing",
        ),
        "one.pth": ({"student_rgb": rgb}, "two state dicts"),
        "state.pth": (rgb, "two state dicts"),
        "list.pth": ([rgb], "holds list"),
        "harm.pth": ({"student_rgb": Runs(harm)}, "holds more than tensors"),
    }
    for file, (content, message) in broken.items():
        torch.save(content, tmp_path / file)
        check(capsys, finished, tmp_path, file, message)
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps(Runs(harm)))
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "one.pth").read_bytes()[:900])
    check(capsys, finished, tmp_path, "pickle.pth", "is ")
    check(capsys, finished, tmp_path, "text.pth", "not written by torch.save")
    check(capsys, finished, tmp_path, "cut.pth", "not written by torch.save")
    check(capsys, finished, tmp_path, "missing.pth", "missing.pth: cannot be read: No such file")
    assert not harm.exists()


def check(capsys, finished, folder, file, message):
    arguments = (finished / "config.yaml", "--published", folder / file, "--out", folder / "out")
    code, _, err = evaluate(capsys, *arguments)
    assert code == 2, file
    assert message in err
    assert err.count("\n") == 1, err
    assert not (folder / "out").exists()


def test_students_of_other_modalities_are_refused(students):
    model = reference.published_model(("rgb", "normals"))
    with pytest.raises(DetectorFormatError, match=r"students of \['depth', 'rgb'\], .* are \['normals', 'rgb'\]"):
        reference.load_into(model, students)


def test_every_truncation_of_an_old_checkpoint_is_one_error(tmp_path):
    """Of the format before zip archives, some ended in struct.error."""
    whole = tmp_path / "whole.pth"
    torch.save({"student_rgb": {"x": torch.ones(3)}}, whole, _use_new_zipfile_serialization=False)
    content, cut = whole.read_bytes(), tmp_path / "cut.pth"
    for length in range(len(content)):
        cut.write_bytes(content[:length])
        with pytest.raises(DetectorFormatError, match=r"cut\.pth: "):
            reference.read_checkpoint(cut)


def test_every_changed_byte_of_a_checkpoint_is_noticed_or_harmless(tmp_path):
    """torch.load does not compare the checksums of the archive."""
    whole = tmp_path / "whole.pth"
    stored = torch.arange(64.0)
    torch.save({"student_rgb": {"x": stored}}, whole)
    content, changed = whole.read_bytes(), tmp_path / "changed.pth"
    messages = []
    for place in range(len(content)):
        changed.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            read = reference.read_checkpoint(changed)
        except DetectorFormatError as error:
            messages.append(str(error))
        else:
            assert torch.equal(read["student_rgb"]["x"], stored)
    assert len(messages) >= stored.nbytes
    assert all("changed.pth: " in message for message in messages)
