"""Eyecandies: six lights, depth and normals of rendered sweets, as downloaded or prepared by the published code."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from crdkit._core.documents import parse_yaml
from crdkit.data import Dataset, DatasetConfig, RawSample, SampleRecord, Split, datasets, read_sample, records_by_defect
from crdkit.data._folders import PairedFiles, category_folder, pair_files, pair_subfolders, require_files
from crdkit.data._names import GOOD, SPLITS, UNLABELLED, found_folders
from crdkit.data.images import check_array, read_image, read_mask
from crdkit.data.scans import check_metres
from crdkit.errors import DataError, MissingSplitError, first_line

FOCAL_LENGTH = 711.11 / 512
"""Of the camera, in image widths."""

_LIGHTS = tuple(f"image_{light}" for light in range(6))
_FILE_ENDINGS = {  # sensor: how the name of its file ends
    "rgb": "image_4",
    "xyz": "depth",
    "depth": "depth",
    "normals": "normals",
    **{light: light for light in _LIGHTS},
}
_DEFECT_KINDS = ("bumps", "colors", "dents", "normals")
_PREPARED_SUFFIXES = {"rgb": (".png",), "depth": (".png",), "normals": (".png",)}
_SPLIT_FOLDERS: Mapping[Split, str] = {"train": "train", "validation": "val"}
_FILE_NAME = re.compile(r"(\d+)_(\w+)\.(png|yaml)")


@datasets.register("eyecandies")
class Eyecandies(Dataset):
    """Reads the folders of Eyecandies, as they were downloaded or as the published CRD code prepares them.

    Downloaded: ``<root>/<Category>/{train,val,test_public,test_private}/data/NNN_<sensor>.png``. Sensors are
    "image_0" to "image_5", the six lights, uint8 (H, W, 3); "rgb", which is image_4 as in the published code;
    "depth", float32 (H, W) metres, from 16 bits and the range in NNN_info_depth.yaml; "xyz", float32 (H, W, 3)
    metres, the depth back-projected from the image's centre; "normals", uint8 (H, W, 3), n = p / 127.5 - 1.
    The label, and the defect type from the masks of bumps, colors, dents and normals (several joined by "+"), are
    those of the test split; test_private is unlabelled.

    Prepared: ``<root>/<category>/{train/good,validation/good,test/{good,bad}}/{rgb,depth,normals,gt}/NNN.png``.
    Sensors are "rgb", "normals" and "depth", which is the stored image, as the range of each depth is lost; so there
    is no "xyz". The published code leaves out the masks of defective samples: without ``test/bad/gt`` pixel metrics
    cannot be computed.

    Source: Bonfiglioli et al., The Eyecandies Dataset (arXiv 2210.04570).

    Examples:
        >>> import tempfile
        >>> from crdkit.data.synthetic import write_eyecandies
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = write_eyecandies(Path(folder, "scans"), categories=["gear"], train=2, test_per_defect=1, size=32)
        ...     dataset = Eyecandies(Eyecandies.Config(root=root, category="Gear"))
        ...     sample = dataset.read(dataset.records("test")[-1], ["rgb", "xyz"])
        >>> sample.record.defect_type, sample.sensors["xyz"].shape, sample.mask.shape
        ('dents', (32, 32, 3), (32, 32))
    """

    class Config(DatasetConfig):
        """Options of ``eyecandies``."""

        name: str = "eyecandies"
        test_split: Literal["public", "private"] = Field(
            "public", description="test split of the download: 50 labelled samples, or 400 without labels and masks"
        )

    config: Config

    @property
    def sensors(self) -> tuple[str, ...]:
        """Return the sensors of the layout that the category folder has.

        Raises:
            DataError: the folder does not exist.
        """
        return tuple(_FILE_ENDINGS) if _is_raw(self._folder()) else tuple(_PREPARED_SUFFIXES)

    def records(self, split: Split) -> Sequence[SampleRecord]:
        """List the samples of ``split`` by index; the labels of the public test split come from its masks.

        With ``on_bad_sample="skip"`` a sample that lacks a file, or whose label cannot be read, is listed
        anyway, and `read` refuses it.

        Raises:
            DataError: root, category, split or a file is missing or unpaired, or a mask of the test split unreadable.
        """
        folder = self._folder()
        if not _is_raw(folder):
            return self._prepared_records(folder / split, split)
        name = f"test_{self.config.test_split}" if split == "test" else _SPLIT_FOLDERS[split]
        return self._raw_records(folder / name / "data", split)

    def read(self, record: SampleRecord, sensors: Sequence[str] | None = None) -> RawSample:
        """Decode ``sensors`` of one sample (all of them if None) and its mask.

        Raises:
            DataError: a file, or that with a depth's range, is missing, truncated, or of the wrong shape or dtype.
            UnknownNameError: a sensor that this layout does not have.
        """
        raw = "xyz" in record.files
        if record.label is None and record.mask_file is not None:
            _defect_type(record.mask_file)  # raises the error that `records` deferred
        wanted = tuple(record.files) if sensors is None else sensors
        if not raw and "xyz" in wanted:
            raise DataError(
                f"{record.files['depth']}: prepared folders of Eyecandies hold no range of the depth, so they have no "
                "sensor 'xyz'; set data.root to the downloaded folders, or view 'depth' as 'single_channel'"
            )
        decoded: dict[Path, np.ndarray] = {}

        def decode(name: str, path: Path) -> np.ndarray:
            if path not in decoded:  # one file may serve two sensors
                decoded[path] = _read(path, depth=name in ("depth", "xyz"), metric=raw)
            return _back_project(decoded[path]) if name == "xyz" else decoded[path]

        return read_sample(record, decode, wanted, registration=self.config.registration)

    def files(self, record: SampleRecord) -> Sequence[Path]:
        """Return the files of ``record``, the one with the range of its depth, and the masks that label it."""
        raw = "xyz" in record.files
        extra = [_range_file(record.files["depth"])] if raw and "depth" in record.files else []
        masks = _kind_masks(record.mask_file).values() if raw and record.mask_file else []
        return [*super().files(record), *extra, *masks]

    def _folder(self) -> Path:
        folder = category_folder(self.config.root, self.config.category, is_category=_is_category)
        if not _is_category(folder):
            raise DataError(
                f"{folder}: holds neither a downloaded category (train/data, val/data, test_public/data) nor a "
                f"prepared one (train/good, validation/good, test/good); {found_folders(folder)}"
            )
        return folder

    @property
    def _keep_incomplete(self) -> bool:
        return self.config.on_bad_sample == "skip"

    def _raw_records(self, folder: Path, split: Split) -> list[SampleRecord]:
        masked = split == "test" and self.config.test_split == "public"
        records = []
        for pair in sorted(
            _raw_pairs(folder, masked=masked, keep=self._keep_incomplete), key=lambda pair: int(pair.stem)
        ):
            defect = GOOD if split != "test" else UNLABELLED
            if pair.mask is not None:
                try:
                    defect = _defect_type(pair.mask)
                except DataError:
                    if not self._keep_incomplete:
                        raise
            records.append(
                SampleRecord(
                    sample_id=pair.stem,
                    split=split,
                    label=None if defect == UNLABELLED else int(defect != GOOD),
                    defect_type=defect,
                    files={sensor: pair.files[ending] for sensor, ending in _FILE_ENDINGS.items()},
                    mask_file=pair.mask,
                )
            )
        if not records:
            raise DataError(f"{folder}: the split {split!r} holds no samples; expected files like 000_image_4.png")
        return records

    def _prepared_records(self, folder: Path, split: Split) -> list[SampleRecord]:
        def pair(part: Path) -> list[PairedFiles]:
            masked = part.name != GOOD and (part / "gt").is_dir() and any((part / "gt").iterdir())
            return pair_subfolders(part, _PREPARED_SUFFIXES, need_masks=masked, keep_incomplete=self._keep_incomplete)

        return records_by_defect(folder, split, pair)


def _back_project(depth: np.ndarray) -> np.ndarray:
    """Return the points (H, W, 3) float32 that the camera of Eyecandies sees at ``depth`` (H, W), metres.

    X is to the right, Y down the image, Z along the optical axis, which meets the image's centre.
    """
    height, width = depth.shape
    focal_length = FOCAL_LENGTH * width
    columns = ((np.arange(width) - (width - 1) / 2) / focal_length).astype(np.float32)
    rows = ((np.arange(height) - (height - 1) / 2) / focal_length).astype(np.float32)
    return np.stack([columns * depth, rows[:, None] * depth, depth], axis=-1)


def _is_category(folder: Path) -> bool:
    return _is_raw(folder) or any((folder / split / GOOD).is_dir() for split in SPLITS)


def _is_raw(folder: Path) -> bool:
    return any((folder / split / "data").is_dir() for split in ("train", "val", "test_public", "test_private"))


def _raw_pairs(folder: Path, *, masked: bool, keep: bool) -> list[PairedFiles]:
    if not folder.is_dir():
        raise MissingSplitError(f"{folder}: the folder does not exist; {found_folders(folder.parent.parent)}")
    endings = [*dict.fromkeys(_FILE_ENDINGS.values()), "info_depth"]
    kinds = ["mask", *(f"{kind}_mask" for kind in _DEFECT_KINDS)] if masked else []
    found: dict[str, dict[str, Path]] = {ending: {} for ending in (*endings, *kinds)}
    for path in sorted(folder.iterdir()):
        match = _FILE_NAME.fullmatch(path.name)
        if match and match[2] in found:
            found[match[2]][match[1]] = path

    def place(ending: str, stem: str) -> Path:
        return folder / f"{stem}_{ending}.{'yaml' if ending == 'info_depth' else 'png'}"

    return pair_files(found, found.get("mask", {}), need_masks=masked, place=place, keep_incomplete=keep)


def _defect_type(mask: Path) -> str:
    """Return which of the masks beside ``mask`` mark anything, joined by "+"; "good" if none does."""
    paths = _kind_masks(mask)
    require_files([mask, *paths.values()])
    kinds = [kind for kind, path in paths.items() if read_mask(path).any()]
    return "+".join(kinds) or ("anomalous" if read_mask(mask).any() else GOOD)


def _kind_masks(mask: Path) -> dict[str, Path]:
    start = mask.name.removesuffix("mask.png")
    return {kind: mask.with_name(f"{start}{kind}_mask.png") for kind in _DEFECT_KINDS}


def _range_file(depth: Path) -> Path:
    return depth.with_name(depth.name.replace("_depth.png", "_info_depth.yaml"))


def _read(path: Path, *, depth: bool, metric: bool) -> np.ndarray:
    array = read_image(path)
    if not depth:
        check_array(array, source=path, channels=3, dtype=np.uint8, hint="download or prepare the category again")
        return array
    if not metric:
        check_array(array, source=path, channels=None, dtype=array.dtype.type, hint="prepare the category again")
        return array
    check_array(
        array, source=path, channels=None, dtype=np.uint16, hint="the download holds 16-bit depth; copy it again"
    )
    nearest, farthest = _depth_range(_range_file(path))
    metres = array.astype(np.float32) / np.float32(65535) * np.float32(farthest - nearest) + np.float32(nearest)
    check_metres(metres, source=path, sensor="depth")
    return metres


def _depth_range(path: Path) -> tuple[float, float]:
    require_files([path])
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
        nearest, farthest = (float(content["normalization"][key]) for key in ("min", "max"))
    except (OSError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: expected 'normalization' with the numbers 'min' and 'max' (metres), "
            f"found none that can be read: {first_line(error)}; copy the file again"
        ) from error
    if not 0 <= nearest <= farthest < 1e9:  # more is beyond float32 when it is scaled
        raise DataError(
            f"{path}: expected 0 <= min <= max, found min {nearest} and max {farthest}; copy the file again"
        )
    return nearest, farthest
