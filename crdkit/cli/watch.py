"""The command that scores samples as they arrive: watch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from crdkit.cli.arguments import AllowPlugins, Attributed, CompileFirst, UnusualSensors

if TYPE_CHECKING:
    from crdkit.watch import Pace


def watch(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run or detector directory, or an exported file.")],
    watched: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the files of samples arrive.")],
    out: Annotated[Path, typer.Option(help="Folder for journal.jsonl and watch.html, or that of an earlier watch.")],
    *,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long a sample waits for sensors that are not there.")
    ] = 30.0,
    settle: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long the sizes of its files must rest before it is read.")
    ] = 1.0,
    every: Annotated[float, typer.Option(metavar="SECONDS", help="Between two looks at the folder.")] = 0.5,
    move: Annotated[
        Path | None, typer.Option(help="Folder that the files of decided samples are moved to; otherwise they stay.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Decide what is there, and end.")] = False,
    as_lines: Annotated[
        bool, typer.Option("--jsonl", help="Print every line of the journal to standard output, too.")
    ] = False,
    compile_first: CompileFirst = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...: what to predict on.")] = "auto",
    attribution: Attributed = "alarms",
    allow_plugins: AllowPlugins = False,
    unusual: UnusualSensors = "error",
) -> None:
    """Score samples as they arrive in a folder, each exactly once, until Ctrl-C; a page shows how it goes."""
    from crdkit.detector import Unusual, WhenAttributed
    from crdkit.detector.files import load_detector
    from crdkit.watch import Pace

    pace = Pace(wait=wait, settle=settle, every=every)
    detector = load_detector(folder, allow_plugins=allow_plugins).to(device)
    detector.unusual = cast(Unusual, unusual)  # both are checked there
    detector.attribution = cast(WhenAttributed, attribution)
    if compile_first:
        detector.compile()
    _run(detector, watched, out, pace=pace, move=move, once=once, as_lines=as_lines)


def _run(detector: Any, watched: Path, out: Path, *, pace: Pace, move: Path | None, once: bool, as_lines: bool) -> None:
    from crdkit.cli.output import print_json_line
    from crdkit.cli.watching import shown
    from crdkit.watch import watch as run

    with shown(watched, out) as display:

        def on_event(event: dict[str, Any]) -> None:
            if as_lines:
                print_json_line(event)
            display.event(event)

        found = run(detector, watched, out, pace=pace, move=move, once=once, on_event=on_event, on_look=display.look)
    if not as_lines:
        noun = "sample" if found.decided == 1 else "samples"
        typer.echo(f"{out}: {found.decided} {noun} decided, {found.anomalous} anomalous, {found.reported} reports")
