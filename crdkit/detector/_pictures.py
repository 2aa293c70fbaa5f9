"""Maps, masks and overlays of predictions, one file for each sample and kind, at the input's size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from crdkit.data import SampleRecord
from crdkit.detector.prediction import Prediction
from crdkit.report.gallery import Scale, heat
from crdkit.report.marks import MAX_MARKED, mark_regions
from crdkit.scoring.regions import Region

MAX_MAPS, MAX_VALUES = 4096, 512  # which set the colour scale of overlays
MAPS, BRANCHES, MASKS, OVERLAYS = "anomaly_maps", "branch_maps", "masks", "overlays"
KINDS = (MAPS, MASKS, OVERLAYS)
"""Folders of files by sample; those of `BRANCHES` lie in one folder more."""


class Drawn(NamedTuple):
    """What an overlay needs besides the files of its sample."""

    name: str
    """Of the files, without an ending."""
    regions: list[Region]
    """The highest of them."""


class Pictures:
    """Writes the maps of one sample after the other, and keeps what `colour` turns into overlays.

    Args:
        folder: where they go.
        under: where pictures are kept until they are coloured; it may be that of the overlays.
        total: how many samples there are.
        size: samples of a share, see `crdkit._core.shares`; the values of its first one are always kept.
    """

    def __init__(self, folder: Path, *, under: Path, total: int, size: int) -> None:
        self._folder, self._under, self._size = folder, under, size
        self._every = 1
        while self._every * MAX_MAPS < total:
            self._every *= 2
        self._share = -1
        self.drawn: list[Drawn] = []
        """Of the samples so far."""
        self.values: list[np.ndarray] = []
        """Some values of the fused map of some samples, for `colour`, in bounded memory."""

    def add(self, place: int, record: SampleRecord, picture: np.ndarray, found: Prediction) -> None:
        """Write a sample's maps and its mask, and keep its picture, (H, W, 3) uint8, and its ``place`` among all."""
        import tifffile

        name = file_name(record)
        tifffile.imwrite(_path(self._folder / MAPS, name, ".tiff"), found.anomaly_map)
        for modality, values in found.maps.items():
            tifffile.imwrite(_path(self._folder / BRANCHES / modality, name, ".tiff"), values)
        if found.mask is not None:
            _write_png(_path(self._folder / MASKS, name, ".png"), found.mask.astype(np.uint8) * np.uint8(255))
        _write_png(_path(self._under, name, ".png"), picture)
        if place % self._every == 0 or place // self._size != self._share:
            self._keep(found.anomaly_map)
        self._share = place // self._size
        self.drawn.append(Drawn(name, found.regions[:MAX_MARKED]))

    def _keep(self, values: np.ndarray) -> None:
        places = np.linspace(0, values.size - 1, min(MAX_VALUES * 8, values.size)).astype(np.intp)
        self.values.append(np.append(values.reshape(-1)[places][::8], values.max()))


def colour(
    folder: Path, drawn: Iterable[Drawn], *, under: Path, values: Sequence[np.ndarray], modalities: Sequence[str]
) -> None:
    """Turn kept pictures into overlays.

    Args:
        folder: with the maps and masks.
        drawn: the samples.
        under: where their pictures are.
        values: of `Pictures`, of all samples, in order.
        modalities: of the detector, in order.
    """
    import tifffile
    from PIL import Image

    scale = Scale.of(np.concatenate(list(values)))
    for name, regions in drawn:
        fused = np.asarray(tifffile.imread(_path(folder / MAPS, name, ".tiff")))
        with Image.open(_path(under, name, ".png")) as picture:
            pixels = np.asarray(picture)
        overlay = heat(fused, scale=scale, underlay=pixels, side=max(fused.shape))
        if regions:
            with Image.open(_path(folder / MASKS, name, ".png")) as picture:
                mask = np.asarray(picture) > 0
            overlay = mark_regions(overlay, regions, mask, modalities=modalities)
        _write_png(_path(folder / OVERLAYS, name, ".png"), overlay)


def _path(folder: Path, name: str, ending: str) -> Path:
    path = folder / f"{name}{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _write_png(path: Path, image: np.ndarray) -> None:
    from PIL import Image

    Image.fromarray(np.ascontiguousarray(image)).save(path)


def file_name(record: SampleRecord) -> str:
    """Return the sample's id as a path that stays below the output folder, without an ending."""
    parts = PurePosixPath(record.sample_id).parts
    return str(PurePosixPath(*("up" if part == ".." else part for part in parts if part != "/")))
