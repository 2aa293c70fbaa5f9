"""The metrics and their baseline under pytest-benchmark; equality is asserted, timing never."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import baseline_metrics
from benchmarks.metrics import compare, make_stack
from crdkit.scoring.metrics import LIMITS, evaluate


@pytest.fixture(scope="module")
def stack() -> Any:
    """Return maps and masks small enough for CI; `python -m benchmarks.metrics` takes the full size."""
    return make_stack(images=20, size=128)


def test_results_are_equal(stack: Any) -> None:
    """Both programs compute the same numbers."""
    compare(*stack)


def test_evaluate(benchmark: Any, stack: Any) -> None:
    """Time ours: all metrics."""
    assert benchmark(evaluate, *stack)["pixel_auroc"] is not None


def test_baseline(benchmark: Any, stack: Any) -> None:
    """Time the baseline."""
    assert benchmark.pedantic(baseline_metrics.evaluate, args=(*stack, LIMITS), rounds=3)["pixel_auroc"] > 0
