"""Commands on data: data make, data check."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crdkit.cli.arguments import AllowPlugins, AsJson
from crdkit.cli.completion import complete_layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from crdkit.config.suggest import Suggestion
    from crdkit.data import Dataset, Split
    from crdkit.data.agreement import EdgeAgreement
    from crdkit.views import View


def make_data(
    *,
    layout: Annotated[str, typer.Option(help="Name of a dataset: mvtec3d, ...", autocompletion=complete_layout)],
    out: Annotated[Path, typer.Option(help="New folder for the data.")],
    categories: Annotated[
        list[str] | None, typer.Argument(metavar="[CATEGORY]...", help="Objects to write; all by default.")
    ] = None,
    train: Annotated[int, typer.Option(min=0, help="Normal training samples of each category.")] = 40,
    validation: Annotated[int, typer.Option(min=0, help="Normal validation samples of each category.")] = 8,
    test_good: Annotated[int, typer.Option(min=0, help="Normal test samples of each category.")] = 10,
    test_per_defect: Annotated[int, typer.Option(min=0, help="Test samples of each category and defect.")] = 8,
    size: Annotated[int | None, typer.Option(min=1, help="Side of the images; the layout's own by default.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal files.")] = 0,
    sensors: Annotated[
        list[str] | None, typer.Option("--sensor", help="A sensor to write, for the layout folder; repeatable.")
    ] = None,
) -> None:
    """Write synthetic inspection scenes in the folder layout of a public dataset."""
    from crdkit.data.synthetic import LAYOUTS, category_folders
    from crdkit.errors import ConfigError, unknown_name

    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)
    if sensors and layout != "folder":
        raise ConfigError(f"--sensor {sensors[0]}: the sensors of the layout {layout!r} are fixed; use --layout folder")
    given: dict[str, Any] = {"categories": categories, "size": size, "sensors": sensors}
    counts = {"train": train, "validation": validation, "test_good": test_good, "test_per_defect": test_per_defect}
    LAYOUTS[layout](out, seed=seed, **counts, **{key: value for key, value in given.items() if value})
    written = category_folders(out)
    root = written[0].parent if written else out
    typer.echo(f"{root}: data.name={layout}, categories {', '.join(folder.name for folder in written)}")


def check_data(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A category folder, or a folder that holds category folders.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[data.KEY=VALUE]...", help="How the data is read: data.scale.depth=0.001, ..."),
    ] = None,
    *,
    layout: Annotated[
        str | None, typer.Option(help="Name of a dataset; recognised by default.", autocompletion=complete_layout)
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="PRESET|FILE.yaml",
            help="Read DIR as this run does, and look at its modalities.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="New folder for pictures: the edges of two sensors laid on each other.")
    ] = None,
    as_json: AsJson = False,
    allow_plugins: AllowPlugins = False,
) -> None:
    """Read every file of a dataset, list what is wrong or unusual, and say how to train on it.

    The exit code is 2 if a training would refuse the data, or be ruined by it.
    """
    from crdkit.cli.documents import check
    from crdkit.cli.output import print_json, show
    from crdkit.cli.tables import show_check
    from crdkit.config.suggest import suggest_training
    from crdkit.data.agreement import EdgeAgreement
    from crdkit.data.check import check_dataset
    from crdkit.data.findings import Looks
    from crdkit.errors import CrdkitError, DataError
    from crdkit.scoring.thresholds import warn_of_few
    from crdkit.views.look import LookAtViews

    given = tuple(overrides or ())
    require_data_options(given)
    errors, documents, pictures = 0, [], dict[str, Any]()
    for dataset, views, planned, others in _to_check(folder, given, layout, config, allow_plugins=allow_plugins):
        look, edges = LookAtViews(views, metres=getattr(dataset.config, "scale", {})), EdgeAgreement()
        checked, lines, command = check_dataset(dataset, look=Looks(look, edges)), list[str](), None
        few = warn_of_few(sum(checked.counts.get("validation", {}).values()))
        lines += [f"note: {few}"] if few else []
        lines += [f"note: {text}" for text in _held_out(dataset, checked.counts)]
        lines += [pair.in_words() for pair in edges.found if not pair.is_shifted]
        pictures |= _pictures(edges, dataset, checked.folder.name, out)
        errors += checked.count("error")
        if not checked.count("error") and "train" in checked.counts:
            try:
                suggested = planned or suggest_training(dataset, *given, normal=look.normal)
                command = suggested.command(f"runs/{checked.folder.name}")
                lines += [*(f"note: {note}" for note in suggested.notes), f"train: {command}"]
            except CrdkitError as error:
                lines.append(f"error: a training would refuse it: {error}")
                errors += 1
        documents.append(check(checked, others=others, command=command, edges=edges.found))
        if as_json:
            continue
        show_check(checked)
        tried = others if logging.getLogger("crdkit").isEnabledFor(logging.DEBUG) else {}  # with --verbose
        for line in (*(f"not the layout {name}: {reason}" for name, reason in tried.items()), *lines):
            show(line)
    _write(pictures, out)
    if as_json:
        print_json({"datasets": documents})
    if errors:
        raise DataError(f"{folder}: {errors} {'error' if errors == 1 else 'errors'} above; fix the data, or remove it")


def _pictures(edges: EdgeAgreement, dataset: Dataset, category: str, out: Path | None) -> dict[str, Any]:
    """Return the pictures of a category's edges by name; none if there is no folder for them."""
    from crdkit._core.files import require_new_folder

    if out is None:
        return {}
    require_new_folder(out)
    return {f"{category}-{pair}": shown for pair, shown in edges.pictures(dataset).items()}


