"""Detector: a trained CRD with everything it needs to score a new sample; saved, loaded, used for prediction."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from copy import copy
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from crdkit._core.device import select_device
from crdkit._core.parallel import in_order
from crdkit.config.run_config import RunConfig
from crdkit.detector._changes import Changes
from crdkit.detector._engine import Engine
from crdkit.detector._inputs import SensorData, first_file, require_samples
from crdkit.detector._kept import KeptNetworks
from crdkit.detector._predictor import Predictor
from crdkit.detector._reading import ReadsSensors
from crdkit.detector._samples import Preparation, PreparedSample, size_of
from crdkit.detector._splits import score_split
from crdkit.detector._stored import ONNX, Stored, read_parts
from crdkit.detector._unusual import ComparesSensors, UsualSensors
from crdkit.detector.prediction import Prediction
from crdkit.errors import DataError
from crdkit.model.crd import CRD
from crdkit.scoring.scorer import Maps, Scorer
from crdkit.scoring.thresholds import Thresholds
from crdkit.training import EpochLog
from crdkit.views import View
from crdkit.views.split import LoadedSplit, stack_views


class Detector(ReadsSensors, ComparesSensors, Stored):
    """A trained detector, made by `crdkit.fit` or `Detector.load`; several threads may use it at once.

    Args:
        config: the run that made it.
        model: the trained CRD, teachers included.
        scorer: the calibrated aggregation, the smoothing and the image score.
        sensor_statistics: what the sensors of the training samples were like, by name: plain values, saved with the
            detector as ``sensors`` in its config.json.
        thresholds: from normal samples, which predictions are judged by; without them nothing is decided.

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

    def __init__(
        self,
        *,
        config: RunConfig,
        model: CRD,
        scorer: Scorer,
        sensor_statistics: Mapping[str, Any] | None = None,
        thresholds: Thresholds | None = None,
    ) -> None:
        self.model = model.eval()
        self.scorer = scorer.eval()
        self.sensor_statistics: dict[str, Any] = dict(sensor_statistics or {})
        self._changes = Changes(self.model, self.scorer)
        self.thresholds = thresholds
        self.history: Sequence[EpochLog] = ()
        """Losses and seconds of every epoch, if `crdkit.fit` made it or found its run; not saved with it."""
        self.metrics: Mapping[str, Any] | None = None
        """Content of metrics.json, if `crdkit.fit` wrote or found a run; not saved with it."""
        self._usual = UsualSensors(self.sensor_statistics)
        self._use(config)

    def _use(self, config: RunConfig) -> None:
        self.config = config.model_copy(update={"by_category": {}})  # chosen in training: no override chooses again
        self._usual = copy(self._usual)
        self._preparation = Preparation(config, self._usual)
        graph = config.training.graph != "off"
        self._predictor = Predictor(self.model, self.scorer, views=self.views, graph=graph)

    @property
    def views(self) -> dict[str, View]:
        """The view of every modality."""
        return self._preparation.views

    @property
    def device(self) -> torch.device:
        """The device that predictions run on."""
        return self.scorer.device

    def with_config(self, config: RunConfig) -> Detector:
        """Return a detector with the same parts, for a run that differs in what they do not depend on: data, device.

        Thresholds are set anew for another ``scoring.false_alarms``, and dropped for any other change of the scoring.
        """
        other = copy(self)
        other.thresholds = self.thresholds_for(config)
        other._use(config)
        return other

    def __repr__(self) -> str:
        return (
            f"Detector(category={self.config.data.category!r}, sensors={self.sensors}, modalities={tuple(self.views)}, "
            f"image_size={self.config.data.image_size}, device={str(self.device)!r})"
        )

    def _repr_html_(self) -> str:
        from crdkit.detector._display import detector_html

        return detector_html(self)

    def to(self, device: str | torch.device) -> Detector:
        """Move to ``device`` and return self; also call it after you change weights of `model` yourself.

        Thresholds that were set with other weights are dropped. Predictions of other threads are waited for, and wait.

        Raises:
            ConfigError: this machine has no such device.
        """
        chosen = select_device(device) if isinstance(device, str) else device
        self.keep_thresholds(lambda: self._predictor.to(chosen))
        return self

    def compile(self) -> Detector:
        """Make later predictions on a CPU faster, which takes some seconds now, and return self.

        Teachers and branches are exported, checked on random images, and run by ONNX Runtime from then on, with the
        threads that PyTorch has now. Values change by rounding only. Samples that lack a modality keep the branches
        they had, and on a GPU nothing changes: predictions are replayed CUDA graphs there. `to` undoes it. What was
        exported is kept for later processes, in ``data.cache``, the folder of CRDKIT_CACHE, or the user's cache folder.
        Predictions of other threads wait until it is done.
        Warnings, and what other threads print to standard error in the meantime, are lost.

        Raises:
            ConfigError: PyTorch is too old, a package of the extra ``onnx`` is missing, or a network of your own cannot
                be exported; predictions stay as they were.
            CrdkitError: the temporary folder cannot be written.
        """
        self._predictor.compile(KeptNetworks.of(self.config.data))
        return self

    def predict(self, sensors: Mapping[str, SensorData]) -> Prediction:
        """Find defects in one sample.

        Args:
            sensors: by sensor name, all of one height and width, or with ``data.registration`` as their cameras
                deliver them, each one of

                - a numpy array or a torch tensor on any device, (H, W) or (H, W, C), of what the data set of the
                  training gave: images uint8, RGB; scans (H, W, 3) and depth images float, in metres, 0 or NaN where
                  nothing was measured; others in the unit they were trained on. That is after ``data.scale`` and
                  ``data.invalid``, which are for files: numbers as stored in a file are refused;
                - a path, which is read as `read` does;
                - a Pillow image, greyscale or RGB, taken as its array is.

                A detector trained with ``training.modality_dropout`` can do without some of them, if one modality has
                all of its own. Sensors that the detector does not know are ignored. What a data set or `register`
                has brought onto one grid (`crdkit.data.registration.RegisteredSensors`) is not moved again.

        Raises:
            DataError: a sensor is missing, or not what its modality reads or, see `unusual`, the training was on.
            CrdkitError: a map is not finite: the weights or the sample's values are unusable.
        """
        missing, measured = self._preparation.measure(sensors)
        seen = {name: view for name, view in self.views.items() if name not in missing}
        size = self.config.data.image_size
        height, width = size_of(measured)

        def view(name: str) -> torch.Tensor:  # runs alongside another modality's teacher
            return stack_views([seen[name](measured, image_size=size) if name in seen else None], size)

        sample = PreparedSample(height=height, width=width, views={}, missing=missing, image_path=first_file(sensors))
        return self._predictor([sample], view, self._finish)[0]

    def predict_batch(self, samples: Sequence[Mapping[str, SensorData]]) -> list[Prediction]:
        """Find defects in several samples at once, each as `predict` takes it; their sizes may differ.

        Raises:
            DataError: as `predict`; the message starts with the sample's place in the batch, counted from 0.
        """
        require_samples(samples)
        work = map if self.device.type == "cpu" else partial(in_order, workers=None)  # a device leaves the host idle
        return self.predict_prepared([*work(self._prepare, enumerate(samples))])

    def predict_stream(
        self, samples: Iterable[Mapping[str, SensorData]], *, batch_size: int | None = None, workers: int | None = None
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
        require_samples(samples)
        with closing(in_order(self._prepare, enumerate(samples), workers=workers)) as prepared:
            while batch := list(islice(prepared, batch_size or self.config.training.batch_size)):
                yield from self.predict_prepared(batch)

    def prepare(self, sensors: Mapping[str, SensorData], *, name: str = "") -> PreparedSample:
        """Return one sample's views, for `predict_prepared`; may be called from any thread.

        Args:
            sensors: as for `predict`.
            name: what messages call the sample.

        Raises:
            DataError: as `predict`.
        """
        return self._preparation(sensors, name=name)

    def predict_prepared(self, samples: Sequence[PreparedSample]) -> list[Prediction]:
        """Find defects in samples whose views are prepared.

        Raises:
            CrdkitError: as `predict`; the message starts with the sample's name.
        """
        if not samples:
            return []
        size = self.config.data.image_size
        return self._predictor(
            samples, lambda name: stack_views([sample.views.get(name) for sample in samples], size), self._finish
        )

    def _prepare(self, sample: tuple[int, Mapping[str, SensorData]]) -> PreparedSample:
        place, sensors = sample
        try:
            return self._preparation(sensors, name=f"sample {place}")
        except DataError as error:
            raise DataError(f"sample {place}: {error}") from error

    def _engine(self) -> Engine:
        return Engine(self.model, self.scorer, views=self.views)

    def score(self, split: LoadedSplit) -> Maps:
        """Return maps and scores of the samples of ``split``, on the device.

        Raises:
            CrdkitError: a map is not finite.
        """
        return score_split(self._engine(), split, batch_size=self.config.training.batch_size)

    @classmethod
    def load(cls, path: Path | str, *, device: str = "auto", allow_plugins: bool = False) -> Detector:
        """Read a folder that `save` wrote; nothing else is needed, neither the data nor an internet connection.

        An .onnx file that `export` wrote is run by ONNX Runtime, on the CPU: it predicts, and is neither trained nor
        attributed (`crdkit.detector.exported`).

        Raises:
            UntrustedCodeError: it names code to import; only with ``allow_plugins`` is that imported and run.
            DetectorFormatError: there is no detector, or one of an unknown format version.
        """
        if Path(path).suffix.lower() == ONNX and not Path(path).is_dir():
            from crdkit.detector.exported import load_exported

            return load_exported(Path(path), allow_plugins=allow_plugins)
        return cls(**read_parts(Path(path), allow_plugins=allow_plugins)).to(device)
