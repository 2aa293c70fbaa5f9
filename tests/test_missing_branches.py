"""What stands for a branch that a sample lacks: in the unit of each aggregation, so that scores keep their scale."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import missing_branches as made_up
from crdkit.scoring._missing import flags, mean_of_present
from crdkit.scoring.aggregations import Aggregation, AggregationConfig, aggregations
from crdkit.scoring.conformal import Normals
from crdkit.scoring.thresholds import Thresholds

KINDS = ("light", "heavy", "exponential", "uniform", "constant")


def build(name, names="abc", **options):
    if name == "weighted" and not options:
        options = {"weights": dict.fromkeys(names, 1)}
    return aggregations.build(aggregations.build_config({"name": name, **options}), modalities=tuple(names))


def calibrated(name, names="abc", **options):
    part = build(name, names, **options)
    generator = torch.Generator().manual_seed(0)
    part.calibrate({key: (1 + rank) * torch.rand(9, 8, 8, generator=generator) for rank, key in enumerate(names)})
    maps = {key: (1 + rank) * 1.2 * torch.rand(2, 8, 8, generator=generator) for rank, key in enumerate(names)}
    return part, maps


def without(maps, *missing):
    """Return maps in which what is missing is NaN, and their flags."""
    kept = {key: torch.full_like(values, torch.nan) if key in missing else values for key, values in maps.items()}
    return kept, {key: torch.full((len(values),), key not in missing) for key, values in maps.items()}


def missing_sets(names="abc"):
    return [kept for kept in made_up.subsets(names) if len(kept) < len(names)]


@pytest.mark.parametrize("kept", missing_sets(), ids="".join)
@pytest.mark.parametrize("power", [1, 2, 5.5, None])
def test_the_tail_norm_of_the_present_branches_is_scaled_by_their_share(power, kept):
    part, maps = calibrated("tail_norm", power=power)
    surprise = part.surprise(maps)
    present = torch.stack([surprise[key].double() for key in kept])
    expected = present.amax(0) if power is None else (3 / len(kept) * (present**power).sum(0)) ** (1 / power)
    fused = part.fuse(*without(maps, *set("abc").difference(kept)))
    torch.testing.assert_close(fused.double(), expected, rtol=1e-5, atol=1e-6)
    bound = 1 if power is None else (3 / len(kept)) ** (1 / power)
    assert bool((fused <= part(maps) * bound * (1 + 1e-5)).all())  # for every map, not only for normal ones


@pytest.mark.parametrize("kept", missing_sets(), ids="".join)
def test_sums_are_scaled_and_a_maximum_is_that_of_the_present_branches(kept):
    missing = set("abc").difference(kept)
    weights = {"a": 2.0, "b": 0.5, "c": 1.0}
    for name, options in (("normalised_sum", {}), ("weighted", {"weights": weights}), ("max", {})):
        part, maps = calibrated(name, **options)
        z = part.normalised(maps)
        of = {key: options["weights"][key] if options else 1.0 for key in "abc"}
        if name == "max":
            expected = torch.stack([z[key] for key in kept]).amax(0)
        else:
            share = sum(of.values()) / sum(of[key] for key in kept)
            expected = share * sum(of[key] * z[key] for key in kept)
        torch.testing.assert_close(part.fuse(*without(maps, *missing)), expected, rtol=1e-4, atol=1e-5)


def test_a_branch_of_weight_0_counts_nowhere():
    """It used to be averaged into what stands for a missing branch."""
    part, maps = calibrated("weighted", weights={"a": 1, "b": 2, "c": 0})
    known, present = without(maps, "b")
    fused = part.fuse(known, present)
    torch.testing.assert_close(fused, 3 * part.normalised(maps)["a"])
    loud = part.fuse({**known, "c": known["c"] + 100}, present)
    torch.testing.assert_close(loud, fused, rtol=0, atol=0)


def test_where_only_branches_of_weight_0_are_left_they_decide():
    part, maps = calibrated("weighted", "abcd", weights={"a": 1, "b": 2, "c": 0, "d": 0})
    z = part.normalised(maps)
    torch.testing.assert_close(part.fuse(*without(maps, "a", "b", "d")), 3 * z["c"])
    torch.testing.assert_close(part.fuse(*without(maps, "a", "b")), 3 * (z["c"] + z["d"]) / 2)


@pytest.mark.parametrize("name", ["sum", "product"])
def test_maps_that_are_fused_as_they_are_are_filled_in_their_own_mean_and_deviation(name):
    part, maps = calibrated(name)
    z = part.normalised(maps)
    own = {"b": part.mean[1] + part.std[1] * (z["a"] + z["c"]).double() / 2}
    expected = part({**maps, "b": own["b"].float()})
    torch.testing.assert_close(part.fuse(*without(maps, "b")), expected, rtol=1e-5, atol=1e-5)


class OnlyForward(Aggregation):
    """What a plug-in has to define, and no more."""

    def forward(self, maps):
        return self.stacked(self.normalised(maps)).median(dim=0).values


def test_a_plug_in_that_only_defines_forward_is_filled_in():
    part = OnlyForward(AggregationConfig(name="only_forward"), modalities=("a", "b", "c"))
    generator = torch.Generator().manual_seed(0)
    part.calibrate({key: torch.rand(9, 8, 8, generator=generator) for key in "abc"})
    maps = {key: torch.rand(2, 8, 8, generator=generator) for key in "abc"}
    fused = part.fuse(*without(maps, "c"))
    z = part.normalised(maps)
    torch.testing.assert_close(fused, (z["a"] + z["b"]) / 2)  # the median of two and their mean
    assert list(part.surprise(maps)) == ["a", "b", "c"]


def test_a_constant_branch_is_filled_in_by_the_deviation_that_it_is_divided_by():
    """It used to be filled in with its raw deviation, 0, and so never stood for another."""
    for name in ("normalised_sum", "max"):
        part = build(name, "ab")
        part.calibrate(
            {"a": torch.rand(9, 8, 8, generator=torch.Generator().manual_seed(0)), "b": torch.zeros(9, 8, 8)}
        )
        maps = {"a": torch.full((1, 8, 8), 3.0), "b": torch.zeros(1, 8, 8)}
        z = part.normalised(maps)["a"]
        expected = 2 * z if name == "normalised_sum" else z
        torch.testing.assert_close(part.fuse(*without(maps, "b")), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", aggregations.names())
def test_complete_samples_beside_incomplete_ones_keep_their_bits(name):
    part, maps = calibrated(name)
    present = {"a": torch.tensor([True, True]), "b": torch.tensor([True, False]), "c": torch.tensor([True, True])}
    torch.testing.assert_close(part.fuse(maps, present)[0], part(maps)[0], rtol=0, atol=0)
    torch.testing.assert_close(part.fuse(maps), part(maps), rtol=0, atol=0)
    nothing = dict.fromkeys("abc", torch.tensor([False, False]))
    assert bool(part.fuse(maps, nothing).isfinite().all())


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.floats(0, 2.0**100, width=32), min_size=1, max_size=4),
    has=st.lists(st.booleans(), min_size=4, max_size=4),
    weights=st.none() | st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=4, max_size=4),
    power=st.sampled_from([1, 1.5, 2, 64, None]),
)
def test_the_mean_of_the_present_lies_between_them(values, has, weights, power):
    stack = torch.tensor(values).view(-1, 1, 1, 1)
    flag = torch.tensor(has[: len(values)]).view(-1, 1, 1, 1)
    share = None if weights is None else torch.tensor(weights[: len(values)]).view(-1, 1, 1, 1)
    found = mean_of_present(stack, flag, weights=share, power=power).item()
    there = [value for value, kept in zip(values, has, strict=False) if kept]
    if not there:
        assert found == 0
        return
    least = 1e-37  # below it, 32-bit numbers lose digits
    assert min(there) * (1 - 1e-5) - least <= found <= max(there) * (1 + 1e-5) + least


def test_flags_follow_the_order_of_the_modalities():
    present = {"b": torch.tensor([True, False]), "a": torch.tensor([False, False])}
    assert flags(present, ("a", "b")).flatten().tolist() == [False, False, True, False]


# --- the level of normal samples, and what is found


SCENES = [
    ("light",),
    *(kinds for kinds in itertools.combinations_with_replacement(KINDS, 2) if set(kinds) != {"constant"}),
    ("light", "heavy", "uniform"),
    ("heavy", "exponential", "constant"),
    ("heavy", "uniform", "uniform"),
]


@pytest.mark.parametrize("name", sorted({*aggregations.names()} & {*made_up.PARTS}))
def test_normal_samples_score_on_the_scale_of_complete_ones_for_every_set_of_sensors(name):
    """K of M branches: a tail norm at most (M/K)^(1/2) times as much, a maximum no more, sums 2 M/K times.

    The product is compared by its M-th root; weights of 2, 1 and 0 allow 3 M/K. No less than an eighth: a branch with
    a light tail reads less than one with a heavy one. What is left must see something: a constant branch does not.
    """
    for kinds in SCENES:
        generator = torch.Generator().manual_seed(1)
        calibration, good = (made_up.normals(kinds, count, generator) for count in (8, 20))
        part = made_up.build(name, tuple(good))
        part.calibrate(calibration)
        for quantile in (0.5, 0.9):
            for kept, value in made_up.level(part, good, quantile=quantile).items():
                share = len(kinds) / len(kept)
                most = {"tail_norm": share**0.5, "max": 1.0, "weighted": 3 * share}.get(name, 2 * share)
                ratio = value ** (1 / len(kinds)) if name == "product" else value
                assert ratio <= most * (1 + 1e-4), (kinds, kept)
                if any("constant" not in branch for branch in kept):
                    assert ratio >= 1 / 8, (kinds, kept)


def test_every_aggregation_has_a_level():
    assert set(made_up.PARTS) == set(aggregations)


@pytest.mark.parametrize("kinds", [("light", "heavy"), ("exponential", "uniform"), ("light", "heavy", "uniform")])
def test_a_third_of_incomplete_samples_costs_the_tail_norm_less_than_it_did(kinds):
    """Where all branches see a defect; the former filling read deviations around the mean as tail units."""
    found = made_up.compare("tail_norm", kinds, seen_by="all", seed=0, samples=100)
    assert found["today"] > 0.97
    assert found["today"] >= found["former"]
    assert found["level, today"] <= len(kinds) ** 0.5 < found["level, former"] + 0.25


@pytest.mark.parametrize("name", sorted(made_up.PARTS))
def test_false_alarms_stay_at_the_requested_rate_for_every_set_of_sensors(name):
    """With a threshold for each set, over 100 random calibration sets; with one for all, they would not."""
    rng = np.random.default_rng(0)
    rows = [rng.permutation(200) for _ in range(100)]
    worst = 0.0
    for kinds in (("heavy",), ("light", "heavy"), ("exponential", "uniform"), ("heavy", "uniform", "constant")):
        generator = torch.Generator().manual_seed(2)
        part = made_up.build(name, tuple(good := made_up.normals(kinds, 200, generator)))
        part.calibrate(made_up.normals(kinds, 12, generator))
        sets = list(made_up.subsets(part.modalities))
        scores = {
            kept: made_up.scores(part, good, made_up.only(part.modalities, kept, 200)).double().numpy() for kept in sets
        }
        rates = {kept: [] for kept in sets}
        for drawn in rows:
            normals = {kept: Normals(scores[kept][drawn[:23]].tolist(), rule="split") for kept in sets}
            found = Thresholds(scores=normals, peaks={}, false_alarms=0.1)
            for kept in sets:
                held_out = scores[kept][drawn[23:]]
                rates[kept].append((held_out > found.images[kept].value).mean())
                worst = max(worst, float((held_out > found.images[part.modalities].value).mean()))
        for kept, alarms in rates.items():
            assert np.mean(alarms) <= 0.1 + 2 * np.std(alarms) / 10, (kinds, kept)
    if name != "max":
        assert worst > 0.3
