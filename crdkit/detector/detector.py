"""Detector: a trained CRD with everything it needs to score a new sample; saved, loaded, used for prediction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from crdkit._core.capture import CudaCapture
from crdkit._core.device import select_device
from crdkit._core.parallel import in_order
from crdkit._core.progress import track
from crdkit.config.build import build_views
from crdkit.config.run_config import RunConfig
from crdkit.data import Sensors
from crdkit.data.sensors import check_sensors
from crdkit.detector._engine import Engine
from crdkit.detector._saved import read_detector, write_detector
from crdkit.detector.prediction import Prediction
from crdkit.errors import DataError
from crdkit.model.crd import CRD
from crdkit.scoring.scorer import Maps, Scorer
from crdkit.views.split import LoadedSplit, batches, stack_views, view_sample, visible


@dataclass(frozen=True, kw_only=True)
class PreparedSample:
    """One sample as the detector's modalities see it."""

    height: int
    width: int
    """Of the raw sensors."""
    views: Mapping[str, torch.Tensor]
    """By modality, if it has its sensors, (C, S, S) float32 in [0, 1]."""
    missing: tuple[str, ...]
    """Modalities that lack a sensor."""


class Detector:
    """A trained detector, made by `crdkit.fit` or `Detector.load`.

    Args:
        config: the run that made it.
        model: the trained CRD, teachers included.
        scorer: the calibrated aggregation and the smoothing.

    Examples:
        >>> import tempfile, crdkit
        >>> from crdkit.data.synthetic import write_mvtec3d
        >>> from crdkit.testing import example_sensors
        >>> tiny = ["data.category=gear", "data.image_size=32", "modalities.depth=null", "training.epochs=1"]
        >>> tiny += ["modalities.rgb.encoder={name: timm, model: test_resnet, pretrained: false}", "student.depths=1"]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = write_mvtec3d(Path(folder, "scans"), categories=["gear"], train=3, test_per_defect=0, size=32)
        ...     detector = crdkit.fit(crdkit.RunConfig.preset("quick").with_overrides(f"data.root={root}", *tiny))
        >>> detector.predict(example_sensors(detector.sensors, size=(48, 64))).anomaly_map.shape
        (48, 64)
    """

    def __init__(self, *, config: RunConfig, model: CRD, scorer: Scorer) -> None:
        self.config = config
        self.model = model.eval()
        self.scorer = scorer.eval()
        self.views = build_views(config)
        self._engine: Engine | None = None  # built when first used

    @property
    def device(self) -> torch.device:
        """The device that predictions run on."""
        return self.scorer.device

    @property
    def sensors(self) -> tuple[str, ...]:
        """Sorted names of the raw sensors that `predict` needs or can use."""
        return tuple(sorted({sensor for view in self.views.values() for sensor in view.sensors}))

    def to(self, device: str | torch.device) -> Detector:
        """Move to ``device`` and return self; also call it after you change weights of `model` yourself.

        Raises:
            ConfigError: this machine has no such device.
        """
        target = select_device(device) if isinstance(device, str) else device
        self.model.to(target)
        self.scorer.to(target)
        self._engine = None
        return self

    def compile(self) -> Detector:
        """Make later predictions on a CPU faster, which takes some seconds now, and return self.

        Teachers and branches are exported, checked on random images, and run by ONNX Runtime from then on, with the
        threads that PyTorch has now. Values change by rounding only. Samples that lack a modality keep the branches
        they had, and on a GPU nothing changes: predictions are replayed CUDA graphs there. `to` undoes it.
        Warnings, and what other threads print to standard error in the meantime, are lost.

        Raises:
            ConfigError: PyTorch is too old, a package of the extra ``onnx`` is missing, or a network of your own cannot
                be exported; predictions stay as they were.
            CrdkitError: the temporary folder cannot be written.
        """
        if self.device.type == "cpu":
            self._get_engine().compile()
        return self

    def predict(self, sensors: Sensors) -> Prediction:
        """Find defects in one sample.

        Args:
            sensors: raw measurements by sensor name, e.g. ``{"rgb": (H, W, 3) uint8, "xyz": (H, W, 3) metres}``,
                all of one height and width; 0 or NaN where a scan measured nothing. A detector trained with
                ``training.modality_dropout`` can do without some of them, if one modality has all of its own.

        Raises:
            DataError: a sensor is missing, differs in size, or is not what its modality reads.
        """
        missing, measured = self._measured_sensors(sensors)
        seen = {name: view for name, view in self.views.items() if name not in missing}
        size = self.config.data.image_size
        height, width = next(iter(measured.values())).shape[:2]

        def view(name: str) -> torch.Tensor:  # runs alongside another modality's teacher
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
        """Find defects in an endless stream of samples: results come in order, and memory holds only a few samples.

        Views are made in threads, at most two samples per thread ahead, while earlier batches are predicted.

        Args:
            samples: each as `predict` takes it; may be a generator that reads files.
            batch_size: samples at once; None for that of training.
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
        missing, measured = self._measured_sensors(sensors)
        height, width = next(iter(measured.values())).shape[:2]
        views = view_sample(self.views, measured, image_size=self.config.data.image_size)
        return PreparedSample(height=height, width=width, views=views, missing=missing)

    def predict_prepared(self, samples: Sequence[PreparedSample]) -> list[Prediction]:
        """Find defects in samples whose views are prepared."""
        if not samples:
            return []
        size = self.config.data.image_size
        return self._predict(samples, lambda name: stack_views([sample.views.get(name) for sample in samples], size))

    def _predict(self, samples: Sequence[PreparedSample], inputs: Callable[[str], torch.Tensor]) -> list[Prediction]:
        engine = self._get_engine()
        present = {
            name: torch.tensor([name not in sample.missing for sample in samples], device=self.device)
            for name in self.views
        }
        maps = engine(inputs, present if any(sample.missing for sample in samples) else None)
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

    def _get_engine(self) -> Engine:
        if self._engine is None:
            graph = self.device.type == "cuda" and self.config.training.graph != "off"
            self._engine = Engine(self.model, self.scorer, fold=True, capture=CudaCapture() if graph else None)
        return self._engine

    def _prepare(self, sample: tuple[int, Sensors]) -> PreparedSample:
        place, sensors = sample
        try:
            return self.prepare(sensors)
        except DataError as error:
            raise DataError(f"sample {place}: {error}") from error

    def _measured_sensors(self, sensors: Sensors) -> tuple[tuple[str, ...], Sensors]:
        """Return the modalities without a sensor, and what was measured."""
        missing = self._missing(sensors)
        return missing, check_sensors({name: sensors[name] for name in self.sensors if name in sensors})

    def _missing(self, sensors: Sensors) -> tuple[str, ...]:
        """Return the modalities that lack one of their sensors in ``sensors``."""
        self.require_sensors(sensors)
        seen = visible(self.views, sensors)
        return tuple(name for name in self.views if name not in seen)

    def require_sensors(self, sensors: Collection[str], *, where: str = "") -> None:
        """Refuse samples that have only the named sensors if predictions need others.

        Raises:
            DataError: the detector needs the others, or no modality is left; the message starts with ``where``.
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

    @torch.no_grad()
    def calibrate(self, normals: LoadedSplit) -> None:
        """Let the aggregation learn from the maps of anomaly-free samples; nothing else changes."""
        engine = Engine(self.model, self.scorer)
        parts: dict[str, list[torch.Tensor]] = {name: [] for name in self.views}
        for rows in self._rows(normals):
            inputs, _ = normals.batch(rows)
            for name, maps in engine.raw_maps(inputs.__getitem__).items():
                parts[name].append(maps)
        self.scorer.aggregation.calibrate({name: torch.cat(maps) for name, maps in parts.items()})

    def score(self, split: LoadedSplit) -> Maps:
        """Return maps and scores of every sample of ``split``, in order, on the device."""
        engine, rows, parts = Engine(self.model, self.scorer), self._rows(split), []
        for chosen in track(rows, description="scoring", total=len(rows)):
            inputs, present = split.batch(chosen)
            present = present and {name: has.to(self.device) for name, has in present.items()}
            parts.append(engine(inputs.__getitem__, present))
        return Maps(
            anomaly_map=torch.cat([part.anomaly_map for part in parts]),
            pred_score=torch.cat([part.pred_score for part in parts]),
            branches={name: torch.cat([part.branches[name] for part in parts]) for name in self.views},
            present=split.present,
        )

    def _rows(self, split: LoadedSplit) -> Sequence[slice]:
        return batches(len(split), self.config.training.batch_size)

    def save(self, path: Path | str) -> None:
        """Write ``config.json`` and ``model.safetensors`` (teachers included) to the new folder ``path``, atomically.

        Raises:
            CrdkitError: ``path`` exists and is not an empty folder, or cannot be written.
        """
        write_detector(Path(path), config=self.config, model=self.model, scorer=self.scorer)

    @classmethod
    def load(cls, path: Path | str, *, device: str = "auto", allow_plugins: bool = False) -> Detector:
        """Read a folder that `save` wrote; nothing else is needed, neither the data nor an internet connection.

        Raises:
            UntrustedCodeError: it names code to import; only with ``allow_plugins`` is that imported and run.
            DetectorFormatError: the folder holds no detector, or one of an unknown format version.
        """
        config, model, scorer = read_detector(Path(path), allow_plugins=allow_plugins)
        return cls(config=config, model=model, scorer=scorer).to(device)


def _resized(values: torch.Tensor, sample: PreparedSample) -> np.ndarray:
    """Return an (S, S) map at the size of the sample's raw sensors."""
    size = (sample.height, sample.width)
    resized = F.interpolate(values[None, None], size=size, mode="bilinear", align_corners=False)
    array: np.ndarray = resized[0, 0].cpu().numpy()
    return array
