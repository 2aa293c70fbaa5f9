"""The command line: exit code 0 done, 2 wrong use or bad input in one line, 130 Ctrl-C, 1 internal error."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

import crdkit
from crdkit.decoding import BadSampleWarning
from crdkit.errors import CrdkitError
from crdkit.progress import set_quiet

app = typer.Typer(
    help="Find and localise defects from several sensors, learning from good parts only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

INTERRUPTED = 130

START, RUN, LOOK, DATA = "Start here", "Train and evaluate", "Look around", "Data"

data = typer.Typer(help="Write synthetic data, or look for what is wrong with yours.", no_args_is_help=True)
app.add_typer(data, name="data", rich_help_panel=DATA)


class ListsOfValues(TyperCommand):
    """A command whose repeatable options take several values each: ``--seeds 0 1 2`` is ``--seeds 0 --seeds 1 ...``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option's name before each of its values; the next option or KEY=VALUE ends the list."""
        lists = {name for option in self.params if getattr(option, "multiple", False) for name in option.opts}
        repeated: list[str] = []
        current, empty = "", ""
        for place, argument in enumerate([*args, "--"]):
            if current and not argument.startswith("-") and "=" not in argument:
                repeated += [current, argument]
                empty = ""
                continue
            if empty:
                raise typer.BadParameter(f"{empty} needs at least one value")
            current = empty = argument if argument in lists else ""
            if argument == "--":
                return list(super().parse_args(ctx, [*repeated, *args[place:]]))
            repeated += [] if current else [argument]
        return repeated


Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Config keys to change.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"crdkit {crdkit.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only results and errors.")] = False,
) -> None:
    """Find and localise defects from several sensors, learning from good parts only."""
    set_quiet(quiet)


@app.command(rich_help_panel=START)
def demo(
    out: Annotated[Path, typer.Option(help="New folder for data, run directories and reports.")] = Path("crdkit-demo"),
) -> None:
    """Write synthetic scans, train on them, show the result: under two minutes, no network, no data needed."""
    from crdkit.demo import run_demo
    from crdkit.tables import results_table, show

    results = run_demo(out)
    show(results_table({name: metrics["aggregate"] for name, metrics in results.items()}))
    for name in results:
        typer.echo(f"report: {out / 'runs' / name / 'report.html'}")


@app.command(rich_help_panel=RUN)
def train(
    preset: Annotated[str, typer.Argument(metavar="PRESET|FILE.yaml", help="See `crdkit list presets`.")],
    out: Annotated[Path, typer.Option(help="New folder for the run.")],
    overrides: Overrides = None,
    *,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an unfinished run in --out; leave a finished one alone.")
    ] = False,
) -> None:
    """Train a detector, evaluate it, and write a run directory with report.html."""
    from crdkit.config import load_config
    from crdkit.run import fit
    from crdkit.run_directory import read_metrics
    from crdkit.tables import show, show_metrics

    config = load_config(preset).with_overrides(*(overrides or ()))
    fit(config, out, resume=resume)
    show_metrics(read_metrics(out))
    show(f"report: {out / 'report.html'}")


@app.command(rich_help_panel=RUN)
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="A finished run.")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="New folder for metrics.json, scores.csv and report.html.")] = None,
) -> None:
    """Print the metrics of a finished run on its own test split, or on other data (data.root=...)."""
    from crdkit.run import evaluate_run
    from crdkit.tables import show, show_metrics

    show_metrics(evaluate_run(run, *(overrides or ()), out=out))
    if out is not None:
        show(f"report: {out / 'report.html'}")


@app.command(rich_help_panel=RUN, cls=ListsOfValues)
def sweep(
    preset: Annotated[str, typer.Argument(metavar="PRESET|FILE.yaml", help="See `crdkit list presets`.")],
    *,
    overrides: Overrides = None,
    categories: Annotated[
        list[str] | None, typer.Option(metavar="NAME...", help="Category folders; all in data.root if not given.")
    ] = None,
    seeds: Annotated[
        list[int] | None, typer.Option(metavar="N...", min=0, help="Seeds of training; 0 if none.")
    ] = None,
    out: Annotated[Path, typer.Option(help="New folder for the runs and their tables.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on in a folder of this sweep: finished runs are read, not repeated.")
    ] = False,
) -> None:
    """Train and evaluate over categories and seeds; started by torchrun, ranks share the runs."""
    from crdkit.config import load_config
    from crdkit.sweep import sweep as run_sweep
    from crdkit.tables import show, show_sweep

    config = load_config(preset).with_overrides(*(overrides or ()))
    outcome = run_sweep(config, out=out, categories=categories or None, seeds=seeds or [0], resume=resume)
    if outcome.leader:
        show_sweep(outcome)
        show(f"tables: {out / 'results.md'}, results.csv, results.json")
        outcome.raise_if_skipped()


