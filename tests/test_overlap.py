"""Test samples that are also in the training data, and files that links bring from outside: refused unless allowed."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import crdkit
from crdkit.config.build import build_dataset
from crdkit.data import SPLITS
from crdkit.data import overlap as overlap_module
from crdkit.data.check import check_dataset
from crdkit.data.inside import refuse_links_outside
from crdkit.data.overlap import BLOCK, find_overlap
from crdkit.errors import DataError
from crdkit.runs.directory import read_metrics
from crdkit.runs.evaluate import evaluate_run

FILES = ("rgb/{}.png", "xyz/{}.tiff")


def copy_sample(category, source, target, *, files=FILES):
    for file in files:
        shutil.copy(category / source[0] / file.format(source[1]), category / target[0] / file.format(target[1]))


@pytest.fixture
def category(scans, tmp_path):
    """A copy of the tiny data set, which a test may change."""
    return shutil.copytree(scans / "biscuit", tmp_path / "data/biscuit")


@pytest.fixture
def run(tiny, category):
    """The tiny run on that copy."""
    return tiny.with_overrides(f"data.root={category.parent}", "training.epochs=1")


def found(run):
    dataset = build_dataset(run)
    return [
        (test.sample_id, known.split, known.sample_id)
        for test, known in find_overlap({split: dataset.records(split) for split in SPLITS})
    ]


def test_a_sample_is_equal_if_all_its_files_are(run, category):
    assert found(run) == []
    copy_sample(category, ("train/good", "002"), ("test/good", "001"), files=FILES[:1])
    assert found(run) == []
    copy_sample(category, ("train/good", "003"), ("test/good", "001"), files=FILES[1:])
    assert found(run) == []  # its files are equal to those of two samples, not of one
    copy_sample(category, ("train/good", "002"), ("test/good", "001"))
    copy_sample(category, ("validation/good", "000"), ("test/dent", "000"))
    assert sorted(found(run)) == [("dent/000", "validation", "good/000"), ("good/001", "train", "good/002")]
    assert check_dataset(build_dataset(run)).count("error") == 2
    assert check_dataset(build_dataset(run.with_overrides("data.allow_overlap=true"))).count("error") == 0


def test_a_difference_outside_the_blocks_is_seen(run, category):
    place = category / "train/good/rgb/000.png", category / "test/good/rgb/000.png"
    copy_sample(category, ("train/good", "000"), ("test/good", "000"))
    content = bytearray(np.random.default_rng(0).bytes(16 * BLOCK))
    place[0].write_bytes(content)
    content[5 * BLOCK] ^= 1
    place[1].write_bytes(content)
    assert found(run) == []
    content[5 * BLOCK] ^= 1
    place[1].write_bytes(content)
    assert found(run) == [("good/000", "train", "good/000")]


def test_only_what_may_be_equal_is_read(run, category, monkeypatch):
    read = []
    content = overlap_module.sha256_of
    monkeypatch.setattr(overlap_module, "sha256_of", lambda path: read.append(path) or content(path))
    copy_sample(category, ("train/good", "000"), ("test/good", "001"))
    assert len(found(run)) == 1
    pair = {
        category / part / file
        for part, name in (("train/good", "000"), ("test/good", "001"))
        for file in (pattern.format(name) for pattern in FILES)
    }
    assert sorted(read) == sorted(pair)  # each once


@pytest.mark.usefixtures("without_reports")
def test_training_and_evaluation_refuse_it_unless_it_is_allowed_by_name(run, category, tmp_path):
    copy_sample(category, ("train/good", "000"), ("test/good", "001"))
    message = (
        r"test/good/rgb/001\.png: every file .* content of .*train/good/rgb/000\.png in the split 'train'; .* 1 of "
    )
    with pytest.raises(DataError, match=message + r".* set data\.allow_overlap=true"):
        crdkit.fit(run, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    crdkit.fit(run.with_overrides("data.allow_overlap=true"), tmp_path / "run")
    assert read_metrics(tmp_path / "run")["counts"]["overlapping"] == 1
    with pytest.raises(DataError, match=message):
        evaluate_run(tmp_path / "run", "data.allow_overlap=false")
    assert evaluate_run(tmp_path / "run")["counts"]["overlapping"] == 1


def test_evaluation_on_other_data_knows_what_the_run_was_trained_on(run, category, finished, tmp_path):
    elsewhere = tmp_path / "elsewhere/biscuit/test"
    shutil.copytree(category / "train/good", elsewhere / "good")
    with pytest.raises(DataError, match=r"elsewhere/.*: every file .* in the split 'train'; so it is with 6 of 6 test"):
        evaluate_run(finished, f"data.root={elsewhere.parents[1]}")


def test_a_file_that_a_link_brings_from_outside_is_refused(run, category, tmp_path):
    image = category / "test/good/rgb/001.png"
    outside = shutil.move(image, tmp_path / "outside.png")
    image.symlink_to(outside)
    for config in (
        run,
        run.with_overrides("data.on_bad_sample=skip"),
        run.with_overrides("training.modality_dropout=0.2"),
    ):
        with pytest.raises(
            DataError, match=r"rgb/001\.png: leads out of the data folder, to .*outside\.png; copy the file"
        ):
            crdkit.fit(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    findings = check_dataset(build_dataset(run)).findings
    assert [finding.severity for finding in findings if "leads out of the data folder" in finding.message] == ["error"]
    allowed = build_dataset(run.with_overrides("data.follow_links=true"))
    refuse_links_outside(allowed, allowed.records("test"))


def test_links_inside_and_to_whole_data_folders_are_followed(run, category, tmp_path):
    folder = category / "test/good/rgb"
    (folder / "001.png").rename(category / "kept.png")
    (folder / "001.png").symlink_to(category / "kept.png")
    moved = shutil.move(category, tmp_path / "moved")
    category.symlink_to(moved)
    (tmp_path / "root").symlink_to(category.parent)
    for root in (category.parent, tmp_path / "root"):
        dataset = build_dataset(run.with_overrides(f"data.root={root}"))
        refuse_links_outside(dataset, dataset.records("test"))
    shutil.move(tmp_path / "moved/validation", tmp_path / "validation")
    (tmp_path / "moved/validation").symlink_to(tmp_path / "validation")
    dataset = build_dataset(run)
    with pytest.raises(DataError, match=r"leads out of the data folder, to .*/validation/good/"):
        refuse_links_outside(dataset, dataset.records("validation"))


def test_how_data_is_read_does_not_hinder_a_resumption(run, tmp_path):
    from crdkit.runs.directory import require_same_config

    (tmp_path / "config.yaml").write_text(run.to_yaml())
    assert require_same_config(tmp_path, run.with_overrides("data.follow_links=true", "data.allow_overlap=true"))
