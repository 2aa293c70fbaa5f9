"""The metrics of metrics.json as they are printed: their names, their groups, and the tables that show them."""

from __future__ import annotations

import math

METRICS = {
    "image_auroc": ("Image", "I-AUROC"),
    "image_ap": ("Image", "I-AP"),
    "image_f1_max": ("Image", "I-F1-max"),
    "pixel_auroc": ("Pixel", "P-AUROC"),
    "pixel_ap": ("Pixel", "P-AP"),
    "pixel_f1_max": ("Pixel", "P-F1-max"),
    "aupro_0.30": ("Region", "AU-PRO@30%"),
    "aupro_0.10": ("Region", "AU-PRO@10%"),
    "aupro_0.05": ("Region", "AU-PRO@5%"),
    "aupro_0.01": ("Region", "AU-PRO@1%"),
}
"""Group and name by key."""
HEADLINE = ("image_auroc", "pixel_auroc", "image_ap", "pixel_ap", "aupro_0.30")
"""The metrics that a report opens with."""
COLUMNS = (*HEADLINE, "aupro_0.01")
"""Columns of the tables of one run and of several."""
MISSING = "\N{EN DASH}"
"""Stands for what cannot be computed."""


def label(key: str) -> str:
    """Return the field's name of a key in metrics.json.

    Examples:
        >>> label("image_auroc"), label("aupro100t_0.05")
        ('I-AUROC', 'AU-PRO@5% (100 thresholds)')
    """
    kind, _, limit = key.partition("_")
    if kind == "aupro100t":
        return f"AU-PRO@{100 * float(limit):g}% (100 thresholds)"
    return METRICS.get(key, ("", key))[1]


def percent(value: float | None) -> str:
    """Return a fraction as percent with one decimal, or an en dash if there is none.

    Examples:
        >>> percent(0.9876), percent(None) == MISSING
        ('98.8', True)
    """
    return f"{100 * value:.1f}" if value is not None and math.isfinite(value) else MISSING
