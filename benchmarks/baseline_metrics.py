"""What published code does for the same numbers: scikit-learn on all pixels, and one full argsort per AU-PRO limit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score


def evaluate(maps: NDArray[np.float32], masks: NDArray[np.bool_], limits: Sequence[float]) -> dict[str, float]:
    """Compute pixel AUROC and AP and the exact AU-PRO at each limit of (N, H, W) maps and masks."""
    labels, scores = masks.ravel(), maps.ravel()
    result = {
        "pixel_auroc": float(roc_auc_score(labels, scores)),
        "pixel_ap": float(average_precision_score(labels, scores)),
    }
    return result | {f"aupro_{limit:.2f}": aupro(maps, masks, limit) for limit in limits}


def aupro(maps: NDArray[np.float32], masks: NDArray[np.bool_], limit: float) -> float:
    """Compute AU-PRO up to one limit: label the regions, argsort all pixels, cumulative sums, trapezoids."""
    gain = np.zeros(maps.shape)
    regions = 0
    for image, mask in enumerate(masks):
        labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
        for region in range(1, count + 1):
            pixels = labelled == region
            gain[image][pixels] = 1.0 / pixels.sum()
        regions += count

    order = np.argsort(maps.ravel())[::-1]
    ranked = maps.ravel()[order]
    fpr = np.cumsum(~masks.ravel()[order]) / np.count_nonzero(~masks)
    pro = np.cumsum(gain.ravel()[order]) / regions
    last_of_its_score = np.append(ranked[1:] != ranked[:-1], True)
    x = np.concatenate([[0.0], fpr[last_of_its_score]])
    y = np.concatenate([[0.0], pro[last_of_its_score]])

    inside = x <= limit
    x_in, y_in = x[inside], y[inside]
    if x_in[-1] < limit:
        following = len(x_in)
        share = (limit - x_in[-1]) / (x[following] - x_in[-1])
        y_limit = y_in[-1] + share * (y[following] - y_in[-1])
        x_in, y_in = np.append(x_in, limit), np.append(y_in, y_limit)
    return float(np.sum(np.diff(x_in) * (y_in[1:] + y_in[:-1]) / 2) / limit)
