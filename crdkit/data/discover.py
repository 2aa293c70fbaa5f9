"""Finds out what a folder holds: the layout of a category, the categories of a root, samples to predict."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crdkit.data import SPLITS, Dataset, DatasetConfig, Split, datasets
from crdkit.data._folders import require_root
from crdkit.data._names import subfolders
from crdkit.data.images import SUFFIXES
from crdkit.errors import CrdkitError, DataError, unknown_name

_logger = logging.getLogger(__name__)

_FALLBACK_LAYOUT = "folder"  # it reads nearly anything, so other layouts come first


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """The layout of a category, and what the layouts that were tried besides lack.

    Examples:
        >>> import tempfile
        >>> from crdkit.data.synthetic import write_mvtec3d
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     root = write_mvtec3d(Path(scratch, "scans"), categories=["gear"], train=1, test_per_defect=0, size=32)
        ...     (found,) = recognise(root)
        >>> found.dataset.config.name, list(found.others)
        ('mvtec3d', ['eyecandies'])
    """

    dataset: Dataset
    others: Mapping[str, str]
    """By name of the layout."""


def open_datasets(folder: Path, *, layout: str | None = None) -> list[Dataset]:
    """Return a dataset for the category in ``folder``, or for each category in its folders.

    Args:
        folder: a category folder, or a folder that holds category folders.
        layout: name of a dataset adapter; None to take the one that can list most splits.

    Raises:
        DataError: no category was found; the message says what each layout lacks.
        UnknownNameError: there is no such layout.

    Examples:
        >>> import tempfile
        >>> from crdkit.data.synthetic import write_mvtec3d
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     root = write_mvtec3d(Path(scratch, "scans"), train=1, test_per_defect=0, size=32)
        ...     found = open_datasets(root)
        >>> [(dataset.config.name, dataset.config.category) for dataset in found]
        [('mvtec3d', 'biscuit'), ('mvtec3d', 'capsule'), ('mvtec3d', 'gear')]
    """
    return [found.dataset for found in recognise(folder, layout=layout)]


def recognise(folder: Path, *, layout: str | None = None) -> list[Recognised]:
    """Do what `open_datasets` does, and say why other layouts were not taken.

    Raises:
        DataError: no category was found; the message says what each layout lacks.
        UnknownNameError: there is no such layout.

    Examples:
        >>> import tempfile
        >>> from crdkit.data.synthetic import write_folder
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     root = write_folder(Path(scratch, "scans"), categories=["gear"], train=2, test_per_defect=1, size=32)
        ...     (found,) = recognise(root)
        >>> found.dataset.config.name, "gt: the folder does not exist" in found.others["mvtec3d"]
        ('folder', True)
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: is not a folder; give a category folder, or one that holds category folders")
    names = [layout] if layout else sorted(datasets, key=lambda name: name == _FALLBACK_LAYOUT)
    folder = folder.expanduser().resolve()
    reasons: dict[str, str] = {}
    roots = dict.fromkeys([folder, *(datasets.get(name).category_root(folder) for name in names)])
    for candidates in ([folder], *([root / name for name in subfolders(root)] for root in roots)):
        tried = [(path, _alike(path, names) if layout is None else names) for path in candidates]
        found = [result for path, likely in tried if (result := _recognise(path, likely, reasons)) is not None]
        if found:
            return found
    raise DataError(f"{folder}: holds no category in a known layout{_of_one_sensor(folder)}: {_join_reasons(reasons)}")


def list_categories(config: DatasetConfig) -> list[str]:
    """Return the folders of ``config.root`` in which its dataset lists at least one split, sorted.

    Raises:
        DataError: the root is not set or does not exist, or holds no category; the message says why.

    Examples:
        >>> import tempfile
        >>> from crdkit.data.synthetic import write_mvtec3d
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     root = write_mvtec3d(Path(scratch, "scans"), train=1, test_per_defect=0, size=32)
        ...     list_categories(datasets.build_config({"name": "mvtec3d", "root": root}))
        ['biscuit', 'capsule', 'gear']
    """
    root = _category_root(config)
    found, others = [], dict[str, str]()
    for name in subfolders(root):
        reasons: dict[str, str] = {}
        if _count_listable(_config_for(config, root / name), SPLITS, reasons):
            found.append(name)
        else:
            others[name] = reasons[config.name]
    for name in others if found else ():
        _logger.info("%s: is taken for no category: %s", root / name, others[name])
    if not found:
        why = next(iter(others.values()), "it holds no folders")
        raise DataError(f"{root}: data.root holds no category in the layout {config.name!r}: {why}")
    return found


