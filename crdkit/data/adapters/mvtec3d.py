"""MVTec 3D-AD: RGB images and organised XYZ scans in the folder layout of the published archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from crdkit.data import Dataset, DatasetConfig, RawSample, SampleRecord, Split, datasets, read_sample, records_by_defect
from crdkit.data._folders import category_folder, pair_subfolders
from crdkit.data._names import GOOD, SPLITS
from crdkit.data.images import check_array, read_image, read_tiff
from crdkit.data.invalid import mark_invalid
from crdkit.data.scans import check_metres
from crdkit.errors import DataError

_SUFFIXES: Mapping[str, tuple[str, ...]] = {"rgb": (".png",), "xyz": (".tiff", ".tif")}


@datasets.register("mvtec3d")
class MVTec3D(Dataset):
    """Reads the folders of MVTec 3D-AD as they were downloaded: colour images, organised scans, class-id masks.

    ``<root>/<category>/{train/good,validation/good,test/<defect>}/{rgb/NNN.png,xyz/NNN.tiff,gt/NNN.png}``.
    Sensors are "rgb", uint8 (H, W, 3), and "xyz", float32 (H, W, 3) in metres with 0 where nothing was
    measured. A mask holds class ids: every pixel other than 0 is anomalous. A normal sample needs no mask.
    Source: Bergmann et al., The MVTec 3D-AD Dataset (arXiv 2112.09045).
    """

    class Config(DatasetConfig):
        """Options of ``mvtec3d``."""

        name: str = "mvtec3d"
        missing: Literal["zero", "nan", "both"] = Field(
            "both", description="how XYZ files code a missing measurement; the other coding is an error"
        )
        invalid: dict[Literal["xyz"], float] = Field(
            {}, description='value of Z that also means "not measured", e.g. {xyz: -9999}'
        )

    config: Config

    @property
    def sensors(self) -> tuple[str, ...]:
        """Return ``("rgb", "xyz")``."""
        return ("rgb", "xyz")

    def records(self, split: Split) -> Sequence[SampleRecord]:
        """List the samples of ``split`` sorted by defect type, then by file name.

        With ``on_bad_sample="skip"`` a sample that lacks a file is listed anyway, and `read` refuses it.

        Raises:
            DataError: root, category, split or a file is missing, unpaired or out of place.
        """
        category = category_folder(self.config.root, self.config.category, is_category=_is_category)
        keep = self.config.on_bad_sample == "skip"
        return records_by_defect(
            category / split,
            split,
            lambda folder: pair_subfolders(folder, _SUFFIXES, need_masks=folder.name != GOOD, keep_incomplete=keep),
        )

    def read(self, record: SampleRecord, sensors: Sequence[str] | None = None) -> RawSample:
        """Decode ``sensors`` of one sample (all of them if None) and its mask, at their own resolution.

        Raises:
            DataError: a file is missing, truncated, of the wrong shape, dtype or coding, or holds no measurement;
                or two files of the sample differ in height and width.
            UnknownNameError: a sensor that this dataset does not have.
        """
        readers = {"rgb": self._read_rgb, "xyz": self._read_xyz}
        wanted, registration = self.sensors if sensors is None else sensors, self.config.registration
        return read_sample(record, lambda name, path: readers[name](path), wanted, registration=registration)

    def _read_rgb(self, path: Path) -> np.ndarray:
        rgb = read_image(path)
        check_array(rgb, source=path, channels=3, dtype=np.uint8, hint="convert it to an 8-bit RGB image")
        return rgb

    def _read_xyz(self, path: Path) -> np.ndarray:
        xyz = read_tiff(path)
        check_array(xyz, source=path, channels=3, dtype=np.float32, hint="store X, Y and Z in metres as 32-bit floats")
        if "xyz" in self.config.invalid:
            xyz = mark_invalid(xyz, self.config.invalid["xyz"], missing=0 if self.config.missing == "zero" else np.nan)
        nan = np.isnan(xyz).any(axis=2)
        if nan.any():
            if self.config.missing == "zero":
                raise DataError(
                    f"{path}: {np.count_nonzero(nan)} pixels hold NaN, but data.missing=zero says that missing "
                    "measurements are 0; set data.missing to nan or both"
                )
            xyz = np.where(nan[..., None], np.float32(0), xyz)
        if not np.isfinite(xyz).all():
            raise DataError(
                f"{path}: {np.count_nonzero(np.isinf(xyz).any(axis=2))} pixels are infinite; expected metres, "
                "and 0 or NaN where nothing was measured"
            )
        missing = xyz[..., 2] == 0
        if missing.all() and self.config.on_blank_sensor == "error":
            raise DataError(f"{path}: no pixel holds a measurement (Z is 0 or NaN everywhere); leave the sample out")
        if self.config.missing == "nan" and (missing & ~nan).any():
            raise DataError(
                f"{path}: {np.count_nonzero(missing & ~nan)} pixels have Z = 0, but data.missing=nan says that missing "
                "measurements are NaN; set data.missing to zero or both"
            )
        check_metres(xyz, source=path, sensor="xyz")
        return xyz


def _is_category(folder: Path) -> bool:
    return any((folder / split).is_dir() for split in SPLITS)
