"""The one rule by which a validation split is taken from training samples, and where it is told."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from test_cli import run as command
from test_report import Page

import crdkit
from crdkit.config import RunConfig
from crdkit.data import SampleRecord, datasets
from crdkit.data.held_out import HeldOutConfig, hold_out
from crdkit.data.synthetic import write_folder
from crdkit.errors import DataError


def record(name):
    return SampleRecord(sample_id=name, split="train", label=0, defect_type="good", files={"rgb": Path(f"{name}.png")})


RECORDS = [record(f"{part}/{number:03d}") for part in "abcde" for number in range(8)]


def names(split, *, seed=0, share=0.1, **options):
    config = HeldOutConfig(name="mine", validation_share=share, validation_seed=seed)
    return [found.sample_id for found in hold_out(RECORDS, split, config, **options)]


@pytest.mark.parametrize("seed", [0, 7, None])
def test_the_smallest_hashes_of_seed_and_name_are_held_out(seed):
    before = "" if seed is None else f"{seed}:"
    hashes = {one.sample_id: hashlib.sha256((before + one.sample_id).encode()).hexdigest() for one in RECORDS}
    expected = sorted(hashes, key=hashes.__getitem__)[:4]
    assert names("validation", seed=seed) == sorted(expected)
    assert names("train", seed=seed) == [one.sample_id for one in RECORDS if one.sample_id not in expected]


def test_other_seeds_and_shares_hold_out_others():
    assert names("validation", seed=1) != names("validation", seed=2)
    assert set(names("validation", share=0.2)) > set(names("validation"))
    assert len(names("validation", share=0.001)) == 1
    assert len(names("train", share=0.999)) == 1


def test_units_stay_together():
    found = names("validation", unit=lambda one: one.sample_id[0])
    assert found == [f"{found[0][0]}/{number:03d}" for number in range(8)]


def test_a_single_sample_cannot_be_split():
    with pytest.raises(DataError, match=r"a\.png: is the only normal sample; add more"):
        hold_out([record("a")], "train", HeldOutConfig(name="mine"))


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The user's own data without a validation split."""
    counts = {"train": 20, "validation": 0, "test_good": 1, "test_per_defect": 1, "size": 32}
    return write_folder(tmp_path_factory.mktemp("parts") / "data", categories=["gear"], sensors=["rgb"], **counts)


def test_own_data_are_split_as_before_unless_a_seed_is_given(parts):
    def validation(**options):
        config = datasets.build_config({"name": "folder", "root": parts, "category": "gear", **options})
        dataset = datasets.build(config)
        seed = options.get("validation_seed")
        rule = f"the training samples with the smallest SHA-256 of {'name' if seed is None else 'seed and name'}"
        assert dataset.held_out == {"share": 0.1, "seed": seed, "rule": rule}
        return [found.sample_id for found in dataset.records("validation")]

    all_names = [f"train/good/{number:03d}" for number in range(20)]
    by_name = sorted(all_names, key=lambda name: hashlib.sha256(name.encode()).digest())
    assert validation() == sorted(by_name[:2])
    assert validation(validation_seed=3) != validation()


def test_the_check_metrics_and_the_report_say_what_was_held_out(parts, tmp_path, capsys):
    _, out, _ = command(capsys, "-q", "data", "check", parts)
    assert (
        "note: no validation split: 2 held out, the training samples with the smallest SHA-256 of name "
        "(data.validation_share=0.1)\n"
    ) in out
    _, out, _ = command(capsys, "-q", "data", "check", parts, "data.validation_seed=3")
    assert "SHA-256 of seed and name (data.validation_share=0.1, data.validation_seed=3)\n" in out
    run = RunConfig.preset("quick").with_overrides(
        "data.name=folder", f"data.root={parts}", "data.category=gear", "data.image_size=32", "modalities.depth=null",
        "modalities.rgb.encoder={name: timm, model: test_resnet, pretrained: false}", "student.depths=1",
        "student.embedding_blocks=1", "training.epochs=1", "training.device=cpu",
    )  # fmt: skip
    crdkit.fit(run, tmp_path / "run")
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    rule = "the training samples with the smallest SHA-256 of name"
    assert metrics["held_out"] == {"samples": 2, "share": 0.1, "seed": None, "rule": rule}
    text = (tmp_path / "run/report.html").read_text()
    assert Page(text)
    assert "Held out for validation" in text
    assert rule in text
