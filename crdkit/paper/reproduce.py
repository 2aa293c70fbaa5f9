"""Measured beside published values: a preset over categories and seeds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crdkit.config import RunConfig
from crdkit.errors import UnknownNameError
from crdkit.paper.numbers import AVERAGE, lookup
from crdkit.report.grid import Cell, Column, Grid
from crdkit.report.study import Study, write_study
from crdkit.runs.summary import MEAN, Statistic, Summary, note, percent_cell
from crdkit.runs.sweep import Sweep, sweep
from crdkit.scoring.names import label

Published = Callable[[str, str, str], Mapping[str, float]]
"""``published(dataset, method, metric)``: percent by category and `MEAN`, empty if nothing is published.

``metric`` is a key of metrics.json: ``aupro_0.30`` is exact, ``aupro100t_0.30`` uses 100 thresholds.
"""

GROUPS: Mapping[str, Sequence[str]] = {
    "Images": ("image_auroc", "image_ap"),
    "Pixels": ("pixel_auroc", "pixel_ap"),
    "Regions, exact": ("aupro_0.30", "aupro_0.01"),
    "Regions, 100 thresholds": ("aupro100t_0.30", "aupro100t_0.01"),
}
EXACT_OR_NOT = (
    "AU-PRO is exact, as in the official code of MVTec 3D-AD, but where a column says 100 thresholds, as some "
    "published code samples it: never compare one with the other. A mean is compared with a published one over the "
    "same categories only."
)
SAMPLED = "scoring.sampled_thresholds=true"


def published_values(dataset: str, method: str, metric: str) -> dict[str, float]:
    """Look values up in `crdkit.paper.numbers`.

    Args:
        dataset: as in ``data.name``.
        method: ``METHOD[, VARIANT][ (Table N)]``, the variant and the table as `crdkit.paper.numbers` names them.
        metric: a key of metrics.json.

    Examples:
        >>> published_values("mvtec3d", "CRD", "image_auroc")["cable_gland"]
        96.1
        >>> published_values("mvtec3d", "CRD, CF (Table 4)", "image_auroc")
        {'mean': 94.2}
        >>> published_values("mvtec3d", "TRD, RGB+normals", "aupro_0.30")  # published with 100 thresholds only
        {}
    """
    found = re.fullmatch(r"(?P<method>.*?)(?:, (?P<variant>.*?))?(?: \(Table (?P<name>\w+)\))?", method)
    wanted = found.groupdict() if found else {"method": method}
    try:
        values = lookup(dataset=dataset, metric=metric, **{**wanted, "variant": wanted.get("variant") or ""})
    except UnknownNameError:  # a dataset, method or metric for which nothing is published
        return {}
    return {MEAN if value.category == AVERAGE else value.category: value.percent for value in values}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of a comparison, by metric."""

    measured: Mapping[str, Statistic]
    published: Mapping[str, float | None]
    """Percent."""
    comparable: bool = True
    """Whether both are over the same categories."""


def compare(lines: Mapping[str, Line], keys: Sequence[str], *, title: str, name: str) -> Grid:
    """Return a table of ``keys``; if a row has a published value for one, it and the difference are beside it.

    Examples:
        >>> line = Line(measured={"image_auroc": Statistic.of([0.96])}, published={"image_auroc": 96.2})
        >>> print(compare({"bagel": line}, ["image_auroc"], title="", name="category").markdown(), end="")
        | category | I-AUROC | published | difference |
        |---|--:|--:|--:|
        | bagel | 96.0 | 96.2 | -0.2 |
    """
    columns: list[Column] = []
    rows: dict[str, list[Cell]] = {row: [] for row in lines}
    for key in keys:
        known = any(line.published.get(key) is not None for line in lines.values())
        columns.append(Column(label(key), "measured"))
        if known:
            columns += [Column(kind, kind, of=label(key)) for kind in ("published", "difference")]
        for row, line in lines.items():
            cell, value = percent_cell(line.measured[key]), line.published.get(key)
            rows[row].append(cell)
            if known:
                ours = cell.value if line.comparable else None
                difference = None if ours is None or value is None else ours - value
                rows[row] += [Cell(value), Cell(difference, signed=True)]
    return Grid(title=title, name=name, columns=columns, rows=rows)


def category_lines(
    summary: Summary, keys: Sequence[str], *, published: Published, dataset: str, method: str
) -> dict[str, Line]:
    """Return one line per category and one for their mean.

    A published mean is over all categories; it is only compared with a mean over the same ones.
    """
    known = {key: published(dataset, method, key) for key in keys}
    theirs = {name for values in known.values() for name in values} - {MEAN}
    return {
        name: Line(
            measured={key: summary.of(name, key) for key in keys},
            published={key: values.get(name) for key, values in known.items()},
            comparable=name != MEAN or theirs == set(summary.categories),
        )
        for name in [*summary.categories, MEAN]
    }


def reproduce(
    base: RunConfig,
    *,
    method: str,
    out: Path,
    categories: Sequence[str] | None,
    seeds: Sequence[int],
    published: Published = published_values,
    title: str,
) -> Sweep:
    """Sweep ``base`` over categories and seeds in ``out``, and write comparison.{md,csv,tex,html} and figures there.

    The same call again continues where an earlier one stopped. Under torchrun ranks share the runs.

    Args:
        base: the configuration; AU-PRO with 100 thresholds is measured too.
        method: whose published values are shown beside the measured ones.
        out: new folder, or that of an earlier call.
        categories: None for all that lie in ``data.root``.
        seeds: of training.
        published: looks published values up; those of `crdkit.paper.numbers` if not given.
        title: of the page.

    Raises:
        CrdkitError: see `crdkit.runs.sweep.sweep`.
    """
    outcome = sweep(
        base.with_overrides(SAMPLED), out=out, categories=categories, seeds=seeds, resume=True, missing="skip"
    )
    if not outcome.is_main:
        return outcome
    summary = outcome.summary()
    keys = [key for group in GROUPS.values() for key in group]
    lines = category_lines(summary, keys, published=published, dataset=base.data.name, method=method)
    grids = [compare(lines, group, title=name, name="category") for name, group in GROUPS.items()]
    details = [summary.grid(title="Runs and seconds")]
    subtitle = f"{' + '.join(base.modalities)} on {base.data.name}, {beside(method, grids)}"
    write_comparison(outcome, title=title, subtitle=subtitle, grids=grids, details=details, variant="")
    return outcome


def beside(method: str, grids: Sequence[Grid]) -> str:
    """Return a phrase that names the method whose published values ``grids`` hold, if any."""
    known = any(column.kind == "published" for grid in grids for column in grid.columns)
    return f"beside the published values of {method}" if known else f"without published values of {method}"


def write_comparison(
    outcome: Sweep,
    *,
    title: str,
    subtitle: str,
    grids: Sequence[Grid],
    details: Sequence[Grid],
    variant: str,
    remarks: Sequence[str] = (),
) -> None:
    """Write comparison.{md,csv,tex,html} and figures of a sweep; the pictures are of one variant's first runs."""
    chosen: dict[str, Path] = {}
    for result in outcome.summary(variant).results:
        chosen.setdefault(result.category, result.folder / "figures" / "gallery.png")
    study = Study(
        title=title,
        subtitle=subtitle,
        grids=grids,
        details=details,
        notes=[f"skipped: {skip.job.name}: {skip.reason}" for skip in outcome.skipped],
        remarks=[*remarks, note(Summary(results=outcome.results)).strip(), EXACT_OR_NOT],
        pictures=chosen,
    )
    write_study(study, outcome.out)
