"""Predictions of a folder or of one sample's files: read ahead, and written as a table, maps, masks and overlays."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F

from crdkit._core.files import new_folder
from crdkit._core.shares import samples_per_share
from crdkit.config.build import build_dataset
from crdkit.data import UNLABELLED, Dataset, RawSample, SampleRecord, Split
from crdkit.data.decode import decode_all, report_skipped
from crdkit.data.discover import open_samples
from crdkit.detector._inputs import split_parts
from crdkit.detector._paths import with_paths_of_run
from crdkit.detector._pictures import OVERLAYS, Pictures, colour
from crdkit.detector._samples import PreparedSample
from crdkit.detector._saved import detector_folder
from crdkit.detector._writing import Writer
from crdkit.detector.detector import Detector
from crdkit.detector.prediction import Prediction
from crdkit.errors import ConfigError, DataError, unknown_name
from crdkit.scoring.table import shown_path
from crdkit.views.split import list_split

_OVERRIDES = ("data.", "training.device", "training.batch_size")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What to predict."""

    dataset: Dataset
    records: Sequence[SampleRecord]
    root: Path | None
    """Paths are shown relative to it."""

    def path(self, record: SampleRecord) -> str:
        """Return the name of a sample in tables: its first file."""
        return shown_path(record, self.root)


def open_detector(folder: Path, arguments: Sequence[str], *, allow_plugins: bool = False) -> tuple[Detector, Inputs]:
    """Load the detector of a run or detector directory, and find what ``arguments`` name.

    Args:
        folder: of the run or the detector.
        arguments: one folder of samples, or ``sensor=path`` for each sensor of one sample; keys with a dot are
            overrides: ``data.*``, ``training.device`` and ``training.batch_size``.
        allow_plugins: import and run the code that the detector names.

    Raises:
        CrdkitError: the detector cannot be loaded, or there is nothing that it can read.
    """
    paths, files, overrides = _sort_arguments(arguments)
    loaded = load_detector(folder, allow_plugins=allow_plugins)
    config = loaded.config.with_overrides(*overrides)
    detector = loaded.with_config(config).to(config.training.device)
    return detector, open_folder(detector, paths[0]) if paths else _open_files(detector, files)


def load_detector(folder: Path | str, *, allow_plugins: bool = False) -> Detector:
    """Load the detector of a run or detector directory, on the CPU; in a run it knows where its data lie.

    A saved detector itself names no folder of the machine that trained it; the run's config.yaml does.

    Args:
        folder: of the run or the detector.
        allow_plugins: as for `Detector.load`.

    Raises:
        UntrustedCodeError: it names code to import, and ``allow_plugins`` is false.
        DetectorFormatError: the folder holds no detector, or one that cannot be used.
        ConfigError: the run's config.yaml cannot be read.
    """
    detector = Detector.load(detector_folder(folder), device="cpu", allow_plugins=allow_plugins)
    return detector.with_config(with_paths_of_run(detector.config, folder, allow_plugins=allow_plugins))


def _sort_arguments(arguments: Sequence[str]) -> tuple[list[Path], dict[str, Path], list[str]]:
    """Split arguments into folders, ``sensor=path`` and overrides."""
    paths: list[Path] = []
    files: dict[str, Path] = {}
    overrides: list[str] = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or Path(argument).exists():
            paths.append(Path(argument))
        elif "." not in key:
            if key in files:
                raise ConfigError(f"{argument!r}: sensor {key!r} is given twice; give the files of one sample")
            files[key] = Path(value)
        elif key == "data.image_size" or not key.startswith(_OVERRIDES):
            raise ConfigError(f"override {argument!r}: predict accepts data.*, training.device, training.batch_size")
        else:
            overrides.append(argument)
    if len(paths) + bool(files) != 1:
        raise ConfigError(
            "give one folder of samples, or the files of one sample as sensor=path (rgb=a.png xyz=a.tiff)"
        )
    if paths and not paths[0].is_dir():
        what = "is a file; name its sensor, e.g. rgb=" + paths[0].name if paths[0].exists() else "does not exist"
        raise DataError(f"{paths[0]}: {what}")
    return paths, files, overrides


def _open_files(detector: Detector, files: Mapping[str, Path]) -> Inputs:
    for sensor in files:
        if sensor not in detector.sensors:
            raise unknown_name("sensor", sensor, detector.sensors, hint="; this detector reads no other")
    detector.require_sensors(files)
    paths, parts = split_parts(files)
    sample = next(iter(paths.values())).stem
    record = SampleRecord(sample_id=sample, split="test", label=None, defect_type=UNLABELLED, files=paths, parts=parts)
    return Inputs(dataset=_OneSample(build_dataset(detector.config), record), records=[record], root=None)


class _OneSample(Dataset):
    """Reads one sample's files as another dataset would, whose folder need not be there."""

    def __init__(self, reader: Dataset, record: SampleRecord) -> None:
        super().__init__(reader.config)
        self._reader = reader
        self._record = record

    @property
    def sensors(self) -> tuple[str, ...]:
        return tuple(self._record.files)

    def records(self, split: Split) -> Sequence[SampleRecord]:
        return [self._record] if split == self._record.split else []

    def read(self, record: SampleRecord, sensors: Sequence[str] | None = None) -> RawSample:
        return self._reader.read(record, self.sensors if sensors is None else sensors)


