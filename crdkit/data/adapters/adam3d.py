"""3D-ADAM: RGB images and organised XYZ scans of machined parts, in the layout that public loaders read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from crdkit.data import GOOD, Dataset, RawSample, SampleRecord, Split, datasets, read_sample, records_by_defect
from crdkit.data._folders import category_folder, pair_subfolders
from crdkit.data._names import subfolders
from crdkit.data.adapters._colour import read_colour
from crdkit.data.adapters._scan_files import read_scan
from crdkit.data.held_out import HeldOutConfig, describe_share, hold_out
from crdkit.errors import DataError

_SUFFIXES: Mapping[str, tuple[str, ...]] = {"rgb": (".png",), "xyz": (".tiff", ".tif")}
_MASKS = "ground_truth"


@datasets.register("3d_adam")
class Adam3D(Dataset):
    """Reads the folders of 3D-ADAM: colour images and organised scans, in 23 categories.

    ``<root>/<category>/{train,test}/<good or defect>/{rgb/001_C.png,xyz/001_C.tiff,ground_truth/001_C.png}``, masks in
    the test split only. Sensors are "rgb", uint8 (H, W, 3), and "xyz", float32 (H, W, 3) in metres with 0 where
    nothing was measured. The unit of the files is not known to us: ``data.scale.xyz=0.001`` reads millimetres, and
    coordinates beyond 100 m are refused. There is no validation split: a share of ``train/good`` is held out, see
    `crdkit.data.held_out`. The layout is that of public loaders; no real file was read.
    Source: McHard et al., 3D-ADAM (arXiv 2507.07838).

    Examples:
        >>> import tempfile
        >>> from crdkit.data.synthetic import LAYOUTS
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     root = LAYOUTS["3d_adam"](
        ...         Path(scratch, "scans"), categories=["gear"], train=2, test_per_defect=1, size=32
        ...     )
        ...     dataset = Adam3D(Adam3D.Config(root=root, category="gear"))
        ...     dataset.records("test")[-1].image_path.name
        '000_C.png'
    """

    class Config(HeldOutConfig):
        """Options of ``3d_adam``."""

        name: str = "3d_adam"
        scale: dict[Literal["xyz"], Annotated[float, Field(gt=0)]] = Field(
            {}, description="metres per stored unit, e.g. {xyz: 0.001} for millimetres"
        )

    config: Config

    @classmethod
    def looks_like(cls, folder: Path) -> bool:
        """Whether there are scans to train on, a folder of masks in the test split, and no validation split."""
        test = folder / "test"
        masked = test.is_dir() and any((test / name / _MASKS).is_dir() for name in subfolders(test))
        return masked and (folder / "train" / GOOD / "xyz").is_dir() and not (folder / "validation").exists()

    @property
    def sensors(self) -> tuple[str, ...]:
        """Return ``("rgb", "xyz")``."""
        return ("rgb", "xyz")

    @property
    def held_out(self) -> Mapping[str, Any]:
        """The share of ``train/good`` that is held out."""
        return describe_share(self.config)

    def records(self, split: Split) -> Sequence[SampleRecord]:
        """List the samples of ``split`` sorted by defect type, then by file name.

        With ``on_bad_sample="skip"`` a sample that lacks a file is listed anyway, and `read` refuses it.

        Raises:
            DataError: root, category, split or a file is missing, unpaired or out of place.
        """
        folder = category_folder(self.config.root, self.config.category, is_category=_is_category)
        if (folder / "validation").exists():
            raise DataError(
                f"{folder / 'validation'}: would not be read, as 3D-ADAM has no validation split; move it elsewhere, "
                "or set data.name=mvtec3d, which reads one"
            )
        name: Split = "test" if split == "test" else "train"
        keep = self.config.on_bad_sample == "skip"
        found = records_by_defect(
            folder / name,
            name,
            lambda part: pair_subfolders(
                part, _SUFFIXES, need_masks=part.name != GOOD, keep_incomplete=keep, marks=_MASKS
            ),
        )
        if split == "test":
            return found
        return hold_out(found, split, self.config)

    def read(self, record: SampleRecord, sensors: Sequence[str] | None = None) -> RawSample:
        """Decode ``sensors`` of one sample (all of them if None) and its mask, at their own resolution.

        Raises:
            DataError: a file is missing, truncated, of the wrong shape, dtype or unit, or holds no measurement;
                or two files of the sample differ in height and width.
            UnknownNameError: a sensor that this dataset does not have.
        """
        wanted = self.sensors if sensors is None else sensors
        return read_sample(record, self._read, wanted, registration=self.config.registration)

    def _read(self, sensor: str, path: Path) -> np.ndarray:
        if sensor == "rgb":
            return read_colour(path)
        return read_scan(path, scale=self.config.scale.get("xyz", 1.0), blank=self.config.on_blank_sensor == "missing")


def _is_category(folder: Path) -> bool:
    return any((folder / split).is_dir() for split in ("train", "test"))