@app.command(rich_help_panel=LOOK)
def describe(
    what: Annotated[str, typer.Argument(metavar="PRESET|FILE.yaml|DIR", help="A configuration, or a run.")],
    overrides: Overrides = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print the graph as a Mermaid flowchart only.")] = False,
) -> None:
    """Show the graph, and parameters and GFLOP of every part; of a run also its provenance. Downloads nothing."""
    from crdkit.config import load_config, preset_names
    from crdkit.description import describe, describe_run
    from crdkit.errors import ConfigError
    from crdkit.tables import show_description

    if Path(what).is_dir() and what not in preset_names():
        if overrides:
            raise ConfigError(f"override {overrides[0]!r}: a run is described as it is; give a preset or a YAML file")
        described = describe_run(what)
    else:
        described = describe(load_config(what).with_overrides(*(overrides or ())))
    if mermaid:
        typer.echo(described.mermaid(), nl=False)
    else:
        show_description(described)


@app.command("list", rich_help_panel=LOOK)
def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(help="encoders, modalities, filters, amplifiers, aggregations, datasets or presets."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="PRESET|FILE.yaml",
            help="List the parts of its plug-ins too, and without KIND also what it is made of, as `describe` does.",
        ),
    ] = None,
) -> None:
    """List what can be named in a configuration, with the options of each."""
    from crdkit.catalogue import catalogue
    from crdkit.config import load_config
    from crdkit.description import describe
    from crdkit.tables import catalogue_tables, show, show_description

    chosen = None if config is None else load_config(config)  # imports its plug-ins
    for table in catalogue_tables(catalogue(kind)):
        show(table)
    if chosen is not None and kind is None:
        show_description(describe(chosen))


@data.command("make")
def make_data(
    *,
    layout: Annotated[str, typer.Option(help="mvtec3d, eyecandies or folder.")],
    out: Annotated[Path, typer.Option(help="New folder for the data.")],
    categories: Annotated[
        list[str] | None, typer.Argument(metavar="[CATEGORY]...", help="Objects to write; all if none is given.")
    ] = None,
    train: Annotated[int, typer.Option(min=0, help="Normal training samples of each category.")] = 40,
    validation: Annotated[int, typer.Option(min=0, help="Normal validation samples of each category.")] = 8,
    test_good: Annotated[int, typer.Option(min=0, help="Normal test samples of each category.")] = 10,
    test_per_defect: Annotated[int, typer.Option(min=0, help="Test samples of each category and defect.")] = 8,
    size: Annotated[int | None, typer.Option(min=1, help="Side of the images; the layout's own if not given.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal files.")] = 0,
    sensors: Annotated[list[str] | None, typer.Option("--sensor", help="Of the layout folder; repeatable.")] = None,
) -> None:
    """Write synthetic inspection scenes in the folder layout of a public data set."""
    from crdkit.errors import ConfigError, unknown_name
    from crdkit.synthetic import LAYOUTS

    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)
    if sensors and layout != "folder":
        raise ConfigError(f"--sensor {sensors[0]}: the sensors of the layout {layout!r} are fixed; use --layout folder")
    given: dict[str, Any] = {"categories": categories, "size": size, "sensors": sensors}
    counts = {"train": train, "validation": validation, "test_good": test_good, "test_per_defect": test_per_defect}
    LAYOUTS[layout](out, seed=seed, **counts, **{key: value for key, value in given.items() if value})
    written = sorted(entry.name for entry in out.iterdir() if entry.is_dir())
    typer.echo(f"{out}: data.name={layout}, categories {', '.join(written)}")


@data.command("check")
def check_data(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A category folder, or a folder that holds such.")],
    layout: Annotated[str | None, typer.Option(help="Name of a dataset; recognised if not given.")] = None,
) -> None:
    """Read every file of a dataset and list what is wrong or odd; exit code 2 if a training would stop or mislead."""
    from crdkit.check import check_dataset, open_datasets
    from crdkit.errors import DataError
    from crdkit.tables import show_check

    errors = 0
    for dataset in open_datasets(folder, layout=layout):
        checked = check_dataset(dataset)
        show_check(checked)
        errors += checked.count("error")
    if errors:
        raise DataError(
            f"{folder}: {errors} {'error' if errors == 1 else 'errors'} above; mend the data, or take it out"
        )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    with warnings.catch_warnings():
        warnings.showwarning = _one_line_warning
        warnings.simplefilter("always", BadSampleWarning)
        return _run(arguments)


def _run(arguments: list[str] | None) -> int:
    try:
        result: Any = app(arguments, standalone_mode=False, prog_name="crdkit")
        return _interrupted() if result == INTERRUPTED else int(result or 0)
    except CrdkitError as error:
        return _fail(str(error), code=2)
    except KeyboardInterrupt:
        return _interrupted()
    except OSError as error:  # a full disk, a folder taken away: the system's word is the clearest
        return _fail(f"{error.filename or 'a file'}: {error.strerror or error}", code=2)
    except Exception as error:
        if type(error).__module__.startswith(("click", "typer")):
            return _usage_error(error)
        import traceback

        traceback.print_exc()
        return _fail(f"internal error: {type(error).__name__}: {error}; please report it", code=1)


def _usage_error(error: Any) -> int:
    if type(error).__name__ == "Abort":
        return _interrupted()
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return 2
    return _fail(f"{error.format_message()} (see crdkit --help)", code=2)


def _fail(message: str, *, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def _interrupted() -> int:
    print("interrupted", file=sys.stderr)
    return INTERRUPTED


def _one_line_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"warning: {message}", file=sys.stderr)  # with --quiet too


def entry_point() -> None:
    """Entry point of the console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry_point()