def require_category(config: DatasetConfig) -> None:
    """Refuse a category that has no folder in ``config.root``, with the nearest one that has.

    Raises:
        DataError: the root is not set or does not exist.
        UnknownNameError: there is no such category.

    Examples:
        >>> import tempfile
        >>> from crdkit.data.synthetic import write_mvtec3d
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     root = write_mvtec3d(Path(scratch, "scans"), categories=["gear"], train=1, test_per_defect=0, size=32)
        ...     require_category(datasets.build_config({"name": "mvtec3d", "root": root, "category": "geer"}))
        Traceback (most recent call last):
            ...
        crdkit.errors.UnknownNameError: unknown category 'geer' - did you mean 'gear'? known: gear
    """
    root = _category_root(config)
    if config.category is not None and not (root / config.category).is_dir():
        raise unknown_name("category", config.category, subfolders(root))


def _category_root(config: DatasetConfig) -> Path:
    """Return the folder that holds the category folders: ``config.root``, or where its layout has them in it."""
    return datasets.get(config.name).category_root(require_root(config.root))


def open_samples(folder: Path, trained_on: DatasetConfig) -> Dataset:
    """Return the dataset whose test split is the samples in ``folder``, labelled or not.

    It has the layout of ``trained_on`` if ``folder`` is such a category, or holds the category that was trained on;
    else it is what the layout ``folder`` reads: folders named after sensors, or a manifest.

    Raises:
        DataError: no sample was found in it; the message says what each layout lacks.

    Examples:
        >>> import tempfile
        >>> from crdkit.data.synthetic import write_folder
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     root = write_folder(Path(scratch, "new"), categories=["gear"], train=1, test_per_defect=0, size=32)
        ...     dataset = open_samples(root / "gear", datasets.build_config("mvtec3d"))  # trained on that
        ...     dataset.config.name, len(dataset.records("test"))
        ('folder', 10)
    """
    folder = folder.expanduser().resolve()
    reasons: dict[str, str] = {}
    for config in _candidates(folder, trained_on):
        dataset = datasets.build(config)
        if _count_listable(config, ("test",), reasons):
            return dataset
    raise DataError(f"{folder}: holds no samples in a known layout{_of_one_sensor(folder)}: {_join_reasons(reasons)}")


def _candidates(folder: Path, trained_on: DatasetConfig) -> list[DatasetConfig]:
    table, root = getattr(trained_on, "manifest", None), trained_on.root or Path()
    if table is not None and table.suffix == ".csv" and folder not in (root, root / (trained_on.category or "")):
        trained_on = trained_on.model_copy(update={"manifest": None})  # it lists the files of another folder
    found = [_config_for(trained_on, folder)]
    if trained_on.category is not None and (folder / trained_on.category).is_dir():
        found.append(_config_for(trained_on, folder / trained_on.category))
    loose: dict[str, Any] = {"root": folder, "category": None}
    if trained_on.name == _FALLBACK_LAYOUT:
        return [*found, trained_on.model_copy(update=loose | {"manifest": None})]
    shared = trained_on.model_dump(include={"image_size", "on_bad_sample", "workers", "follow_links", "registration"})
    return [*found, datasets.build_config({"name": _FALLBACK_LAYOUT, **shared, **loose})]


def _alike(path: Path, names: Sequence[str]) -> list[str]:
    """Return the layouts that a category may have, by what they say themselves."""
    return [name for name in names if datasets.get(name).looks_like(path)]


def _recognise(path: Path, names: Sequence[str], reasons: dict[str, str]) -> Recognised | None:
    """Return the dataset that can list most splits of ``path``, the first of several; None if none lists any."""
    best, most, here = None, 0, dict[str, str]()
    for name in names:
        config = datasets.build_config({"name": name, "root": path.parent, "category": path.name})
        listed = _count_listable(config, SPLITS, here)
        if listed > most:
            best, most = datasets.build(config), listed
        if most == len(SPLITS):
            break
    for name, reason in here.items():
        reasons.setdefault(name, reason)
    if best is None:
        return None
    return Recognised(dataset=best, others={name: why for name, why in here.items() if name != best.config.name})


def _config_for(config: DatasetConfig, category: Path) -> DatasetConfig:
    return config.model_copy(update={"root": category.parent, "category": category.name})


def _count_listable(config: DatasetConfig, splits: Sequence[Split], reasons: dict[str, str]) -> int:
    """Return how many of ``splits`` the dataset of ``config`` can list, incomplete samples included."""
    lenient = datasets.build(config).lenient()
    listed = 0
    for split in splits:
        try:
            lenient.records(split)
            listed += 1
        except CrdkitError as error:
            reasons.setdefault(config.name, str(error))
    return listed


def _of_one_sensor(folder: Path) -> str:
    """Return what to say of a folder that holds images itself, not folders of sensors."""
    if not any(path.suffix.lower() in SUFFIXES for path in folder.iterdir()):
        return ""
    return f"; it holds the files of one sensor: give the folder of all sensors, {folder.parent}"


def _join_reasons(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
