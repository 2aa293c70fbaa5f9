"""Exported detectors against PyTorch: scores, decisions, and inputs of other sizes, in every runtime.

    python -m benchmarks.exports RUN... [--samples 20] [--sizes 400x400 600x800] [--out FOLDER] [--page docs/export.md]

Each RUN is a finished run whose test samples are here. It is exported to FOLDER, unless it is there already. Every
sample is also resized to the other sizes before the detector and the file see it (nearest, scans and images alike).
With --page the table in that page is written.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import environment
from crdkit.detector.export import describe_file, is_export_of
from crdkit.detector.export_check import RuntimeCheck, check_export
from crdkit.detector.files import load_detector

BEGIN, END = "<!-- checked exports -->\n", "<!-- end of checked exports -->\n"
Size = tuple[int, int]


def resized(array: np.ndarray, size: Size) -> np.ndarray:
    """Return (H, W, ...) at another size, by copying pixels."""
    rows, columns = (np.arange(side) * n // side for side, n in zip(size, array.shape[:2], strict=True))
    return array[rows][:, columns]


def check(run: Path, file: Path, *, samples: int, sizes: Sequence[Size]) -> dict[str, list[RuntimeCheck]]:
    """Export a run if it is not yet, and return what each runtime makes of its samples, by their size."""
    if not is_export_of(file, run):
        load_detector(run).export(file, overwrite=True)
    found = {"as scanned": check_export(run, file, samples=samples)}
    for size in sizes:
        name = f"{size[0]} x {size[1]}"
        found[name] = check_export(run, file, samples=samples, change=lambda array, size=size: resized(array, size))
    return found


def lines(run: Path, file: Path, found: Mapping[str, list[RuntimeCheck]]) -> list[str]:
    """Return the rows of a run."""
    modalities = list(describe_file(file)["modalities"])
    rows = []
    for size, checked in found.items():
        for one in checked:
            if one.runtime != "PyTorch":
                what = f"{run.name} ({len(modalities)})"
                rows.append(
                    f"| {what} | {size} | {one.runtime} {one.version} | {one.samples} | {one.score_difference:.1e} "
                    f"| {one.map_difference:.1e} | {one.labels_differ} |"
                )
    return rows


def table(rows: Sequence[str]) -> str:
    """Return the table."""
    head = "| detector (modalities) | scans of | runtime | scans | scores differ by | maps by | labels differ |"
    return "\n".join([head, "|---|---|---|--:|--:|--:|--:|", *rows]) + "\n"


def write(page: Path, text: str) -> None:
    """Put the table into its place on a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}{text}{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--sizes", nargs="*", default=["400x400", "600x800"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--page", type=Path)
    given = parser.parse_args()
    sizes: list[Any] = [tuple(map(int, size.split("x"))) for size in given.sizes]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for run in given.runs:
            file = (given.out or Path(folder)) / run.name / "part.onnx"
            rows += lines(run, file, check(run, file, samples=given.samples, sizes=sizes))
            print(table(rows), flush=True)
    print(json.dumps(environment()))
    if given.page:
        write(given.page, table(rows))


if __name__ == "__main__":
    main()
