"""The metrics against golden values, scikit-learn and plain loops over every threshold."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from crdkit.errors import CrdkitError
from crdkit.scoring import _checks, metrics
from crdkit.scoring._ranking import area

GOLDEN = Path(__file__).parent / "data" / "metrics.npz"
LIMITS = (1.0, 0.30, 0.10, 0.05, 0.01)
KEYS = [f"{level}_{name}" for level in ("image", "pixel") for name in ("auroc", "ap", "f1_max")]
AUPRO_KEYS = ["aupro_0.30", "aupro_0.10", "aupro_0.05", "aupro_0.01"]

few_examples = settings(max_examples=min(80, settings().max_examples), deadline=None)


def brute_force_regions(masks):
    """One boolean stack per 8-connected region, by a flood fill over pixels."""
    left = {tuple(index) for index in np.argwhere(masks).tolist()}
    regions = []
    while left:
        queue = [left.pop()]
        region = np.zeros(masks.shape, dtype=bool)
        while queue:
            n, y, x = queue.pop()
            region[n, y, x] = True
            near = {(n, y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            queue.extend(near)
        regions.append(region)
    return regions


def brute_force_pro(maps, masks, thresholds):
    """False-positive rate and mean region overlap where maps >= threshold, one threshold after the other."""
    regions = brute_force_regions(masks)
    points = []
    for threshold in thresholds:
        detected = maps >= threshold
        points.append((detected[~masks].mean(), np.mean([detected[region].mean() for region in regions])))
    return points


def brute_force_area(points, limit):
    """Trapezoids between the points up to the limit, divided by it."""
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
        else:
            y_limit = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            return (area + (limit - x0) * (y0 + y_limit) / 2) / limit
    return area / limit


def brute_force_aupro(maps, masks, limit):
    return brute_force_area([(0.0, 0.0), *brute_force_pro(maps, masks, np.unique(maps)[::-1])], limit)


def brute_force_aupro100t(maps, masks, limit):
    """The published loop: thresholds at 100 ranks of the sorted normal scores, detected = above, rate from the rank."""
    normal = sorted(maps[~masks].tolist())
    regions = brute_force_regions(masks)
    points = [(1.0, 1.0)]
    for rank in np.linspace(0, len(normal) - 1, num=100, dtype=int):
        overlap = np.mean([(maps[region] > normal[rank]).mean() for region in regions])
        points.append((1.0 - (rank + 1) / len(normal), overlap))
    return brute_force_area(points[::-1], limit)


def sklearn_metrics(scores, labels):
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = [2 * p * r / (p + r) if p + r else 0.0 for p, r in zip(precision, recall, strict=True)]
    return [roc_auc_score(labels, scores), average_precision_score(labels, scores), max(f1)]


@st.composite
def stacks(draw, dtype=np.float32):
    """Maps with few distinct values (many ties) or none alike, and masks that hold both classes."""
    seed = draw(st.integers(0, 2**32 - 1))
    shape = draw(st.tuples(st.integers(2, 4), st.integers(2, 9), st.integers(2, 9)))
    levels = draw(st.sampled_from([1, 2, 3, 10, 100, None]))
    density = draw(st.floats(0.02, 0.9))
    rng = np.random.default_rng(seed)
    maps = rng.standard_normal(shape)
    masks = rng.random(shape) < density
    masks[0] = False
    masks[-1, 0, 0] = True
    maps += draw(st.floats(-1.0, 2.0)) * masks
    if levels is not None:
        maps = np.round(maps * levels / 4)
    return maps.astype(dtype), masks


def evaluate_as_on_gpu(monkeypatch, *args, **options):
    """Run the branch for GPU tensors on CPU tensors."""
    to_array = _checks.as_array
    with monkeypatch.context() as patch:
        patch.setattr(_checks, "as_array", lambda x: x if isinstance(x, torch.Tensor) else to_array(x))
        return metrics.evaluate(*args, **options)


def random_stack(shape=(4, 12, 12), seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    masks = ndimage.gaussian_filter(rng.standard_normal(shape), (0, 2, 2)) > 0.15
    masks[1:, 0, :2] = True
    masks[0] = False
    return (np.round(rng.standard_normal(shape), 1) + masks).astype(dtype), masks


def test_golden_values():
    golden = np.load(GOLDEN)
    result = metrics.evaluate(golden["maps"], golden["masks"])
    expected = {key: golden[key].item() for key in golden.files if key not in ("maps", "masks")}
    assert len(expected) == 7
    assert {key: result[key] for key in expected} == pytest.approx(expected, abs=1e-6)


@few_examples
@given(stacks())
def test_pixel_and_image_metrics_equal_scikit_learn(stack):
    maps, masks = stack
    result = metrics.evaluate(maps, masks)
    expected = sklearn_metrics(maps.max((1, 2)), masks.any((1, 2))) + sklearn_metrics(maps.ravel(), masks.ravel())
    assert [result[key] for key in KEYS] == pytest.approx(expected, abs=1e-12)


@few_examples
@given(stacks())
def test_aupro_equals_a_loop_over_every_threshold(stack):
    maps, masks = stack
    result = metrics.evaluate(maps, masks, limits=LIMITS, sampled_thresholds=True)
    for limit in LIMITS:
        assert result[f"aupro_{limit:.2f}"] == pytest.approx(brute_force_aupro(maps, masks, limit), abs=1e-12)
        expected = brute_force_aupro100t(maps, masks, limit)
        assert result[f"aupro100t_{limit:.2f}"] == pytest.approx(expected, abs=1e-12)


def test_100_thresholds_differ_from_exact_and_are_absent_unless_asked_for():
    maps, masks = random_stack((6, 40, 40), seed=3)
    result = metrics.evaluate(maps, masks, sampled_thresholds=True)
    for limit in (0.30, 0.01):
        expected = brute_force_aupro100t(maps, masks, limit)
        assert result[f"aupro100t_{limit:.2f}"] == pytest.approx(expected, abs=1e-12)
        assert abs(result[f"aupro100t_{limit:.2f}"] - result[f"aupro_{limit:.2f}"]) > 1e-3
    assert list(metrics.evaluate(maps, masks)) == KEYS + AUPRO_KEYS


def test_regions_that_touch_at_a_corner_are_one():
    masks = np.zeros((2, 6, 6), dtype=bool)
    masks[0, 0:2, 0:2] = masks[0, 2, 2] = True  # touches the square at a corner
    masks[0, 5, 5] = True
    maps = np.zeros(masks.shape)
    maps[0, 0:2, 0:2] = 1.0
    assert sorted(metrics.label_regions(masks).sizes) == [1, 5]
    # At the threshold 1.0 no normal pixel is detected and the overlap is (4/5 + 0) / 2, then a diagonal to (1, 1).
    assert metrics.evaluate(maps, masks, limits=[0.1])["aupro_0.10"] == pytest.approx(0.4 + 0.6 * 0.1 / 2)


def test_regions_of_neighbouring_images_stay_apart():
    masks = np.zeros((3, 4, 4), dtype=np.uint8)
    masks[1:, 1:3, 1:3] = 255
    regions = metrics.label_regions(masks)
    assert regions.sizes.tolist() == [4, 4]
    assert regions.ids.tolist() == [0] * 4 + [1] * 4


def test_each_region_weighs_the_same_whatever_its_size():
    masks = np.zeros((2, 10, 10), dtype=bool)
    masks[1, :8, :8] = masks[1, 9, 9] = True
    maps = np.where(masks, 0.0, 0.5)
    maps[1, 9, 9] = 1.0  # the small region is found before any normal pixel, the large one after all of them
    assert metrics.evaluate(maps, masks, limits=[0.3])["aupro_0.30"] == pytest.approx(0.5)


def test_normal_pixels_of_anomalous_images_count_as_false_positives():
    masks = np.zeros((2, 10, 10), dtype=bool)
    masks[1, 0, 0] = True
    maps = np.zeros(masks.shape)
    maps[1] = 2.0
    maps[1, 0, 0] = 1.0  # every other pixel of the anomalous image is detected before: 99 of 199
    assert metrics.evaluate(maps, masks)["aupro_0.30"] == 0.0
    x, y = metrics.pro_curve(maps, masks)
    assert x[y == 1.0].min() == pytest.approx(99 / 199)


@pytest.mark.parametrize("fill", [0, 1])
def test_a_single_class_gives_none(fill):
    maps, _ = random_stack()
    masks = np.full(maps.shape, fill, dtype=np.uint8)
    result = metrics.evaluate(maps, masks, sampled_thresholds=True)
    assert set(result) == {*KEYS, *AUPRO_KEYS, *(key.replace("aupro", "aupro100t") for key in AUPRO_KEYS)}
    assert set(result.values()) == {None}


def test_without_normal_images_only_the_image_metrics_are_none():
    maps, masks = random_stack()
    result = metrics.evaluate(maps[1:], masks[1:])
    assert {key for key, value in result.items() if value is None} == {"image_auroc", "image_ap", "image_f1_max"}


def test_without_masks_labels_decide():
    maps, masks = random_stack()
    expected = metrics.evaluate(maps, masks)
    result = metrics.evaluate(maps, None, labels=masks.any((1, 2)))
    assert {key for key, value in result.items() if value is None} == {*KEYS[3:], *AUPRO_KEYS}
    assert [result[key] for key in KEYS[:3]] == [expected[key] for key in KEYS[:3]]
    assert set(metrics.evaluate(maps, None).values()) == {None}


def test_given_scores_and_labels_replace_maximum_and_any():
    maps, masks = random_stack((6, 8, 8))
    scores, labels = [0.3, 0.3, 0.9, 0.1, 0.3, 0.2], [0, 1, 1, 1, 0, 0]
    default = metrics.evaluate(maps, masks)
    expected = sklearn_metrics(scores, labels)
    for convert in (list, np.array, torch.tensor):
        result = metrics.evaluate(maps, masks, convert(scores), labels=convert(labels))
        assert [result[key] for key in KEYS[:3]] == pytest.approx(expected, abs=1e-7)
        assert [result[key] for key in KEYS[3:]] == [default[key] for key in KEYS[3:]]


@pytest.mark.parametrize("value", [0.0, -3.5])
def test_constant_maps_are_chance(value):
    _, masks = random_stack()
    result = metrics.evaluate(np.full(masks.shape, value), masks)
    assert result["pixel_auroc"] == result["image_auroc"] == 0.5
    assert result["pixel_ap"] == pytest.approx(masks.mean())
    assert result["aupro_0.30"] == pytest.approx(0.15)  # the diagonal from (0, 0) to (1, 1)


def test_perfect_maps_score_one():
    _, masks = random_stack()
    assert set(metrics.evaluate(masks.astype(np.float32), masks).values()) == {1.0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_torch_equals_numpy(dtype, monkeypatch):
    maps, masks = random_stack((5, 20, 20))
    tensor = torch.from_numpy(maps).to(dtype).requires_grad_()
    expected = metrics.evaluate(tensor.detach().double().numpy(), masks, sampled_thresholds=True)
    assert metrics.evaluate(tensor, masks, sampled_thresholds=True) == expected
    tensor = tensor.detach()
    wide = tensor if dtype == torch.float64 else tensor.float()
    as_tensor = torch.from_numpy(masks)
    assert metrics.evaluate(tensor, as_tensor.byte() * 255, sampled_thresholds=True) == expected
    for given_masks in (masks, as_tensor, as_tensor.byte() * 255):
        assert evaluate_as_on_gpu(monkeypatch, wide, given_masks, sampled_thresholds=True) == expected
    wide[1, 2, 3] = torch.inf
    with pytest.raises(CrdkitError, match=r"maps\[1, 2, 3\] \(=inf\)"):
        evaluate_as_on_gpu(monkeypatch, wide, masks)


@few_examples
@given(stacks(dtype=np.float64))
def test_the_branch_for_gpu_tensors_equals_numpy(stack):
    maps, masks = stack
    expected = metrics.evaluate(maps, masks, sampled_thresholds=True)
    with pytest.MonkeyPatch.context() as patch:
        result = evaluate_as_on_gpu(patch, torch.from_numpy(maps), torch.from_numpy(masks), sampled_thresholds=True)
    assert result == expected


@pytest.mark.gpu
def test_gpu_equals_numpy():
    maps, masks = random_stack((5, 20, 20))
    expected = metrics.evaluate(maps, masks, sampled_thresholds=True)
    on_gpu = torch.from_numpy(maps).cuda()
    for given_masks in (masks, torch.from_numpy(masks), torch.from_numpy(masks).cuda()):
        assert metrics.evaluate(on_gpu, given_masks, sampled_thresholds=True) == expected
    assert metrics.evaluate(maps, torch.from_numpy(masks).cuda(), sampled_thresholds=True) == expected


def test_float64_keeps_its_order():
    masks = np.zeros((2, 4, 4), dtype=bool)
    masks[1, 0, :2] = True
    maps = np.where(masks, 1.0 + 1e-12, 1.0)
    assert metrics.evaluate(maps, masks)["pixel_auroc"] == 1.0
    assert metrics.evaluate(torch.from_numpy(maps), masks)["image_auroc"] == 1.0
    assert metrics.evaluate(maps.astype(np.float32), masks)["pixel_auroc"] == 0.5


def test_inputs_may_be_read_only_or_strided_and_stay_as_they_were():
    maps, masks = random_stack((4, 12, 14))
    expected = metrics.evaluate(maps, masks)
    before = maps.copy()
    maps.setflags(write=False)
    masks.setflags(write=False)
    assert metrics.evaluate(maps, masks) == expected
    assert metrics.evaluate(maps[::-1], masks[::-1]) == pytest.approx(expected)
    assert metrics.evaluate(maps.transpose(0, 2, 1), masks.transpose(0, 2, 1)) == pytest.approx(expected)
    np.testing.assert_array_equal(maps, before)


def test_regions_of_chosen_images_are_those_of_their_masks():
    masks = np.random.default_rng(3).random((6, 9, 11)) < 0.3
    masks[4] = False
    regions = metrics.label_regions(masks)
    for rows in ([0, 2, 4], [5], [4], [], range(6)):
        chosen = np.isin(np.arange(6), rows)
        part, expected = regions.of(chosen), metrics.label_regions(masks[chosen])
        assert part.shape == expected.shape
        for name in ("ids", "sizes", "pixels"):
            np.testing.assert_array_equal(getattr(part, name), getattr(expected, name))


def test_shared_regions_give_the_same_result_and_save_the_labelling(monkeypatch):
    maps, masks = random_stack()
    expected = metrics.evaluate(maps, masks)
    curve = metrics.pro_curve(maps, masks)
    regions = metrics.label_regions(torch.from_numpy(masks))
    monkeypatch.setattr(metrics, "label_regions", lambda _: pytest.fail("labelled again"))
    assert metrics.evaluate(maps, masks, regions=regions) == expected
    np.testing.assert_array_equal(metrics.pro_curve(maps, masks, regions=regions), curve)


def test_rounding_never_lifts_an_area_above_one():
    for limit in LIMITS:
        for steps in range(1, 100):  # at 0.3 and 61 steps the sum is above the limit
            x = np.linspace(0, 1, steps + 1)
            assert 1 - 1e-12 < area((x, np.ones(len(x))), limit) <= 1


def test_limit_names():
    maps, masks = random_stack()
    result = metrics.evaluate(maps, masks, limits=[1.0, 0.3, 0.005])
    assert [key for key in result if key.startswith("aupro")] == ["aupro_1.00", "aupro_0.30", "aupro_0.005"]


def bad(index, value):
    maps, _ = random_stack()
    maps[index] = value
    return maps


MAPS, MASKS = random_stack()
OTHER_MASKS = np.roll(MASKS, 1, axis=1) & MASKS


@pytest.mark.parametrize(
    ("maps", "masks", "options", "message"),
    [
        (bad((1, 2, 3), np.nan), MASKS, {}, r"maps\[1, 2, 3\] \(=nan\) must be finite; 1 "),
        (bad((slice(0, 2), 0, 0), -np.inf), MASKS, {}, r"maps\[0, 0, 0\] \(=-inf\) must be finite; 2 "),
        (bad((0, 0, 0), np.inf), None, {}, r"maps\[0, 0, 0\] \(=inf\)"),
        (MAPS[0], MASKS[0], {}, r"maps \(shape \(12, 12\)\) must be \(N, H, W\)"),
        (MAPS[:0], MASKS[:0], {}, r"maps \(shape \(0, 12, 12\)\)"),
        ((MAPS * 100).astype(np.uint8), MASKS, {}, r"maps \(dtype uint8\) must be floating"),
        (torch.zeros(4, 12, 12, dtype=torch.int64), MASKS, {}, r"maps \(dtype int64\) must be floating"),
        (MAPS, MASKS[1:], {}, r"masks \(shape \(3, 12, 12\)\) must have the shape of maps, \(4, 12, 12\)"),
        (MAPS, MASKS[:, None], {}, r"masks \(shape \(4, 1, 12, 12\)\) must be"),
        (MAPS, MASKS.astype(np.float32), {}, r"masks \(dtype float32\) must be bool or integer"),
        (MAPS, MASKS, {"scores": [0.1, 0.2]}, r"scores \(shape \(2,\)\) must be \(4,\)"),
        (MAPS, MASKS, {"scores": np.zeros((4, 1))}, r"scores \(shape \(4, 1\)\) must be \(4,\)"),
        (MAPS, MASKS, {"scores": [0.1, 0.2, np.nan, 0.3]}, r"scores \(=.*nan.*\) must be finite"),
        (MAPS, MASKS, {"scores": ["a", "b", "c", "d"]}, r"scores \(=.*\) must be finite numbers"),
        (MAPS, MASKS, {"labels": [0, 1, 1]}, r"labels \(shape \(3,\)\) must be \(4,\)"),
        (MAPS, MASKS, {"labels": [0, 1, 1, -1]}, r"labels \(=.*-1.*\) must be .* 0 = normal"),
        (MAPS, MASKS, {"labels": [0.0, 1.0, 1.0, 0.5]}, r"labels \(=.*0\.5.*\) must be"),
        (MAPS, MASKS, {"limits": (0.3, 0.0)}, r"limits \(=\(0\.3, 0\.0\)\) must be .* in \(0, 1\]"),
        (MAPS, MASKS, {"limits": (30,)}, r"limits \(=\(30,\)\)"),
        (MAPS, MASKS, {"limits": (1.01,)}, r"limits \(=\(1\.01,\)\)"),
        (
            MAPS,
            None,
            {"regions": metrics.label_regions(MASKS)},
            r"^regions is given without masks; pass the masks that it was computed from$",
        ),
        (MAPS, MASKS, {"regions": metrics.label_regions(MASKS[1:])}, r"regions \(shape \(3, 12, 12\), .* same masks"),
        (MAPS, MASKS, {"regions": metrics.label_regions(OTHER_MASKS)}, r"regions \(shape .* must come from the same"),
    ],
)
def test_wrong_input_is_named(maps, masks, options, message):
    with pytest.raises(CrdkitError, match=message):
        metrics.evaluate(maps, masks, **options)


def test_curves_refuse_one_class_and_too_few_points():
    needs = "^labels holds one class only; a ROC curve needs normal and anomalous images$"
    with pytest.raises(CrdkitError, match=needs):
        metrics.roc_curve([0.1, 0.2], [1, 1])
    needs = "^masks holds one class only; a PRO curve needs normal and anomalous pixels$"
    with pytest.raises(CrdkitError, match=needs):
        metrics.pro_curve(MAPS, np.zeros_like(MASKS))
    with pytest.raises(CrdkitError, match=r"masks \(shape \(3, 12, 12\)\) must have the shape of maps"):
        metrics.pro_curve(MAPS, MASKS[1:])
    with pytest.raises(CrdkitError, match=r"^scores \(shape \(1, 2\)\) must be \(N,\)$"):
        metrics.roc_curve([[0.1, 0.2]], [0, 1])
    with pytest.raises(CrdkitError, match=r"labels \(shape \(3,\)\) must be \(2,\), one value per image"):
        metrics.roc_curve([0.1, 0.2], [0, 1, 1])
    with pytest.raises(CrdkitError, match=r"points \(=1\)"):
        metrics.roc_curve([0.1, 0.2], [0, 1], points=1)


def equal_steps(x, y, points):
    """The vertices that are reached first after each of ``points`` equal steps of |dx| + |dy|, one after the other."""
    length = [0.0]
    for index in range(1, len(x)):
        length.append(length[-1] + abs(x[index] - x[index - 1]) + abs(y[index] - y[index - 1]))
    corners = [index for index in range(len(x)) if index == 0 or length[index] > length[index - 1]]
    if len(corners) <= points:
        return [(x[index], y[index]) for index in corners]
    steps = np.linspace(0.0, length[-1], points)
    chosen = {min(index for index in corners if length[index] >= step) for step in steps}
    return [(x[index], y[index]) for index in sorted(chosen)]


@pytest.mark.parametrize("points", [2, 3, 5, 8, 9, 10, 30])
@pytest.mark.parametrize("first", [0, 1])
def test_thinned_curves_hold_what_is_reached_after_equal_steps(points, first):
    labels = [first, 1 - first, 0, 1, 1, 0, 1, 0, 0, 1]  # the highest score is normal, or anomalous
    scores = [0.99, 0.9, 0.9, 0.8, 0.6, 0.55, 0.5, 0.4, 0.3, 0.1]
    whole = metrics.roc_curve(scores, labels, points=10_000)
    assert list(zip(*metrics.roc_curve(scores, labels, points=points), strict=True)) == equal_steps(*whole, points)


def test_curves_have_500_points_unless_asked():
    scores = np.arange(2000)
    assert len(metrics.roc_curve(scores, scores % 2)[0]) == 500
    maps = np.arange(2000.0).reshape(2, 20, 50)
    assert len(metrics.pro_curve(maps, maps.astype(int) % 2)[0]) == 500


def test_short_curves_are_exact():
    x, y = metrics.roc_curve([0.9, 0.8, 0.8, 0.1, 0.05], [1, 0, 1, 0, 0])
    assert x.tolist() == pytest.approx([0, 0, 1 / 3, 1])
    assert y.tolist() == pytest.approx([0, 0.5, 1, 1])


@few_examples
@given(stacks())
def test_curves_hold_the_metrics_areas(stack):
    maps, masks = stack
    result = metrics.evaluate(maps, masks, limits=[1.0])
    x, y = metrics.pro_curve(maps, masks, points=10_000)
    assert auc(x, y) == pytest.approx(result["aupro_1.00"], abs=1e-9)
    x, y = metrics.roc_curve(maps.max((1, 2)), masks.any((1, 2)))
    assert auc(x, y) == pytest.approx(result["image_auroc"], abs=1e-9)


@pytest.mark.parametrize("shift", [0.0, 1.0, 6.0])
def test_thinned_curves_keep_their_shape(shift):
    rng = np.random.default_rng(1)
    masks = rng.random((3, 90, 90)) < 0.2
    maps = rng.standard_normal(masks.shape) + shift * masks
    x, y = metrics.pro_curve(maps, masks, points=100_000)
    thin_x, thin_y = metrics.pro_curve(maps, masks)
    assert len(x) > 2000
    assert 100 < len(thin_x) <= 500
    assert (thin_x[0], thin_y[0], thin_x[-1], thin_y[-1]) == pytest.approx((0, 0, 1, 1))
    assert np.all(np.diff(thin_x) >= 0)
    assert np.all(np.diff(thin_y) >= 0)
    distance = np.abs(x[:, None] - thin_x) + np.abs(y[:, None] - thin_y)
    assert distance.min(axis=1).max() <= 2 / 499 + 1e-12
    assert set(zip(thin_x, thin_y, strict=True)) <= set(zip(x, y, strict=True))
