"""Commands that train and evaluate: demo, train, evaluate, compare, sweep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from crdkit.cli.arguments import AllowPlugins, AsJson, Overrides, Preset, Share, UnusualSensors, one_choice

if TYPE_CHECKING:
    from crdkit.runs.curves import Log


def demo(
    out: Annotated[Path, typer.Option(help="New folder for data, run directories and reports.")] = Path("crdkit-demo"),
) -> None:
    """Write synthetic scans, train on them, show the result: under two minutes, no network, no data needed."""
    from crdkit.cli.demo import run_demo
    from crdkit.cli.output import show
    from crdkit.cli.tables import results_table

    results = run_demo(out)
    show(results_table({name: metrics["aggregate"] for name, metrics in results.items()}))
    for name in results:
        typer.echo(f"report: {out / 'runs' / name / 'report.html'}")


def train(
    preset: Preset,
    out: Annotated[Path, typer.Option(help="New folder for the run.")],
    overrides: Overrides = None,
    *,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an unfinished run in --out; leave a finished one alone.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out, finished or not.")] = False,
    log: Annotated[
        str | None, typer.Option(metavar="tensorboard", help="Also write event files for TensorBoard into the run.")
    ] = None,
    as_json: AsJson = False,
    allow_plugins: AllowPlugins = False,
) -> None:
    """Train a detector, evaluate it, and write a run directory; ranks started by torchrun train it together."""
    from crdkit._core.distributed import Ranks
    from crdkit._core.progress import is_quiet, set_quiet
    from crdkit.cli.output import print_json, show
    from crdkit.cli.tables import show_metrics
    from crdkit.config import load_config
    from crdkit.runs.directory import read_metrics
    from crdkit.runs.fit import fit

    config = load_config(preset, allow_plugins=allow_plugins).with_overrides(*(overrides or ()))
    ranks = Ranks.from_environment()
    set_quiet(is_quiet() or not ranks.is_main)
    curves = cast("Log | None", log)  # which it checks
    detector = fit(config, out, resume=resume, overwrite=overwrite, ranks=ranks, log=curves)
    if not ranks.is_main:
        return
    if as_json:
        print_json(read_metrics(out))
        return
    show_metrics(read_metrics(out))
    if detector.thresholds is not None:
        show(detector.thresholds.summary())
    show(f"report: {out / 'report.html'}")


def evaluate(
    run: Annotated[
        str, typer.Argument(metavar="DIR", help="A finished run; with --published, a preset or a YAML file.")
    ],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="New folder for metrics.json, scores.csv and report.html.")] = None,
    *,
    published: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Checkpoint of the published CRD code: calibrate and score it; --out also gets a detector.",
        ),
    ] = None,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="Add a 95 % interval of each metric, and errors at the threshold.")
    ] = False,
    share: Share = False,
    as_json: AsJson = False,
    allow_plugins: AllowPlugins = False,
    unusual: UnusualSensors = "error",
) -> None:
    """Print the metrics of a finished run on its own test split, or on other data (data.root=...)."""
    from crdkit.cli.output import print_json, show
    from crdkit.cli.sharing import begin_sharing
    from crdkit.cli.tables import intervals_table, show_metrics
    from crdkit.config import load_config
    from crdkit.detector import Unusual
    from crdkit.errors import ConfigError
    from crdkit.paper.checkpoints import evaluate_published
    from crdkit.runs.evaluate import evaluate_run
    from crdkit.runs.sharing import share_evaluation
    from crdkit.scoring.certainty import describe_decisions

    ranks = begin_sharing(share, out)
    choice = cast(Unusual, unusual)  # which is checked
    if ranks is not None and out is not None and published is None:
        metrics = share_evaluation(
            run, *(overrides or ()), out=out, allow_plugins=allow_plugins, unusual=choice, intervals=intervals
        )
        if not ranks.is_main:
            return
    elif ranks is not None:
        raise ConfigError("--share, and ranks, are for finished runs; evaluate the detector that --published writes")
    elif published is None:
        metrics = evaluate_run(
            run, *(overrides or ()), out=out, allow_plugins=allow_plugins, unusual=choice, intervals=intervals
        )
    elif intervals:
        raise ConfigError("--intervals is for finished runs; evaluate the detector that --published --out writes")
    else:
        metrics = evaluate_published(
            load_config(run, allow_plugins=allow_plugins).with_overrides(*(overrides or ())), published, out=out
        )
    if as_json:
        print_json(metrics)
        return
    show_metrics(metrics)
    if intervals:
        show(intervals_table(metrics["aggregate"], metrics["intervals"]))
        for line in describe_decisions(metrics["decisions"]):
            show(line)
    if out is not None:
        show(f"report: {out / 'report.html'}")


def compare(
    first: Annotated[str, typer.Argument(metavar="RUN", help="A finished run.")],
    second: Annotated[str, typer.Argument(metavar="RUN", help="Another, on the same test samples.")],
    overrides: Overrides = None,
    *,
    image_level: Annotated[
        bool,
        typer.Option("--image-level", help="Only image metrics, from the scores.csv of both; the data are not needed."),
    ] = False,
    as_json: AsJson = False,
    allow_plugins: AllowPlugins = False,
    unusual: UnusualSensors = "error",
) -> None:
    """Test whether two runs differ on one test split: each metric's difference, its interval and p-value."""
    from crdkit.cli.output import print_json, show
    from crdkit.cli.tables import comparison_table
    from crdkit.detector import Unusual
    from crdkit.runs.compare import compare_runs

    found = compare_runs(
        first,
        second,
        *(overrides or ()),
        image_level=image_level,
        allow_plugins=allow_plugins,
        unusual=cast(Unusual, unusual),  # which it checks
    )
    if as_json:
        print_json(found.to_dict())
        return
    show(comparison_table(found))
    show(
        f"{found.samples['normal']} normal and {found.samples['anomalous']} anomalous test samples; differences are "
        "second minus first, with 95 % bootstrap intervals"
    )


