"""Thresholds keep the rate of false alarms that was asked for, on average and in its spread, without a sensor too.

Maps are made up: noise with a scale of its own for each sample, sensor and set of sensors. With trained detectors there
is `benchmarks.false_alarms`, for every number of normal samples with every number of sensors.
"""

from __future__ import annotations

import pytest
import torch

from benchmarks.false_alarms import Pool, count_alarms, summary
from crdkit.config import RunConfig
from crdkit.config.build import build_scorer
from crdkit.detector._engine import RawMaps

SIZE, SETS = 16, 30
TEACHER = "{name: timm, model: test_resnet, pretrained: false}"


def made_up(sensors, *, count, seed=0):
    """Return a pool of ``count`` samples: all sensors, and each one missing."""
    names = ("rgb", "depth", "xyz")[:sensors]
    run = RunConfig.preset("quick").with_overrides(
        f"data.image_size={SIZE}", "scoring.sigma=1", *(f"modalities.{name}.encoder={TEACHER}" for name in names)
    )
    run = run.with_overrides(*(f"modalities.{name}=null" for name in run.modalities if name not in names))
    generator = torch.Generator().manual_seed(seed)
    scale = torch.rand(sensors, count, 1, 1, generator=generator).add(
        0.5
    )  # a good part that looks odd does so at each pixel
    noise = torch.rand(sensors, count, SIZE, SIZE, generator=generator).pow(3)
    raw = {}
    for missing in (None, *(names if sensors > 1 else ())):
        seen = tuple(name for name in names if name != missing)
        worse = 1 if missing is None else 1.3  # the others cannot be predicted from it
        maps = {name: worse * scale[place] * noise[place] for place, name in enumerate(names)}
        raw[seen] = RawMaps({name: values if name in seen else 0 * values for name, values in maps.items()}, None)
    return Pool(raw, build_scorer(run))


@pytest.mark.parametrize(
    ("count", "sensors", "rates"), [(23, 3, (0.05, 0.1)), (100, 2, (0.01, 0.05, 0.1)), (1000, 1, (0.01, 0.05, 0.1))]
)
def test_the_mean_rate_is_at_most_what_was_asked_for_and_its_spread_is_that_of_the_theory(count, sensors, rates):
    rows = list(count_alarms(made_up(sensors, count=count + 250), count=count, sets=SETS, rates=rates))
    assert {tuple(row["modalities"]) for row in rows} >= {("rgb", "depth", "xyz")[:sensors]}
    assert len(rows) == len(rates) * (1 if sensors == 1 else sensors + 1)
    for row in rows:
        for key in ("alarms", "pixel_alarms"):
            found = summary(row, key)
            assert found["mean"] <= row["rate"] + 3 * found["error"], row  # 3: of some 30 comparisons
            assert found["p"] > 1e-3, (row, found)
            assert 0.6 < found["spread"] < 1.5, (row, found)


def test_an_extrapolated_threshold_is_near_the_rate():
    (row,) = count_alarms(made_up(1, count=800), count=23, sets=SETS, rates=(0.01,))
    assert row["extrapolated"]
    assert summary(row)["mean"] < 0.02  # the smallest supported rate is 4.2 %
