"""A decision in words, for terminals, notebooks and reports."""

from __future__ import annotations

from collections.abc import Mapping

from crdkit.scoring.regions import Region
from crdkit.scoring.table import Judged

MAX_REGIONS = 10


def shares_in_words(shares: Mapping[str, float]) -> str:
    """Return shares as percentages, the largest first.

    Examples:
        >>> shares_in_words({"rgb": 0.124, "depth": 0.876})
        'depth 88 %, rgb 12 %'
    """
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in sorted(shares.items(), key=lambda item: -item[1]))


def paths_in_words(paths: Mapping[str, Mapping[str, float]]) -> str:
    """Return what came through the amplifier into another branch; empty if it rounds to nothing.

    Examples:
        >>> paths_in_words({"rgb": {"rgb": 0.6, "depth": 0.14}, "depth": {"depth": 0.26, "rgb": 0.001}})
        '14 % from rgb through the branch of depth'
    """
    parts = [
        (share, f"{100 * share:.0f} % from {name} through the branch of {branch}")
        for name, through in paths.items()
        for branch, share in through.items()
        if branch != name and share >= 0.005
    ]
    return ", ".join(text for _, text in sorted(parts, key=lambda part: -part[0]))


def count_in_words(found: Judged) -> str:
    """Return how many regions there are, in words."""
    count = len(found.regions)
    return f"{count or 'no'} region{'s' if count > 1 else ''}"


def region_in_words(region: Region) -> str:
    """Return where a region is, how large and how high, and which modality is most surprised there.

    Examples:
        >>> region_in_words(Region(box=(4, 10, 9, 16), area=21, peak=(6, 12), score=3.5, modality="rgb"))
        'rows 4 to 8, columns 10 to 15: 21 pixels, highest 3.5 at row 6, column 12, rgb most surprised'
    """
    top, left, bottom, right = region.box
    row, column = region.peak
    pixels = "1 pixel" if region.area == 1 else f"{region.area} pixels"
    return (
        f"rows {top} to {bottom - 1}, columns {left} to {right - 1}: {pixels}, "
        f"highest {region.score:.6g} at row {row}, column {column}, {region.modality} most surprised"
    )


def reasons(found: Judged) -> list[str]:
    """Return in lines where the anomalies of a sample are and what raised them; none if nothing is known or wrong.

    Examples:
        >>> import numpy as np
        >>> from crdkit import Prediction
        >>> maps = {"rgb": np.ones((4, 6), np.float32)}
        >>> alarm = Prediction(anomaly_map=maps["rgb"], maps=maps, score=1.0, threshold=0.5, pixel_threshold=2.0)
        >>> reasons(alarm)
        ['no region above the pixel threshold 2']
    """
    lines = []
    count = len(found.regions)
    if count or (found.label and found.pixel_threshold is not None):
        lines.append(f"{count_in_words(found)} above the pixel threshold {found.pixel_threshold:.6g}")
        lines += [f"  {region_in_words(region)}" for region in found.regions[:MAX_REGIONS]]
        lines += [f"  and {count - MAX_REGIONS} more"] if count > MAX_REGIONS else []
    if found.attribution is not None:
        lines.append(f"raised by {shares_in_words(found.attribution)}")
        through = paths_in_words(found.attribution_paths or {})
        lines += [f"  of which {through}"] if through else []
        if found.attribution_sensors is not None and found.attribution_sensors.keys() != found.attribution.keys():
            lines.append(f"  by sensor: {shares_in_words(found.attribution_sensors)}")
    return lines