def sweep(
    preset: Preset,
    *,
    overrides: Overrides = None,
    categories: Annotated[
        list[str] | None, typer.Option(metavar="NAME...", help="Category folders; all in data.root by default.")
    ] = None,
    seeds: Annotated[
        list[int] | None, typer.Option(metavar="N...", min=0, help="Seeds of training; 0 by default.")
    ] = None,
    out: Annotated[Path, typer.Option(help="New folder for the runs and their tables.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue in a folder of this sweep: finished runs are read, not repeated.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the runs of this sweep in --out, finished or not.")
    ] = False,
    as_json: AsJson = False,
    allow_plugins: AllowPlugins = False,
) -> None:
    """Train and evaluate over categories and seeds; ranks started by torchrun share the runs."""
    from crdkit.cli import documents
    from crdkit.cli.output import print_json, show
    from crdkit.cli.tables import show_sweep
    from crdkit.config import load_config
    from crdkit.runs.sweep import sweep as run_sweep

    base = load_config(preset, allow_plugins=allow_plugins)
    config = base.with_overrides(*(overrides or ()))
    named = one_choice(
        "--categories", categories, "data.category", config.data.category, overrides, before=base.data.category
    )
    numbered = one_choice("--seeds", seeds, "training.seed", config.training.seed, overrides, before=base.training.seed)
    outcome = run_sweep(config, out=out, categories=named, seeds=numbered or [0], resume=resume, overwrite=overwrite)
    if outcome.is_main and as_json:
        print_json(documents.sweep(outcome))
        outcome.raise_if_skipped()
    elif outcome.is_main:
        show_sweep(outcome)
        show(f"tables: {out / 'results.md'}, results.csv, results.json")
        outcome.raise_if_skipped()
