"""A table of numbers, written as Markdown, CSV, LaTeX, or cells for a page."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from crdkit.scoring.names import MISSING

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
_LATEX_ESCAPES = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    character: f"\\{character}" for character in "&%$#_{}"
}

Kind = Literal["count", "measured", "published", "difference"]


@dataclass(frozen=True)
class Cell:
    """A number in the unit in which it is shown, and its standard deviation."""

    value: float | None
    std: float | None = None
    digits: int = 1
    signed: bool = False

    def text(self, plus_minus: str = PLUS_MINUS, *, missing: str = MISSING) -> str:
        """Return the rounded number, with its deviation if it has one.

        Examples:
            >>> Cell(96.24, 0.36).text("+-"), Cell(0.5, signed=True).text(), Cell(None).text(missing="-")
            ('96.2 +- 0.4', '+0.5', '-')
        """
        if self.value is None or not math.isfinite(self.value):
            return missing
        text = f"{self.value:{'+' if self.signed else ''}.{self.digits}f}"
        return text if self.std is None else f"{text} {plus_minus} {self.std:.{self.digits}f}"


@dataclass(frozen=True)
class Column:
    """A heading, and the kind of the numbers below it: measured ones have a deviation."""

    title: str
    kind: Kind
    of: str = ""
    """What a published value or a difference belongs to; the title if empty."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Rows of numbers under named columns."""

    title: str
    name: str
    """Heading of the rows' names."""
    columns: Sequence[Column]
    rows: Mapping[str, Sequence[Cell]]
    """By name, one cell per column; the row over all others, if there is one, is the last."""

    def markdown(self) -> str:
        """Return the table in Markdown, below its title."""
        lines = [f"## {self.title}", ""] if self.title else []
        lines.append(_markdown_row([self.name, *(column.title for column in self.columns)]))
        lines.append("|---" + "|--:" * len(self.columns) + "|")
        lines += [_markdown_row([name, *(cell.text() for cell in cells)]) for name, cells in self.rows.items()]
        return "\n".join([*lines, ""])

    def csv(self) -> str:
        """Return the table as CSV: six significant digits, a separate column for deviations, empty if missing."""
        return _csv([[self.name, *self._head()], *([name, *self._values(cells)] for name, cells in self.rows.items())])

    def latex(self) -> str:
        r"""Return a ``table`` for a document with ``\usepackage{booktabs}``."""
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escape_latex(self.title)}}}",
            rf"\begin{{tabular}}{{l{'r' * len(self.columns)}}}",
            r"\toprule",
            _latex_row([_escape_latex(text) for text in (self.name, *(column.title for column in self.columns))]),
            r"\midrule",
        ]
        for name, cells in self.rows.items():
            lines.append(_latex_row([_escape_latex(name), *(cell.text(r"$\pm$", missing="--") for cell in cells)]))
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])

    def _head(self) -> list[str]:
        heads = []
        for column in self.columns:
            heads += [column.title, f"{column.title} std"] if column.kind == "measured" else [column.title]
        return heads

    def _values(self, cells: Sequence[Cell]) -> list[str]:
        values: list[float | None] = []
        for column, cell in zip(self.columns, cells, strict=True):
            values += [cell.value, cell.std] if column.kind == "measured" else [cell.value]
        return [_format_value(value) for value in values]


def csv_of(grids: Sequence[Grid]) -> str:
    """Return tables of different columns as one CSV with a line per cell: table, row, column, kind, value, std."""
    lines: list[Sequence[object]] = [("table", "row", "column", "kind", "value", "std")]
    for grid in grids:
        for name, cells in grid.rows.items():
            for column, cell in zip(grid.columns, cells, strict=True):
                what = column.of or column.title
                lines.append((grid.title, name, what, column.kind, _format_value(cell.value), _format_value(cell.std)))
    return _csv(lines)


def _csv(lines: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def _format_value(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _escape_latex(text: str) -> str:
    return "".join(_LATEX_ESCAPES.get(character, character) for character in text)
