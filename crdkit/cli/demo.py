"""The demo: synthetic scans of a few objects, one detector each, and their metrics."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from crdkit.config import RunConfig
from crdkit.data.synthetic import write_mvtec3d
from crdkit.errors import CrdkitError
from crdkit.runs.directory import read_metrics
from crdkit.runs.fit import fit

_logger = logging.getLogger(__name__)

CATEGORIES = ("biscuit", "gear")
SAMPLES = {"train": 48, "validation": 10, "test_good": 16, "test_per_defect": 6}
OVERRIDES = ("data.image_size=128", "training.epochs=20", "scoring.sigma=2")


def write_demo_data(root: Path) -> Path:
    """Write the demo's synthetic scans to the new folder ``root`` and return it."""
    return write_mvtec3d(root, categories=CATEGORIES, **SAMPLES)


def demo_config(root: Path, category: str, *overrides: str) -> RunConfig:
    """Return the preset ``quick`` for one object of the demo's data: at half the resolution, with fewer epochs."""
    return RunConfig.preset("quick").with_overrides(
        f"data.root={root}", f"data.category={category}", *OVERRIDES, *overrides
    )


def run_demo(out: Path | str) -> dict[str, dict[str, Any]]:
    """Write the demo's data to ``out/data`` and one finished run per object to ``out/runs``; return their metrics.

    Raises:
        CrdkitError: ``out`` exists and is not empty, or cannot be written.
        ConfigError: the teacher's weights are not installed.
    """
    folder = Path(out)
    if folder.exists() and any(folder.iterdir()):
        raise CrdkitError(f"{folder}: is not empty; choose a new folder with --out, or remove it")
    root = write_demo_data(folder / "data")
    results = {}
    for category in CATEGORIES:
        _logger.info("%s:", category)
        detector = fit(demo_config(root, category), folder / "runs" / category)
        assert detector.thresholds is not None  # the demo's data hold good parts for them
        _logger.info("%s", detector.thresholds.summary())
        results[category] = read_metrics(folder / "runs" / category)
    return results
