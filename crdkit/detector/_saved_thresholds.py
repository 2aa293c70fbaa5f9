"""Thresholds in a detector's config.json, with hashes of what they were made from."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, FiniteFloat

from crdkit._core.registry import StrictConfig
from crdkit.errors import DetectorFormatError, shorten
from crdkit.scoring.conformal import Normals, Rule, Threshold
from crdkit.scoring.thresholds import Modalities, Thresholds

_MADE_FROM = ("modalities", "graph", "student", "aggregation", "scoring")  # keys of the configuration
_NOT_MADE_FROM = ("false_alarms", "sampled_thresholds")  # of its scoring

_logger = logging.getLogger(__name__)


class _Cut(StrictConfig):
    """A threshold for a set of modalities; all but the scores of the normal samples is for people who read the file."""

    modalities: tuple[str, ...]
    rule: Rule
    n: int
    rate: FiniteFloat
    threshold: FiniteFloat
    extrapolated: bool
    normals: tuple[FiniteFloat, ...] = Field(min_length=1)


class SavedThresholds(StrictConfig):
    """The entry ``thresholds`` of config.json."""

    false_alarms: Annotated[float, Field(gt=0, le=0.5)]
    extrapolate: bool
    made_from: dict[str, str]
    """SHA-256 of the normal samples (``normals``), of model.safetensors (``weights``) and of what else maps and scores
    depend on in the configuration (``config``)."""
    image: tuple[_Cut, ...]
    pixels: tuple[_Cut, ...]


def to_json(thresholds: Thresholds, *, config: Mapping[str, Any], weights: str) -> dict[str, Any]:
    """Return the entry of thresholds.

    Args:
        thresholds: of the detector.
        config: the entry ``config``.
        weights: SHA-256 of model.safetensors.
    """
    return {
        "false_alarms": thresholds.false_alarms,
        "extrapolate": thresholds.extrapolate,
        "made_from": {"normals": thresholds.sha256, "weights": weights, "config": _sha256(config)},
        "image": [_cut(*entry, thresholds.scores) for entry in thresholds.images.items()],
        "pixels": [_cut(*entry, thresholds.peaks) for entry in thresholds.pixels.items()],
    }


def from_json(saved: SavedThresholds, *, config: Mapping[str, Any], weights: str, where: str) -> Thresholds | None:
    """Return the thresholds of an entry; None if the weights or the configuration beside them are others.

    Args:
        saved: the entry.
        config: the entry ``config`` of the same file.
        weights: the checksum of model.safetensors in it.
        where: the file, for messages.

    Raises:
        DetectorFormatError: a threshold is not that of its normal samples, or of modalities that there are not.
    """
    known = list(config.get("modalities", {}))
    found = Thresholds(
        scores={cut.modalities: Normals(cut.normals, rule=cut.rule) for cut in saved.image},
        peaks={cut.modalities: Normals(cut.normals, rule=cut.rule) for cut in saved.pixels},
        false_alarms=saved.false_alarms,
        extrapolate=saved.extrapolate,
        sha256=saved.made_from.get("normals", ""),
    )
    for key, written, made in (("image", saved.image, found.images), ("pixels", saved.pixels, found.pixels)):
        for cut in written:
            if not cut.modalities or list(cut.modalities) != [name for name in known if name in cut.modalities]:
                problem = (
                    f"modalities {shorten(repr(list(cut.modalities)))} are not some of those there are, in that order"
                )
            elif len(written) != len(made) or not _same(cut, made[cut.modalities]):
                problem = f"n, rate and threshold of {shorten('+'.join(cut.modalities))} do not follow from its normals"
            else:
                continue
            raise DetectorFormatError(f"{where}: is damaged: thresholds.{key}: {problem}; copy the detector again")
    if (saved.made_from.get("weights"), saved.made_from.get("config")) != (weights, _sha256(config)):
        _logger.warning(
            "%s: its thresholds were made with other weights or another scoring, so they are left out: set them again "
            "with `crdkit decide --normals`",
            where,
        )
        return None
    return found


def _cut(modalities: Modalities, found: Threshold, normals: Mapping[Modalities, Normals]) -> dict[str, Any]:
    return {
        "modalities": list(modalities),
        "rule": found.rule,
        "n": found.normals,
        "rate": found.rate,
        "threshold": found.value,
        "extrapolated": found.extrapolated,
        "normals": list(normals[modalities].values),
    }


def _same(cut: _Cut, made: Threshold) -> bool:
    return (cut.n, cut.extrapolated) == (made.normals, made.extrapolated) and all(
        math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-12)
        for one, other in ((cut.rate, made.rate), (cut.threshold, made.value))
    )


def _sha256(config: Mapping[str, Any]) -> str:
    """Return the hash of what maps and scores depend on in a configuration, as it was written."""
    made_from = {key: config.get(key) for key in _MADE_FROM}
    scoring = config.get("scoring")
    if isinstance(scoring, dict):
        made_from["scoring"] = {key: value for key, value in scoring.items() if key not in _NOT_MADE_FROM}
    data = config.get("data")
    made_from["image_size"] = data.get("image_size") if isinstance(data, dict) else None
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
