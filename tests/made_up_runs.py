"""Run directories with made-up metrics, for what reads many of them."""

from __future__ import annotations

import json
import zlib

import numpy as np
from PIL import Image

from crdkit.errors import DataError
from crdkit.scoring.metrics import LIMITS

KEYS = [f"{level}_{metric}" for level in ("image", "pixel") for metric in ("auroc", "ap", "f1_max")]
KEYS += [f"{name}_{limit:.2f}" for name in ("aupro", "aupro100t") for limit in LIMITS]


def make_up(config, folder, *, resume):
    """Write what a sweep reads of a run; every number follows from the configuration. A category "bad" fails."""
    assert resume
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(config.to_yaml())
    if config.data.category == "bad":
        raise DataError(f"{config.data.root}/bad/train/good/xyz/001.tiff: is truncated")
    rng = np.random.default_rng(zlib.crc32(config.to_yaml().encode()))

    def metrics():
        return {key: round(float(rng.uniform(0.5, 1)), 6) for key in KEYS}

    (folder / "figures").mkdir()
    Image.new("RGB", (40, 30), (200, 30, 30)).save(folder / "figures" / "gallery.png")
    content = {
        "aggregate": metrics(),
        "branches": {name: metrics() for name in config.modalities},
        "seconds": {"train": 1.0, "total": round(float(rng.uniform(1, 9)), 3)},
        "counts": {"train": 6, "validation": 3, "test": 15},
        "environment": {"device": "cpu (made up)", "torch": "2", "crdkit": "0"},
    }
    (folder / "metrics.json").write_text(json.dumps(content))


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())
