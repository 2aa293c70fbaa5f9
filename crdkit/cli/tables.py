"""Tables for the terminal, drawn by rich."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from crdkit._core.registry import ComponentConfig
from crdkit.cli.output import show
from crdkit.config.catalogue import Entry
from crdkit.config.options import Option
from crdkit.data.check import DatasetCheck
from crdkit.model.encoders import EncoderConfig
from crdkit.report.grid import PLUS_MINUS
from crdkit.runs.compare import Comparison
from crdkit.runs.describe import FLOP_CONVENTION, Description
from crdkit.runs.summary import MEAN
from crdkit.runs.sweep import Sweep
from crdkit.scoring.names import COLUMNS, MISSING, label, percent


def results_table(rows: Mapping[str, Mapping[str, float | None]], *, title: str | None = None) -> Table:
    """Return a table of metrics in percent, one row per name; a dash stands for what cannot be computed."""
    table = Table(title=title, title_justify="left")
    table.add_column("percent")
    for key in COLUMNS:
        table.add_column(label(key), justify="right", no_wrap=True)
    for name, metrics in rows.items():
        table.add_row(name, *(percent(metrics.get(key)) for key in COLUMNS))
    return table


def show_metrics(metrics: Mapping[str, Any]) -> None:
    """Print the table of a run's metrics (fused and per branch), and how long it took."""
    counts = metrics["counts"]
    if counts["test"] is not None:
        show(results_table({"fused": metrics["aggregate"], **metrics["branches"]}))
    measured = {phase: value for phase, value in metrics["seconds"].items() if value is not None}
    seconds = ", ".join(f"{phase} {value:.1f} s" for phase, value in measured.items())
    tested = f"no test split: scores of the {counts['validation']} validation samples, nothing is measured"
    show(f"{tested if counts['test'] is None else str(counts['test']) + ' test samples'}; {seconds}")


def comparison_table(found: Comparison) -> Table:
    """Return a table in percent, one row per metric that can be computed; p-values are fractions."""
    table = Table(title=f"first: {found.first}\nsecond: {found.second}", title_justify="left")
    table.add_column("percent")
    for name in ("first", "second", "difference", "95 % interval", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for key, one in found.metrics.items():
        if one is None:
            continue
        interval = f"{100 * one.low:+.1f} to {100 * one.high:+.1f}"
        p_value = "< 0.01" if one.p_value < 0.01 else f"{one.p_value:.2f}"
        shown = (percent(one.first), percent(one.second), f"{100 * one.difference:+.1f}", interval, p_value)
        table.add_row(label(key), *shown)
    return table


def intervals_table(metrics: Mapping[str, float | None], found: Mapping[str, Sequence[float] | None]) -> Table:
    """Return a table of metrics in percent with their intervals, one row each."""
    table = Table()
    table.add_column("percent")
    table.add_column("fused", justify="right")
    table.add_column("95 % interval", justify="right", no_wrap=True)
    for key, interval in found.items():
        cells: Any = MISSING if interval is None else " to ".join(percent(end) for end in interval)
        table.add_row(label(key), percent(metrics.get(key)), cells)
    return table


def show_sweep(outcome: Sweep) -> None:
    """Print the table of a sweep, and each run that was skipped with its reason."""
    grid = outcome.summary().grid()
    shown = [place for place, column in enumerate(grid.columns) if column.kind == "measured"]
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False
    )  # with deviations on lines of their own it fits into 80 characters
    table.add_column(grid.name, min_width=8)
    for place in shown:
        table.add_column(grid.columns[place].title, justify="right", no_wrap=True)
    for name, cells in grid.rows.items():
        if name == MEAN:
            table.add_section()
        table.add_row(name, *(cells[place].text(f"\n{PLUS_MINUS}").replace(" \n", "\n") for place in shown))
    show(table)
    for skip in outcome.skipped:
        show(f"skipped: {skip.job.name}: {skip.reason}")


