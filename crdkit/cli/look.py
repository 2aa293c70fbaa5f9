"""Commands that look around: describe, list."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crdkit.cli.arguments import AllowPlugins, Overrides


def describe(
    what: Annotated[str, typer.Argument(metavar="PRESET|FILE.yaml|DIR", help="A configuration, or a run.")],
    overrides: Overrides = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print only the graph, as a Mermaid flowchart.")] = False,
    allow_plugins: AllowPlugins = False,
) -> None:
    """Show the graph, and parameters and GFLOP of every part; for a run also its provenance. Downloads nothing."""
    from crdkit.cli.tables import show_description
    from crdkit.config import load_config, preset_names
    from crdkit.errors import ConfigError
    from crdkit.runs.describe import describe, describe_run

    if Path(what).is_dir() and what not in preset_names():
        if overrides:
            raise ConfigError(f"override {overrides[0]!r}: a run takes no overrides; give a preset or a YAML file")
        described = describe_run(what, allow_plugins=allow_plugins)
    else:
        described = describe(load_config(what, allow_plugins=allow_plugins).with_overrides(*(overrides or ())))
    if mermaid:
        typer.echo(described.mermaid(), nl=False)
    else:
        show_description(described)


def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(help="encoders, modalities, filters, amplifiers, aggregations, datasets or presets."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="PRESET|FILE.yaml",
            help="Also list the parts of its plug-ins, and without KIND what it consists of, as `describe` does.",
        ),
    ] = None,
    allow_plugins: AllowPlugins = False,
) -> None:
    """List what can be named in a configuration, with the options of each."""
    from crdkit.cli.tables import catalogue_tables, show, show_description
    from crdkit.config import load_config
    from crdkit.config.catalogue import catalogue
    from crdkit.runs.describe import describe

    chosen = None if config is None else load_config(config, allow_plugins=allow_plugins)
    for table in catalogue_tables(catalogue(kind)):
        show(table)
    if chosen is not None and kind is None:
        show_description(describe(chosen))
