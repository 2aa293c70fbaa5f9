"""Detectors and predictions as a notebook shows them: small, and with every name escaped."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from crdkit.report.gallery import Scale, encode, heat
from crdkit.report.marks import mark_regions
from crdkit.report.wording import MAX_REGIONS, shares_in_words

if TYPE_CHECKING:
    from crdkit.detector.detector import Detector
    from crdkit.detector.prediction import Prediction

SIDE = 256
"""Longer side of the map, pixels."""


def prediction_html(found: Prediction) -> str:
    """Return the fused map, coloured from its median to its 99.8th percentile, with its regions, beside the scores."""
    height, width = found.anomaly_map.shape
    rows = {
        "file": found.image_path,
        "score": f"{found.score:.6g}",
        **{f"score {name}": f"{score:.6g}" for name, score in found.scores.items()},
        "decision": None if found.label is None else _decision(found),
        "regions": _regions(found),
        "raised by": None if found.attribution is None else shares_in_words(found.attribution),
        "missing": ", ".join(found.missing),
        "size": f"{height} x {width}",
    }
    side = min(SIDE, max(height, width))
    picture = heat(found.anomaly_map, scale=Scale.of(found.anomaly_map), underlay=None, side=side)
    mask = found.mask
    if mask is not None and found.regions:
        modalities = [*found.maps, *found.missing]
        picture = mark_regions(picture, found.regions, mask, modalities=modalities)
    image = f'<img alt="anomaly map" src="{encode(picture, quality=80, sharp=True)}">'
    return f'<div style="display:flex;gap:1em">{image}{_table("Prediction", rows)}</div>'


def _regions(found: Prediction) -> str | None:
    if found.mask is None:
        return None
    places = [f"{region.box} {region.modality}" for region in found.regions[:MAX_REGIONS]]
    more = len(found.regions) - len(places)
    return "; ".join([*places, *([f"{more} more"] if more else [])]) or "none above the pixel threshold"


def _decision(found: Prediction) -> str:
    return f"{'anomalous' if found.label else 'normal'} (p {found.p_value:.3g})"


def detector_html(detector: Detector) -> str:
    """Return what a detector is made of, and the last epoch of its training if that is known."""
    config = detector.config
    rows = {
        "category": config.data.category,
        "sensors": ", ".join(detector.sensors),
        **{
            f"modality {name}": f"{branch.view.name}, seen by {branch.encoder.name}"
            for name, branch in config.modalities.items()
        },
        "image size": f"{config.data.image_size} x {config.data.image_size}",
        "device": str(detector.device),
        "epochs": f"{len(detector.history)}, last loss {detector.history[-1]['loss']:.4g}" if detector.history else "",
    }
    return _table("Detector", rows)


def _table(title: str, rows: Mapping[str, str | None]) -> str:
    cells = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows.items() if value
    )
    return f"<table><caption>{escape(title)}</caption>{cells}</table>"
