"""The command that writes a detector for other programs: export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crdkit.cli.arguments import AllowPlugins, AsJson

if TYPE_CHECKING:
    from rich.table import Table

    from crdkit.detector.export_check import RuntimeCheck


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run or detector directory.")],
    *,
    out: Annotated[Path, typer.Option(metavar="FILE", help="New file; its name ends in .onnx, or in .pt2 for torch.")],
    chosen: Annotated[
        str | None, typer.Option("--format", metavar="onnx|torch", help="By default what the suffix says.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Compare it with PyTorch in ONNX Runtime and OpenVINO, on test samples of the run's data; exit code 2 "
            "if scores differ. A file of this detector that is there already is only compared.",
        ),
    ] = False,
    as_json: AsJson = False,
    allow_plugins: AllowPlugins = False,
) -> None:
    """Write a detector as one file for programs without crdkit; a description and a self-test lie beside it."""
    from crdkit.cli.output import print_json, show
    from crdkit.detector.export import describe_file, is_export_of
    from crdkit.detector.export_check import check_export, require_equal
    from crdkit.detector.files import load_detector

    if overwrite or not (check and is_export_of(out, folder)):
        load_detector(folder, allow_plugins=allow_plugins).export(out, chosen, overwrite=overwrite)
    found = describe_file(out)
    checked = check_export(folder, out, allow_plugins=allow_plugins) if check else []
    if as_json:
        print_json({**found, "check": [one.to_dict() for one in checked]} if check else found)
    else:
        _show(out, found)
        if check:
            show(_table(checked))
    require_equal(checked)


def _show(file: Path, description: Mapping[str, Any]) -> None:
    from crdkit.cli.output import show

    for kind in ("inputs", "outputs"):
        for entry in description[kind]:
            shape = " x ".join(map(str, entry["shape"])) or "one number"
            show(f"{kind[:-1]} {entry['name']}: {entry['dtype']} {shape}")
    show(f"{file}, {file.with_suffix('.json').name}, {description['selftest']['folder']}/")


def _table(checked: Sequence[RuntimeCheck]) -> Table:
    from rich.table import Table

    table = Table(title=f"{checked[0].samples} samples, compared with PyTorch")
    table.add_column("runtime")
    for name in ("largest difference of scores", "of maps", "labels differ", "ms a sample", "load s", "MiB"):
        table.add_column(name, justify="right")
    for one in checked:
        cells = [f"{one.score_difference:.1e}", f"{one.map_difference:.1e}", str(one.labels_differ)]
        memory = "-" if one.memory_mib is None else f"{one.memory_mib:.0f}"
        cells += [f"{one.latency_ms:.1f}", f"{one.load_s:.1f}", memory]
        table.add_row(f"{one.runtime} {one.version}", *cells)
    return table
