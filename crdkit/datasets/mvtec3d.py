"""MVTec 3D-AD: RGB images and organised XYZ scans in the folder layout of the published archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from crdkit.datasets import GOOD, SPLITS, Dataset, DatasetConfig, RawSample, SampleRecord, Split, datasets, read_sample
from crdkit.errors import DataError
from crdkit.folders import category_folder, defect_folders, files_by_stem, pair_files
from crdkit.images import check_array, read_image, read_tiff
from crdkit.scans import check_metres

_SUFFIXES: Mapping[str, tuple[str, ...]] = {"rgb": (".png",), "xyz": (".tiff", ".tif"), "gt": (".png",)}


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

    config: Config

    @property
    def sensors(self) -> tuple[str, ...]:
        """Return ``("rgb", "xyz")``."""
        return ("rgb", "xyz")

    def records(self, split: Split) -> Sequence[SampleRecord]:
        """List the samples of ``split`` sorted by defect type, then by file name.

        With ``on_bad_sample="skip"`` a sample that lacks a file is listed all the same, and `read` refuses it.

        Raises:
            DataError: root, category, split or a file is missing, unpaired or out of place.
        """
        keep = self.config.on_bad_sample == "skip"
        folder = category_folder(self.config.root, self.config.category, is_category=_is_category) / split
        defects = defect_folders(folder, split)
        records = [record for defect in defects for record in _samples(folder / defect, split, keep_incomplete=keep)]
        if not records:
            raise DataError(f"{folder}: the split {split!r} holds no sample; expected files like good/rgb/000.png")
        return records

    def read(self, record: SampleRecord, sensors: Sequence[str] | None = None) -> RawSample:
        """Decode ``sensors`` of one sample (all of them if None) and its mask, at their own resolution.

        Raises:
            DataError: a file is missing, truncated, of the wrong shape, dtype or coding, or holds no measurement;
                or two files of the sample differ in height and width.
            UnknownNameError: a sensor that this dataset does not have.
        """
        readers = {"rgb": self._read_rgb, "xyz": self._read_xyz}
        return read_sample(record, lambda name, path: readers[name](path), self.sensors if sensors is None else sensors)

    def _read_rgb(self, path: Path) -> np.ndarray:
        rgb = read_image(path)
        check_array(rgb, source=path, channels=3, dtype=np.uint8, hint="convert it to an 8-bit RGB image")
        return rgb

    def _read_xyz(self, path: Path) -> np.ndarray:
        xyz = read_tiff(path)
        check_array(xyz, source=path, channels=3, dtype=np.float32, hint="store X, Y and Z in metres as 32-bit floats")
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
        if missing.all():
            raise DataError(f"{path}: no pixel holds a measurement (Z is 0 or NaN everywhere); leave the sample out")
        if self.config.missing == "nan" and (missing & ~nan).any():
            raise DataError(
                f"{path}: {np.count_nonzero(missing & ~nan)} pixels have Z = 0, but data.missing=nan says that missing "
                "measurements are NaN; set data.missing to zero or both"
            )
        check_metres(xyz, source=path)
        return xyz


def _is_category(folder: Path) -> bool:
    return any((folder / split).is_dir() for split in SPLITS)


def _samples(folder: Path, split: Split, *, keep_incomplete: bool) -> list[SampleRecord]:
    defect = folder.name
    masked = defect != GOOD

    def place(sensor: str, stem: str) -> Path:
        sensor = "gt" if sensor == "mask" else sensor
        return folder / sensor / f"{stem}{_SUFFIXES[sensor][0]}"

    pairs = pair_files(
        {sensor: files_by_stem(folder / sensor, _SUFFIXES[sensor]) for sensor in ("rgb", "xyz")},
        files_by_stem(folder / "gt", _SUFFIXES["gt"]) if masked or (folder / "gt").exists() else {},
        need_masks=masked,
        place=place,
        keep_incomplete=keep_incomplete,
    )
    return [
        SampleRecord(
            sample_id=f"{defect}/{pair.stem}",
            split=split,
            label=int(masked),
            defect_type=defect,
            files=pair.files,
            mask_file=pair.mask,
        )
        for pair in pairs
    ]
