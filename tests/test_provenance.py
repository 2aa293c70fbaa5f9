"""A run records the hashes of its code, configuration, data and weights, and describe shows them."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest

from crdkit.cli import main
from crdkit.runs import provenance
from crdkit.runs.describe import describe_run
from crdkit.runs.directory import read_metrics
from crdkit.runs.fingerprint import Fingerprint


def sha256(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_hashes_are_those_of_the_files(finished):
    hashes = read_metrics(finished)["hashes"]
    assert set(hashes) == {"code", "config", "data", "weights"}
    assert hashes["weights"] == sha256(finished / "detector/model.safetensors")
    assert hashes["config"] == sha256(finished / "config.yaml")
    assert hashes["data"] == Fingerprint.read(finished).digests()
    assert list(hashes["data"]) == ["train", "validation", "test"]
    assert hashes["code"] == provenance.code_hash()


def test_describe_shows_them(finished, capsys):
    hashes = read_metrics(finished)["hashes"]
    assert main(["describe", str(finished)]) == 0
    shown = capsys.readouterr().out
    for name in ("code", "config", "weights"):
        assert f"sha256 of {name}" in shown
        assert hashes[name][:16] in shown
    assert all(f"sha256 of data {split}" in shown and value[:16] in shown for split, value in hashes["data"].items())


def test_describe_says_what_has_changed_since(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    assert not any("(" in value for key, value in describe_run(run).provenance.items() if key.startswith("sha256"))
    with (run / "config.yaml").open("a") as file:
        file.write("# by hand\n")
    metrics = read_metrics(run)
    metrics["hashes"]["code"] = "0" * 64
    (run / "metrics.json").write_text(json.dumps(metrics))
    found = describe_run(run).provenance
    assert found["sha256 of code"] == "0" * 16 + " (not the crdkit that is installed)"
    assert found["sha256 of config"].endswith(" (config.yaml was changed afterwards)")
    del metrics["hashes"]  # a run of an earlier version
    (run / "metrics.json").write_text(json.dumps(metrics))
    assert not any(key.startswith("sha256") for key in describe_run(run).provenance)


@pytest.mark.parametrize("change", ["content", "name", "new"])
def test_every_change_of_the_code_changes_its_hash(tmp_path, change):
    package = tmp_path / "package"
    (package / "room").mkdir(parents=True)
    for name in ("a.py", "room/b.py", "room/c.yaml"):
        (package / name).write_text(name)
    before = provenance.code_hash.__wrapped__(package)
    (package / "room/cache.pyc").write_text("not code")
    assert provenance.code_hash.__wrapped__(package) == before
    if change == "content":
        (package / "room/b.py").write_text("other")
    elif change == "name":
        (package / "room/b.py").rename(package / "b.py")
    else:
        (package / "room/d.py").write_text("")
    assert provenance.code_hash.__wrapped__(package) != before
