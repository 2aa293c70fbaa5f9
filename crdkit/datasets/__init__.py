"""Contract of a dataset: folders on disk in, raw sensors with mask, label and defect type out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from crdkit.registry import AbsolutePath, Component, ComponentConfig, Registry

Split = Literal["train", "validation", "test"]
Sensors = Mapping[str, np.ndarray]
"""Raw measurements of one sample by sensor name: images (H, W[, 3]) uint8/uint16, "xyz" (H, W, 3) float32 metres."""


class DatasetConfig(ComponentConfig):
    """Options every dataset has; an adapter adds its own in a subclass."""

    root: AbsolutePath | None = Field(None, description="folder that holds the category folders")
    category: str | None = Field(None, description="category folder inside root")
    image_size: int = Field(256, ge=16, le=4096, description="side of the square that everything is resized to, pixels")
    on_bad_sample: Literal["error", "skip"] = Field(
        "error", description="stop at the first unreadable sample, or count it in a warning and go on"
    )
    workers: int | None = Field(None, ge=1, description="threads that decode files; None: one per core, 8 at most")


@dataclass(frozen=True, kw_only=True)
class SampleRecord:
    """Where one sample lies on disk and what is known of it, before anything is decoded."""

    sample_id: str
    """Unique within the split, e.g. ``"hole/003"``."""
    split: Split
    label: int | None
    """0 normal, 1 anomalous, None unknown."""
    defect_type: str
    """``"good"`` for normal samples."""
    files: Mapping[str, Path]
    """File of each sensor."""
    mask_file: Path | None = None

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
    """Lists and decodes the samples of one category; stateless but for its config, safe to use from threads."""

    Config: ClassVar[type[DatasetConfig]] = DatasetConfig

    def __init__(self, config: DatasetConfig) -> None:
        self.config = config

    @property
    @abstractmethod
    def sensors(self) -> tuple[str, ...]:
        """Names of the sensors that every sample has."""

    @abstractmethod
    def records(self, split: Split) -> Sequence[SampleRecord]:
        """List the samples of ``split`` in a fixed order without decoding them.

        With ``on_bad_sample="skip"`` a sample that lacks a file is listed all the same; `read` refuses it, so
        that it is counted with the unreadable ones.

        Raises:
            DataError: a folder is missing, or with ``on_bad_sample="error"`` a file; the message holds the path.
        """

    @abstractmethod
    def read(self, record: SampleRecord, sensors: Sequence[str] | None = None) -> RawSample:
        """Decode ``sensors`` of one sample (all of them if None) and its mask.

        Raises:
            DataError: a file is missing, truncated, of the wrong shape or dtype, or holds no measurement.
        """


datasets: Registry[Dataset] = Registry("dataset", package=__name__)
