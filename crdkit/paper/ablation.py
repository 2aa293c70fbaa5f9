"""Ablations: variants of one configuration, each table beside the paper's, and which changes agree with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crdkit.config import RunConfig
from crdkit.paper.reproduce import SAMPLED, Line, Published, beside, compare, published_values, write_comparison
from crdkit.report.grid import Cell, Column, Grid
from crdkit.runs.summary import MEAN, Statistic, percent_cell
from crdkit.runs.sweep import Sweep, sweep
from crdkit.scoring.names import label

PAPER = ("image_auroc", "pixel_auroc", "aupro_0.30", "image_ap", "pixel_ap")
"""Columns of the paper's ablations."""
ABLATED = (*PAPER, "aupro100t_0.30")


@dataclass(frozen=True, kw_only=True)
class AblationRow:
    """One row of an ablation table: the fused map of a variant, or the map of one of its branches.

    Examples:
        >>> row = AblationRow(variant="amplifiers only", published="CRD, CA (Table 4)", against="both")
        >>> row.variant, row.branch
        ('amplifiers only', None)
    """

    variant: str
    branch: str | None = None
    published: str = ""
    """The method under which the row's value is published."""
    against: str = ""
    """Name of the row in the same table that it is compared with; the first one if empty."""


def ablate(
    base: RunConfig,
    *,
    variants: Mapping[str, Sequence[str]],
    tables: Mapping[str, Mapping[str, AblationRow]],
    method: str,
    out: Path,
    categories: Sequence[str] | None,
    seeds: Sequence[int],
    published: Published = published_values,
    title: str,
) -> Sweep:
    """Sweep every variant in ``out/<variant>``, and write their tables and one page, as `reproduce` does.

    Args:
        base: the configuration that the variants change.
        variants: overrides by name; each is run once, however many rows show it. The last provides the pictures.
        tables: rows by name, for each table by title.
        method: one whose values per category are published: its categories are those of a published mean.
        out: new folder, or that of an earlier call.
        categories: None for all that lie in ``data.root``.
        seeds: of training.
        published: looks published values up; those of `crdkit.paper.numbers` if not given.
        title: of the page.

    Raises:
        CrdkitError: see `crdkit.runs.sweep.sweep`.
    """
    outcome = sweep(
        base.with_overrides(SAMPLED),
        variants=variants,
        out=out,
        categories=categories,
        seeds=seeds,
        resume=True,
        missing="skip",
    )
    if not outcome.is_main:
        return outcome
    dataset = base.data.name
    theirs = set(published(dataset, method, PAPER[0])) - {MEAN}

    def line(row: AblationRow) -> Line:
        summary = outcome.summary(row.variant)
        return Line(
            measured={key: summary.of(MEAN, key, branch=row.branch) for key in ABLATED},
            published={key: published(dataset, row.published, key).get(MEAN) for key in ABLATED},
            comparable=theirs == set(summary.categories),
        )

    grids = [
        compare({name: line(row) for name, row in rows.items()}, ABLATED, title=table, name="variant")
        for table, rows in tables.items()
    ]
    moves, remark = _changes(outcome, tables, published=lambda name, key: published(dataset, name, key).get(MEAN))
    details = [_by_category(outcome, list(variants), key) for key in ABLATED]
    subtitle = f"Means over the categories of {dataset}, {beside(method, grids)}"
    write_comparison(
        outcome,
        title=title,
        subtitle=subtitle,
        grids=[*grids, moves],
        details=details,
        variant=list(variants)[-1],
        remarks=[remark],
    )
    return outcome


def _changes(
    outcome: Sweep,
    tables: Mapping[str, Mapping[str, AblationRow]],
    *,
    published: Callable[[str, str], float | None],
) -> tuple[Grid, str]:
    """Return how each row differs from the one it is compared with, here and published, and where the two disagree.

    A change here is the mean over seeds of the difference between runs with the same seed.
    """
    columns = [
        column
        for key in PAPER
        for column in (Column(label(key), "measured"), Column("published", "published", label(key)))
    ]
    cells: dict[str, list[Cell]] = {}
    same, others = 0, []
    for table, rows in tables.items():
        for name, row in rows.items():
            base = row.against or next(iter(rows))
            if name == base:
                continue
            title = f"{name} against {base} ({table})"
            cells[title] = []
            for key in PAPER:
                change = percent_cell(_change(outcome, rows[base], row, key))
                before, after = published(rows[base].published, key), published(row.published, key)
                theirs = None if before is None or after is None else round(after - before, 1)
                cells[title] += [Cell(change.value, change.std, signed=True), Cell(theirs, signed=True)]
                if not theirs or change.value is None:
                    continue
                if change.value * theirs > 0:
                    same += 1
                else:
                    others.append(f"{label(key)} of {title}: {cells[title][-2].text()} here, {theirs:+.1f} published")
    grid = Grid(title="Changes", name="change", columns=columns, rows=cells)
    where = f"; not so {'; '.join(others)}" if others else ""
    return grid, f"Of {same + len(others)} published changes {same} have the same sign here{where}."


def _change(outcome: Sweep, base: AblationRow, row: AblationRow, key: str) -> Statistic:
    """Return mean and deviation over seeds of the difference of ``row`` from ``base`` in runs with the same seed."""
    before, after = outcome.summary(base.variant), outcome.summary(row.variant)
    changes = []
    for seed in after.seeds:
        there = before.with_seed(seed).of(MEAN, key, branch=base.branch).mean
        here = after.with_seed(seed).of(MEAN, key, branch=row.branch).mean
        changes.append(None if there is None or here is None else here - there)
    return Statistic.of(changes)


def _by_category(outcome: Sweep, variants: Sequence[str], key: str) -> Grid:
    """Return one metric of every variant: one row per variant, one column per category."""
    names = [*dict.fromkeys(result.category for result in outcome.results), MEAN]
    rows = {}
    for variant in variants:
        summary = outcome.summary(variant)
        rows[variant] = [percent_cell(summary.of(name, key)) for name in names]
    columns = [Column(name, "measured") for name in names]
    return Grid(title=f"{label(key)} per category", name="variant", columns=columns, rows=rows)
