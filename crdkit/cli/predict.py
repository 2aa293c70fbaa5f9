"""The command that uses a detector: predict."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, cast

import typer

from crdkit._core.printable import printable
from crdkit.cli.arguments import AllowPlugins, AsJson, UnusualSensors

_LABELS = {True: "anomalous", False: "normal", None: ""}


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
    out: Annotated[Path | None, typer.Option(help="New folder for scores.csv, raw maps and overlays.")] = None,
    *,
    compile_first: Annotated[
        bool, typer.Option("--compile", help="Compile for some seconds first, to predict faster on a CPU.")
    ] = False,
    as_json: AsJson = False,
    allow_plugins: AllowPlugins = False,
    unusual: UnusualSensors = "error",
) -> None:
    """Score new samples: print a table, or write scores, raw maps and overlays (--out)."""
    from crdkit._core.files import require_new_folder
    from crdkit.cli.documents import prediction
    from crdkit.cli.output import print_json
    from crdkit.detector import Unusual
    from crdkit.detector.files import open_detector, predict_inputs, write_predictions

    detector, samples = open_detector(folder, inputs, allow_plugins=allow_plugins)
    detector.unusual = cast(Unusual, unusual)  # which it checks
    if out is not None:
        require_new_folder(out)
    if compile_first:
        detector.compile()
    if out is not None:
        written = write_predictions(detector, samples, out)
        if as_json:
            print_json({"out": str(out), **written._asdict()})
            return
        judged = f", {written.anomalous} anomalous" if detector.thresholds else ""
        typer.echo(f"{out}: {written.samples} {'sample' if written.samples == 1 else 'samples'}{judged}")
        if detector.thresholds:
            typer.echo(detector.thresholds.describe())
        return
    if as_json:
        with closing(predict_inputs(detector, samples)) as predicted:
            print_json({"samples": [prediction(samples.path(record), found) for record, _, found in predicted]})
        return
    width = max(len(printable(samples.path(record))) for record in samples.records)
    thresholds = detector.thresholds
    typer.echo(f"{'image_path':<{width}}  pred_score" + ("  p_value  pred_label" if thresholds else ""))
    with closing(predict_inputs(detector, samples)) as predicted:
        for record, _, found in predicted:
            without = f"  without {', '.join(found.missing)}" if found.missing else ""
            judged = f"  {found.p_value:<7.3g}  {_LABELS[found.label]:<10}" if found.p_value is not None else ""
            typer.echo(f"{printable(samples.path(record)):<{width}}  {found.score:<10.6g}{judged}{without}".rstrip())
    if thresholds:
        typer.echo(thresholds.describe())
