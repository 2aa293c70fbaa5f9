"""Published numbers as data: the tables of CRD (arXiv 2412.08949) and of its third version, TRD; all in percent.

The CSV files beside this module hold what is printed, row by row: tables 1 to 8 and 11 to 13 of the paper, and the
table of TRD's public repository. The bodies of tables 9, 10 and 14 are missing from the text that these were read from,
so they are left out. If a number was read differently from how it is printed, its row's ``note`` says so.

AU-PRO comes in kinds that must not be compared: ``exact`` (one point per distinct score, the official MVTec code),
``100t`` (100 thresholds; CFM's default is 99) and ``unstated``. Every AU-PRO carries its kind.
"""

from __future__ import annotations

import csv
import importlib.resources
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, cast

from crdkit.errors import UnknownNameError, unknown_name

AuProKind = Literal["exact", "100t", "unstated"]

AVERAGE = "average"
"""Name of the category that holds the mean over all categories, as printed."""

_FILES = {f"{number}": f"crd_table_{number:02d}.csv" for number in (*range(1, 9), *range(11, 14))} | {
    "trd": "trd_mvtec3d.csv"
}
_KEYS = {"I-AUROC": "image_auroc", "I-AP": "image_ap", "P-AUROC": "pixel_auroc", "P-AP": "pixel_ap"}
_AU_PRO_KEYS = {"exact": "aupro_0.30", "100t": "aupro100t_0.30"}
_NOT_CATEGORIES = ("metric", "method", "variant", "au_pro", "note")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One printed row: a method's values of one metric.

    Examples:
        >>> row = table("2").rows[-1]
        >>> row.method, row.key, row.label, row.values[AVERAGE]
        ('CRD', 'aupro_0.30', 'AU-PRO@30% (exact)', 97.7)
    """

    metric: str
    """``I-AUROC``, ``P-AUROC``, ``AU-PRO@30%``, ``I-AP`` or ``P-AP``."""
    method: str
    variant: str
    """What distinguishes the rows of one method, such as an ablation; empty if nothing does."""
    au_pro: AuProKind | None
    """How AU-PRO was computed; None for other metrics."""
    values: Mapping[str, float]
    """Percent by category, `AVERAGE` among them; categories that are not printed are left out."""
    note: str
    """Where the file departs from the printed table, or the table contradicts itself; usually empty."""

    @property
    def key(self) -> str | None:
        """Return the name of the metric in metrics.json; None for an AU-PRO of unstated kind, which has none."""
        return _KEYS.get(self.metric) or _AU_PRO_KEYS.get(self.au_pro or "")

    @property
    def label(self) -> str:
        """Return the metric, with the kind of an AU-PRO, as a column's heading."""
        return f"{self.metric} ({self.au_pro})" if self.au_pro else self.metric


@dataclass(frozen=True, kw_only=True)
class Table:
    """One published table.

    Examples:
        >>> found = table("1")
        >>> found.dataset, found.unit, len(found.rows)
        ('mvtec3d', 'percent', 10)
    """

    name: str
    """Its number in the paper, or ``trd``."""
    title: str
    source: str
    """Paper and table from which the numbers come."""
    dataset: str
    """Name of the dataset as in ``data.name``."""
    unit: str
    rows: tuple[Row, ...]
    comments: tuple[str, ...] = field(default=())
    """What a reader must know about the numbers."""


@dataclass(frozen=True, kw_only=True)
class Value:
    """One published number with everything needed to quote it.

    Examples:
        >>> (value,) = lookup(method="CRD", metric="image_auroc", category="bagel", name="1")
        >>> value.percent, value.category, value.row.method, value.table.name
        (99.6, 'bagel', 'CRD', '1')
    """

    percent: float
    category: str
    row: Row
    table: Table

    def __str__(self) -> str:
        method = f"{self.row.method}, {self.row.variant}" if self.row.variant else self.row.method
        return f"{method}, {self.category}: {self.row.label} {self.percent:.1f} % ({self.table.source})"


def tables() -> tuple[str, ...]:
    """Return the names of all tables.

    Examples:
        >>> tables()
        ('1', '2', '3', '4', '5', '6', '7', '8', '11', '12', '13', 'trd')
    """
    return tuple(_FILES)


