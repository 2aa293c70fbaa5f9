"""A user's own data: any sensors, in folders named after them or as a manifest describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from crdkit._core.registry import AbsolutePath
from crdkit.data import Dataset, RawSample, SampleRecord, Split, datasets, read_sample
from crdkit.data._folders import category_folder, require_root
from crdkit.data._own_data.arranged import Arranged
from crdkit.data._own_data.manifest import MANIFESTS, find_manifest, holds_data, manifest_of, read_manifest
from crdkit.data._own_data.table import Table
from crdkit.data.held_out import HeldOutConfig, describe_share, hold_out
from crdkit.data.images import describe
from crdkit.data.invalid import mark_invalid
from crdkit.data.parts import FilePart, read_part
from crdkit.data.scans import measured_scan
from crdkit.data.sensors import check_finite
from crdkit.errors import DataError, unknown_name


@datasets.register("folder")
class Folder(Dataset):
    """Reads your own data: one folder per sensor, or any arrangement that a manifest describes.

    Without a manifest: ``<root>[/<category>]/{train,validation,test}/{good,<defect>}/<sensor>/<name>.<ending>``, and
    for defective samples, all or none, ``test/<defect>/mask/<name>.png`` (or ``gt``). Sensors are named after their
    folders. Test samples without labels lie in ``test/<sensor>``. The files of a sample have the same name. Without
    ``validation`` a share of the training samples, chosen by the hash of their names, is held out.

    A manifest.yaml describes other arrangements:

        sensors:                  # in each folder below; * is what the files of a sample share
          rgb: "*/colour.png"
          thermal: "*/heat.tiff"
        masks: "*/label.png"      # optional: of the defective samples, not zero where defective
        train: [monday, tuesday]
        validation: wednesday     # optional
        test:                     # optional, by defect type; or "test: thursday" without labels
          good: thursday/fine
          scratch: thursday/scratched

    A manifest.csv lists one sample a line: a column ``split``, ``defect_type`` or ``label`` (0, 1 or empty), one column
    for each sensor with the path of its file, and ``mask``. Paths are relative to the data folder, and do not leave it.
    In both, ``file.tiff#page=2``, ``#channels=4`` or ``#channels=1-3`` is one sensor's part of a file of several.

    Files are PNG, JPEG, BMP, TIFF or NPY: images uint8 (H, W[, 3]) or uint16 (H, W), measurements float (H, W), and
    float (H, W, 3), which is a scan in metres. NaN means "not measured", and so does the value that ``invalid`` names;
    in a scan it becomes 0. ``scale`` brings other units to metres: ``data.scale.depth=0.001`` reads a depth camera's
    16-bit millimetres.

    Examples:
        >>> import tempfile
        >>> from crdkit.data.synthetic import write_folder
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     root = write_folder(Path(scratch, "scans"), categories=["gear"], train=3, test_per_defect=1, size=32)
        ...     dataset = Folder(Folder.Config(root=root, category="gear"))
        ...     names, counts = dataset.sensors, [len(dataset.records(split)) for split in ("train", "validation")]
        >>> names, counts
        (('rgb', 'infrared', 'xyz'), [3, 8])
    """

    class Config(HeldOutConfig):
        """Options of ``folder``."""

        name: str = "folder"
        manifest: AbsolutePath | None = Field(
            None,
            description=f"file that lists where samples lie; None: {' or '.join(MANIFESTS)} in the data folder, if any",
        )
        validation_seed: int | None = Field(
            None, ge=0, description="gives another such share; null: the names alone decide which it is"
        )
        scale: dict[str, Annotated[float, Field(gt=0)]] = Field(
            {}, description="metres per stored unit, by sensor; its values become float"
        )
        invalid: dict[str, float] = Field(
            {}, description='stored value that means "not measured", by sensor, e.g. -9999; its values become float'
        )

    config: Config

    @property
    def sensors(self) -> tuple[str, ...]:
        """Return the names in the manifest, or of the folders: "rgb" first, then by name.

        Raises:
            DataError: there is neither a manifest nor a folder of samples.
        """
        return self._samples().sensors

    @property
    def held_out(self) -> Mapping[str, Any] | None:
        """The share of the training samples that is held out; None if there is a validation split."""
        if self._samples().has("validation"):
            return None
        return describe_share(self.config)

    def records(self, split: Split) -> Sequence[SampleRecord]:
        """List the samples of ``split`` by defect type, folder and name.

        With ``on_bad_sample="skip"`` a sample that lacks a file is listed anyway, and `read` refuses it.

        Raises:
            DataError: a folder or file is missing, unpaired or out of place, or the manifest is wrong.
        """
        samples, keep = self._samples(), self.config.on_bad_sample == "skip"
        if split == "test" or samples.has("validation"):
            return samples.records(split, keep_incomplete=keep)
        normals = samples.records("train", keep_incomplete=keep)
        return hold_out(normals, split, self.config)

    def read(self, record: SampleRecord, sensors: Sequence[str] | None = None) -> RawSample:
        """Decode ``sensors`` of one sample (all of them if None) and its mask.

        Raises:
            DataError: a file is missing, truncated, of a shape or dtype that no modality reads, infinite, or a scan
                without measurements; or two files of the sample differ in height and width.
            UnknownNameError: a sensor that this dataset does not have.
        """

        def read(sensor: str, path: Path) -> np.ndarray:
            return self._read(sensor, path, record.parts.get(sensor))

        wanted = tuple(record.files) if sensors is None else sensors
        return read_sample(record, read, wanted, registration=self.config.registration)

    def _samples(self) -> Arranged | Table:
        """Return what lists the samples: the data folder's manifest, or its folders."""
        root, path = require_root(self.config.root), self.config.manifest
        folder = root
        if self.config.category is not None or not (path or holds_data(root)):
            folder = category_folder(root, self.config.category, is_category=holds_data)
        if path is None:
            path = find_manifest(folder)
        samples: Arranged | Table
        if path is not None and path.suffix.lower() == ".csv":
            samples = Table(path, folder)
        else:
            samples = Arranged(folder, manifest_of(folder) if path is None else read_manifest(path))
        for option in ("scale", "invalid"):
            for sensor in getattr(self.config, option):
                if sensor not in samples.sensors:
                    raise DataError(f"{folder}: data.{option}: {unknown_name('sensor', sensor, samples.sensors)}")
        return samples

    def _read(self, sensor: str, path: Path, part: FilePart | None) -> np.ndarray:
        array = read_part(path, part)
        scale, invalid = self.config.scale.get(sensor), self.config.invalid.get(sensor)
        if array.ndim == 3 and array.shape[2] == 1:
            array = array[..., 0]
        if invalid is not None and np.issubdtype(array.dtype, np.number):
            array = mark_invalid(array, invalid)
        if scale is not None and np.issubdtype(array.dtype, np.number):
            array = array.astype(np.float32) * np.float32(scale)
        floats = np.issubdtype(array.dtype, np.floating)
        shape = array.size and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3))
        if not shape or not (floats or array.dtype == np.uint8 or (array.dtype == np.uint16 and array.ndim == 2)):
            advice = f"give metres per unit, e.g. data.scale.{sensor}=0.001" if shape else "convert it"
            raise DataError(
                f"{path}: expected uint8 (H, W) or (H, W, 3), uint16 (H, W), or float (H, W) or (H, W, 3), found "
                f"{describe(array)}; {advice}"
            )
        if not floats:
            return array
        array = array.astype(np.float32, copy=False)
        if array.ndim == 3:
            return measured_scan(array, sensor=sensor, source=path, blank=self.config.on_blank_sensor == "missing")
        check_finite(array, source=path)
        return array
