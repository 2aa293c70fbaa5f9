"""Real MVTec 3D-AD scans (category cable_gland), where CRDKIT_REAL_SAMPLE names the folder that holds them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import crdkit
from crdkit.runs.directory import read_metrics

ROOT = os.environ.get("CRDKIT_REAL_SAMPLE")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ROOT, reason="CRDKIT_REAL_SAMPLE does not name a folder with cable_gland/"),
]


def test_quick_finds_defects_in_real_scans(tmp_path):
    """One seed of 12 epochs instead of 30; the bounds are those of the whole training."""
    data = (f"data.root={ROOT}", "data.category=cable_gland")
    run = crdkit.RunConfig.preset("quick").with_overrides(*data, "training.epochs=12")
    crdkit.fit(run, Path(tmp_path) / "run")
    metrics = read_metrics(tmp_path / "run")
    assert metrics["counts"] == {"train": 112, "validation": 23, "test": 55}
    aggregate = metrics["aggregate"]
    assert aggregate["image_auroc"] > 0.9
    assert aggregate["pixel_auroc"] > 0.986
    assert aggregate["aupro_0.30"] > 0.952
