"""The command that makes pages of finished runs: report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from crdkit.cli.arguments import AllowPlugins, UnusualSensors

COMPARISON = Path("comparison.html")


def report(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="DIR... [KEY.PATH=VALUE]...", help="Finished runs, then config keys to change."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page: DIR/report.html by default, of several runs comparison.html."),
    ] = None,
    *,
    image_level: Annotated[
        bool, typer.Option("--image-level", help="Of several runs, compare image metrics only, which takes less time.")
    ] = False,
    allow_plugins: AllowPlugins = False,
    unusual: UnusualSensors = "error",
) -> None:
    """Make the report of a run again, with its thresholds of today; or compare several runs on the same samples."""
    from crdkit.cli.output import show
    from crdkit.detector import Unusual
    from crdkit.errors import ConfigError, CrdkitError
    from crdkit.runs.pages import compare_reports, rebuild_report

    folders = [argument for argument in runs if "=" not in argument or Path(argument).exists()]
    overrides = [argument for argument in runs if argument not in folders]
    if not folders:
        raise ConfigError("report: no run is given; name the folder of a finished run, or of several to compare them")
    chosen = cast(Unusual, unusual)  # which it checks
    if len(folders) == 1:
        if image_level:
            raise ConfigError("--image-level is for several runs; give two folders or more")
        page = rebuild_report(folders[0], *overrides, out=out, allow_plugins=allow_plugins, unusual=chosen)
    else:
        if out is None and COMPARISON.exists():
            raise CrdkitError(f"{COMPARISON}: exists; choose the page to write with --out FILE")
        page = compare_reports(
            folders,
            *overrides,
            out=out or COMPARISON,
            image_level=image_level,
            allow_plugins=allow_plugins,
            unusual=chosen,
        )
    show(f"report: {page}")
