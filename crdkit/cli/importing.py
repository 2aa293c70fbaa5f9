"""crdkit data import: a manifest for a folder that nobody described."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crdkit.cli.arguments import AsJson

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crdkit.data.importing import Proposal

_SHOWN = 8  # kinds of files that are left out


def import_data(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Holds the files, arranged in any way.")],
    *,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="The manifest; FOLDER/manifest.csv by default.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Write it without asking.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a manifest that is there.")] = False,
    as_json: AsJson = False,
    sensor_names: Annotated[
        str, typer.Option(metavar="A,B", help="Words in paths that name sensors; of stacked files, their order.")
    ] = "",
    sensor: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=SETTING", help="drop, keep, mask, name:NEW or unit:mm|K|none; repeatable."),
    ] = None,
    good: Annotated[list[str] | None, typer.Option(metavar="WORD", help="Names good parts; repeatable.")] = None,
    defect: Annotated[list[str] | None, typer.Option(metavar="WORD", help="Names defective parts; repeatable.")] = None,
    mask: Annotated[list[str] | None, typer.Option(metavar="WORD", help="Names masks; repeatable.")] = None,
    key: Annotated[
        int | None, typer.Option(min=1, help="Part of the names that tells samples apart, counted from 1.")
    ] = None,
    keep_incomplete: Annotated[
        bool, typer.Option("--keep-incomplete", help="List samples that lack a sensor too.")
    ] = False,
    test_share: Annotated[
        float, typer.Option(min=0, max=0.9, help="Good samples to test on, if no folder holds them.")
    ] = 0.2,
) -> None:
    """Look at a folder that nobody described, propose a manifest, and write it after a yes.

    It says what it is unsure of, each with the option that settles it. Then it prints the command that trains.
    """
    from crdkit.cli.output import print_json, show
    from crdkit.data.importing import Answers, propose_import, require_free, write_manifest
    from crdkit.errors import DataError

    answers = Answers.of(
        sensor or [],
        sensor_names=[name.strip() for name in sensor_names.split(",") if name.strip()],
        good=good or [],
        defect=defect or [],
        masks=mask or [],
        key=key,
        keep_incomplete=keep_incomplete,
        test_share=test_share,
    )
    proposal = propose_import(folder, answers)
    if not as_json:
        for line in _lines(proposal):
            show(line)
    written, command, notes = None, None, list[str]()
    if proposal.stops:
        notes = [f"nothing is written: {len(proposal.stops)} of the above must be settled first"]
    else:
        target = require_free(proposal.folder, out, overwrite=overwrite)
        if yes or (not as_json and _says_yes(target)):
            written = write_manifest(proposal, out, overwrite=overwrite)
            command, notes = _next_command(proposal, written, default=out is None)
        else:
            notes = [f"nothing is written; give --yes to write {target}"]
    if as_json:
        print_json(_document(proposal, written=written, command=command))
    else:
        for line in ([f"wrote {written}: {_count(len(proposal.samples), 'sample')}"] if written else []) + notes:
            show(line)
        if command:
            show(f"{'train' if 'train' in proposal.counts() else 'next'}: {command}")
    if proposal.stops:
        raise DataError(f"{folder}: {proposal.stops[0].line}")


def _says_yes(target: Path) -> bool:
    """Ask on a terminal; elsewhere nobody can answer."""
    return sys.stdin.isatty() and sys.stdout.isatty() and typer.confirm(f"write {target}?")


def _next_command(proposal: Proposal, written: Path, *, default: bool) -> tuple[str, list[str]]:
    """Return the command that trains on the manifest, or scores samples if there are none to train on, and notes."""
    from crdkit.cli.data import with_data_options
    from crdkit.config.suggest import suggest_training
    from crdkit.data import datasets
    from crdkit.errors import CrdkitError, DataError

    manifest = [] if default else [f"data.manifest={written}"]
    if "train" not in proposal.counts():
        return shlex.join(["crdkit", "predict", "RUN", str(proposal.folder), *manifest]), []
    options = [*proposal.options, *manifest]
    dataset = datasets.build(datasets.build_config({"name": "folder", "root": proposal.folder}))
    try:
        suggested = suggest_training(with_data_options(dataset, options), *options, plain=proposal.plain)
    except CrdkitError as error:
        raise DataError(f"{written}: is written, but a training would refuse it: {error}") from error
    return suggested.command(f"runs/{proposal.folder.name}"), [f"note: {note}" for note in suggested.notes]


def _lines(proposal: Proposal) -> Iterable[str]:
    yield f"{proposal.folder}: {_count(len(proposal.samples), 'sample')}"
    for split, kinds in proposal.counts().items():
        yield f"  {split}: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    masks = sum(sample.mask is not None for sample in proposal.samples)
    yield from [f"  masks: {masks}"] if masks else []
    for sensor in proposal.sensors:
        height, width = sensor.size
        channels = f" x {sensor.channels}" if sensor.channels > 1 else ""
        unit = f" {sensor.unit}" if sensor.unit else ""
        low, high = sensor.values
        yield (
            f"sensor {sensor.name}: {sensor.files} files{sensor.part and f' ({sensor.part})'}, {height} x {width}"
            f"{channels}, {sensor.dtype}, {low:.6g} to {high:.6g}{unit}"
        )
    for question in proposal.questions:
        yield f"{'settle' if question.stops else 'unsure'}: {question.line}"
    by_reason: dict[str, list[str]] = {}
    for path, reason in proposal.unused.items():
        by_reason.setdefault(reason, []).append(path)
    for reason, paths in list(by_reason.items())[:_SHOWN]:
        more = f" and {_count(len(paths) - 1, 'other')}" if len(paths) > 1 else ""
        yield f"not used: {paths[0]}{more}: {reason}"
    hidden = sum(map(len, list(by_reason.values())[_SHOWN:]))
    yield from [f"not used: {_count(hidden, 'further file')}; --json lists them all"] if hidden else []


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _document(proposal: Proposal, *, written: Path | None, command: str | None) -> dict[str, Any]:
    """Return the document of ``crdkit data import --json``."""
    return {
        "folder": str(proposal.folder),
        "counts": proposal.counts(),
        "masks": sum(sample.mask is not None for sample in proposal.samples),
        "sensors": [
            {
                "name": sensor.name,
                "files": sensor.files,
                "part": sensor.part or None,
                "dtype": sensor.dtype,
                "channels": sensor.channels,
                "size": list(sensor.size),
                "values": list(sensor.values),
                "unit": sensor.unit or None,
            }
            for sensor in proposal.sensors
        ],
        "questions": [
            {"about": q.about, "message": q.message, "option": q.option or None, "stops": q.stops}
            for q in proposal.questions
        ],
        "unused": dict(proposal.unused),
        "manifest": proposal.manifest(),
        "written": None if written is None else str(written),
        "next": command,
    }
