"""Real-IAD D3: RGB, photometric stereo and organised XYZ scans, as its JSON files list them or in folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from crdkit._core.registry import AbsolutePath
from crdkit.data import Dataset, RawSample, SampleRecord, Split, datasets, read_sample
from crdkit.data._folders import category_folder
from crdkit.data.adapters._colour import read_colour
from crdkit.data.adapters._real_iad_folders import folder_records, folder_sensors, has_folders
from crdkit.data.adapters._real_iad_lists import JSONS, SENSORS, listed_records
from crdkit.data.adapters._scan_files import read_scan
from crdkit.data.held_out import HeldOutConfig, describe_share, hold_out
from crdkit.errors import DataError, MissingSplitError

_RAW = "realiad_d3_raw"


@datasets.register("real_iad_d3")
class RealIADD3(Dataset):
    """Reads Real-IAD D3: photographs, photometric stereo and organised scans, in 20 categories.

    Listed: ``realiad_d3_jsons/<category>.json`` holds ``meta.prefix`` and the lists ``train``, ``validation`` and
    ``test`` with ``anomaly_class`` ("OK" is good, any other word is the defect type), ``image_path``, ``ps_path``,
    ``xyz_path`` and ``mask_path``, below ``realiad_d3_raw/<category>``. ``data.root`` is ``realiad_d3_raw``. Only the
    good samples of ``validation`` are used.

    In folders: ``<root>/<category>/<split>/{GOOD,<defect>}/{rgb/<id>/*RGB*.jpg,xyz/*.tiff,ps/*.jpg,gt/rgb/*.png}``. The
    files of a sample have its id in their names; of several photographs of one id the one of ``data.light`` is read.

    Sensors are "rgb" and "ps", uint8 (H, W, 3), the latter as it is stored, an image that codes normals; and "xyz",
    float32 (H, W, 3) in metres with 0 where nothing was measured. The unit of the files is not known to us:
    ``data.scale.xyz=0.001`` reads millimetres, and coordinates beyond 100 m are refused. Photographs (3648 x 5472) and
    scans (5328 x 3040) of the published files are not on one grid, and are refused together without
    ``data.registration``. Where there is no validation split, a share of the training samples is held out, see
    `crdkit.data.held_out`. The layouts are those of public loaders; no real file was read.
    Source: Zhu et al., Real-IAD D3 (arXiv 2504.14221).

    Examples:
        >>> import tempfile
        >>> from crdkit.data.synthetic import LAYOUTS
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     root = LAYOUTS["real_iad_d3"](
        ...         Path(scratch, "scans"), categories=["gear"], train=2, test_per_defect=1, size=32
        ...     )
        ...     dataset = RealIADD3(RealIADD3.Config(root=root / "realiad_d3_raw", category="gear"))
        ...     sample = dataset.read(dataset.records("test")[-1])
        >>> sample.record.defect_type, list(sample.sensors)
        ('broken', ['rgb', 'ps', 'xyz'])
    """

    class Config(HeldOutConfig):
        """Options of ``real_iad_d3``."""

        name: str = "real_iad_d3"
        jsons: AbsolutePath | None = Field(
            None, description=f"folder of the JSON files; null: {JSONS} beside data.root, or the folders without one"
        )
        light: str = Field("L05", description="in folders: part of the name of the photograph that is read, of several")
        scale: dict[Literal["xyz"], Annotated[float, Field(gt=0)]] = Field(
            {}, description="metres per stored unit, e.g. {xyz: 0.001} for millimetres"
        )

    config: Config

    @classmethod
    def looks_like(cls, folder: Path) -> bool:
        """Whether a JSON file lists the category, or there are folders ``GOOD``."""
        return (folder.parent.parent / JSONS / f"{folder.name}.json").is_file() or has_folders(folder)

    @classmethod
    def category_root(cls, folder: Path) -> Path:
        """Return ``realiad_d3_raw`` in ``folder``, if it is there."""
        return folder / _RAW if (folder / _RAW).is_dir() else folder

    @property
    def sensors(self) -> tuple[str, ...]:
        """Return ``("rgb", "ps", "xyz")``; in folders those of them that there are.

        Raises:
            DataError: the folder does not exist.
        """
        folder = self._folder()
        return SENSORS if self._json(folder).is_file() else folder_sensors(folder)

    @property
    def held_out(self) -> Mapping[str, Any] | None:
        """The share of the training samples that is held out; None if there is a validation split."""
        if self._has_validation():
            return None
        return describe_share(self.config)

    def records(self, split: Split) -> Sequence[SampleRecord]:
        """List the samples of ``split`` in the order of the JSON file, or by defect type and id.

        With ``on_bad_sample="skip"`` a sample that lacks a file is listed anyway, and `read` refuses it.

        Raises:
            DataError: root, category, split or a file is missing, unpaired or out of place, or the JSON file is wrong.
        """
        if split == "test" or self._has_validation():
            return self._listed(split)
        normals = self._listed("train")
        return hold_out(normals, split, self.config)

    def read(self, record: SampleRecord, sensors: Sequence[str] | None = None) -> RawSample:
        """Decode ``sensors`` of one sample (all of them if None) and its mask, at their own resolution.

        Raises:
            DataError: a file is missing, truncated, of the wrong shape, dtype or unit, or holds no measurement;
                or two files of the sample differ in height and width.
            UnknownNameError: a sensor that this dataset does not have.
        """
        wanted = tuple(record.files) if sensors is None else sensors
        return read_sample(record, self._read, wanted, registration=self.config.registration)

    def _read(self, sensor: str, path: Path) -> np.ndarray:
        if sensor != "xyz":
            return read_colour(path)
        return read_scan(path, scale=self.config.scale.get("xyz", 1.0), blank=self.config.on_blank_sensor == "missing")

    def _folder(self) -> Path:
        root = self.config.root and self.category_root(self.config.root)
        return category_folder(root, self.config.category, is_category=type(self).looks_like)

    def _json(self, folder: Path) -> Path:
        return (self.config.jsons or folder.parent.parent / JSONS) / f"{folder.name}.json"

    def _has_validation(self) -> bool:
        folder = self._folder()
        if self._json(folder).is_file():
            try:
                return bool(self._listed("validation"))
            except MissingSplitError:
                return False
        return (folder / "validation").is_dir()

    def _listed(self, split: Split) -> list[SampleRecord]:
        folder, keep = self._folder(), self.config.on_bad_sample == "skip"
        path = self._json(folder)
        if path.is_file():
            return listed_records(path, folder, split, keep_incomplete=keep)
        if has_folders(folder):
            return folder_records(folder, split, light=self.config.light, keep_incomplete=keep)
        raise DataError(
            f"{folder}: neither {path} lists the category, nor are there folders train/GOOD; set data.root to {_RAW}, "
            f"beside which {JSONS} lies, or data.jsons to the folder of the JSON files"
        )
