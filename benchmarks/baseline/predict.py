"""Scoring as published code does it: sample by sample, SciPy on the host, pixels in lists, scikit-learn's metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.baseline.data import sample_loader
from benchmarks.baseline.train import Baseline
from benchmarks.baseline_metrics import aupro
from crdkit.config.build import build_views
from crdkit.scoring.aggregations import Aggregation, aggregations
from crdkit.scoring.metrics import LIMITS
from crdkit.views.split import view_sample

FloatMap = NDArray[np.float64]


class Predictor:
    """Maps and scores of single samples, from a trained baseline."""

    def __init__(self, trained: Baseline) -> None:
        self.trained, self.config = trained, trained.config
        self.size = self.config.data.image_size
        self.views = build_views(self.config)
        self.aggregation: Aggregation = aggregations.build(
            self.config.aggregation, modalities=tuple(self.config.modalities)
        )
        trained.model.eval()

    @torch.no_grad()
    def raw_maps(self, images: Mapping[str, torch.Tensor]) -> dict[str, FloatMap]:
        """Return the unsmoothed (S, S) map of each branch, for a batch of one; each level is added on the host."""
        features = self.trained.features(images)
        maps = {}
        for name in self.trained.model.modalities:
            output = self.trained.model.branch(name)(features).output
            total = np.zeros((self.size, self.size))
            for teacher, student in zip(features[name], output, strict=True):
                distance = 1 - F.cosine_similarity(teacher, student)
                shape = (self.size, self.size)
                upsampled = F.interpolate(distance[:, None], size=shape, mode="bilinear", align_corners=True)
                total += upsampled[0, 0].cpu().numpy()
            maps[name] = total
        return maps

    def calibrate(self) -> None:
        """Let the aggregation learn from the validation split."""
        parts: dict[str, list[FloatMap]] = {name: [] for name in self.config.modalities}
        for sample in sample_loader(self.config, "validation"):
            for name, values in self.raw_maps(sample["images"]).items():
                parts[name].append(values)
        self.aggregation.calibrate({name: _tensor(np.stack(maps)) for name, maps in parts.items()})

    def fused_map(self, images: Mapping[str, torch.Tensor]) -> NDArray[np.float32]:
        """Return the fused, smoothed (S, S) map of a batch of one."""
        raw = {name: _tensor(values)[None] for name, values in self.raw_maps(images).items()}
        fused: NDArray[np.float32] = gaussian_filter(self.aggregation(raw)[0].numpy(), sigma=self.config.scoring.sigma)
        return fused

    def predict(self, sensors: Mapping[str, np.ndarray]) -> tuple[NDArray[np.float32], float]:
        """Return the anomaly map at the input's size, and the score, of one sample's raw sensors."""
        views = view_sample(self.views, sensors, image_size=self.size)
        fused = self.fused_map({name: view[None] for name, view in views.items()})
        shape = next(iter(sensors.values())).shape[:2]
        at_input_size = F.interpolate(torch.from_numpy(fused)[None, None], size=shape, mode="bilinear")
        return at_input_size[0, 0].numpy(), float(fused.max())


def evaluate(predictor: Predictor) -> dict[str, Any]:
    """Return ``{"metrics", "maps": (N, S, S), "scores": (N,)}`` of the test split."""
    labels: list[int] = []
    scores: list[float] = []
    pixel_labels: list[int] = []
    pixel_scores: list[float] = []
    maps, masks = [], []
    for sample in sample_loader(predictor.config, "test"):
        fused = predictor.fused_map(sample["images"])
        mask = sample["mask"][0].numpy()
        labels.append(int(sample["label"]))
        scores.append(float(fused.max()))
        pixel_labels.extend(mask.astype(int).ravel())
        pixel_scores.extend(fused.ravel())
        maps.append(fused)
        masks.append(mask)
    stacked, regions = np.stack(maps), np.stack(masks)
    metrics = {
        "image_auroc": float(roc_auc_score(labels, scores)),
        "image_ap": float(average_precision_score(labels, scores)),
        "pixel_auroc": float(roc_auc_score(pixel_labels, pixel_scores)),
        "pixel_ap": float(average_precision_score(pixel_labels, pixel_scores)),
    }
    metrics |= {f"aupro_{limit:.2f}": aupro(stacked, regions, limit) for limit in LIMITS}
    return {"metrics": metrics, "maps": stacked, "scores": np.array(scores)}


def _tensor(values: FloatMap) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))
