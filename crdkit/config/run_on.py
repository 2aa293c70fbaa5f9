"""A run on a data folder that is named apart from it, such as the one that `crdkit data check` is given."""

from __future__ import annotations

from pathlib import Path

from crdkit.config.build import build_dataset
from crdkit.config.run_config import RunConfig
from crdkit.data import DatasetConfig
from crdkit.data.discover import Recognised, recognise


def run_on(run: RunConfig, data: DatasetConfig, *overrides: str) -> tuple[RunConfig, tuple[str, ...]]:
    """Return ``run`` with the folder of ``data`` and the rest of its own options, and the overrides that say so.

    The overrides are none if ``run`` reads that folder already. If it reads another layout, its options of the data are
    left out, as they are when another dataset is named.

    Args:
        run: the configuration.
        data: the layout, root and category.
        overrides: ``data.*`` keys that win over those of ``run``.

    Raises:
        ConfigError: an override is refused.

    Examples:
        >>> from crdkit.data import datasets
        >>> run = RunConfig.preset("quick").with_overrides("data.root=/scans", "data.category=tire")
        >>> run_on(run, datasets.build_config({"name": "mvtec3d", "root": "/scans", "category": "tire"}))[1]
        ()
        >>> run_on(run, datasets.build_config({"name": "mvtec3d", "root": "/scans", "category": "rope"}))[1]
        ('data.category=rope',)
    """
    where: list[str] = []
    if run.data.name != data.name:
        where.append(f"data.name={data.name}")
    if where or not _is_folder(run, _folder(data)):
        same_root = not where and run.data.root is not None and run.data.root.resolve() == data.root
        where += [] if same_root else [f"data.root={data.root}"]
        where += [f"data.category={data.category or 'null'}"]
        where += ["data.manifest=null"] if _manifest(run) and len(where) == 2 else []
    where += overrides
    return run.with_overrides(*where), tuple(where)


def recognise_for(run: RunConfig, folder: Path, *, layout: str | None = None) -> list[Recognised]:
    """Do what `crdkit.data.discover.recognise` does, but take a folder for which ``run`` names a manifest as it is.

    Raises:
        DataError: no category was found; the message says what each layout lacks.
        UnknownNameError: there is no such layout.
    """
    if _manifest(run) and layout in (None, run.data.name) and _is_folder(run, folder.resolve()):
        return [Recognised(dataset=build_dataset(run), others={})]
    return recognise(folder, layout=layout)


def _folder(data: DatasetConfig) -> Path | None:
    return None if data.root is None else (data.root / (data.category or "")).resolve()


def _is_folder(run: RunConfig, folder: Path | None) -> bool:
    return folder is not None and _folder(run.data) == folder


def _manifest(run: RunConfig) -> bool:
    return getattr(run.data, "manifest", None) is not None
