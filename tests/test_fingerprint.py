"""A run knows the content of the files that it has read, and does not go on, or count, with others."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crdkit.config.build import build_dataset
from crdkit.data import SPLITS
from crdkit.data.synthetic import write_mvtec3d
from crdkit.errors import CrdkitError, DataError
from crdkit.runs import fingerprint as module
from crdkit.runs.fingerprint import Fingerprint, Reading
from crdkit.runs.fit import fit
from crdkit.runs.sweep import sweep
from crdkit.training import loop

TRAIN = "biscuit/train/good"


@pytest.fixture
def own(tiny, scans, tmp_path):
    """The tiny run on a copy of its data, which a test may change, and the copy."""
    root = tmp_path / "scans"
    shutil.copytree(scans, root)
    return tiny.with_overrides(f"data.root={root}"), root


@pytest.fixture
def hashed(monkeypatch):
    """The files whose content was read, in order."""
    read = []
    real = module._sha256.__wrapped__

    def count(path, status):
        read.append(path)
        return real(path, status)

    monkeypatch.setattr(module, "_sha256", count)
    return read


def reading(config, splits=SPLITS):
    dataset = build_dataset(config)
    return Reading(dataset, {split: dataset.records(split) for split in splits})


def fingerprint(config, known=None):
    return reading(config).fingerprint(known)


def exchange(root):
    """Replace one training sample by a defective one."""
    file = root / TRAIN / "rgb/002.png"
    with Image.open(file) as image:
        pixels = np.array(image)
    pixels[20:30, 20:30] = 255 - pixels[20:30, 20:30]
    Image.fromarray(pixels).save(file)
    return "train: 1 sample was changed (good/002: rgb)"


def add(root):
    for number in range(4):
        for sensor, ending in (("rgb", "png"), ("xyz", "tiff")):
            shutil.copyfile(root / TRAIN / sensor / f"000.{ending}", root / TRAIN / sensor / f"9{number:02d}.{ending}")
    return "train: 4 samples were added (good/900, good/901, good/902, ...)"


def remove(root):
    for file in (root / "biscuit/validation/good").glob("*/000.*"):
        file.unlink()
    return "validation: 1 sample was removed (good/000)"


def clear_mask(root):
    one, other = sorted((root / "biscuit/test").glob("[!g]*/gt/*.png"))[:2]
    shutil.copyfile(other, one)
    return f"test: 1 sample was changed ({one.parents[1].name}/{one.stem}: mask)"


@pytest.mark.parametrize("change", [exchange, add, remove, clear_mask])
def test_every_change_of_the_data_is_named(own, change):
    config, root = own
    before = fingerprint(config)
    expected = change(root)
    after = fingerprint(config, before)
    assert before.differences(after) == [expected]
    changed = [split for split in SPLITS if before.digests()[split] != after.digests()[split]]
    assert changed == [expected.partition(":")[0]]


def test_the_same_content_elsewhere_or_touched_is_the_same(own, tiny):
    config, root = own
    before = fingerprint(config)
    for file in root.rglob("*.png"):
        os.utime(file)
    for other in (config, tiny):  # tiny: the files that were copied
        assert before.differences(fingerprint(other, before)) == []
        assert fingerprint(other).digests() == before.digests()


def test_another_order_is_another_training(own):
    one = fingerprint(own[0])
    other = Fingerprint(splits={split: dict(reversed(found.items())) for split, found in one.splits.items()}, files={})
    assert one.differences(other)[0] == "train: its samples are in another order"


def test_a_file_is_read_again_only_if_its_size_or_times_have_changed(own, hashed):
    config, root = own
    before = fingerprint(config)
    everything = len(hashed)
    assert everything == len(set(hashed)) == len(before.files) > 20
    fingerprint(config, before)
    assert len(hashed) == everything
    os.utime(root / TRAIN / "rgb/001.png")
    fingerprint(config, before)
    assert hashed[everything:] == [root / TRAIN / "rgb/001.png"]


def test_runs_with_one_cache_read_no_file_only_for_its_hash(own, hashed, tmp_path):
    config, root = own
    config = config.with_overrides(f"data.cache={tmp_path / 'cache'}")
    before = fingerprint(config)
    everything = len(hashed)
    (store,) = (tmp_path / "cache").glob("hashes-*.json")
    assert fingerprint(config) == before
    assert len(hashed) == everything
    exchange(root)
    assert before.differences(fingerprint(config))
    store.write_text("{")  # damaged: everything is hashed again
    assert fingerprint(config).digests() != before.digests()
    assert len(hashed) == 2 * everything + 1


def test_a_file_that_changes_while_it_is_read_stops_the_run(own):
    config, root = own
    files = reading(config)
    exchange(root)
    with pytest.raises(DataError, match=r"rgb/002\.png: was changed while the run was reading it; start it again"):
        files.fingerprint()


def test_a_damaged_record_is_named(tmp_path):
    assert Fingerprint.read(tmp_path) is None
    for text in ("", "{", "[]", '{"format": "other"}', '{"format": "crdkit-data", "files": {"a": 1}}'):
        (tmp_path / "data.json").write_text(text)
        with pytest.raises(CrdkitError, match=r"data\.json: is damaged .*; delete it to go on without"):
            Fingerprint.read(tmp_path)


def stop_after_one_epoch(config, folder, monkeypatch):
    def stop(self, *arguments, log, last, **options):
        keep(self, *arguments, log=log, last=True, **options)
        raise KeyboardInterrupt

    keep = loop.Checkpoints.keep
    with monkeypatch.context() as patch:
        patch.setattr(loop.Checkpoints, "keep", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(config, folder)


@pytest.mark.usefixtures("without_reports")
@pytest.mark.parametrize("change", [exchange, add, remove])
def test_resuming_with_other_data_is_refused_and_keeps_the_checkpoint(own, tmp_path, monkeypatch, change):
    config, root = own
    out = tmp_path / "run"
    stop_after_one_epoch(config, out, monkeypatch)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    expected = change(root)
    with pytest.raises(DataError) as caught:
        fit(config, out, resume=True)
    assert str(caught.value).startswith(f"{out}: the data have changed since this run was begun: {expected}; put them")
    assert "--overwrite" in str(caught.value)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    fit(config, out, overwrite=True)
    assert Fingerprint.read(out).differences(fingerprint(config)) == []
    fit(config, out, resume=True)  # finished, on these data


@pytest.mark.usefixtures("without_reports")
def test_a_run_of_an_earlier_version_is_resumed_without_comparing(own, tmp_path, monkeypatch):
    config, _ = own
    stop_after_one_epoch(config, tmp_path / "run", monkeypatch)
    (tmp_path / "run/data.json").unlink()
    fit(config, tmp_path / "run", resume=True)
    assert json.loads((tmp_path / "run/data.json").read_text())["format"] == "crdkit-data"


@pytest.mark.usefixtures("without_reports")
def test_a_sweep_does_not_mix_runs_on_other_data(own, tmp_path):
    config, root = own
    short = config.with_overrides("training.epochs=1")
    out = tmp_path / "out"
    sweep(short, out=out, categories=["biscuit"])
    sweep(short, out=out, categories=["biscuit"], resume=True)
    expected = exchange(root)
    for seeds in ([0], [0, 1]):
        with pytest.raises(DataError, match=r"seed0: the data have changed .*: train: 1 sample was changed") as caught:
            sweep(short, out=out, categories=["biscuit"], seeds=seeds, resume=True)
        assert expected in str(caught.value)
    with pytest.raises(DataError, match="the data have changed"):  # a finished run alone too
        fit(short.with_overrides("training.seed=0"), out / "biscuit/seed0", resume=True)
    shutil.rmtree(root / "biscuit")  # what is gone cannot be compared
    assert len(sweep(short, out=out, categories=["biscuit"], resume=True, missing="skip").results) == 1


def test_missing_files_have_no_hash(tmp_path):
    root = write_mvtec3d(tmp_path / "d", categories=["gear"], train=2, test_per_defect=0, size=32)
    from crdkit.data.adapters.mvtec3d import MVTec3D

    dataset = MVTec3D(MVTec3D.Config(root=root, category="gear", on_bad_sample="skip"))
    Path(root / "gear/train/good/xyz/001.tiff").unlink()
    found = Reading(dataset, {"train": dataset.records("train")}).fingerprint()
    assert found.splits["train"]["good/001"]["files"]["xyz"] is None
    assert found.splits["train"]["good/000"]["files"]["xyz"] is not None
