"""Made-up runs with decisions for the browser, and what tests ask of any page."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage
from test_report import make

from crdkit.scoring.regions import find_regions
from crdkit.scoring.table import Verdict

LABELS = [0] * 10 + [1] * 14


def decided_run(modalities=("rgb", "depth"), *, seed=0, threshold=1.0, side=48, present=None):
    """Return a report's data: 24 samples, of which some are judged wrongly, with regions and attributions."""
    rng = np.random.default_rng(seed)
    data = make(modalities, labels=LABELS, side=side)
    scores = np.where(data.labels, rng.uniform(0.85, 2.2, len(LABELS)), rng.uniform(0.4, 1.15, len(LABELS)))
    field = np.stack([ndimage.gaussian_filter(rng.random((side, side)), 3) for _ in LABELS])
    maps = (field - field.min()) / (field.max() - field.min()) * scores[:, None, None] * 0.6 + data.masks * 0.4
    maps *= scores[:, None, None] / maps.max(axis=(1, 2), keepdims=True)
    branches = {name: np.roll(maps, 9 * place, axis=1) for place, name in enumerate(modalities)}
    shares = dict(zip(modalities, np.full(len(modalities), 1 / len(modalities)).tolist(), strict=True))
    judged = []
    for fused in maps:
        mask = fused > threshold
        judged.append(
            Verdict(
                label=bool(fused.max() > threshold),
                threshold=threshold,
                p_value=0.04 if fused.max() > threshold else 0.5,
                mask=mask,
                pixel_threshold=threshold,
                regions=find_regions(mask, fused, dict.fromkeys(modalities, fused)),
                attribution=shares if fused.max() > threshold else None,
                attribution_paths=None,
                attribution_sensors=None,
            )
        )
    scores = maps.max(axis=(1, 2))
    return dataclasses.replace(
        data, maps=maps, branch_maps=branches, scores=scores, decided=judged, present=present, history=[]
    )


def overflow(page) -> int:
    """Return by how many pixels a page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


def shown(page) -> list[str]:
    """Return the names of the samples in the grid, in order."""
    return page.locator("#grid .id").all_text_contents()


def chosen(page) -> str:
    """Return the name of the sample in the viewer."""
    return page.locator("#viewer-link").text_content()


def settle(page) -> None:
    """Wait until what was asked for in this frame is drawn."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
