"""The command that writes a detector for other programs: export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crdkit.cli.arguments import AllowPlugins, AsJson


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run or detector directory.")],
    *,
    out: Annotated[Path, typer.Option(metavar="FILE", help="New file; its name ends in .onnx, or in .pt2 for torch.")],
    chosen: Annotated[
        str | None, typer.Option("--format", metavar="onnx|torch", help="By default what the suffix says.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    as_json: AsJson = False,
    allow_plugins: AllowPlugins = False,
) -> None:
    """Write a detector as one file for programs without crdkit; a description and a self-test lie beside it."""
    from crdkit.cli.output import print_json, show
    from crdkit.detector.export import describe_file
    from crdkit.detector.files import load_detector

    detector = load_detector(folder, allow_plugins=allow_plugins)
    file = detector.export(out, chosen, overwrite=overwrite)
    if as_json:
        print_json(describe_file(file))
        return
    found = describe_file(file)
    for kind in ("inputs", "outputs"):
        for entry in found[kind]:
            shape = " x ".join(map(str, entry["shape"])) or "one number"
            show(f"{kind[:-1]} {entry['name']}: {entry['dtype']} {shape}")
    show(f"{file}, {file.with_suffix('.json').name}, {found['selftest']['folder']}/")
