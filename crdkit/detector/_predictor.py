"""From prepared samples to predictions: the engine, built when first used, and its results on the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from crdkit._core.capture import CudaCapture
from crdkit._core.device import to_device
from crdkit._core.parallel import together
from crdkit._core.shared_lock import SharedLock
from crdkit.detector._engine import Engine
from crdkit.detector._finite import FUSED, extremes_on_host, require_finite
from crdkit.detector._kept import KeptNetworks
from crdkit.detector._outputs import maps_on_host
from crdkit.detector._samples import PreparedSample
from crdkit.detector.prediction import Prediction
from crdkit.model.crd import CRD
from crdkit.model.layers import Presence
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
        # of several threads at a time, while the device works for another
        views.update(zip(self._model.modalities, together(inputs, self._model.modalities), strict=True))
        with self._using.alone():
            engine = self.ready()
            return finish(_predict(engine, samples, views.__getitem__), views, engine)

    def to(self, device: torch.device) -> None:
        """Move the model and the scorer, and build the engine anew when it is next used."""
        with self._using.alone():
            self._model.to(device)
            self._scorer.to(device)
            self.engine = None

    def compile(self, kept: KeptNetworks | None) -> None:
        """Let ONNX Runtime run the networks on a CPU; on a GPU nothing changes.

        Args:
            kept: see `Engine.compile`.

        Raises:
            ConfigError: see `Detector.compile`.
            CrdkitError: see `Detector.compile`.
        """
        with self._using.alone():
            if self._scorer.device.type == "cpu":
                self.ready().compile(kept)

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
    maps = engine(inputs, _presence(samples, engine))
    shown = {FUSED: maps.anomaly_map, **maps.branches}
    extremes = extremes_on_host(shown)
    require_finite(extremes, lambda row: samples[row].name)
    image_scores = maps.pred_score.tolist()
    scores = {name: found[0].tolist() for name, found in extremes.items()}
    return [
        Prediction(
            anomaly_map=on_host.pop(FUSED),
            score=image_scores[row],
            maps=on_host,
            scores={name: scores[name][row] for name in maps.branches if name not in sample.missing},
            missing=sample.missing,
            image_path=sample.image_path,
        )
        for row, (sample, on_host) in enumerate(zip(samples, maps_on_host(shown, samples), strict=True))
    ]


def _presence(samples: Sequence[PreparedSample], engine: Engine) -> Presence | None:
    """Return which samples have each modality, in one copy to the device; None, and no copy, if nothing is missing."""
    if not any(sample.missing for sample in samples):
        return None
    flags = torch.tensor([[name not in sample.missing for sample in samples] for name in engine.branches])
    return dict(zip(engine.branches, to_device(flags, engine.device), strict=True))


def judge(found: Sequence[Prediction], thresholds: Thresholds | None) -> list[Prediction]:
    """Compare scores with the thresholds for the modalities that each sample has; without some nothing is decided."""
    return [
        prediction
        if thresholds is None
        else replace(prediction, **thresholds.decide(tuple(prediction.maps), prediction.score)._asdict())
        for prediction in found
    ]