@cache
def table(name: str) -> Table:
    """Return one table by its number in the paper, or ``trd``.

    Raises:
        UnknownNameError: there is no such table here.

    Examples:
        >>> table("2").title
        'AU-PRO of methods, by category'
        >>> {row.method: (row.values["average"], row.au_pro) for row in table("2").rows if row.method in ("CFM", "CRD")}
        {'CFM': (97.2, '100t'), 'CRD': (97.7, 'exact')}
    """
    if name not in _FILES:
        raise unknown_name(
            "published table", name, _FILES, hint="; tables 9, 10 and 14 have no numbers in the source text"
        )
    text = (importlib.resources.files("crdkit.paper.numbers") / _FILES[name]).read_text(encoding="utf-8")
    lines = text.splitlines()
    header: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        if line.startswith("# "):
            key, _, value = line[2:].partition(": ")
            header[key].append(value)
    return Table(
        name=header["table"][0],
        title=header["title"][0],
        source=header["source"][0],
        dataset=header["dataset"][0],
        unit=header["unit"][0],
        rows=tuple(_read_row(entries) for entries in csv.DictReader(line for line in lines if line[0] != "#")),
        comments=tuple(header["comment"]),
    )


def lookup(
    *,
    dataset: str | None = None,
    method: str | None = None,
    metric: str | None = None,
    category: str | None = None,
    variant: str | None = None,
    name: str | None = None,
) -> tuple[Value, ...]:
    """Return every published number that matches all given arguments, in the order of the tables.

    One result may be in several tables, so several numbers are usual; give ``name`` to select a table.

    Args:
        dataset: as in ``data.name``.
        method: such as ``CRD``, ``TRD`` or ``CFM``.
        metric: as printed in reports (``AU-PRO@30%``: every kind of it), or a key of metrics.json
            (``aupro_0.30``: exact only; ``aupro100t_0.30``: 100 thresholds only).
        category: folder name of the category, or ``average``.
        variant: of a method, see `Row.variant`.
        name: of a table, see `tables`.

    Raises:
        UnknownNameError: a name that no table holds.

    Examples:
        >>> for value in lookup(method="TRD", metric="I-AUROC", category="cable_gland"):
        ...     print(value.row.variant, value.percent, value.table.name)
        RGB+depth 96.1 trd
        RGB+normals 99.5 trd
        >>> [(value.row.method, value.percent) for value in lookup(metric="aupro_0.30", category="rope", name="2")]
        [('CRD', 98.2)]
    """
    values = [
        Value(percent=percent, category=printed, row=row, table=entry)
        for entry in map(table, tables())
        for row in entry.rows
        for printed, percent in row.values.items()
    ]
    known: dict[str, tuple[str | None, set[str]]] = {
        "dataset": (dataset, {value.table.dataset for value in values}),
        "method": (method, {value.row.method for value in values}),
        "metric": (metric, {text for value in values for text in (value.row.metric, value.row.key) if text}),
        "category": (category, {value.category for value in values}),
        "variant": (variant, {value.row.variant for value in values}),
        "table": (name, set(tables())),
    }
    for what, (wanted, names) in known.items():
        if wanted is not None and wanted not in names:
            raise _unknown(what, wanted, names)
    return tuple(
        value
        for value in values
        if dataset in (None, value.table.dataset)
        and method in (None, value.row.method)
        and metric in (None, value.row.metric, value.row.key)
        and category in (None, value.category)
        and variant in (None, value.row.variant)
        and name in (None, value.table.name)
    )


def _unknown(what: str, wanted: str, names: Iterable[str]) -> UnknownNameError:
    return unknown_name(f"{what} of published numbers", wanted, [name for name in names if name])


def _read_row(entries: Mapping[str, str]) -> Row:
    return Row(
        metric=entries["metric"],
        method=entries["method"],
        variant=entries["variant"],
        au_pro=cast("AuProKind | None", entries["au_pro"] or None),
        values={key: float(text) for key, text in entries.items() if key not in _NOT_CATEGORIES and text},
        note=entries["note"],
    )
