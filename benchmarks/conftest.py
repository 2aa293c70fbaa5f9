"""A tiny run for the benchmarks, so that anyone can run `pytest benchmarks` in a minute without data or a network."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.setup import TINY
from crdkit._core.progress import set_quiet
from crdkit.config import RunConfig
from crdkit.data.synthetic import write_mvtec3d

collect_ignore = ["peers"]  # runs in an environment of its own


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep progress out of pytest's output."""
    set_quiet(True)
    yield
    set_quiet(False)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """Return a run of seconds on synthetic scans: 64 x 64, an untrained teacher, two epochs of six samples."""
    set_quiet(True)
    root = write_mvtec3d(
        tmp_path_factory.mktemp("benchmarks") / "data",
        categories=["biscuit"],
        train=6,
        validation=3,
        test_good=3,
        test_per_defect=2,
        size=64,
    )
    # fp32 as the baseline's, in steps so small that no difference in rounding grows from one to the next
    alike = ("training.precision=fp32", "training.learning_rate=1e-5")
    return RunConfig.preset("quick").with_overrides(f"data.root={root}", "data.category=biscuit", *alike, *TINY)
