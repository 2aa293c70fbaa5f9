"""The contracts of modalities and datasets."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crdkit.data import GOOD, SPLITS, UNLABELLED, Dataset, RawSample, SampleRecord, Sensors, Split, datasets
from crdkit.data.registration import Registration
from crdkit.data.synthetic import LAYOUTS, OBJECT_KINDS, category_folders
from crdkit.errors import ConfigError
from crdkit.testing.examples import example_sensors
from crdkit.testing.parts import check_description
from crdkit.testing.requirement import refused, require, same_bytes
from crdkit.views import View, views

Options = Mapping[str, Any]


def check_modality(name: str, options: Options | None = None, *, samples: Sequence[Sensors] | None = None) -> None:
    """Check a modality: an image in [0, 1], always the same bytes, and inputs that are not modified.

    Args:
        name: the registered name.
        options: needed if some have no default.
        samples: raw sensors of two or more different samples; rendered if None, which needs sensors that
            `crdkit.data.synthetic` knows.

    Raises:
        AssertionError: the message names the broken promise.
        UnknownNameError: it reads sensors that need ``samples``.

    Examples:
        >>> check_modality("single_channel", {"sensor": "infrared"})
    """
    check_description("modality", name, options)
    what = f"modality {name!r}"
    view = views.build(views.build_config({"name": name, **(options or {})}))
    if samples is None:
        samples = [example_sensors(view.sensors, kind=kind) for kind in OBJECT_KINDS]
    samples = [{sensor: _read_only(sample[sensor]) for sensor in view.sensors} for sample in samples]
    alone = []
    for size in (32, 50):
        alone = [check_view(view, sensors, image_size=size) for sensors in samples]
        shapes = {tuple(image.shape) for image in alone}
        require(len(shapes) == 1, f"{what}: its number of channels depends on the sample: shapes {sorted(shapes)}")
    require(
        len(samples) < 2 or not same_bytes(alone[0], alone[1]), f"{what} gives the same image for different samples"
    )
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda sensors: view(sensors, image_size=50), samples * 4))
    same = all(same_bytes(first, second) for first, second in zip(together, alone * 4, strict=True))
    require(same, f"{what} gives other bytes when four threads use it at once")
    _check_memory(what, view, samples[0], alone[0])


def check_view(view: View, sensors: Sensors, *, image_size: int) -> torch.Tensor:
    """Return the view of one sample, after checking that it is what every modality promises.

    Raises:
        AssertionError: it is not a contiguous, finite (1 or 3, S, S) float32 image in [0, 1], or changes when repeated.

    Examples:
        >>> view = views.build(views.build_config("depth"))
        >>> tuple(check_view(view, example_sensors(["xyz"]), image_size=32).shape)
        (1, 32, 32)
    """
    what = f"modality {view.config.name!r}"
    image = view(sensors, image_size=image_size)
    shape = tuple(image.shape)
    expected = f"expected (1 or 3, {image_size}, {image_size})"
    require(
        shape in ((1, image_size, image_size), (3, image_size, image_size)), f"{what} has shape {shape}, {expected}"
    )
    require(image.dtype == torch.float32, f"{what} is {image.dtype}, expected torch.float32")
    require(image.is_contiguous(), f"{what} is not contiguous; end with .contiguous()")
    require(bool(image.isfinite().all()), f"{what} holds values that are not finite")
    low, high = float(image.min()), float(image.max())
    require(0 <= low <= high <= 1, f"{what} has values from {low:.4g} to {high:.4g}, expected values in [0, 1]")
    require(same_bytes(view(sensors, image_size=image_size), image), f"{what} gives other bytes for the same sensors")
    array = torch.from_numpy(view.array(sensors, image_size=image_size))
    require(same_bytes(array, image), f"{what} gives other bytes as an array than as a tensor")
    return image


def _read_only(array: np.ndarray) -> np.ndarray:
    copy = array.copy()
    copy.flags.writeable = False  # a view that modifies it raises there
    return copy


def _check_memory(what: str, view: View, sensors: Sensors, expected: torch.Tensor) -> None:
    size = expected.shape[-1]
    others: dict[str, Sensors] = {
        "arrays in Fortran order": {name: np.asfortranarray(array) for name, array in sensors.items()},
        "arrays that are strided": {name: np.repeat(array, 2, axis=0)[::2] for name, array in sensors.items()},
        "sensors that it does not read": {"unrelated": np.zeros((2, 2)), **sensors},
    }
    for given, same_values in others.items():
        same = same_bytes(view(same_values, image_size=size), expected)
        require(same, f"{what} gives another image for the same values with {given}")
    square = min(next(iter(sensors.values())).shape[:2])
    own = {name: array[:square, :square].copy() for name, array in sensors.items()}
    before = {name: array.copy() for name, array in own.items()}
    view(own, image_size=square).fill_(0.5)  # without resizing, a view may return its input itself
    for name, array in own.items():
        require(np.array_equal(array, before[name]), f"{what}: its image shares memory with sensor {name!r}; copy it")


def check_dataset(name: str, options: Options | None = None, *, limit: int = 8) -> None:
    """Check a dataset: records that are complete and in order, aligned samples, safe threads, and clear refusals.

    Args:
        name: the registered name.
        options: ``root`` and ``category`` of a folder that it reads; crdkit's own datasets need none and are
            checked on a synthetic one. Nothing in the folder is changed.
        limit: number of samples of each split that are decoded.

    Raises:
        AssertionError: the message names the broken promise.
        ConfigError: there is no folder to check it on.

    Examples:
        >>> check_dataset("mvtec3d", limit=2)
    """
    with tempfile.TemporaryDirectory() as scratch:
        given = dict(options or {})
        if given.get("root") is None:
            given |= _synthetic(name, Path(scratch) / "data")
        check_description("dataset", name, given)
        what = f"dataset {name!r}"
        dataset = _build(name, given)
        require(bool(dataset.sensors), f"{what} names no sensors")
        for split in SPLITS:
            records = dataset.records(split)
            _check_records(f"{what}, split {split!r}", dataset, records, split)
            again = _build(name, given).records(split)
            require(list(again) == list(records), f"{what}, split {split!r}: records are not in a fixed order")
            every = records[:: max(len(records) // limit, 1)][:limit]
            for record in every:
                _check_sample(f"{what}, sample {record.sample_id!r} of {split!r}", dataset, record)
            _check_threads(f"{what}, split {split!r}", dataset, every)
            _check_registration(f"{what}, split {split!r}", dataset, every[0])
        _check_refusals(what, name, given, dataset.records("train")[0], Path(scratch))


def _synthetic(name: str, root: Path) -> dict[str, Any]:
    if name not in LAYOUTS:
        raise ConfigError(
            f"dataset {name!r} has no synthetic writer (known: {', '.join(sorted(LAYOUTS))}): pass options with the "
            "root and category of a small folder that it reads"
        )
    LAYOUTS[name](root, categories=["biscuit"], train=3, validation=2, test_good=2, test_per_defect=1, size=32)
    (category,) = category_folders(root)
    return {"root": category.parent, "category": category.name}


def _build(name: str, options: Options) -> Dataset:
    return datasets.build(datasets.build_config({"name": name, **options}))


def _check_records(what: str, dataset: Dataset, records: Sequence[SampleRecord], split: Split) -> None:
    require(len(records) > 0, f"{what} holds no samples")
    names = [record.sample_id for record in records]
    require(len(set(names)) == len(names), f"{what}: sample_id is not unique within the split")
    for record in records:
        sample = f"{what}, sample {record.sample_id!r}"
        require(record.split == split, f"{sample} names the split {record.split!r}")
        labels = {GOOD: 0, UNLABELLED: None}
        label = labels.get(record.defect_type, 1)
        require(
            record.label == label,
            f"{sample} has label {record.label} and defect type {record.defect_type!r}, expected label {label}",
        )
        require(split == "test" or record.label != 1, f"{sample} is anomalous; only the test split may hold defects")
        missing = [sensor for sensor in dataset.sensors if sensor not in record.files]
        require(not missing, f"{sample} has no file for the sensors {missing}")
        lost = [str(path) for path in record.files.values() if not path.is_file()]
        require(not lost, f"{sample} names files that do not exist: {', '.join(lost)}")


def _check_sample(what: str, dataset: Dataset, record: SampleRecord) -> None:
    sample = dataset.read(record)
    found = tuple(sample.sensors)
    require(found == dataset.sensors, f"{what} holds the sensors {found}, expected {dataset.sensors}")
    sizes = {sensor: array.shape[:2] for sensor, array in sample.sensors.items()}
    if sample.mask is not None:
        sizes["mask"] = sample.mask.shape
        require(sample.mask.dtype == np.uint8, f"{what}: its mask is {sample.mask.dtype}, expected uint8")
        values = set(np.unique(sample.mask).tolist())
        require(values <= {0, 255}, f"{what}: its mask holds {sorted(values)}, expected 0 and 255 only")
        require(record.label != 0 or not sample.mask.any(), f"{what} is normal, but its mask is not empty")
    require(len(set(sizes.values())) == 1, f"{what}: height and width differ: {sizes}")
    first = dataset.sensors[0]
    one = tuple(dataset.read(record, [first]).sensors)
    require(one == (first,), f"{what}: read(record, [{first!r}]) gives the sensors {one}, expected {(first,)}")


def _contents(sample: RawSample) -> dict[str, bytes]:
    mask = {} if sample.mask is None else {"mask": sample.mask.tobytes()}
    return mask | {name: array.tobytes() for name, array in sample.sensors.items()}


def _check_threads(what: str, dataset: Dataset, records: Sequence[SampleRecord]) -> None:
    alone = [_contents(dataset.read(record)) for record in records]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda record: _contents(dataset.read(record)), list(records) * 2))
    require(together == alone * 2, f"{what} gives other bytes when four threads read it at once")


def _check_registration(what: str, dataset: Dataset, record: SampleRecord) -> None:
    """Check that one sensor is moved by a pixel if ``registration`` says so."""
    first, *others = dataset.sensors
    if not others:
        return
    move = {"method": "affine", "matrix": [[1, 0, 1], [0, 1, 0]]}
    registration = Registration.model_validate({"reference": first, "sensors": {others[-1]: move}})
    config = dataset.config.model_copy(update={"registration": registration})
    found = type(dataset)(config).read(record).sensors
    expected, _ = registration.bring(dataset.read(record).sensors)
    same = all(np.array_equal(found[name], expected[name], equal_nan=True) for name in expected)
    require(same, f"{what}: it ignores data.registration; give read_sample registration=self.config.registration")


def _check_refusals(what: str, name: str, options: Options, record: SampleRecord, scratch: Path) -> None:
    dataset = _build(name, options)
    first, path = next(iter(record.files.items()))
    cut = scratch / path.name
    cut.write_bytes(path.read_bytes()[:40])
    with refused(f"{what}: a truncated file"):
        dataset.read(replace(record, files={**record.files, first: cut}))
    with refused(f"{what}: a missing file"):
        dataset.read(replace(record, files={**record.files, first: scratch / "nowhere" / path.name}))
    for key, value in {"root": scratch / "nowhere", "category": "no_such_part"}.items():
        if options.get(key) is None:
            continue
        with refused(f"{what}: a missing {key}"):
            _build(name, {**options, key: value}).records("train")
