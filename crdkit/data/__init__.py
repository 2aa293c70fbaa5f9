"""Contract of a dataset: folders on disk in, raw sensors with mask, label and defect type out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from crdkit._core.registry import AbsolutePath, Component, ComponentConfig, Registry
from crdkit.data._folders import PairedFiles, require_files
from crdkit.data._names import GOOD, SPLITS, UNLABELLED, Split, defect_folders
from crdkit.data.images import read_mask
from crdkit.data.parts import FilePart
from crdkit.data.registration import Registration
from crdkit.errors import DataError, unknown_name

__all__ = [
    "GOOD",
    "HOW_READ",
    "SPLITS",
    "UNLABELLED",
    "Dataset",
    "DatasetConfig",
    "PairedFiles",
    "RawSample",
    "SampleRecord",
    "Sensors",
    "Split",
    "datasets",
    "read_sample",
    "records_by_defect",
]

Sensors = Mapping[str, np.ndarray]
"""Raw measurements of one sample by sensor name: images (H, W[, 3]) uint8/uint16, "xyz" (H, W, 3) float32 metres.

NaN in floats means "not measured"; a view says what it makes of it."""
HOW_READ = {"workers", "cache", "cache_gib", "follow_links", "allow_overlap"}
"""Options of every dataset that change how samples are read, but not their values."""


class DatasetConfig(ComponentConfig):
    """Options every dataset has; an adapter adds its own in a subclass."""

    root: AbsolutePath | None = Field(None, description="folder that holds the category folders")
    category: str | None = Field(None, description="category folder inside root")
    image_size: int = Field(256, ge=16, le=4096, description="side of the square that everything is resized to, pixels")
    on_bad_sample: Literal["error", "skip"] = Field(
        "error", description="stop at the first unreadable sample, or count it in a warning and go on"
    )
    follow_links: bool = Field(False, description="read files that symbolic links bring from outside the data folder")
    allow_overlap: bool = Field(False, description="test on samples that are also in the training or validation split")
    on_blank_sensor: Literal["error", "missing"] = Field(
        "error",
        description="what a scan that is 0 or NaN everywhere is, and with 'missing' any other sensor too: an error, or "
        "missing, which a detector trained with training.modality_dropout can do without",
    )
    registration: Registration | None = Field(
        None, description="how sensors of other sizes or places are brought onto the pixels of one of them"
    )
    workers: int | None = Field(None, ge=1, le=256, description="threads that read files; None: one per core, up to 8")
    cache: AbsolutePath | None = Field(
        None, description="folder that keeps decoded splits for later runs; None: that of CRDKIT_CACHE, or no cache"
    )
    cache_gib: float = Field(
        50.0, gt=0, description="what that folder may take, GiB; splits that were not used for longest are removed"
    )


@dataclass(frozen=True, kw_only=True)
class SampleRecord:
    """Where one sample lies on disk and what is known about it, before anything is decoded."""

    sample_id: str
    """Unique within the split, e.g. ``"hole/003"``."""
    split: Split
    label: int | None
    """0 normal, 1 anomalous, None unknown."""
    defect_type: str
    """``"good"`` for normal samples, ``"unlabelled"`` where the label is unknown."""
    files: Mapping[str, Path]
    """File of each sensor."""
    mask_file: Path | None = None
    parts: Mapping[str, FilePart] = field(default_factory=dict)
    """What sensors take of a file that holds several; the others are whole files."""

    @property
    def image_path(self) -> Path:
        """The first sensor's file, which names the sample in tables."""
        return next(iter(self.files.values()))


@dataclass(frozen=True, kw_only=True)
class RawSample:
    """One decoded sample at its own resolution."""

    record: SampleRecord
    sensors: Sensors
    mask: np.ndarray | None = field(default=None)
    """(H, W) uint8, 255 on every anomalous pixel and 0 elsewhere; None where there is no ground truth."""


