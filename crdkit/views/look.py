"""A look at the views of a dataset that is checked, before any training."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import torch

from crdkit.data import Dataset, RawSample, SampleRecord
from crdkit.data.findings import Finding
from crdkit.data.statistics import SensorSummary
from crdkit.errors import DataError
from crdkit.views import View
from crdkit.views.depth import Depth
from crdkit.views.oddities import find_oddities
from crdkit.views.single_channel import SingleChannel
from crdkit.views.split import view_sample
from crdkit.views.summary import SampleSummary, summarise

_LIKE_DEPTH = re.compile("depth|height|range|tof|disparity|profile", re.IGNORECASE)
_SIZE = 64  # pixels: enough to see that there is nothing to see


class LookAtViews:
    """Looks at the views that samples would be trained on; for `crdkit.data.check.check_dataset`.

    Args:
        views: by modality; None: those that the sensors suggest, "depth" of a scan, a sensor "depth" or one in
            metres, and "single_channel" of integers.
        metres: sensors that `data.scale` brings to metres.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from crdkit.data.check import check_dataset
        >>> from crdkit.data.adapters.mvtec3d import MVTec3D
        >>> from crdkit.data.synthetic import write_mvtec3d
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     root = write_mvtec3d(Path(scratch, "scans"), categories=["gear"], train=2, test_per_defect=1, size=32)
        ...     found = check_dataset(MVTec3D(MVTec3D.Config(root=root, category="gear")), look=LookAtViews())
        >>> found.count("error"), found.count("warning")
        (0, 0)
    """

    def __init__(self, views: Mapping[str, View] | None = None, *, metres: Collection[str] = ()) -> None:
        self._views = views
        self._metres = metres
        self.normal: dict[str, list[SensorSummary]] = {}
        """By sensor, after `findings`: the samples of the training and validation split that measured something."""

    def sample(self, sample: RawSample) -> tuple[SampleSummary, str]:
        """Return what a sample's sensors and views hold, and why a suggested view cannot be made of it, if so.

        Raises:
            DataError: a given view cannot be made of it; the message starts with the sensor's file.
        """
        views = suggested_views(sample.sensors, metres=self._metres) if self._views is None else self._views
        seen: dict[str, torch.Tensor] = {}
        why = ""
        for name, view in views.items():
            try:
                seen |= view_sample({name: view}, sample.sensors, image_size=_SIZE)
            except DataError as error:
                if self._views is not None:
                    path = sample.record.files.get(view.sensors[0], sample.record.image_path)
                    raise DataError(f"{path}: modality {name!r}: {error}") from error
                why = why or f"as the modality {view.config.name!r}: {error}"
        return summarise(sample, seen), why

    def findings(
        self, dataset: Dataset, kept: Sequence[tuple[SampleRecord, tuple[SampleSummary, str]]]
    ) -> Iterable[Finding]:
        """Return the oddities of the normal splits, how the test split differs from them, and turned images."""
        refused = [(record, why) for record, (_, why) in kept if why]
        if refused:
            record, why = refused[0]
            others = f" (the first of {len(refused)} samples)" if len(refused) > 1 else ""
            yield Finding(severity="warning", path=record.image_path, message=f"{why}{others}")
        samples = [(record, summary) for record, (summary, _) in kept]
        self.normal = {}
        for sensor, found in (pair for record, s in samples if record.split != "test" for pair in s.sensors.items()):
            if found.measured:
                self.normal.setdefault(sensor, []).append(found)
        views = self._views
        if views is None:
            views = {name: view for _, summary in samples for name, view in self._views_of(summary).items()}
        yield from find_oddities(samples, views=views, data=dataset.config, configured=self._views is not None)

    def _views_of(self, summary: SampleSummary) -> dict[str, View]:
        return {
            name: view
            for name, found in summary.sensors.items()
            if (view := _view(name, found.kind, channels=found.channels, metres=name in self._metres))
        }


def is_like_depth(sensor: str) -> bool:
    """Whether a sensor's name says that it measures distances.

    Examples:
        >>> is_like_depth("tof"), is_like_depth("thermal")
        (True, False)
    """
    return _LIKE_DEPTH.search(sensor) is not None


def suggested_views(sensors: Mapping[str, np.ndarray], *, metres: Collection[str] = ()) -> dict[str, View]:
    """Return a view of each sensor whose kind is plain: scans, depth, one channel of integers.

    Args:
        sensors: of one sample.
        metres: sensors that `data.scale` brings to metres.

    Examples:
        >>> sorted(suggested_views({"rgb": np.zeros((4, 4, 3), np.uint8), "xyz": np.ones((4, 4, 3))}))
        ['xyz']
    """
    return {
        name: view
        for name, array in sensors.items()
        if (
            view := _view(
                name,
                "float" if array.dtype.kind == "f" else array.dtype.name,
                channels=array.shape[2] if array.ndim == 3 else 1,
                metres=name in metres,
            )
        )
    }


def _view(sensor: str, kind: str, *, channels: int, metres: bool) -> View | None:
    if kind == "float" and (channels == 3 or sensor == "depth" or metres):
        return Depth(Depth.Config(sensor=sensor))
    if kind != "float" and channels == 1 and (kind == "uint8" or not is_like_depth(sensor)):
        return SingleChannel(SingleChannel.Config(sensor=sensor))
    return None
