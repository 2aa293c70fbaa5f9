"""The command that uses a detector: predict."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from crdkit.cli.arguments import AllowPlugins, AsJson, Attributed, CompileFirst, Share, UnusualSensors
from crdkit.errors import ConfigError

if TYPE_CHECKING:
    from crdkit.detector import Detector
    from crdkit.detector.files import Inputs, Written


def predict(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run or detector directory.")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="A folder of samples, with labels or without; or one sample: rgb=a.png xyz=a.tiff. "
            "Also data.KEY=VALUE, training.device=..., training.batch_size=...",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="New folder for scores.csv, predictions.jsonl, maps, masks and overlays.")
    ] = None,
    *,
    share: Share = False,
    compile_first: CompileFirst = False,
    as_json: AsJson = False,
    as_lines: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object a line, sample by sample.")] = False,
    attribution: Attributed = "alarms",
    allow_plugins: AllowPlugins = False,
    unusual: UnusualSensors = "error",
) -> None:
    """Score new samples: print a table, or write scores, maps, masks and overlays (--out)."""
    from crdkit._core.files import require_new_folder
    from crdkit.cli.sharing import begin_sharing
    from crdkit.detector import Unusual, WhenAttributed
    from crdkit.detector.files import open_detector, write_predictions
    from crdkit.detector.sharing import share_predictions

    if as_lines and (as_json or out is not None):
        other = "--json" if as_json else "--out, whose folder holds them as predictions.jsonl"
        raise ConfigError(f"give --jsonl or {other}")
    ranks = begin_sharing(share, out)
    detector, samples = open_detector(folder, inputs, allow_plugins=allow_plugins)
    detector.unusual = cast(Unusual, unusual)  # both are checked there
    detector.attribution = cast(WhenAttributed, attribution)
    if out is not None and ranks is None:
        require_new_folder(out)
    if compile_first:
        detector.compile()
    if out is not None and ranks is not None:
        written = share_predictions(detector, samples, out, source=folder, options={"compile": compile_first})
        if ranks.is_main:
            _show(detector, written, out, as_json=as_json)
    elif out is not None:
        _show(detector, write_predictions(detector, samples, out), out, as_json=as_json)
    elif as_json or as_lines:
        _print_documents(detector, samples, as_lines=as_lines)
    else:
        _print_table(detector, samples)


def _show(detector: Detector, written: Written, out: Path, *, as_json: bool) -> None:
    from crdkit.cli.output import print_json

    if as_json:
        print_json({"out": str(out), **written._asdict()})
        return
    thresholds = detector.thresholds
    judged = f", {written.anomalous} anomalous" if thresholds else ""
    typer.echo(f"{out}: {written.samples} {'sample' if written.samples == 1 else 'samples'}{judged}")
    if thresholds:
        typer.echo(thresholds.describe())


def _print_documents(detector: Detector, samples: Inputs, *, as_lines: bool) -> None:
    from crdkit.cli.documents import prediction
    from crdkit.cli.output import print_json, print_json_line
    from crdkit.detector.files import predict_inputs

    with closing(predict_inputs(detector, samples)) as predicted:
        documents = (prediction(samples.path(record), found) for record, _, found in predicted)
        if not as_lines:
            print_json({"samples": list(documents)})
            return
        for document in documents:
            print_json_line(document)


def _print_table(detector: Detector, samples: Inputs) -> None:
    from crdkit.cli.predictions import table
    from crdkit.detector.files import predict_inputs

    thresholds = detector.thresholds
    with closing(predict_inputs(detector, samples)) as predicted:
        for line in table(samples, predicted, judged=thresholds is not None):
            typer.echo(line)
    if thresholds:
        typer.echo(thresholds.describe())
