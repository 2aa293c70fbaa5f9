"""How much a stranger reads before a change: ``python -m benchmarks.reading_paths [--write]``.

A reading path is what must be understood for one kind of change, an example to copy included. Every line of its
files counts, docstrings too. The table stands in docs/architecture.md. A table that is out of date, and a path that
is longer than it may be, are reported with exit code 1.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/architecture.md"
BEGIN, END = "<!-- reading paths -->\n", "<!-- end of reading paths -->\n"


@dataclass(frozen=True, kw_only=True)
class ReadingPath:
    """Files below crdkit/, in reading order, and what they may amount to."""

    purpose: str
    files: tuple[str, ...]
    lines: int
    """At most."""
    rooms: bool = False
    """Whether the number of rooms is shown, rather than that of files."""

    def count(self) -> int:
        """Return the number of lines."""
        return sum(len((ROOT / "crdkit" / file).read_text(encoding="utf-8").splitlines()) for file in self.files)

    def extent(self) -> str:
        """Return the number of files or of rooms."""
        rooms = {file.partition("/")[0] for file in self.files}
        return f"{len(rooms)} rooms" if self.rooms else f"{len(self.files)} files"


PATHS = (
    ReadingPath(purpose="add a sensor", files=("views/__init__.py", "views/rgb.py"), lines=105),
    ReadingPath(
        purpose="add a dataset",
        files=("data/__init__.py", "data/adapters/mvtec3d.py", "data/_folders.py", "data/images.py", "data/scans.py"),
        lines=850,
    ),
    ReadingPath(
        purpose="change the student",
        files=("model/student.py", "model/layers.py", "model/crd.py", "model/graph.py"),
        lines=800,
    ),
    ReadingPath(
        purpose="change the training loop",
        files=(
            "training/loop.py",
            "training/step.py",
            "training/losses.py",
            "training/config.py",
            "training/_features.py",
        ),
        lines=1100,
    ),
    ReadingPath(
        purpose="understand the method",
        files=(
            "model/crd.py",
            "model/student.py",
            "model/layers.py",
            "model/projections/__init__.py",
            "model/projections/bottleneck.py",
            "model/projections/inverted_bottleneck.py",
            "training/losses.py",
            "scoring/maps.py",
            "scoring/scorer.py",
            "scoring/aggregations/__init__.py",
            "scoring/aggregations/normalised_sum.py",
        ),
        lines=1200,
        rooms=True,
    ),
)


def table() -> str:
    """Return the table in Markdown."""
    lines = ["| to | read | lines | at most |", "|---|---|--:|--:|"]
    for path in PATHS:
        files = ", ".join(f"`{file}`" for file in path.files)
        lines.append(f"| {path.purpose} | {path.extent()}: {files} | {path.count():,} | {path.lines:,} |")
    return "\n".join([*lines, ""])


def problems(page: str) -> list[str]:
    """Return what is wrong with the paths, or with the table on ``page``."""
    found = [
        f"to {path.purpose} takes {path.count()} lines, at most {path.lines} are wanted"
        for path in PATHS
        if path.count() > path.lines
    ]
    if BEGIN + table() + END not in page:
        found.append(f"{PAGE.relative_to(ROOT)}: another table than the files give; run with --write")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table into docs/architecture.md")
    options = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    if options.write:
        before, _, rest = page.partition(BEGIN)
        page = before + BEGIN + table() + END + rest.partition(END)[2]
        PAGE.write_text(page, encoding="utf-8")
    print(table(), end="")
    for problem in problems(page):
        print(problem, file=sys.stderr)
    return 1 if problems(page) else 0


if __name__ == "__main__":
    sys.exit(main())
