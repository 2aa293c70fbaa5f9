"""Detector: a trained CRD with everything it needs to score a new sample; saved, loaded, used for prediction."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import crdkit
from crdkit.config import RunConfig
from crdkit.cuda_graph import CudaCapture
from crdkit.datasets import Sensors
from crdkit.decoding import in_order
from crdkit.detector_header import FORMAT, FORMAT_VERSION, read_header
from crdkit.errors import CrdkitError, DataError, DetectorFormatError
from crdkit.evaluation import Scorer
from crdkit.files import below, new_folder
from crdkit.inference import Inference, Prediction
from crdkit.layers import FeatureSpec
from crdkit.model import CRD
from crdkit.resident import build_views, stack_views, view_sample, visible
from crdkit.scans import check_sensors
from crdkit.training import select_device


@dataclass(frozen=True, kw_only=True)
class PreparedSample:
    """One sample as the detector's modalities see it."""

    height: int
    width: int
    """Of the raw sensors."""
    views: Mapping[str, torch.Tensor]
    """By modality that has its sensors, (C, S, S) float32 in [0, 1]."""
    missing: tuple[str, ...]
    """Modalities that have not."""


class Detector:
    """What users hold in their hands: made by `crdkit.fit` or `Detector.load`.

    Args:
        config: the run that made it.
        model: the trained CRD, teachers included.
        scorer: the calibrated aggregation and the smoothing.
    """

    def __init__(self, *, config: RunConfig, model: CRD, scorer: Scorer) -> None:
        self.config = config
        self.model = model.eval()
        self.scorer = scorer.eval()
        self.views = build_views(config)
        self._inference: Inference | None = None  # made when first used

    @property
    def device(self) -> torch.device:
        """The device that predictions run on."""
        return self.scorer.device

    @property
    def sensors(self) -> tuple[str, ...]:
        """Names of the raw sensors that `predict` needs, or can use, sorted."""
        return tuple(sorted({sensor for view in self.views.values() for sensor in view.sensors}))

    def to(self, device: str | torch.device) -> Detector:
        """Move to ``device`` and return self; call it too after you changed weights of `model` yourself.

        Raises:
            ConfigError: there is no such device here.
        """
        target = select_device(device) if isinstance(device, str) else device
        self.model.to(target)
        self.scorer.to(target)
        self._inference = None
        return self

    def compile(self) -> Detector:
        """Make later predictions on a CPU quicker, for some seconds now, and return self.

        Teachers and branches are exported, tried on random images, and run by ONNX Runtime from then on, with the
        threads that PyTorch has now. Values change by rounding only. Samples that lack a modality keep the branches
        they had, and on a GPU everything stays as it is: predictions are replayed CUDA graphs there. `to` undoes it.
        Warnings and what other threads print to standard error meanwhile are lost.

        Raises:
            ConfigError: PyTorch is too old, a package of the extra ``onnx`` is missing, or a network of your own cannot
                be exported; predictions stay as they were.
            CrdkitError: the temporary folder cannot be written.
        """
        if self.device.type == "cpu":
            self._ready().compile()
        return self

    def predict(self, sensors: Sensors) -> Prediction:
        """Find defects in one sample.

        Args:
            sensors: raw measurements by sensor name, e.g. ``{"rgb": (H, W, 3) uint8, "xyz": (H, W, 3) metres}``,
                all of one height and width; 0 or NaN where a scan measured nothing. A detector trained with
                ``training.modality_dropout`` does without some of them, if a modality has all of its own.

        Raises:
            DataError: a sensor is missing, differs in size, or is nothing that its modality reads.
        """
        missing, measured = self._checked(sensors)
        seen = {name: view for name, view in self.views.items() if name not in missing}
        size = self.config.data.image_size
        height, width = next(iter(measured.values())).shape[:2]

        def view(name: str) -> torch.Tensor:  # beside another modality's teacher
            return stack_views([seen[name](measured, image_size=size) if name in seen else None], size)

        sample = PreparedSample(height=height, width=width, views={}, missing=missing)
        return self._predict([sample], view)[0]

    def predict_batch(self, samples: Sequence[Sensors]) -> list[Prediction]:
        """Find defects in several samples at once, each as `predict` takes it; their sizes may differ.

        Raises:
            DataError: as `predict`; the message starts with the sample's place in the batch, counted from 0.
        """
        return self.predict_prepared([self._prepare(sample) for sample in enumerate(samples)])

    def predict_stream(
        self, samples: Iterable[Sensors], *, batch_size: int | None = None, workers: int | None = None
    ) -> Generator[Prediction, None, None]:
        """Find defects in samples without end: results come in order, and memory holds a few samples only.

        Views are made in threads, at most two samples per thread ahead, while the batches before are predicted.

        Args:
            samples: each as `predict` takes it; may be a generator that reads files.
            batch_size: samples at once; None for that of the training.
            workers: threads that make views; None for one per core, 8 at most.

        Raises:
            DataError: as `predict`; the message starts with the sample's place in the stream, counted from 0.
        """
        with closing(in_order(self._prepare, enumerate(samples), workers=workers)) as prepared:
            while batch := list(islice(prepared, batch_size or self.config.training.batch_size)):
                yield from self.predict_prepared(batch)

    def prepare(self, sensors: Sensors) -> PreparedSample:
        """Return one sample's views, for `predict_prepared`; may be called from any thread.

        Raises:
            DataError: as `predict`.
        """
        missing, measured = self._checked(sensors)
        height, width = next(iter(measured.values())).shape[:2]
        views = view_sample(self.views, measured, image_size=self.config.data.image_size)
        return PreparedSample(height=height, width=width, views=views, missing=missing)

    def predict_prepared(self, samples: Sequence[PreparedSample]) -> list[Prediction]:
        """Find defects in samples of which the views are made."""
        if not samples:
            return []
        size = self.config.data.image_size
        return self._predict(samples, lambda name: stack_views([sample.views.get(name) for sample in samples], size))

    def _predict(self, samples: Sequence[PreparedSample], inputs: Callable[[str], torch.Tensor]) -> list[Prediction]:
        inference = self._ready()
        present = {
            name: torch.tensor([name not in sample.missing for sample in samples], device=self.device)
            for name in self.views
        }
        maps = inference(inputs, present if any(sample.missing for sample in samples) else None)
        scores = {name: values.flatten(1).amax(dim=1).tolist() for name, values in maps.branches.items()}
        fused = maps.pred_score.tolist()
        return [
            Prediction(
                anomaly_map=_resized(maps.anomaly_map[row], sample),
                score=fused[row],
                maps={
                    name: _resized(values[row], sample)
                    for name, values in maps.branches.items()
                    if name not in sample.missing
                },
                scores={name: values[row] for name, values in scores.items() if name not in sample.missing},
                missing=sample.missing,
            )
            for row, sample in enumerate(samples)
        ]

    def _ready(self) -> Inference:
        if self._inference is None:
            graph = self.device.type == "cuda" and self.config.training.graph != "off"
            self._inference = Inference(self.model, self.scorer, capture=CudaCapture() if graph else None)
        return self._inference

    def _prepare(self, sample: tuple[int, Sensors]) -> PreparedSample:
        place, sensors = sample
        try:
            return self.prepare(sensors)
        except DataError as error:
            raise DataError(f"sample {place}: {error}") from error

    def _checked(self, sensors: Sensors) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
        """Return the modalities without a sensor, and what was measured."""
        missing = self._missing(sensors)
        return missing, check_sensors({name: sensors[name] for name in self.sensors if name in sensors})

    def _missing(self, sensors: Sensors) -> tuple[str, ...]:
        """Return the modalities that ``sensors`` leave without one of their own."""
        self.require_sensors(sensors)
        seen = visible(self.views, sensors)
        return tuple(name for name in self.views if name not in seen)

    def require_sensors(self, sensors: Collection[str], *, where: str = "") -> None:
        """Refuse samples with no more than the named sensors if predictions need others.

        Raises:
            DataError: the detector cannot do without the others, or no modality is left; it starts with ``where``.
        """
        absent = [name for name in self.sensors if name not in sensors]
        spares = self.config.training.modality_dropout > 0
        if not absent or (spares and visible(self.views, sensors)):
            return
        hint = (
            "every modality lacks one of its sensors"
            if spares
            else "train with training.modality_dropout > 0 to do without one"
        )
        raise DataError(
            f"{where}sensor {', '.join(map(repr, absent))} is missing: this detector needs "
            f"{list(self.sensors)}, got {sorted(sensors)}; {hint}"
        )

    def save(self, path: Path | str) -> None:
        """Write ``config.json`` and ``model.safetensors`` (teachers included) to the new folder ``path``.

        The folder appears whole or not at all.

        Raises:
            CrdkitError: ``path`` exists and is not an empty folder, or cannot be written.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        header = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "crdkit": crdkit.__version__,
            "config": self.config.model_dump(mode="json"),
            "specs": {name: asdict(spec) for name, spec in self.model.specs.items()},
        }
        with new_folder(Path(path)) as folder:
            try:
                save_file(self._state(), folder / "model.safetensors")
            except SafetensorError as error:  # a full disk, for one
                raise CrdkitError(f"{path}: cannot be written: {error}") from error
            (folder / "config.json").write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str, *, device: str = "auto") -> Detector:
        """Read a folder that `save` wrote; nothing else is needed, neither the data nor a network.

        Raises:
            DetectorFormatError: the folder holds no detector, or one of an unknown format version.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        file = Path(path) / "config.json"
        header = read_header(file)
        config = RunConfig.from_dict(header.config, source=str(file))
        specs = {name: FeatureSpec(**spec.model_dump()) for name, spec in header.specs.items()}
        if list(specs) != list(config.modalities):
            raise DetectorFormatError(
                f"{file}: specs are of {list(specs)}, but modalities are {list(config.modalities)}; "
                "copy the detector again"
            )
        model = CRD.from_config(config, load_weights=False, specs=specs)
        scorer = Scorer(config)
        weights = Path(path) / "model.safetensors"
        try:
            state = load_file(weights)
        except (OSError, SafetensorError) as error:
            raise DetectorFormatError(f"{weights}: cannot be read: {error}; copy the detector again") from error
        for prefix, module in (("model.", model), ("scorer.", scorer)):
            try:
                module.load_state_dict(below(prefix, state))
            except RuntimeError as error:
                reason = " ".join(str(error).split())[:300]
                raise DetectorFormatError(f"{weights}: does not fit its config.json: {reason}") from error
        return cls(config=config, model=model, scorer=scorer).to(device)

    def _state(self) -> dict[str, torch.Tensor]:
        state = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        state |= {f"scorer.{name}": value for name, value in self.scorer.state_dict().items()}
        return {name: value.detach().cpu().contiguous() for name, value in state.items()}


def _resized(values: torch.Tensor, sample: PreparedSample) -> np.ndarray:
    """Return an (S, S) map at the size of the sample's raw sensors."""
    size = (sample.height, sample.width)
    resized = F.interpolate(values[None, None], size=size, mode="bilinear", align_corners=False)
    array: np.ndarray = resized[0, 0].cpu().numpy()
    return array


def read_config(path: Path | str) -> RunConfig:
    """Return the configuration in the detector folder ``path``; its weights are not read.

    Raises:
        DetectorFormatError: the folder holds no detector, or one of an unknown format version.
    """
    file = Path(path) / "config.json"
    return RunConfig.from_dict(read_header(file).config, source=str(file))
