"""From prepared samples to predictions: the engine, built when first used, and its results on the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from crdkit._core.capture import CudaCapture
from crdkit._core.shared_lock import SharedLock
from crdkit.detector._engine import Engine
from crdkit.detector._finite import FUSED, extremes_on_host, require_finite
from crdkit.detector._samples import PreparedSample
from crdkit.detector.prediction import Prediction
from crdkit.model.crd import CRD
from crdkit.scoring.scorer import Scorer
from crdkit.scoring.thresholds import Thresholds
from crdkit.views import View

Finish = Callable[[Sequence[Prediction], Mapping[str, torch.Tensor], Engine], list[Prediction]]
"""Turns the predictions of a batch, whose views it is given, into what is returned."""


class Predictor:
    """Predicts samples with the engine of a detector; may be called from several threads.

    Predictions run beside each other, except captured ones: those share the buffers of their CUDA graph, and each has
    them alone until its results are on the host. `to` and `compile` wait for predictions, and these for them.

    Args:
        model: the trained CRD.
        scorer: the calibrated aggregation, the smoothing and the image score.
        views: by modality.
        graph: whether a GPU replays CUDA graphs.
    """

    def __init__(self, model: CRD, scorer: Scorer, *, views: Mapping[str, View], graph: bool) -> None:
        self.engine: Engine | None = None  # built when first used
        self._model = model
        self._scorer = scorer
        self._views = views
        self._graph = graph
        self._using, self._building = SharedLock(), SharedLock()

    def __call__(
        self, samples: Sequence[PreparedSample], inputs: Callable[[str], torch.Tensor], finish: Finish
    ) -> list[Prediction]:
        """Return the predictions of samples whose (B, C, S, S) views ``inputs`` returns by modality.

        Raises:
            CrdkitError: a map is not finite.
        """
        views: dict[str, torch.Tensor] = {}

        def kept(name: str) -> torch.Tensor:
            views[name] = inputs(name)
            return views[name]

        with self._using.shared():
            engine = self.ready()
            if not engine.captures:
                return finish(_predict(engine, samples, kept), views, engine)
        views.update({name: inputs(name) for name in self._model.modalities})  # of several threads at a time
        with self._using.alone():
            engine = self.ready()
            return finish(_predict(engine, samples, views.__getitem__), views, engine)

    def to(self, device: torch.device) -> None:
        """Move the model and the scorer, and build the engine anew when it is next used."""
        with self._using.alone():
            self._model.to(device)
            self._scorer.to(device)
            self.engine = None

    def compile(self) -> None:
        """Let ONNX Runtime run the networks on a CPU; on a GPU nothing changes.

        Raises:
            ConfigError: see `Detector.compile`.
            CrdkitError: see `Detector.compile`.
        """
        with self._using.alone():
            if self._scorer.device.type == "cpu":
                self.ready().compile()

    def ready(self) -> Engine:
        """Return the engine, which is built if there is none."""
        with self._building.alone():
            if self.engine is None:
                device = self._scorer.device
                graph = self._graph and device.type == "cuda"
                # other threads of the program may use the device meanwhile
                capture = CudaCapture(device, mode="thread_local") if graph else None
                self.engine = Engine(self._model, self._scorer, views=self._views, fold=True, capture=capture)
            return self.engine


def _predict(
    engine: Engine, samples: Sequence[PreparedSample], inputs: Callable[[str], torch.Tensor]
) -> list[Prediction]:
    present = {
        name: torch.tensor([name not in sample.missing for sample in samples], device=engine.device)
        for name in engine.branches
    }
    maps = engine(inputs, present if any(sample.missing for sample in samples) else None)
    extremes = extremes_on_host({FUSED: maps.anomaly_map, **maps.branches})
    require_finite(extremes, lambda row: samples[row].name)
    image_scores = maps.pred_score.tolist()
    scores = {name: found[0].tolist() for name, found in extremes.items()}
    return [
        Prediction(
            anomaly_map=_resized(maps.anomaly_map[row], sample),
            score=image_scores[row],
            maps={
                name: _resized(values[row], sample)
                for name, values in maps.branches.items()
                if name not in sample.missing
            },
            scores={name: scores[name][row] for name in maps.branches if name not in sample.missing},
            missing=sample.missing,
            image_path=sample.image_path,
        )
        for row, sample in enumerate(samples)
    ]


def judge(found: Sequence[Prediction], thresholds: Thresholds | None) -> list[Prediction]:
    """Compare scores with the thresholds for the modalities that each sample has; without some nothing is decided."""
    return [
        prediction
        if thresholds is None
        else replace(prediction, **thresholds.decide(tuple(prediction.maps), prediction.score)._asdict())
        for prediction in found
    ]


def _resized(values: torch.Tensor, sample: PreparedSample) -> np.ndarray:
    """Return an (S, S) map at the size of the sample's raw sensors."""
    size = (sample.height, sample.width)
    resized = F.interpolate(values[None, None], size=size, mode="bilinear", align_corners=False)
    array: np.ndarray = resized[0, 0].cpu().numpy()
    return array
