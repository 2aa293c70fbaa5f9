"""Shared fixtures: a tiny data set, a tiny run, and `golden` importable from every test."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from crdkit.config import RunConfig
from crdkit.progress import set_quiet
from crdkit.synthetic import write_mvtec3d

os.environ.pop("CRDKIT_CACHE", None)  # tests decode, and write nothing into the cache of who runs them
sys.path.insert(0, str(Path(__file__).parent))

TINY = (
    "data.category=biscuit",
    "data.image_size=64",
    "modalities.rgb.encoder={name: timm, model: test_resnet, pretrained: false}",
    "modalities.depth.encoder={name: timm, model: test_resnet, pretrained: false}",
    "graph.filter.size=2",
    "student.depths=1",
    "student.embedding_blocks=1",
    "training.epochs=2",
    "training.batch_size=4",
    "training.device=cpu",
)


@pytest.fixture(autouse=True)
def quiet():
    set_quiet(True)
    yield
    set_quiet(False)


@pytest.fixture(scope="session")
def scans(tmp_path_factory):
    """A tiny synthetic data set in the MVTec 3D-AD layout."""
    set_quiet(True)
    folder = tmp_path_factory.mktemp("scans") / "data"
    return write_mvtec3d(folder, categories=["biscuit"], train=6, validation=3, test_good=3, test_per_defect=2, size=64)


@pytest.fixture(scope="session")
def tiny(scans):
    """A run that takes seconds: 64 x 64, an untrained four-stage ResNet as the teacher, two epochs."""
    return RunConfig.preset("quick").with_overrides(f"data.root={scans}", *TINY)


@pytest.fixture(scope="session")
def finished(tiny, tmp_path_factory):
    """The run directory of the tiny run."""
    import crdkit

    set_quiet(True)
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    crdkit.fit(tiny, folder)
    return folder
