"""What a detector predicts for one sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from crdkit.scoring.regions import Region


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Prediction:
    """Result of one sample, as numpy arrays of the input's height and width.

    Two are equal if all of their values are. A notebook shows the fused map and the scores.

    Examples:
        >>> maps = {"rgb": np.zeros((4, 6), np.float32), "depth": np.ones((4, 6), np.float32)}
        >>> found = Prediction(anomaly_map=sum(maps.values()), score=1.0, maps=maps, scores={"rgb": 0.0, "depth": 1.0})
        >>> found
        Prediction(score=1, scores={'rgb': 0, 'depth': 1}, size=(4, 6))
        >>> found.anomaly_map.shape, max(found.scores, key=found.scores.get)
        ((4, 6), 'depth')
        >>> list(found.to_dict(maps=False))[:5]
        ['image_path', 'pred_score', 'pred_label', 'threshold', 'p_value']
        >>> found.label, found.mask, found.regions, found.attribution
        (None, None, [], None)
    """

    anomaly_map: np.ndarray
    """(H, W) float32: fused and smoothed."""
    score: float
    """The image's anomaly score: the maximum of the fused map at the detector's own resolution."""
    maps: dict[str, np.ndarray]
    """By modality, (H, W) float32: smoothed, not normalised."""
    scores: dict[str, float] = field(default_factory=dict)
    """By modality: the maximum of its map at the detector's own resolution."""
    missing: tuple[str, ...] = ()
    """Modalities without a sensor; they have no map, and the others make up the fused one."""
    threshold: float | None = None
    """A higher score is anomalous; None if the detector knows no normal samples with the modalities of this one."""
    p_value: float | None = None
    """Share of normal samples that score as high or higher, this one included; None as ``threshold``."""
    pixel_threshold: float | None = None
    """Pixels of the fused map above it are anomalous; None as ``threshold``."""
    regions: list[Region] = field(default_factory=list)
    """Regions of the mask, the highest first; none without a mask, and none if no pixel is above the threshold."""
    attribution: dict[str, float] | None = None
    """Which modality raised an alarm, in shares that sum to 1 (`crdkit.scoring.attribution`): what came through its own
    branch, and through its amplifiers into others. None where no alarm is, see `Detector.attribution`."""
    attribution_paths: dict[str, dict[str, float]] | None = None
    """The same by modality and branch: ``["rgb"]["depth"]`` came from rgb through its amplifier into depth's branch."""
    attribution_sensors: dict[str, float] | None = None
    """The same by sensor: modalities that see one sensor are added up; "a+b" is a modality that sees two."""
    image_path: str | None = None
    """The sample's first file, if it was read from files."""

    @property
    def label(self) -> bool | None:
        """Whether the score is above the threshold: the sample is anomalous. None without a threshold."""
        return None if self.threshold is None else bool(self.score > self.threshold)

    @property
    def mask(self) -> np.ndarray | None:
        """(H, W) bool: the pixels of the fused map above the pixel threshold; None without one.

        The map is compared at the input's size. Resizing never exceeds the map's maximum, so a sample whose map stays
        below the threshold at the detector's own resolution has no such pixel.
        """
        return None if self.pixel_threshold is None else np.greater(self.anomaly_map, self.pixel_threshold)

    def to_dict(self, *, maps: bool = True) -> dict[str, Any]:
        """Return plain values, ready for `json.dumps`, under anomalib's names where one exists.

        Args:
            maps: whether ``anomaly_map`` and ``maps``, by modality, are in it: lists of H rows of W numbers, some
                megabytes of text for a large image.
        """
        arrays = {
            "anomaly_map": self.anomaly_map.tolist(),
            "maps": {name: values.tolist() for name, values in self.maps.items()},
        }
        return {
            "image_path": self.image_path,
            "pred_score": float(self.score),
            "pred_label": self.label,
            "threshold": self.threshold,
            "p_value": self.p_value,
            "pred_scores": {name: float(score) for name, score in self.scores.items()},
            "missing": list(self.missing),
            "pixel_threshold": self.pixel_threshold,
            "regions": [region.to_dict() for region in self.regions],
            "attribution": self.attribution,
            "attribution_paths": self.attribution_paths,
            "attribution_sensors": self.attribution_sensors,
            **(arrays if maps else {}),
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prediction):
            return NotImplemented
        return all(_same(getattr(self, part.name), getattr(other, part.name)) for part in fields(self))

    __hash__ = None  # type: ignore[assignment]  # its arrays can be changed

    def __repr__(self) -> str:
        scores = ", ".join(f"{name!r}: {score:.6g}" for name, score in self.scores.items())
        missing = f", missing={self.missing!r}" if self.missing else ""
        label = "" if self.label is None else f"label={self.label}, "
        return f"Prediction(score={self.score:.6g}, {label}scores={{{scores}}}, size={self.anomaly_map.shape}{missing})"

    def _repr_html_(self) -> str:
        from crdkit.detector._display import prediction_html

        return prediction_html(self)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())
    return bool(one == other)
