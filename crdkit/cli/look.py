"""Commands that look around: describe, list."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crdkit.cli.arguments import AllowPlugins, AsJson, Overrides
from crdkit.cli.completion import complete_kind, complete_preset


def describe(
    what: Annotated[
        str,
        typer.Argument(
            metavar="PRESET|FILE.yaml|DIR", help="A configuration, or a run.", autocompletion=complete_preset
        ),
    ],
    overrides: Overrides = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print only the graph, as a Mermaid flowchart.")] = False,
    as_json: AsJson = False,
    allow_plugins: AllowPlugins = False,
) -> None:
    """Show the graph, and parameters and GFLOP of every part; for a run also its provenance. Downloads nothing."""
    from crdkit.cli.documents import description
    from crdkit.cli.output import print_json
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
    elif as_json:
        print_json(description(described))
    else:
        show_description(described)


def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="encoders, modalities, filters, amplifiers, aggregations, scores, datasets or presets; or the keys of "
            "training, graph, student, scoring or data.",
            autocompletion=complete_kind,
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="PRESET|FILE.yaml",
            help="Also list the parts of its plug-ins, and without KIND what it consists of, as `describe` does.",
        ),
    ] = None,
    as_json: AsJson = False,
    allow_plugins: AllowPlugins = False,
) -> None:
    """List what can be named in a configuration, and every key with its default, its choices and what it is."""
    from crdkit.cli.documents import listing
    from crdkit.cli.output import print_json, show
    from crdkit.cli.tables import catalogue_tables, options_table, show_description
    from crdkit.config import load_config
    from crdkit.config.catalogue import catalogue, section_options
    from crdkit.runs.describe import describe

    chosen = None if config is None else load_config(config, allow_plugins=allow_plugins)
    entries, sections = catalogue(kind), section_options(kind)
    if as_json:
        print_json(listing(entries, sections))
        return
    for table in catalogue_tables(entries):
        show(table)
    for section, options in sections.items():
        show(options_table(section, options))
    if chosen is not None and kind is None:
        show_description(describe(chosen))