def open_folder(detector: Detector, folder: Path) -> Inputs:
    """Find the samples in ``folder``, in a layout that `crdkit.data.discover.open_samples` recognises.

    Raises:
        DataError: there is no sample in it, or samples lack a sensor or a file that the detector needs.
    """
    dataset = open_samples(folder, detector.config.data)
    detector.require_sensors(dataset.sensors, where=f"{folder.expanduser().resolve()}: ")
    dropout = detector.config.training.modality_dropout > 0
    records = list_split(dataset, "test", views=detector.views, incomplete=dropout)
    # predictions need no ground truth, so it need not be readable
    records = [replace(record, mask_file=None) for record in records]
    return Inputs(dataset=dataset, records=records, root=dataset.config.root)


Predicted = tuple[SampleRecord, np.ndarray, Prediction]
"""A sample, its picture (H, W, 3) uint8 and its prediction."""


def predict_inputs(detector: Detector, inputs: Inputs) -> Generator[Predicted, None, None]:
    """Predict all samples in order, ``training.batch_size`` at once; a few are read ahead, and none are kept.

    Raises:
        DataError: a sample cannot be read; with ``data.on_bad_sample=skip`` it is left out, with a warning.
    """
    bad: list[str] = []
    with closing(predict_places(detector, inputs, range(len(inputs.records)), bad=bad)) as found:
        yield from (predicted for _, predicted in found)
    report_skipped(bad, total=len(inputs.records))


def predict_places(
    detector: Detector, inputs: Inputs, places: range, *, bad: list[str]
) -> Generator[tuple[int, Predicted], None, None]:
    """Predict the samples at some places, each with its place; a sample that is skipped leaves its batch smaller.

    So a batch holds the same samples wherever the first place is, if that is a multiple of ``training.batch_size``.

    Args:
        detector: predicts.
        inputs: all samples.
        places: of those to predict, one after the other.
        bad: gets the reason for each that is skipped.

    Raises:
        DataError: a sample cannot be read, unless ``data.on_bad_sample=skip``.
    """

    def build(sample: RawSample) -> tuple[np.ndarray, PreparedSample]:
        prepared = detector.prepare(sample.sensors, name=inputs.path(sample.record))
        return _picture(sample.sensors, prepared), prepared

    known = {sensor for record in inputs.records for sensor in record.files}
    sensors = [sensor for sensor in detector.sensors if sensor in known]
    records = inputs.records[places.start : places.stop]
    decoded = decode_all(inputs.dataset, records, build, sensors=sensors, description="predicting")
    with closing(decoded):
        numbered = zip(places, records, decoded, strict=True)
        while batch := list(islice(numbered, detector.config.training.batch_size)):
            bad += [str(outcome) for _, _, outcome in batch if isinstance(outcome, DataError)]
            readable = [(place, record, *found) for place, record, found in batch if not isinstance(found, DataError)]
            predictions = detector.predict_prepared([prepared for *_, prepared in readable])
            for (place, record, picture, _), prediction in zip(readable, predictions, strict=True):
                yield place, (record, picture, replace(prediction, image_path=str(record.image_path)))


class Written(NamedTuple):
    """How much was written."""

    samples: int
    anomalous: int
    """Those that score above the detector's threshold."""


def write_predictions(detector: Detector, inputs: Inputs, out: Path) -> Written:
    """Write scores.csv, predictions.jsonl, maps, masks and overlays, and return how many samples there were.

    At the input's size, ``anomaly_maps/<sample>.tiff`` and ``branch_maps/<modality>/<sample>.tiff`` hold float32
    (H, W), and ``masks/<sample>.png`` is 255 where anomalous; ``overlays/<sample>.png`` is the fused map in colours
    that run from the median to the 99.8th percentile of all, with an outline around each region. A line of
    predictions.jsonl is `Prediction.to_dict` without maps.

    Raises:
        CrdkitError: ``out`` exists and is not empty, or cannot be written; it is written atomically.
        DataError: a sample cannot be read.
    """
    branches, total, bad = tuple(detector.views), len(inputs.records), list[str]()
    with new_folder(out) as folder:
        under = folder / OVERLAYS
        size = samples_per_share(total, detector.config.training.batch_size)
        pictures = Pictures(folder, under=under, total=total, size=size)
        with writer_for(detector, folder, pictures) as writer:
            writer.head()
            with closing(predict_places(detector, inputs, range(total), bad=bad)) as predicted:
                for place, (record, picture, found) in predicted:
                    writer.add(place, record, picture, found, shown=inputs.path(record))
        report_skipped(bad, total=total)
        colour(folder, pictures.drawn, under=under, values=pictures.values, modalities=branches)
    return Written(len(pictures.drawn), writer.anomalous)


def writer_for(detector: Detector, folder: Path, pictures: Pictures) -> AbstractContextManager[Writer]:
    """Return the context of a writer of a detector's predictions, whose tables lie in ``folder``."""
    flagged = detector.config.training.modality_dropout > 0
    return Writer.into(folder, pictures, branches=tuple(detector.views), flagged=flagged)


def _picture(sensors: Mapping[str, np.ndarray], prepared: PreparedSample) -> np.ndarray:
    """Return a picture that a person would recognise, (H, W, 3) uint8: the first image, else the first view."""
    for image in sensors.values():
        if image.dtype == np.uint8:
            return np.broadcast_to(image if image.ndim == 3 else image[..., None], (*image.shape[:2], 3))
    view = next(iter(prepared.views.values()))
    resized = F.interpolate(view[None], size=(prepared.height, prepared.width), mode="bilinear", align_corners=False)
    pixels = (resized[0].clamp(0, 1) * 255).round().byte().numpy().transpose(1, 2, 0)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))
