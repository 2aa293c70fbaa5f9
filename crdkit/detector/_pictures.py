"""Maps, masks and overlays of predictions, one file for each sample and kind, at the input's size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from crdkit.data import SampleRecord
from crdkit.detector.prediction import Prediction
from crdkit.report.gallery import Scale, heat
from crdkit.report.marks import MAX_MARKED, mark_regions
from crdkit.scoring.regions import Region

MAX_MAPS, MAX_VALUES = 4096, 512  # which set the colour scale of overlays


class Pictures:
    """Writes the maps of one sample after the other; overlays are coloured once the scale of all is known.

    Args:
        folder: where they go.
        modalities: of the detector, in order.
    """

    def __init__(self, folder: Path, modalities: Sequence[str]) -> None:
        self._folder = folder
        self._modalities = modalities
        self._written: list[tuple[PurePosixPath, list[Region]]] = []
        self._values = _ValueSample()

    @property
    def count(self) -> int:
        """Number of samples so far."""
        return len(self._written)

    def add(self, record: SampleRecord, picture: np.ndarray, found: Prediction) -> None:
        """Write a sample's maps and its mask, and keep its picture, (H, W, 3) uint8, where the overlay will be."""
        import tifffile

        name = _file_name(record)
        tifffile.imwrite(self._path("anomaly_maps", name, ".tiff"), found.anomaly_map)
        for modality, values in found.maps.items():
            tifffile.imwrite(self._path(f"branch_maps/{modality}", name, ".tiff"), values)
        if found.mask is not None:
            _write_png(self._path("masks", name, ".png"), found.mask.astype(np.uint8) * np.uint8(255))
        _write_png(self._path("overlays", name, ".png"), picture)
        self._values.add(found.anomaly_map)
        self._written.append((name, found.regions[:MAX_MARKED]))

    def colour(self) -> None:
        """Turn the kept pictures into overlays."""
        import tifffile
        from PIL import Image

        scale = self._values.scale()
        for name, regions in self._written:
            path = self._path("overlays", name, ".png")
            values = np.asarray(tifffile.imread(self._path("anomaly_maps", name, ".tiff")))
            with Image.open(path) as picture:
                under = np.asarray(picture)
            overlay = heat(values, scale=scale, underlay=under, side=max(values.shape))
            if regions:
                with Image.open(self._path("masks", name, ".png")) as picture:
                    mask = np.asarray(picture) > 0
                overlay = mark_regions(overlay, regions, mask, modalities=self._modalities)
            _write_png(path, overlay)

    def _path(self, kind: str, name: PurePosixPath, ending: str) -> Path:
        path = self._folder / kind / name.parent / f"{name.name}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class _ValueSample:
    """A sample of the values of all maps so far, in bounded memory."""

    def __init__(self) -> None:
        self._stride, self._seen = 1, 0
        self._kept: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> None:
        if self._seen % self._stride == 0:
            places = np.linspace(0, values.size - 1, min(MAX_VALUES * 8, values.size)).astype(np.intp)
            self._kept.append(np.append(values.reshape(-1)[places][::8], values.max()))
        self._seen += 1
        if len(self._kept) > MAX_MAPS:
            self._kept, self._stride = self._kept[::2], 2 * self._stride

    def scale(self) -> Scale:
        return Scale.of(np.concatenate(self._kept))


def _write_png(path: Path, image: np.ndarray) -> None:
    from PIL import Image

    Image.fromarray(np.ascontiguousarray(image)).save(path)


def _file_name(record: SampleRecord) -> PurePosixPath:
    """Return the sample's id as a path that stays below the output folder."""
    return PurePosixPath(
        *("up" if part == ".." else part for part in PurePosixPath(record.sample_id).parts if part != "/")
    )