class Dataset(Component, ABC):
    """Lists and decodes the samples of one category; stateless except for its config, safe to use from threads."""

    Config: ClassVar[type[DatasetConfig]] = DatasetConfig

    def __init__(self, config: DatasetConfig) -> None:
        self.config = config

    @classmethod
    def looks_like(cls, folder: Path) -> bool:
        """Whether the category ``folder`` may have this layout, judged by a few names; only then it is tried."""
        return True

    @classmethod
    def category_root(cls, folder: Path) -> Path:
        """Return the folder below ``folder``, as it was unpacked, that ``data.root`` names: most often ``folder``."""
        return folder

    @property
    @abstractmethod
    def sensors(self) -> tuple[str, ...]:
        """Names of the sensors that every sample has."""

    @property
    def held_out(self) -> Mapping[str, Any] | None:
        """How the validation split was taken from the training samples, for metrics.json; None if it was not."""
        return None

    @abstractmethod
    def records(self, split: Split) -> Sequence[SampleRecord]:
        """List the samples of ``split`` in a fixed order without decoding them.

        With ``on_bad_sample="skip"`` a sample that lacks a file is listed anyway; `read` refuses it, so
        that it is counted with the unreadable ones.

        Raises:
            DataError: a folder is missing, or with ``on_bad_sample="error"`` a file; the message names the path.
        """

    @abstractmethod
    def read(self, record: SampleRecord, sensors: Sequence[str] | None = None) -> RawSample:
        """Decode ``sensors`` of one sample (all of them if None) and its mask.

        Raises:
            DataError: a file is missing, truncated, of the wrong shape or dtype, or holds no measurement.
        """

    def lenient(self) -> Self:
        """Return this dataset with ``on_bad_sample="skip"``: it lists incomplete samples too."""
        return type(self)(self.config.model_copy(update={"on_bad_sample": "skip"}))

    def files(self, record: SampleRecord) -> Sequence[Path]:
        """Return every file that `read` may open for ``record``: a change of one makes cached splits obsolete.

        An adapter that reads files besides those that a record names adds them here.
        """
        return [*record.files.values(), *([record.mask_file] if record.mask_file else [])]


datasets: Registry[Dataset] = Registry("dataset", package=f"{__name__}.adapters")


def records_by_defect(folder: Path, split: Split, pair: Callable[[Path], Sequence[PairedFiles]]) -> list[SampleRecord]:
    """List the samples in ``folder/<defect type>``, each folder's files paired by ``pair``.

    Raises:
        DataError: the folder is missing or empty, or outside the test split holds anything but "good".
    """
    records = [
        SampleRecord(
            sample_id=f"{defect}/{found.stem}",
            split=split,
            label=int(defect != GOOD),
            defect_type=defect,
            files=found.files,
            mask_file=found.mask,
        )
        for defect in defect_folders(folder, split)
        for found in pair(folder / defect)
    ]
    if not records:
        raise DataError(f"{folder}: the split {split!r} holds no samples; expected files like good/rgb/000.png")
    return records


def read_sample(
    record: SampleRecord,
    read: Callable[[str, Path], np.ndarray],
    sensors: Sequence[str],
    *,
    registration: Registration | None = None,
) -> RawSample:
    """Decode ``sensors`` of one sample by ``read(sensor, path)``, and its mask, with the checks of every adapter.

    With ``registration``, that of the adapter's options, all are brought onto one grid. A normal sample without a mask
    file has a mask of zeros.

    Raises:
        DataError: a file is missing, sizes differ, a sensor cannot be moved, or a normal sample's mask is not empty.
        UnknownNameError: a sensor that the sample does not have.
    """
    require_files([*record.files.values(), *([record.mask_file] if record.mask_file else [])])
    arrays: dict[str, np.ndarray] = {}
    for name in sensors:
        if name not in record.files:
            raise unknown_name("sensor", name, record.files)
        arrays[name] = read(name, record.files[name])
    mask = None if record.mask_file is None else read_mask(record.mask_file)
    if registration is not None:
        arrays, mask = _registered(record, read, arrays, mask, registration)
    sizes = {f"{record.files[name]}{record.parts.get(name, '')}": array.shape[:2] for name, array in arrays.items()}
    if record.mask_file is not None and mask is not None:
        sizes[str(record.mask_file)] = mask.shape[:2]
        if record.label == 0 and mask.any():
            raise DataError(
                f"{record.mask_file}: the mask of a sample in {record.defect_type!r} marks {np.count_nonzero(mask)} "
                "pixels as anomalous; clear the mask, or move the sample to the folder of its defect"
            )
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{path} {height} x {width}" for path, (height, width) in sizes.items())
        raise DataError(
            f"sample {record.sample_id!r}: all files must have the same height x width, found {found}; "
            "resample them to one size, or say with data.registration how they lie on each other"
        )
    if mask is None and record.label == 0 and sizes:
        mask = np.zeros(next(iter(sizes.values())), np.uint8)
    return RawSample(record=record, sensors=arrays, mask=mask)


def _registered(
    record: SampleRecord,
    read: Callable[[str, Path], np.ndarray],
    arrays: Mapping[str, np.ndarray],
    mask: np.ndarray | None,
    registration: Registration,
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Return the sensors that were read and the mask on the grid of the reference, for which others may be read."""
    others = {name: record.files[name] for name in registration.also_read(arrays) if name in record.files}
    try:
        found, mask = registration.bring({**arrays, **{name: read(name, path) for name, path in others.items()}}, mask)
    except DataError as error:
        raise DataError(f"sample {record.sample_id!r}: {error}") from error
    for name in others:
        del found[name]
    return found, mask
