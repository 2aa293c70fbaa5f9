"""What commands print with ``--json``; docs/terminal.md lists the keys, which stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from crdkit.config.catalogue import Entry
from crdkit.config.options import Option
from crdkit.data.agreement import Agreement
from crdkit.data.check import DatasetCheck
from crdkit.detector import Prediction
from crdkit.runs.describe import Description
from crdkit.runs.sweep import Sweep


def listing(entries: dict[str, list[Entry]], options: dict[str, list[Option]]) -> dict[str, Any]:
    """Return the document of ``crdkit list``: the parts of each kind, and the keys of each section."""
    parts = {
        kind: [{"name": entry.name, "summary": entry.summary, "options": _options(entry.keys)} for entry in found]
        for kind, found in entries.items()
    }
    return {**parts, **{section: _options(keys) for section, keys in options.items()}}


def _options(options: Sequence[Option]) -> list[dict[str, Any]]:
    return [asdict(option) for option in options]


def description(described: Description) -> dict[str, Any]:
    """Return the document of ``crdkit describe``."""
    *parts, total = described.table()
    return {
        "configuration": described.config.model_dump(mode="json"),
        "provenance": dict(described.provenance),
        "modalities": {
            name: {"channels": list(spec.channels), "sizes": list(spec.sizes)} for name, spec in described.specs.items()
        },
        "edges": [
            {
                "source": edge.source,
                "target": edge.target,
                "filter": None if edge.filter is None else edge.filter.model_dump(mode="json"),
                "amplifier": None if edge.amplifier is None else edge.amplifier.model_dump(mode="json"),
            }
            for edge in described.graph.edges
        ],
        "parts": parts,
        "total": {"parameters": total["parameters"], "gflop": total["gflop"]},
        "training_gflop": dict(described.training_gflop),
    }


def check(
    checked: DatasetCheck, *, others: Mapping[str, str], command: str | None, edges: Sequence[Agreement]
) -> dict[str, Any]:
    """Return one data set of the document of ``crdkit data check``.

    Args:
        checked: what was found.
        others: why other layouts do not fit, by name.
        command: that trains on it; None if a training would refuse it.
        edges: how the edges of two sensors agree.
    """
    return {
        "folder": str(checked.folder),
        "layout": checked.layout,
        "not_layouts": dict(others),
        "counts": {split: dict(kinds) for split, kinds in checked.counts.items()},
        "findings": [
            {"severity": finding.severity, "path": str(finding.path), "message": finding.message}
            for finding in checked.findings
        ],
        "edges": [{**asdict(found), "is_shifted": found.is_shifted} for found in edges],
        "train": command,
    }


def sweep(outcome: Sweep) -> dict[str, Any]:
    """Return the document of ``crdkit sweep``, which is that of results.json."""
    return outcome.summary().as_dict(skipped=[skip.as_dict() for skip in outcome.skipped])


def prediction(path: str, found: Prediction) -> dict[str, Any]:
    """Return one sample of the document of ``crdkit predict``: `Prediction.to_dict` without maps."""
    return {**found.to_dict(maps=False), "image_path": path}
