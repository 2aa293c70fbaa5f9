"""MVTec 3D-AD: RGB images and organised XYZ scans in the folder layout of the published archive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from crdkit.datasets import Dataset, DatasetConfig, RawSample, SampleRecord, Split, datasets
from crdkit.errors import DataError, unknown_name
from crdkit.images import check_array, read_image, read_mask, read_tiff
from crdkit.scans import check_metres

_SPLITS: tuple[Split, ...] = ("train", "validation", "test")
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
        folder = self._category_folder() / split
        if not folder.is_dir():
            raise DataError(f"{folder}: the folder of the split {split!r} does not exist; {_found(folder.parent)}")
        defects = _subfolders(folder)
        if split != "test":
            if "good" not in defects:
                raise DataError(f"{folder / 'good'}: the folder does not exist; {_found(folder)}")
            if len(defects) > 1:
                raise DataError(
                    f"{folder}: the split {split!r} may hold nothing but 'good', {_found(folder)}; "
                    "move anomalous samples to the split 'test'"
                )
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
        wanted = self.sensors if sensors is None else sensors
        _require_files([*record.files.values(), *([record.mask_file] if record.mask_file else [])])
        arrays: dict[str, np.ndarray] = {}
        for name in wanted:
            if name not in readers:
                raise unknown_name("sensor", name, readers)
            arrays[name] = readers[name](record.files[name])
        sizes = {record.files[name]: array.shape[:2] for name, array in arrays.items()}
        mask = None
        if record.mask_file is not None:
            mask = read_mask(record.mask_file)
            sizes[record.mask_file] = mask.shape[:2]
            if record.label == 0 and mask.any():
                raise DataError(
                    f"{record.mask_file}: the mask of a sample in 'good' marks {np.count_nonzero(mask)} pixels as "
                    "anomalous; empty the mask, or move the sample to the folder of its defect"
                )
        if len(set(sizes.values())) > 1:
            found = ", ".join(f"{path} {height} x {width}" for path, (height, width) in sizes.items())
            raise DataError(
                f"sample {record.sample_id!r}: all files must have one height x width, found {found}; "
                "resample them to one another"
            )
        if mask is None and record.label == 0 and sizes:
            mask = np.zeros(next(iter(sizes.values())), np.uint8)
        return RawSample(record=record, sensors=arrays, mask=mask)

    def _category_folder(self) -> Path:
        root, category = self.config.root, self.config.category
        if root is None:
            raise DataError("data.root is not set: give the folder that holds the category folders")
        if not root.is_dir():
            what = "is not a folder" if root.exists() else "does not exist"
            raise DataError(f"{root}: data.root {what}; give the folder that holds the category folders")
        found = [name for name in _subfolders(root) if any((root / name / split).is_dir() for split in _SPLITS)]
        if category is not None and (category in found or category in _subfolders(root)):
            return root / category
        if not found and any((root / split).is_dir() for split in _SPLITS):
            raise DataError(
                f"{root}: data.root is itself a category folder; set data.root={root.parent} and "
                f"data.category={root.name}"
            )
        if category is None:
            raise DataError(f"data.category is not set: {root} holds {', '.join(found) or 'no category folder'}")
        raise DataError(f"{root}: {unknown_name('category', category, found)}")

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


def _samples(folder: Path, split: Split, *, keep_incomplete: bool) -> list[SampleRecord]:
    defect = folder.name
    has_masks = defect != "good" or (folder / "gt").exists()
    files = {sensor: _files(folder / sensor, sensor) for sensor in ("rgb", "xyz", *(("gt",) if has_masks else ()))}
    masks = files.pop("gt", {})
    stems = sorted({*files["rgb"], *files["xyz"], *(masks if keep_incomplete else ())})
    if orphans := sorted(set(masks) - set(stems)):
        raise DataError(f"{masks[orphans[0]]}: a mask without its image {folder / 'rgb' / orphans[0]}.png; remove it")

    def path(sensor: str, stem: str, present: Mapping[str, Path]) -> Path:
        return present.get(stem, folder / sensor / f"{stem}{_SUFFIXES[sensor][0]}")

    records = [
        SampleRecord(
            sample_id=f"{defect}/{stem}",
            split=split,
            label=0 if defect == "good" else 1,
            defect_type=defect,
            files={sensor: path(sensor, stem, present) for sensor, present in files.items()},
            mask_file=path("gt", stem, masks) if defect != "good" else masks.get(stem),
        )
        for stem in stems
    ]
    if not keep_incomplete:
        for sensor in files:
            _require_files([record.files[sensor] for record in records])
        _require_files([record.mask_file for record in records if record.mask_file])
    return records


def _require_files(paths: Iterable[Path]) -> None:
    absent = [path for path in paths if not path.exists()]
    if absent:
        others = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
        raise DataError(
            f"{absent[0]}: the file does not exist{others}, but others of this sample do; "
            "add it, or remove the sample's other files"
        )


def _files(folder: Path, sensor: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: the folder does not exist; {_found(folder.parent)}")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.suffix.lower() not in _SUFFIXES[sensor] or not path.is_file():
            raise DataError(f"{path}: expected {' or '.join(_SUFFIXES[sensor])} files only; move it elsewhere")
        if path.stem in files:
            raise DataError(f"{path}: the same sample as {files[path.stem].name}; remove one of the two")
        files[path.stem] = path
    return files


def _subfolders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _found(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder} does not exist either"
    return f"{folder} holds the folders: {', '.join(_subfolders(folder)) or 'none'}"