def catalogue_tables(entries: Mapping[str, list[Entry]]) -> list[Table]:
    """Return one table per kind of part."""
    tables = []
    shared: dict[str, list[str]] = {}
    for kind, parts in entries.items():
        shared.setdefault(repr(parts), []).append(kind)
    for kinds in shared.values():
        parts = entries[kinds[0]]
        table = Table(title=" and ".join(kinds), title_justify="left")
        table.add_column("name", no_wrap=True)
        table.add_column("what it is")
        with_options = any(part.options for part in parts)
        if with_options:
            table.add_column("options (defaults)")
        for part in parts:
            options = [f"{key}={value}" for key, value in part.options.items()]
            table.add_row(part.name, part.summary, *(["\n".join(options)] if with_options else []))
        tables.append(table)
    return tables


def options_table(section: str, options: Sequence[Option]) -> Table:
    """Return a table of the keys of one section of a configuration."""
    table = Table(title=section, title_justify="left")
    table.add_column("key", no_wrap=True)
    table.add_column("default")
    table.add_column("choices")
    table.add_column("what it is")
    for option in options:
        table.add_row(option.key, option.default, ", ".join(option.choices) or option.range, option.description)
    return table


def show_check(checked: DatasetCheck) -> None:
    """Print how many samples a dataset holds, and one line for each finding."""
    kinds = dict.fromkeys(kind for counts in checked.counts.values() for kind in counts)
    table = Table("split", *kinds)
    for split, counts in checked.counts.items():
        table.add_row(split, *(str(counts.get(kind, MISSING)) for kind in kinds))
    show(f"{checked.folder} ({checked.layout})")
    show(table)
    for finding in checked.findings:
        where = "" if str(finding.path) in finding.message else f"{finding.path}: "
        show(f"{finding.severity}: {where}{finding.message}")
    if not checked.findings:
        show("no problems were found")


def show_description(described: Description) -> None:
    """Print provenance, modalities, edges, and the cost of every part."""
    if described.provenance:
        table = Table(title="run", title_justify="left", show_header=False)
        for key, value in described.provenance.items():
            table.add_row(key, value)
        show(table)
    table = Table("modality", "teacher", "levels (channels x side)", title="modalities", title_justify="left")
    for name, spec in described.specs.items():
        levels = (f"{c} x {size}" for c, size in zip(spec.channels, spec.sizes, strict=True))
        table.add_row(name, _options(described.config.modalities[name].encoder), ", ".join(levels))
    show(table)
    table = Table(
        "edge", "filter", "amplifier", title=f"graph ({described.config.graph.topology})", title_justify="left"
    )
    for edge in described.graph.edges:
        table.add_row(str(edge), _options(edge.filter), _options(edge.amplifier))
    show(table if described.graph.edges else "graph: no edges")
    show(_cost_table(described))
    for name, gflop in described.training_gflop.items():
        trained = sum(p.parameters for p in described.parts if p.modality == name and p.part != "teacher")
        show(f"branch {name}: {trained / 1e6:.1f} M parameters; a training step takes {gflop:.1f} GFLOP per sample")
    show(FLOP_CONVENTION)


def _cost_table(described: Description) -> Table:
    table = Table("modality", "part", title="cost", title_justify="left")
    for column in ("parameters", "GFLOP"):
        table.add_column(column, justify="right", no_wrap=True)
    before = ""
    size, teachers = described.config.data.image_size, list[EncoderConfig]()
    for row in described.table():
        modality = "" if row["modality"] == before else row["modality"]
        if row["modality"] != before:
            table.add_section()
        before = row["modality"]
        parameters = f"{row['parameters']:,}"
        if row["part"] == "teacher":  # a teacher without parameters is not therefore shared
            teacher = described.config.modalities[before].encoder.at(size)
            parameters = "shared" if teacher in teachers else parameters
            teachers.append(teacher)
        table.add_row(modality, row["part"], parameters, f"{row['gflop']:.1f}")
    return table


def _options(part: ComponentConfig | None) -> str:
    """Return a part's name, and its options one per line."""
    if part is None:
        return MISSING
    options = part.model_dump(mode="json", exclude={"name"}, exclude_none=True)
    return "\n".join([part.name, *(f"{key}={value}" for key, value in options.items())])