def _write(pictures: Mapping[str, Any], out: Path | None) -> None:
    from PIL import Image

    from crdkit._core.files import new_folder

    if out is None:
        return
    with new_folder(out) as folder:
        for name, picture in pictures.items():
            Image.fromarray(picture).save(folder / f"{name}.png")


def _held_out(dataset: Dataset, counts: Mapping[Split, Mapping[str, int]]) -> Iterator[str]:
    """Yield what is to be said of a validation split that is taken from the training samples."""
    if "validation" in counts and (taken := dataset.held_out) is not None:
        number = sum(counts["validation"].values())
        seed = "" if taken["seed"] is None else f", data.validation_seed={taken['seed']}"
        by = f"data.validation_share={taken['share']:g}{seed}"
        yield f"no validation split: {number} held out, {taken['rule']} ({by})"


def _to_check(
    folder: Path, overrides: Sequence[str], layout: str | None, config: str | None, *, allow_plugins: bool
) -> Iterator[tuple[Dataset, Mapping[str, View] | None, Suggestion | None, Mapping[str, str]]]:
    """Yield each dataset with the views and the training of ``config``, if given, and why other layouts do not fit."""
    from crdkit.config import load_config
    from crdkit.config.build import build_dataset, build_views
    from crdkit.config.run_on import recognise_for, run_on
    from crdkit.config.suggest import Suggestion
    from crdkit.data.discover import recognise

    if config is None:
        for found in recognise(folder, layout=layout):
            yield _registrable(with_data_options(found.dataset, overrides)), None, None, found.others
        return
    run = load_config(config, allow_plugins=allow_plugins)
    if config.endswith((".yaml", ".yml")):  # a preset's modalities may be of interest in any layout
        layout = layout or run.data.name
    for found in recognise_for(run, folder, layout=layout):
        here, changed = run_on(run, found.dataset.config, *overrides)
        yield (
            _registrable(build_dataset(here)),
            build_views(here),
            Suggestion(preset=config, overrides=changed),
            found.others,
        )


def _registrable(dataset: Dataset) -> Dataset:
    """Return the dataset, if it has the sensors that are to be registered."""
    if dataset.config.registration is not None:
        dataset.config.registration.require_known(dataset.sensors)
    return dataset


def require_data_options(overrides: Sequence[str]) -> None:
    """Refuse overrides of anything but how the data folder is read."""
    from crdkit.errors import ConfigError

    for override in overrides:
        if not override.startswith("data.") or override.startswith(("data.name=", "data.root=", "data.category=")):
            raise ConfigError(f"override {override!r}: only data.* keys that say how DIR is read can be set here")


def with_data_options(dataset: Dataset, overrides: Sequence[str]) -> Dataset:
    """Return the dataset with other ``data.*`` options."""
    from crdkit.config import RunConfig
    from crdkit.config.build import build_dataset

    run = RunConfig.preset("quick").model_copy(update={"data": dataset.config})
    return build_dataset(run.with_overrides(*overrides)) if overrides else dataset
