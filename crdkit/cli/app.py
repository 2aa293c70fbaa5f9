"""The commands under their help panels, and the options before a command."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

import crdkit
from crdkit._core.progress import set_quiet
from crdkit.cli.arguments import ListsOfValues
from crdkit.cli.data import check_data, make_data
from crdkit.cli.decide import decide
from crdkit.cli.export import export
from crdkit.cli.importing import import_data
from crdkit.cli.look import describe, list_names
from crdkit.cli.predict import predict
from crdkit.cli.report import report
from crdkit.cli.runs import compare, demo, evaluate, sweep, train
from crdkit.cli.watch import watch

START, RUN, LOOK, DATA = "Start here", "Train and evaluate", "Look around", "Data"

app = typer.Typer(
    help="Find and localise defects from several sensors, learning from good parts only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(rich_help_panel=START)(demo)
app.command(rich_help_panel=RUN)(train)
app.command(rich_help_panel=RUN)(evaluate)
app.command(rich_help_panel=RUN)(compare)
app.command(rich_help_panel=RUN)(report)
app.command(rich_help_panel=RUN)(predict)
app.command(rich_help_panel=RUN)(watch)
app.command(rich_help_panel=RUN)(decide)
app.command(rich_help_panel=RUN)(export)
app.command(rich_help_panel=RUN, cls=ListsOfValues)(sweep)
app.command(rich_help_panel=LOOK)(describe)
app.command("list", rich_help_panel=LOOK)(list_names)

data = typer.Typer(help="Write synthetic data, or import and check your own.", no_args_is_help=True)
data.command("make")(make_data)
data.command("import")(import_data)
data.command("check")(check_data)
app.add_typer(data, name="data", rich_help_panel=DATA)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"crdkit {crdkit.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show no progress, only results and errors; anywhere in the line.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show details, of errors where they arose; anywhere in the line.")
    ] = False,
) -> None:
    """Find and localise defects from several sensors, learning from good parts only."""
    set_quiet(quiet)
    if verbose:
        logging.getLogger("crdkit").setLevel(logging.DEBUG)
