"""M2AD: ten lights and twelve views of each specimen; a sample is one view, and its lights are the sensors."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from crdkit.data import GOOD, UNLABELLED, Dataset, PairedFiles, RawSample, SampleRecord, Split, datasets, read_sample
from crdkit.data._folders import category_folder
from crdkit.data._names import found_folders, subfolders
from crdkit.data.adapters._colour import read_colour
from crdkit.data.adapters._m2ad_views import (
    DEFECTIVE,
    GOOD_FOLDER,
    MASKS,
    lights_of,
    refuse_orphans,
    sensor_of,
    shows_defect,
    views_of,
)
from crdkit.data.held_out import HeldOutConfig, describe_share, hold_out
from crdkit.errors import DataError

_Light = Annotated[str, Field(pattern=r"^[^/\\\x00]{2}$")]
_View = Annotated[str, Field(pattern=r"^[^/\\\x00]{3}$")]


@datasets.register("m2ad")
class M2AD(Dataset):
    """Reads the folders of M2AD: photographs of specimens from twelve views under ten lights, in 10 classes.

    ``<root>/<Class>/{Good,NG}/<specimen>/<image>``: characters 1 to 3 of an image's name, counted from 0, are the view,
    6 and 7 the light, as in ``V001_I04.png``. Masks are ``<Class>/GT/<specimen>/V001_mask.png``, one for each view of a
    specimen in ``NG``, for all its lights.

    A sample is one view of one specimen. Its lights are the sensors "light_01", "light_02", ..., uint8 (H, W, 3);
    ``data.lights`` names those that are read, ``data.views`` the views. A view is anomalous if its mask marks a pixel:
    views of a specimen in ``NG`` that do not show its defect are normal test samples.

    The good specimens, sorted, are shuffled with ``data.split_seed``; the first ``data.train_share`` are those to train
    on, the rest and ``NG`` are the test split. The published split has the seed 42 and 60 %, but its generator is not
    known to us, so that the specimens are the same is unverified. There is no validation split: a share of the training
    specimens is held out with all their views, see `crdkit.data.held_out`. The layout is that of public loaders; no
    real file was read.
    Source: Cao et al., Visual Anomaly Detection under Complex View-Illumination Interplay (arXiv 2505.10996).

    Examples:
        >>> import tempfile
        >>> from crdkit.data.synthetic import LAYOUTS
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     root = LAYOUTS["m2ad"](Path(scratch, "parts"), categories=["gear"], train=3, test_per_defect=1, size=32)
        ...     dataset = M2AD(M2AD.Config(root=root, category="Gear", lights=("02", "03"), views=("001",)))
        ...     record = dataset.records("test")[-1]
        >>> record.sample_id, list(record.files)
        ('NG/005/001', ['light_02', 'light_03'])
    """

    class Config(HeldOutConfig):
        """Options of ``m2ad``."""

        name: str = "m2ad"
        lights: tuple[_Light, ...] | None = Field(
            None, min_length=1, description='the lights that are sensors, e.g. ["01", "05"]; null: all that there are'
        )
        views: tuple[_View, ...] | None = Field(
            None, min_length=1, description='the views that are samples, e.g. ["001"]; null: all that there are'
        )
        train_share: float = Field(0.6, gt=0, lt=1, description="of the good specimens, to train on; others are tested")
        split_seed: int = Field(42, ge=0, lt=2**32, description="of the shuffle that decides which these are")
        split_generator: Literal["python", "numpy"] = Field(
            "python", description="random.Random or numpy.random.RandomState; the published one is not known to us"
        )
        unmasked_views: Literal["error", "normal"] = Field(
            "error", description="what a view of a specimen in NG without a mask is: an error, or a normal sample"
        )

    config: Config

    @classmethod
    def looks_like(cls, folder: Path) -> bool:
        """Whether there are two of the folders ``Good``, ``NG`` and ``GT``."""
        return sum((folder / name).is_dir() for name in (GOOD_FOLDER, DEFECTIVE, MASKS)) > 1

    @property
    def sensors(self) -> tuple[str, ...]:
        """Return the sensors of the lights in ``data.lights``, or of those of the first specimen.

        Raises:
            DataError: the folder does not exist, or holds no specimen.
        """
        return tuple(map(sensor_of, self.config.lights or lights_of(self._folder())))

    @property
    def held_out(self) -> Mapping[str, Any]:
        """The share of the training specimens that is held out."""
        return describe_share(self.config, unit="specimen")

    def records(self, split: Split) -> Sequence[SampleRecord]:
        """List the samples of ``split`` by specimen and view, the good specimens first.

        With ``on_bad_sample="skip"`` a sample that lacks a file is listed anyway, and `read` refuses it.

        Raises:
            DataError: root, category or a file is missing, unpaired or badly named, or a mask cannot be read.
        """
        folder = self._folder()
        good = subfolders(folder / GOOD_FOLDER) if (folder / GOOD_FOLDER).is_dir() else []
        trained = self._shuffled(good)[: int(len(good) * self.config.train_share)]
        if not trained:
            raise DataError(
                f"{folder / GOOD_FOLDER}: holds {len(good)} specimens, of which data.train_share="
                f"{self.config.train_share:g} are none to train on; {found_folders(folder)}"
            )
        lights = self.config.lights or lights_of(folder)  # once, not for each specimen
        if split != "test":
            normals = [
                found for name in sorted(trained) for found in self._samples(folder, GOOD_FOLDER, name, "train", lights)
            ]
            return hold_out(normals, split, self.config, unit=_specimen)
        refuse_orphans(folder)
        tested = [(GOOD_FOLDER, name) for name in good if name not in trained]
        if (folder / DEFECTIVE).is_dir():
            tested += [(DEFECTIVE, name) for name in subfolders(folder / DEFECTIVE)]
        return [found for part, name in tested for found in self._samples(folder, part, name, split, lights)]

    def read(self, record: SampleRecord, sensors: Sequence[str] | None = None) -> RawSample:
        """Decode ``sensors`` of one sample (all of them if None) and its mask, at their own resolution.

        Raises:
            DataError: a file is missing, truncated or not 8-bit grey or colour, or two differ in height and width.
            UnknownNameError: a sensor that this dataset does not have.
        """
        wanted = tuple(record.files) if sensors is None else sensors
        return read_sample(record, lambda _, path: read_colour(path), wanted, registration=self.config.registration)

    def _folder(self) -> Path:
        return category_folder(self.config.root, self.config.category, is_category=type(self).looks_like)

    def _shuffled(self, names: Sequence[str]) -> list[str]:
        shuffled = sorted(names)
        if self.config.split_generator == "python":
            random.Random(self.config.split_seed).shuffle(shuffled)
        else:
            np.random.RandomState(self.config.split_seed).shuffle(shuffled)
        return shuffled

    def _samples(
        self, folder: Path, part: str, specimen: str, split: Split, lights: Sequence[str]
    ) -> list[SampleRecord]:
        pairs = views_of(
            folder / part / specimen,
            lights=lights,
            chosen=self.config.lights is not None,
            views=self.config.views,
            masks=folder / MASKS / specimen if part == DEFECTIVE else None,
            need_masks=part == DEFECTIVE and self.config.unmasked_views == "error",
            keep_incomplete=self.config.on_bad_sample == "skip",
        )
        return [self._record(f"{part}/{specimen}/{pair.stem}", pair, split) for pair in pairs]

    def _record(self, name: str, pair: PairedFiles, split: Split) -> SampleRecord:
        kind = GOOD
        if pair.mask is not None:
            try:
                kind = DEFECTIVE if shows_defect(pair.mask) else GOOD
            except DataError:
                if self.config.on_bad_sample == "error":
                    raise
                kind = UNLABELLED
        return SampleRecord(
            sample_id=name,
            split=split,
            label=None if kind == UNLABELLED else int(kind != GOOD),
            defect_type=kind,
            files=pair.files,
            mask_file=pair.mask,
        )


def _specimen(record: SampleRecord) -> str:
    return record.sample_id.rpartition("/")[0]
