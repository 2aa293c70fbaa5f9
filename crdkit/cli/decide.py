"""The command that sets a detector's thresholds: decide."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from crdkit.cli.arguments import AllowPlugins, AsJson, UnusualSensors


def decide(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run or detector directory.")],
    *,
    false_alarms: Annotated[
        float,
        typer.Option(metavar="RATE", help="Share of good parts that may be called anomalous, above 0, at most 0.5."),
    ] = 0.01,
    normals: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Good parts that were not trained on, instead of those it has kept."),
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Add them to those it has kept.")] = False,
    extrapolate: Annotated[
        bool, typer.Option("--extrapolate", help="Where the good parts are too few, extrapolate their highest scores.")
    ] = False,
    as_json: AsJson = False,
    allow_plugins: AllowPlugins = False,
    unusual: UnusualSensors = "error",
) -> None:
    """Set a detector's thresholds for a rate of false alarms, from good parts; nothing is trained."""
    from crdkit.cli.output import print_json, show
    from crdkit.detector import Unusual
    from crdkit.detector.deciding import decide_saved

    decided = decide_saved(
        folder,
        false_alarms=false_alarms,
        normals=normals,
        extrapolate=extrapolate,
        add=add,
        unusual=cast(Unusual, unusual),  # which it checks
        allow_plugins=allow_plugins,
    )
    if as_json:
        print_json(decided.to_dict())
    else:
        show(decided.thresholds.describe())
