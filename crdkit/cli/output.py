"""What commands print: tables drawn for a terminal, plain text where the output is piped, or one JSON document."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from crdkit._core.printable import printable


def show(what: Any) -> None:
    """Print a table or a line to standard output; text is printed unchanged, brackets too.

    Where standard output is not a terminal, a table is plain text: no frames, no colours, and no line is cut.
    """
    if isinstance(what, Table) and not sys.stdout.isatty():
        what = plain(what)
    elif isinstance(what, str):
        what = printable(what)
    Console(soft_wrap=isinstance(what, str), highlight=False, markup=False, emoji=False).print(what)


def plain(table: Table) -> str:
    """Return a table as aligned columns with two spaces between them, one line per row.

    Examples:
        >>> table = Table("name", "options", title="parts")
        >>> table.add_row("rgb", "sensor=rgb")
        >>> print(plain(table))
        parts
        name  options
        rgb   sensor=rgb
        <BLANKLINE>
    """
    rows = [[str(column.header) for column in table.columns]] if table.show_header else []
    rows += [[_one_line(cell) for cell in cells] for cells in zip(*(c.cells for c in table.columns), strict=True)]
    widths = [max(map(len, column), default=0) for column in zip(*rows, strict=True)]
    right = [column.justify == "right" for column in table.columns]
    lines = ["  ".join(_align(*cell) for cell in zip(row, widths, right, strict=True)).rstrip() for row in rows]
    return "\n".join([str(table.title), *lines, ""] if table.title else lines)


def _one_line(cell: Any) -> str:
    first, *others = map(printable, str(cell).split("\n"))
    return first + "".join(f" {line}" if line.startswith("\N{PLUS-MINUS SIGN}") else f"; {line}" for line in others)


def _align(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)


def print_json(document: Any) -> None:
    """Print one JSON document to standard output; numbers that are not finite become null."""
    sys.stdout.write(json.dumps(_finite(document), indent=2, allow_nan=False, default=str) + "\n")


def print_json_line(document: Any) -> None:
    """Print one JSON document as one line, at once; numbers that are not finite become null."""
    sys.stdout.write(json.dumps(_finite(document), allow_nan=False, default=str) + "\n")
    sys.stdout.flush()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
