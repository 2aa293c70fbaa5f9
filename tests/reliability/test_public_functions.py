"""Arrays that nobody should pass, through every public function: a finite right answer or an error of ours."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import torch

import crdkit
from crdkit import losses, metrics, reference
from crdkit.errors import CrdkitError
from crdkit.scoring.aggregations import aggregations
from crdkit.views import views

GOOD = np.linspace(0, 1, 2 * 6 * 5, dtype=np.float32).reshape(2, 6, 5)
MASKS = np.zeros((2, 6, 5), bool)
MASKS[1, 2:4, 1:3] = True
ODD = {
    "good": GOOD,
    "nan": np.full((2, 6, 5), np.nan, np.float32),
    "one nan": np.where(MASKS, np.nan, GOOD),
    "infinite": np.full((2, 6, 5), np.inf),
    "minus infinite": np.where(MASKS, -np.inf, GOOD),
    "constant": np.ones((2, 6, 5), np.float32),
    "zero": np.zeros((2, 6, 5), np.float64),
    "huge": np.full((2, 6, 5), 1e308),
    "half": GOOD.astype(np.float16),
    "swapped": GOOD.astype(">f4"),
    "long": GOOD.astype(np.longdouble),
    "strided": np.asfortranarray(GOOD)[:, ::-1],
    "tensor": torch.from_numpy(GOOD.copy()),
    "bfloat16": torch.from_numpy(GOOD.copy()).bfloat16(),
    "gradient": torch.from_numpy(GOOD.copy()).requires_grad_(),
    "ints": np.arange(60).reshape(2, 6, 5),
    "bytes": np.full((2, 6, 5), 255, np.uint8),
    "bools": MASKS,
    "complex": GOOD.astype(np.complex64),
    "objects": GOOD.astype(object),
    "texts": GOOD.astype(str),
    "empty": np.zeros((0, 6, 5), np.float32),
    "no pixels": np.zeros((2, 0, 5), np.float32),
    "one pixel": np.ones((2, 1, 1), np.float32),
    "one": np.float32(1),
    "flat": GOOD.ravel(),
    "channels": GOOD[..., None],
    "other size": np.ones((2, 5, 6), np.float32),
    "fewer": GOOD[:1],
    "list": GOOD.tolist(),
    "ragged": [[1.0], [1.0, 2.0]],
    "none": None,
    "text": "maps",
    "number": 3,
}


def is_right(value: object) -> bool:
    """Whether everything in a result is finite, or None where it cannot be computed."""
    if isinstance(value, dict):
        return all(map(is_right, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(is_right, value))
    if isinstance(value, torch.Tensor):
        return bool(torch.isfinite(value).all())
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biu" or bool(np.isfinite(value).all())
    return not isinstance(value, float) or math.isfinite(value)


def attempt(function, *arguments, allowed=(), **options):
    """Return the result, or None if it is refused in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            result = function(*arguments, **options)
        except CrdkitError as refused:
            message = str(refused)
        except allowed:
            return None
        else:
            message = ""
    if message:
        assert "\n" not in message
        assert len(message) < 1000
        return None
    assert is_right(result), result
    return result


@pytest.mark.parametrize("maps", ODD)
def test_metrics(maps):
    read = 0
    for name, masks in ODD.items():
        result = attempt(metrics.evaluate, ODD[maps], masks)
        read += result is not None
        assert result is None or all(value is None or 0 <= value <= 1 for value in result.values())
        attempt(metrics.pro_curve, ODD[maps], masks)
        if name != "none":
            attempt(metrics.label_regions, masks)
    assert bool(read) == (
        maps
        in {
            "good",
            "constant",
            "zero",
            "huge",
            "half",
            "swapped",
            "long",
            "strided",
            "tensor",
            "bfloat16",
            "gradient",
            "one pixel",
            "other size",
            "fewer",
            "list",
        }
    )


@pytest.mark.parametrize("scores", ODD)
def test_scores_and_labels(scores):
    vectors = [ODD[scores], np.ravel(np.asarray(ODD[scores], object))[:2] if scores == "objects" else [0.1, 0.2]]
    for vector, labels in itertools.product(
        vectors, (*ODD.values(), [0, 1], [0, 0], [2, 1], [], [True, False], ["a", "b"])
    ):
        attempt(metrics.roc_curve, vector, labels)
        attempt(metrics.evaluate, GOOD, MASKS, vector, labels=labels)


@pytest.mark.parametrize("odd", ODD)
def test_intervals_and_comparisons(odd):
    value, few = ODD[odd], {"resamples": 3}
    for masks in (MASKS, value):
        attempt(metrics.intervals, value, masks, **few)
        attempt(metrics.compare, value, GOOD, masks, **few)
        attempt(metrics.compare, GOOD, value, masks, **few)
    attempt(metrics.intervals, GOOD, MASKS, value, **few)
    attempt(metrics.intervals, GOOD, MASKS, labels=value, **few)
    attempt(metrics.compare, GOOD, GOOD, MASKS, value, **few)
    attempt(metrics.compare, GOOD, GOOD, MASKS, (value, [0.1, 0.2]), labels=[0, 1], **few)
    attempt(metrics.compare, None, None, None, ([0.1, 0.2], value), labels=[0, 1], **few)


ODD_NUMBERS = [math.nan, math.inf, -math.inf, -1, 0, 0.5, 2, 10**400, True, [0.5]]


