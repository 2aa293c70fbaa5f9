"""One self-contained report.html of a run: results, curves, and samples to look through, worst mistakes first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crdkit._core.files import write_bytes
from crdkit.report.data import ReportData
from crdkit.report.gallery import SIZE
from crdkit.scoring.names import HEADLINE, METRICS, MISSING, label, percent

if TYPE_CHECKING:
    from jinja2 import Environment


def write_report(data: ReportData, path: Path, *, figures: Path | None = None, gallery_size: int = SIZE) -> None:
    """Write the report of ``data`` to ``path``, and its figures as PNG and SVG into the folder ``figures``.

    The same data gives the same bytes. The file refers to nothing outside itself.

    Args:
        data: what to show.
        path: the HTML file; an older one is replaced in one step.
        figures: folder for the single figures, created if missing; None writes none.
        gallery_size: the most samples that the page shows pictures of; its numbers are of all.
    """
    from crdkit.report import gallery
    from crdkit.report.explorer import assemble, explore
    from crdkit.report.figures import charts, to_png, to_svg

    drawn = charts(data)
    page = render(
        "template.html.j2",
        data=data,
        charts=[{"title": c.title, "svg": to_svg(c, inline=True)} for c in drawn],
        explorer=assemble([explore(data, pictured=gallery_size)]),
        **_tables(data),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, page.encode())
    if figures is None:
        return
    files = {f"{c.name}.svg": to_svg(c, inline=False).encode() for c in drawn}
    files |= {f"{c.name}.png": to_png(c.figure) for c in drawn}
    files["gallery.png"] = to_png(gallery.qualitative(data))
    figures.mkdir(parents=True, exist_ok=True)
    for name, content in sorted(files.items()):
        write_bytes(figures / name, content)


def render(template: str, **context: Any) -> str:
    """Fill a template of this package; markup in texts is escaped, and a missing name is an error."""
    return _environment().get_template(template).render(**context)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    loader = FunctionLoader(lambda name: resources.files("crdkit.report").joinpath(name).read_text(encoding="utf-8"))
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=loader)


def _tables(data: ReportData) -> dict[str, Any]:
    """Return every number of the report as text, by the names that the template uses."""
    aggregate = data.metrics.get("aggregate") or {}
    branches = data.metrics.get("branches") or {}
    results = results_table([("fused", aggregate), *branches.items()])
    defects = _defects(data)
    shown = [text for row in results["rows"] + defects["rows"] for text in row["values"]]
    return {
        "headline": [(METRICS[key][1], percent(aggregate.get(key))) for key in HEADLINE if key in aggregate],
        "results": results,
        "defects": defects,
        "missing": MISSING,
        "normals": _normal_scores(data) if data.normals_only else {},
        "incomplete": MISSING in shown,
        "facts": _run_facts(data.metrics),
        "summary": _summary(data),
    }


def _summary(data: ReportData) -> str:
    total = len(data.sample_ids)
    noun = "sample" if total == 1 else "samples"
    if data.labels is None:
        return f"{total} unlabelled {noun}"
    if data.normals_only:
        return f"{total} normal {noun} of the validation split; there was no test split"
    anomalous = int(np.count_nonzero(data.labels))
    return f"{total} {noun}: {total - anomalous} normal, {anomalous} anomalous"


def _normal_scores(data: ReportData) -> dict[str, Any]:
    """Return one row for the fused map and each branch: how the scores of normal samples are spread."""
    maxima = {name: maps.reshape(len(maps), -1).max(axis=1) for name, maps in data.branch_maps.items()}
    shares = {"lowest": 0.0, "median": 0.5, "95 % are below": 0.95, "highest": 1.0}
    rows = [
        {"name": name, "values": [f"{value:.4g}" for value in np.quantile(scores, list(shares.values()))]}
        for name, scores in {"fused": data.scores, **maxima}.items()
    ]
    return {"columns": list(shares), "rows": rows}


def results_table(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return one row for each entry of ``rows``, one column per metric; the best of a column is marked."""
    extra = sorted({key for _, values in rows for key in values} - METRICS.keys())
    keys = [*METRICS, *extra]
    groups: dict[str, int] = {}
    for key in keys:
        group = METRICS.get(key, ("Other", ""))[0]
        groups[group] = groups.get(group, 0) + 1
    best = [percent(max(_number(values.get(key)) for _, values in rows)) if len(rows) > 1 else "" for key in keys]
    table = [(name, [percent(values.get(key)) for key in keys]) for name, values in rows]
    return {
        "compared": any(text not in ("", MISSING) for text in best),
        "groups": list(groups.items()),
        "columns": [label(key) for key in keys],
        "rows": [
            {"name": name, "values": texts, "best": [t == b != MISSING for t, b in zip(texts, best, strict=True)]}
            for name, texts in table
        ],
    }


def _defects(data: ReportData) -> dict[str, Any]:
    """Return one row per defect type: how many samples it has and their metrics."""
    types: Mapping[str, Mapping[str, Any]] = data.metrics.get("defect_types") or {}
    found = {key for values in types.values() for key in values}
    keys = [key for key in METRICS if key in found] + sorted(found - METRICS.keys())
    names = list(data.defect_types)
    rows = [
        {"name": name, "count": names.count(name), "values": [percent(values.get(key)) for key in keys]}
        for name, values in types.items()
    ]
    return {"columns": [label(key) for key in keys], "rows": rows}


def _run_facts(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the small tables: what the run cost and what it ran on."""
    titles = {"counts": "Samples", "held_out": "Held out for validation", "seconds": "Seconds"}
    titles |= {"parameters": "Parameters", "environment": "Environment"}
    return [
        {
            "title": title,
            "rows": [(name, _format_value(value, seconds=key == "seconds")) for name, value in group.items()],
        }
        for key, title in titles.items()
        if (group := metrics.get(key))
    ]


def _format_value(value: Any, *, seconds: bool) -> str:
    if value is None:
        return MISSING
    if seconds and isinstance(value, int | float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _number(value: Any) -> float:
    return float(value) if value is not None and math.isfinite(value) else -math.inf
