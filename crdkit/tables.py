"""Tables for the terminal, drawn by rich."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from crdkit.catalogue import Entry
from crdkit.report import label, percent

COLUMNS = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "aupro_0.30", "aupro_0.01")


def show(what: Any) -> None:
    """Print a table or a line to standard output; text is printed as it is, brackets too."""
    Console(soft_wrap=isinstance(what, str), highlight=False).print(what, markup=False)


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
    rows = {"fused": metrics["aggregate"], **metrics["branches"]}
    show(results_table(rows))
    measured = {phase: value for phase, value in metrics["seconds"].items() if value is not None}
    seconds = ", ".join(f"{phase} {value:.1f} s" for phase, value in measured.items())
    show(f"{metrics['counts']['test']} test samples; {seconds}")


def catalogue_tables(entries: Mapping[str, list[Entry]]) -> list[Table]:
    """Return one table per kind of part."""
    tables = []
    for kind, parts in entries.items():
        table = Table(title=kind, title_justify="left")
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
