"""One page of several runs: their metrics, how these differ, and the same samples side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crdkit._core.files import write_bytes
from crdkit.report.explorer import Explored, assemble
from crdkit.report.page import render, results_table
from crdkit.scoring.intervals import Difference
from crdkit.scoring.names import MISSING, label, percent


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """What a page of several runs shows; lists are in the order of the runs."""

    title: str
    """What was inspected, e.g. the category."""
    names: Sequence[str]
    """Unique."""
    folders: Sequence[str]
    metrics: Sequence[Mapping[str, Any]]
    """Of the fused maps, by the names of metrics.json."""
    differences: Mapping[str, Mapping[str, Difference | None]]
    """To the first run, by the names of the others and of the metrics; empty where there are no labels."""
    options: Mapping[str, Sequence[str]]
    """The options that are not the same in all runs, by key."""
    notes: Sequence[str]
    """Plain warnings for the top of the page."""
    explored: Sequence[Explored]
    """On the same samples, in the same order."""


def write_side_by_side(what: SideBySide, path: Path) -> None:
    """Write the page, which refers to nothing outside itself; an older one is replaced in one step."""
    page = render(
        "compared.html.j2",
        what=what,
        results=results_table(list(zip(what.names, what.metrics, strict=True))),
        differences={name: _rows(found) for name, found in what.differences.items()},
        explorer=assemble(what.explored),
        missing=MISSING,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, page.encode())


def _rows(found: Mapping[str, Difference | None]) -> list[dict[str, Any]]:
    """Return a row for each metric that can be computed: in percent, the difference in percentage points."""
    return [
        {
            "name": label(key),
            "cells": [
                percent(one.first),
                percent(one.second),
                f"{100 * one.difference:+.1f}",
                f"{100 * one.low:+.1f} to {100 * one.high:+.1f}",
                "< 0.01" if one.p_value < 0.01 else f"{one.p_value:.2f}",
            ],
            "clear": one.low > 0 or one.high < 0,
        }
        for key, one in found.items()
        if one is not None
    ]
