"""Aggregations against brute force, their options, and a weak branch that must not drown a strong one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score

from crdkit.config import RunConfig
from crdkit.config.build import build_scorer
from crdkit.errors import ConfigError, UnknownNameError
from crdkit.runs.fit import fit
from crdkit.scoring.aggregations import aggregations, min_scale
from crdkit.scoring.maps import GaussianSmoothing, anomaly_score

NAMES = ("rgb", "depth", "infrared")


def build(name, modalities=NAMES, **options):
    return aggregations.get(name)(aggregations.build_config({"name": name, **options}), modalities=modalities)


def random_maps(samples, seed, names=NAMES):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (1 + rank) * torch.rand(samples, 12, 12, generator=generator) ** (1 + rank)
        for rank, name in enumerate(names)
    }


def softplus(values):
    return np.logaddexp(0, values)


def tail_of(values, quantile):
    """Return location and scale by sorting, as the docstring of `TailNorm` says."""
    values = np.sort(values.ravel())
    count = round((1 - quantile) * len(values))
    threshold = values[-count - 1]
    scale = (values[-count:] - threshold).mean()
    return threshold + scale * math.log(count / len(values)), scale


def expected_fusion(name, options, normals, maps):
    normals, maps = ({key: value.numpy().astype(float) for key, value in group.items()} for group in (normals, maps))
    z = {key: (maps[key] - normals[key].mean()) / normals[key].std() for key in maps}
    if name == "tail_norm":
        if options.get("scale") != "std":
            fits = {key: tail_of(normals[key], options.get("quantile", 0.99)) for key in maps}
            z = {key: (maps[key] - fits[key][0]) / fits[key][1] for key in maps}
        surprises = np.stack([softplus(z[key]) for key in maps])
        power = options.get("power", 2)
        return surprises.max(0) if power is None else (surprises**power).sum(0) ** (1 / power)
    stack, raw = np.stack([*z.values()]), np.stack([*maps.values()])
    return {
        "normalised_sum": lambda: stack.sum(0),
        "max": lambda: stack.max(0),
        "sum": lambda: raw.sum(0),
        "product": lambda: raw.prod(0),
        "weighted": lambda: sum(options["weights"][key] * z[key] for key in maps),
    }[name]()


CASES = [
    ("normalised_sum", {}),
    ("sum", {}),
    ("max", {}),
    ("product", {}),
    ("weighted", {"weights": {"depth": 0.5, "rgb": 2, "infrared": 0}}),
    *(("tail_norm", {"scale": scale, "power": power}) for scale in ("tail", "std") for power in (1, 2, 5.5, None)),
    *(("tail_norm", {"quantile": quantile}) for quantile in (0.5, 0.9, 0.999)),
]


def test_every_aggregation_is_compared_with_brute_force():
    assert {name for name, _ in CASES} == set(aggregations)


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_agrees_with_brute_force(name, options):
    normals, maps = random_maps(20, 0), random_maps(4, 1)
    maps["rgb"][0, 3, 3] += 4
    part = build(name, **options)
    part.calibrate(normals)
    np.testing.assert_allclose(part(maps).numpy(), expected_fusion(name, options, normals, maps), rtol=2e-4, atol=1e-5)


def test_exponential_tails_are_measured_whatever_the_spread_of_the_rest():
    generator = torch.Generator().manual_seed(0)
    excess = -0.25 * torch.rand(40, 64, 64, generator=generator, dtype=torch.float64).log().float()
    body = torch.rand(40, 64, 64, generator=generator) * 7 - 7
    normals = torch.where(torch.rand(40, 64, 64, generator=generator) < 0.1, excess, body)
    part = build("tail_norm", ["rgb"], quantile=0.95, power=1)
    part.calibrate({"rgb": normals})
    assert part.scale.item() == pytest.approx(0.25, rel=0.03)
    surprise = part({"rgb": torch.tensor([[[0.5, 1.0, 2.0]]])})
    survival = 0.1 * torch.exp(torch.tensor([0.5, 1.0, 2.0]) / -0.25)
    torch.testing.assert_close(surprise[0, 0], -survival.log(), rtol=0.03, atol=0.05)


def test_larger_powers_run_from_the_sum_to_the_largest():
    normals, maps = random_maps(20, 0), random_maps(4, 1)
    fused = []
    for power in (1, 1.5, 2, 4, 16, 64, None):
        part = build("tail_norm", power=power)
        part.calibrate(normals)
        fused.append(part(maps))
    assert all(bool((first >= second - 1e-5).all()) for first, second in itertools.pairwise(fused))
    torch.testing.assert_close(fused[-2], fused[-1], rtol=0.02, atol=0)


@pytest.mark.parametrize("power", [1, 2, 64, None])
def test_huge_and_tied_maps_stay_finite(power):
    part = build("tail_norm", ["rgb", "depth"], power=power)
    tied = torch.zeros(4, 8, 8)
    tied[:, :4] = 1
    part.calibrate({"rgb": tied, "depth": torch.rand(4, 8, 8)})
    assert part.scale[0] == pytest.approx(0.5)  # ties leave no tail: the standard deviation
    assert part.location[0] == pytest.approx(0.5)  # and the mean
    for value in (0.0, 1.0, 1e9):
        assert bool(part({"rgb": torch.full((1, 8, 8), value), "depth": torch.full((1, 8, 8), value)}).isfinite().all())


@pytest.mark.parametrize(("count", "quantile"), [(2, 0.5), (3, 0.5), (100, 0.99), (99, 0.5), (5000, 0.999)])
def test_tails_of_few_pixels_are_measured_in_64_bits(count, quantile):
    values = torch.rand(count, 1, 1, generator=torch.Generator().manual_seed(count))
    part = build("tail_norm", ["rgb"], quantile=quantile)
    part.calibrate({"rgb": values})
    location, scale = tail_of(values.double().numpy(), quantile)
    assert part.location.item() == pytest.approx(location, rel=1e-12)
    assert part.scale.item() == pytest.approx(scale, rel=1e-12)


def test_what_is_learned_is_kept_in_64_bits():
    for name in ("normalised_sum", "tail_norm"):
        assert {values.dtype for values in build(name).state_dict().values()} == {torch.float64}
    assert build("weighted", weights={"rgb": 1, "depth": 1, "infrared": 1}).state_dict().keys() == {"mean", "std"}


def test_the_smallest_scale_is_the_resolution_of_32_bit_floats():
    locations = [0.0, 0.5, -1.0, 1.5, -1000.0]
    expected = [np.spacing(np.float32(1)) * max(abs(value), 1) for value in locations]
    assert min_scale(torch.tensor(locations)).tolist() == pytest.approx(expected, rel=1e-6)


def test_a_missing_map_is_the_mean_of_the_normalised_others():
    normals, maps = random_maps(20, 0), random_maps(3, 1)
    present = {
        "rgb": torch.tensor([True, True, False]),
        "depth": torch.tensor([True, False, False]),
        "infrared": torch.tensor([False, True, True]),
    }
    z = {key: (maps[key] - normals[key].mean()) / normals[key].std(correction=0) for key in maps}
    both, rest = (z["rgb"][0] + z["depth"][0]) / 2, (z["rgb"][1] + z["infrared"][1]) / 2
    part = build("normalised_sum")
    part.calibrate(normals)
    expected = torch.stack([3 * both, 3 * rest, 3 * z["infrared"][2]])
    torch.testing.assert_close(part.fuse(maps, present), expected, rtol=1e-4, atol=1e-4)
    largest = build("max")
    largest.calibrate(normals)
    expected = torch.stack([torch.maximum(z["rgb"][0], z["depth"][0]), torch.maximum(z["rgb"][1], z["infrared"][1])])
    torch.testing.assert_close(largest.fuse(maps, present)[:2], expected, rtol=1e-4, atol=1e-4)


def test_one_pixel_is_enough_to_calibrate():
    part = build("tail_norm", ["rgb"])
    part.calibrate({"rgb": torch.full((1, 1, 1), 0.2)})
    assert bool(part({"rgb": torch.rand(1, 1, 1)}).isfinite().all())


def test_a_branch_that_was_constant_spoils_no_smoothed_map():
    for name in ("normalised_sum", "max"):
        part = build(name, ["rgb", "depth"])
        part.calibrate({"rgb": torch.zeros(2, 16, 16), "depth": torch.rand(2, 16, 16)})
        fused = part({"rgb": torch.ones(1, 16, 16), "depth": torch.rand(1, 16, 16)})
        assert bool(GaussianSmoothing(2, size=16)(fused).isfinite().all())


def test_rounding_below_zero_is_no_anomaly_of_the_product():
    maps = {"rgb": torch.full((1, 2, 2), -1e-7), "depth": torch.full((1, 2, 2), -2.0)}
    assert bool((build("product", ["rgb", "depth"])(maps) == 0).all())


# --- a strong branch beside weak ones


def branch(samples, generator, *, spikes):
    """Return coarse noise as (N, 64, 64) maps; with ``spikes`` now and then far above the rest, on normals too."""
    shape = (samples, 1, 16, 16)
    values = 0.3 + 0.05 * torch.randn(shape, generator=generator)
    if spikes:
        rare = torch.rand(shape, generator=generator) < 0.01
        values = values / 3 + rare * torch.rand(shape, generator=generator)
    return F.interpolate(values, size=(64, 64), mode="bilinear", align_corners=True)[:, 0].clamp_min(0)


def separation(name, weak, **options):
    """Return the image AUROC of defects that only the branch "strong" sees, beside ``weak`` noisy ones."""
    generator = torch.Generator().manual_seed(3)
    names = ["strong", *(f"weak{index}" for index in range(weak))]

    def sample(count):
        return {key: branch(count, generator, spikes=key != "strong") for key in names}

    part = build(name, names, **options)
    part.calibrate(sample(20))
    normal, defective = sample(60), sample(60)
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    defective["strong"] += 0.2 * torch.exp(-((rows - 30) ** 2 + (columns - 24) ** 2) / 18)
    smooth = GaussianSmoothing(2.0, size=64)
    scores = [anomaly_score(smooth(part(maps))) for maps in (normal, defective)]
    return roc_auc_score([0] * 60 + [1] * 60, torch.cat(scores))


def test_weak_noisy_branches_drown_a_strong_one_in_the_normalised_sum_and_not_in_the_tail_norm():
    alone = separation("normalised_sum", 0)
    assert alone > 0.98
    assert separation("normalised_sum", 2) < alone - 0.2
    assert separation("max", 2) < alone - 0.2
    assert separation("tail_norm", 2) > alone - 0.05
    assert separation("tail_norm", 2, scale="std") < alone - 0.2  # it is the unit that does it


# --- weights


def run_with(**weights):
    return RunConfig.preset("quick").with_overrides(f"aggregation={{name: weighted, weights: {weights}}}")


def test_weights_reach_a_run_from_the_command_line():
    run = RunConfig.preset("quick").with_overrides(
        "aggregation.name=weighted", "aggregation.weights.rgb=2", "aggregation.weights.depth=1"
    )
    assert run == run_with(rgb=2, depth=1)
    assert build_scorer(run).aggregation.weights.flatten().tolist() == [2, 1]


def test_weights_that_do_not_fit_are_named():
    with pytest.raises(ConfigError, match=r"aggregation\.weights: 'detph' - did you mean 'depth'\? known: depth, rgb"):
        run_with(rgb=1, detph=1)
    with pytest.raises(ConfigError, match=r"has no weight for modality 'depth'; give every modality one, 0 to leave"):
        run_with(rgb=1)
    with pytest.raises(ConfigError, match=r"has no weight for modality 'depth', 'infrared'; give every"):
        build("weighted", weights={"rgb": 1})
    with pytest.raises(ConfigError, match=r"are all 0"):
        run_with(rgb=0, depth=0)
    with pytest.raises(ConfigError, match=r"weights\.rgb \(=-1\): input should be greater than or equal to 0"):
        run_with(rgb=-1, depth=1)
    with pytest.raises(UnknownNameError, match="'xyz'"):
        build("weighted", ["rgb"], weights={"xyz": 1})
    assert build("weighted", ["rgb"], weights={"rgb": 1e-6}).weights.item() == pytest.approx(1e-6)  # the least


def test_the_removed_mean_says_what_to_use():
    with pytest.raises(UnknownNameError, match=r"aggregation 'mean' was removed: use normalised_sum, which ranks"):
        build("mean")


def test_no_weights_are_refused_before_anything_is_decoded(tiny, monkeypatch):
    monkeypatch.setattr("crdkit.runs._pipeline.load_splits", None)
    with pytest.raises(ConfigError, match=r"weights is missing: give every modality one, e\.g\. \{rgb: 1, depth: 1\}"):
        fit(tiny.with_overrides("aggregation.name=weighted"))


@pytest.mark.parametrize(
    "options", [{"power": 0.5}, {"power": math.inf}, {"quantile": 1}, {"quantile": 0.4}, {"scale": "peak"}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        build("tail_norm", **options)


# --- how unusual each branch is


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_the_surprise_of_each_branch_is_in_the_unit_that_is_fused(name, options):
    """It rises with the branch's own map alone, and where the aggregation adds, it is what is added."""
    normals, maps = random_maps(20, 0), random_maps(4, 1)
    part = build(name, **options)
    part.calibrate(normals)
    surprise = part.surprise(maps)
    assert list(surprise) == list(NAMES)
    assert all(values.shape == (4, 12, 12) and values.dtype == torch.float32 for values in surprise.values())
    unlike = part.surprise({**maps, "depth": maps["depth"] + 1})
    torch.testing.assert_close(unlike["rgb"], surprise["rgb"], rtol=0, atol=0)
    assert bool((unlike["depth"] >= surprise["depth"]).all())
    assert bool((unlike["depth"].amax((1, 2)) > surprise["depth"].amax((1, 2))).all())
    if name in {"normalised_sum", "weighted"} or options.get("power") == 1:
        torch.testing.assert_close(sum(surprise.values()), part(maps), rtol=1e-5, atol=1e-5)
    if name == "max" or options.get("power", 0) is None:
        torch.testing.assert_close(torch.stack([*surprise.values()]).amax(0), part(maps), rtol=0, atol=0)


def test_the_branch_that_sees_a_defect_is_the_most_surprised_and_one_of_weight_0_never_is():
    normals = random_maps(20, 0)
    maps = {key: values[:1].clone() for key, values in normals.items()}
    maps["depth"][0, 4, 4] = 20.0
    for name, options in CASES:
        part = build(name, **options)
        part.calibrate(normals)
        surprise = part.surprise(maps)
        assert max(surprise, key=lambda key, found=surprise: float(found[key][0, 4, 4])) == "depth", name
    part = build("weighted", weights={"depth": 0.5, "rgb": 2, "infrared": 0})
    part.calibrate(normals)
    assert bool((part.surprise(maps)["infrared"] == 0).all())