@pytest.mark.parametrize("name", [*ODD, *map(str, range(len(ODD_NUMBERS)))])
def test_rates_at_odd_thresholds(name):
    odd = ODD[name] if name in ODD else ODD_NUMBERS[int(name)]
    for threshold in (odd, 0.5):
        for scores in (odd, [0.1, 0.9]):
            attempt(metrics.error_rates, scores, [0, 1], threshold)
            attempt(metrics.error_rates, scores, [0, 1], threshold, level=odd)
    attempt(metrics.recall_at, [0.1, 0.9], [0, 1], odd)
    attempt(metrics.recall_at, odd, [0, 1])
    if odd is not ODD_NUMBERS[7]:  # nobody waits for as many
        attempt(metrics.intervals, GOOD, MASKS, resamples=odd)
    attempt(metrics.intervals, GOOD, MASKS, resamples=2, level=odd)
    attempt(metrics.intervals, GOOD, MASKS, resamples=2, recalls=odd)
    attempt(metrics.intervals, GOOD, MASKS, resamples=2, seed=odd)


@pytest.mark.parametrize("limits", [(), (0,), (1,), (2,), (-1,), (math.nan,), (math.inf,), ("a",), 3, None, "0.3"])
def test_limits(limits):
    attempt(metrics.evaluate, GOOD, MASKS, limits=limits)


@pytest.mark.parametrize("points", [0, 1, 2, -1, 1.5, 10**9, None, "a"])
def test_points(points):
    attempt(metrics.roc_curve, [0.1, 0.4, 0.3, 0.9], [0, 0, 1, 1], points=points)
    attempt(metrics.pro_curve, GOOD, MASKS, points=points)


@pytest.mark.parametrize("name", sorted(aggregations))
def test_aggregations_stay_finite(name):
    """Maps that reach them are finite: predictions and metrics refuse others before."""
    config = {"name": name, "weights": {"a": 1, "b": 1}} if name == "weighted" else {"name": name}
    finite = [
        torch.zeros(2, 4, 4),
        torch.ones(2, 4, 4),
        torch.full((2, 4, 4), 1e30),
        torch.rand(2, 4, 4),
        torch.zeros(2, 1, 1),
    ]
    for calibration, seen in itertools.product(finite, finite):
        part = aggregations.build(aggregations.build_config(config), modalities=("a", "b"))
        part.calibrate({"a": calibration, "b": calibration / 2})
        fused = part.fuse({"a": seen, "b": seen * 2})
        assert fused.shape == seen.shape
        if max(calibration.abs().max(), seen.abs().max()) <= 1:  # maps of cosine distances
            assert torch.isfinite(fused).all(), (name, calibration.max(), seen.max())


@pytest.mark.parametrize(
    "students",
    [
        {},
        {"rgb": {}},
        {"rgb": {}, "depth": {}},
        {"rgb": 1, "depth": 2},
        {1: {}, 2: {}},
        {"student_rgb": {"x": torch.ones(1)}, "student_depth": {}},
        None,
        [],
        "a",
    ],
)
def test_students(students):
    assert attempt(reference.load_students, students) is None


@pytest.mark.parametrize(
    "levels",
    [
        [torch.ones(2, 3, 4, 4)],
        [torch.zeros(2, 3, 4, 4)],
        [torch.zeros(2, 3, 1, 1)],
        [torch.full((2, 3, 4, 4), 1e18)],
    ],
)
def test_losses(levels):
    for kind in ("flattened", "per_position", "hard_position"):
        attempt(losses.cosine_loss, teacher=levels, student=levels, kind=kind, allowed=ValueError)


@pytest.mark.parametrize("name", ODD)
def test_views_and_predictions(detector, samples, name):
    """Each sensor in turn is something else; shapes of one sample are those of `ODD` without the first axis."""
    for sensor in detector.sensors:
        value = ODD[name]
        odd = value[0] if isinstance(value, (np.ndarray, torch.Tensor)) and len(value.shape) and len(value) else value
        for array in (odd, np.stack([odd] * 3, -1) if isinstance(odd, np.ndarray) and odd.ndim == 2 else odd):
            found = attempt(detector.predict, {**samples[0], sensor: array})
            assert found is None or (np.isfinite(found.anomaly_map).all() and math.isfinite(found.score))
            assert attempt(detector.predict_batch, [samples[0], {**samples[0], sensor: array}]) is None or found
            attempt(lambda array=array, sensor=sensor: list(detector.predict_stream([{**samples[0], sensor: array}])))


@pytest.mark.parametrize("sample", [None, 3, "rgb", [], {}, {"rgb": None}, {1: 2}, {"rgb": "a.png"}])
def test_predictions_of_what_is_no_sample(detector, sample):
    assert attempt(detector.predict, sample) is None
    assert attempt(detector.predict_batch, [sample]) is None


def test_every_public_name_is_known_here():
    """A new public name is tested here, or elsewhere, by decision."""
    tested_elsewhere = {
        "CRD",
        "CRDOutput",
        "CrdkitError",
        "Description",
        "Prediction",
        "Region",
        "RunConfig",
        "__version__",
        "describe",
        "fit",
        "hub",
    }
    assert set(crdkit.__all__) - tested_elsewhere - {"Detector", "losses", "metrics", "reference", "testing"} <= {
        "load"
    }
    assert views
