"""Folders that need no manifest, or have one, and where a new one may be written."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from crdkit.data import Dataset
from crdkit.data._own_data.manifest import MANIFESTS
from crdkit.data._own_data.table import TABLE
from crdkit.data.discover import open_datasets
from crdkit.errors import CrdkitError, DataError


def refuse_known_layout(folder: Path, sensors: Collection[str]) -> None:
    """Refuse a folder whose training samples a data set lists already, with the sensors that were found.

    Raises:
        DataError: there is such a data set; the message says what to type instead.
    """
    if any((folder / name).exists() for name in MANIFESTS):
        return
    try:
        found = open_datasets(folder)
    except CrdkitError:
        return
    for dataset in found:
        if _lists_training(dataset) and (dataset.config.name != "folder" or set(dataset.sensors) == set(sensors)):
            where = folder / dataset.config.category if len(found) > 1 and dataset.config.category else folder
            raise DataError(
                f"{where}: is in the layout {dataset.config.name!r}, which needs no manifest; type "
                f"`crdkit data check {folder}`, which prints the command that trains"
            )


def _lists_training(dataset: Dataset) -> bool:
    try:
        return bool(dataset.lenient().records("train"))
    except CrdkitError:
        return False


def require_free(folder: Path, path: Path | None, *, overwrite: bool) -> Path:
    """Return where a manifest of ``folder`` is written: ``path``, or its manifest.csv.

    Raises:
        CrdkitError: the file exists and ``overwrite`` is false, ends in anything but .csv, or another manifest lies
            beside it.
    """
    target = folder / TABLE if path is None else path.expanduser().absolute()
    if target.suffix.lower() != ".csv":
        raise CrdkitError(f"{target}: a manifest that lists samples ends in .csv; give another --out")
    others = [name for name in MANIFESTS if name != TABLE and (target.parent / name).exists()]
    if target == folder / TABLE and others:
        raise CrdkitError(f"{folder / others[0]}: describes the folder already; remove it, or give --out FILE.csv")
    if target.exists() and not overwrite:
        raise CrdkitError(f"{target}: exists; give --overwrite to replace it, or --out FILE.csv")
    return target
