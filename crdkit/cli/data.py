"""Commands on data: data make, data check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def make_data(
    *,
    layout: Annotated[str, typer.Option(help="mvtec3d, eyecandies or folder.")],
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
    from crdkit.data.synthetic import LAYOUTS
    from crdkit.errors import ConfigError, unknown_name

    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)
    if sensors and layout != "folder":
        raise ConfigError(f"--sensor {sensors[0]}: the sensors of the layout {layout!r} are fixed; use --layout folder")
    given: dict[str, Any] = {"categories": categories, "size": size, "sensors": sensors}
    counts = {"train": train, "validation": validation, "test_good": test_good, "test_per_defect": test_per_defect}
    LAYOUTS[layout](out, seed=seed, **counts, **{key: value for key, value in given.items() if value})
    written = sorted(entry.name for entry in out.iterdir() if entry.is_dir())
    typer.echo(f"{out}: data.name={layout}, categories {', '.join(written)}")


def check_data(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A category folder, or a folder that holds category folders.")
    ],
    layout: Annotated[str | None, typer.Option(help="Name of a dataset; recognised by default.")] = None,
) -> None:
    """Read every file of a dataset and list what is wrong or unusual; exit code 2 if it would ruin a training."""
    from crdkit.cli.tables import show_check
    from crdkit.data.check import check_dataset
    from crdkit.data.discover import open_datasets
    from crdkit.errors import DataError

    errors = 0
    for dataset in open_datasets(folder, layout=layout):
        checked = check_dataset(dataset)
        show_check(checked)
        errors += checked.count("error")
    if errors:
        raise DataError(f"{folder}: {errors} {'error' if errors == 1 else 'errors'} above; fix the data, or remove it")
