"""One self-contained report.html of a run: results, curves and a gallery that opens with the worst mistakes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from crdkit.errors import CrdkitError
from crdkit.files import write_bytes
from crdkit.report.grid import MISSING

__all__ = ["ReportData", "write_report"]

HEADLINE = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "aupro_0.30")
METRICS = {
    "image_auroc": ("Image", "I-AUROC"),
    "image_ap": ("Image", "I-AP"),
    "image_f1_max": ("Image", "I-F1-max"),
    "pixel_auroc": ("Pixel", "P-AUROC"),
    "pixel_ap": ("Pixel", "P-AP"),
    "pixel_f1_max": ("Pixel", "P-F1-max"),
    "aupro_0.30": ("Region", "AU-PRO@30%"),
    "aupro_0.10": ("Region", "AU-PRO@10%"),
    "aupro_0.05": ("Region", "AU-PRO@5%"),
    "aupro_0.01": ("Region", "AU-PRO@1%"),
}


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """What a report shows of N evaluated samples, in one order throughout.

    Raises:
        CrdkitError: there is no sample, or an array or list does not hold N of them.
    """

    title: str
    """What was inspected, e.g. the category."""
    subtitle: str
    """Preset, date and the like; the only place where a date may stand."""
    metrics: Mapping[str, Any]
    """The content of metrics.json; a value that cannot be computed is None."""
    config_yaml: str
    sample_ids: Sequence[str]
    """Unique, e.g. ``"hole/003"``."""
    defect_types: Sequence[str]
    """``"good"`` for normal samples."""
    labels: np.ndarray | None
    """(N,) 0 normal, 1 anomalous; None for unlabelled data."""
    scores: np.ndarray
    """(N,) anomaly scores."""
    maps: np.ndarray
    """(N, H, W) fused, smoothed anomaly maps."""
    branch_maps: Mapping[str, np.ndarray]
    """(N, H, W) anomaly maps by modality."""
    masks: np.ndarray | None
    """(N, H, W) bool."""
    inputs: Mapping[str, np.ndarray]
    """(N, C, H, W) by modality, C 1 or 3; floats in [0, 1] or uint8."""
    history: Sequence[Mapping[str, float]]
    """One entry an epoch: ``{"epoch": 1, "loss": ..., "seconds": ...}``."""
    notes: Sequence[str] = ()
    """Plain warnings for the top of the report."""

    def __post_init__(self) -> None:
        if len(self.sample_ids) == 0:
            raise CrdkitError("sample_ids is empty; a report needs at least one sample")
        sized: dict[str, Any] = {
            "defect_types": self.defect_types,
            "labels": self.labels,
            "scores": self.scores,
            "maps": self.maps,
            "masks": self.masks,
        }
        sized |= {f"branch_maps[{name!r}]": maps for name, maps in self.branch_maps.items()}
        sized |= {f"inputs[{name!r}]": images for name, images in self.inputs.items()}
        for name, value in sized.items():
            if value is not None and len(value) != len(self.sample_ids):
                raise CrdkitError(f"{name} holds {len(value)} samples, sample_ids holds {len(self.sample_ids)}")
        for name, images in self.inputs.items():
            if images.ndim != 4 or images.shape[1] not in (1, 3):
                raise CrdkitError(f"inputs[{name!r}] (shape {images.shape}) must be (N, 1 or 3, H, W)")


def write_report(data: ReportData, path: Path, *, figures: Path | None = None, gallery_size: int = 40) -> None:
    """Write the report of ``data`` to ``path``, and its figures as PNG and SVG into the folder ``figures``.

    The same data gives the same bytes. The file refers to nothing outside itself.

    Args:
        data: what to show.
        path: the HTML file; an older one is replaced in one step.
        figures: folder for the single figures, made if missing; None writes none.
        gallery_size: how many samples the gallery shows at most.
    """
    from crdkit.report import gallery
    from crdkit.report.figures import charts, to_png, to_svg

    drawn = charts(data)
    page = render(
        "template.html.j2",
        data=data,
        charts=[{"title": c.title, "svg": to_svg(c, inline=True)} for c in drawn],
        gallery=gallery.build(data, size=gallery_size),
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
    """Fill a template of this package; markup in texts is escaped, and a name that is missing is an error."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    loader = FunctionLoader(lambda name: resources.files(__name__).joinpath(name).read_text(encoding="utf-8"))
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=loader
    )
    return environment.get_template(template).render(**context)


def _tables(data: ReportData) -> dict[str, Any]:
    """Every number of the report as text, by the names the template uses."""
    aggregate = data.metrics.get("aggregate") or {}
    branches = data.metrics.get("branches") or {}
    results = _results([("fused", aggregate), *branches.items()])
    defects = _defects(data)
    shown = [text for row in results["rows"] + defects["rows"] for text in row["values"]]
    return {
        "headline": [(METRICS[key][1], percent(aggregate.get(key))) for key in HEADLINE if key in aggregate],
        "results": results,
        "defects": defects,
        "missing": MISSING,
        "incomplete": MISSING in shown,
        "facts": _facts(data.metrics),
        "summary": _summary(data),
    }


def _summary(data: ReportData) -> str:
    total = len(data.sample_ids)
    noun = "sample" if total == 1 else "samples"
    if data.labels is None:
        return f"{total} unlabelled {noun}"
    anomalous = int(np.count_nonzero(data.labels))
    return f"{total} {noun}: {total - anomalous} normal, {anomalous} anomalous"


def _results(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """One row for the fused map and each branch, one column a metric; the best of a column is marked."""
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
    """One row a defect type: how many samples it has and what was measured on them."""
    types: Mapping[str, Mapping[str, Any]] = data.metrics.get("defect_types") or {}
    found = {key for values in types.values() for key in values}
    keys = [key for key in METRICS if key in found] + sorted(found - METRICS.keys())
    names = list(data.defect_types)
    rows = [
        {"name": name, "count": names.count(name), "values": [percent(values.get(key)) for key in keys]}
        for name, values in types.items()
    ]
    return {"columns": [label(key) for key in keys], "rows": rows}


def _facts(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The small tables: what the run cost and what it ran on."""
    titles = {"counts": "Samples", "seconds": "Seconds", "parameters": "Parameters", "environment": "Environment"}
    return [
        {"title": title, "rows": [(name, _plain(value, seconds=key == "seconds")) for name, value in group.items()]}
        for key, title in titles.items()
        if (group := metrics.get(key))
    ]


def _plain(value: Any, *, seconds: bool) -> str:
    if value is None:
        return MISSING
    if seconds and isinstance(value, int | float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _number(value: Any) -> float:
    return float(value) if value is not None and math.isfinite(value) else -math.inf


def percent(value: float | None) -> str:
    """A fraction as percent with one decimal, an en dash where there is none.

    Examples:
        >>> percent(0.9876), percent(None) == MISSING
        ('98.8', True)
    """
    return f"{100 * value:.1f}" if value is not None and math.isfinite(value) else MISSING


def label(key: str) -> str:
    """The field's name of a key in metrics.json.

    >>> label("image_auroc"), label("aupro100t_0.05")
    ('I-AUROC', 'AU-PRO@5% (100 thresholds)')
    """
    kind, _, limit = key.partition("_")
    if kind == "aupro100t":
        return f"AU-PRO@{100 * float(limit):g}% (100 thresholds)"
    return METRICS.get(key, ("", key))[1]
