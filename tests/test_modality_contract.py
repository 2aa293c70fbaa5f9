"""Every registered modality in every mode: what `crdkit.testing` checks, on damaged scans too, and what it must see."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdkit.data.synthetic import DEFECTS, INFRARED_DEFECTS, OBJECT_KINDS, POLARISERS
from crdkit.testing import check_modality, check_view, example_sensors
from crdkit.views import View, views

GEOMETRY = {"xyz", "depth", "normals"}
COLOUR = {"rgb", *(f"image_{light}" for light in range(6)), *POLARISERS}
INFRARED = {"infrared", "thermal", "polarisation"}
MODES = [
    {"name": "depth", "sensor": "depth"},
    {"name": "depth", "mode": "none"},
    {"name": "normals", "mode": "trd"},
    {"name": "normals", "sensor": "normals"},
    {"name": "normals", "sensor": "normals", "decode": True},
    {"name": "single_channel", "range": [29300, 31800]},
    {"name": "lights", "sensors": ["image_1", "rgb"]},
    {"name": "curvature", "unit": "pixels", "scale": 3},
    {"name": "polarisation", "sensors": ["rgb"], "angles": [0, 60, 120]},
    *({"name": "rgb", "sensor": f"image_{light}"} for light in range(6)),
]
every_variant = pytest.mark.parametrize("variant", [*views.names(), *MODES], ids=str)


def build(variant: str | dict) -> View:
    config = views.build_config(variant)
    return views.get(config.name)(config)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_other_modes_keep_the_contract_too(mode):
    check_modality(mode["name"], mode)


@every_variant
@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data())
def test_scans_with_holes_give_a_finite_unit_image_and_the_same_every_time(variant, data):
    view = build(variant)
    size = data.draw(st.sampled_from([(32, 32), (48, 64), (70, 41)]))
    kind, index = data.draw(st.sampled_from(sorted(OBJECT_KINDS))), data.draw(st.integers(0, 3))
    defect = data.draw(st.sampled_from([None, *DEFECTS, *INFRARED_DEFECTS]))
    sensors = example_sensors(view.sensors, size=size, kind=kind, index=index, defect=defect)
    share, rng = data.draw(st.floats(0, 0.7)), np.random.default_rng(data.draw(st.integers(0, 99)))
    lost = rng.random(size) < share
    sensors = {
        name: np.where(lost.reshape(size + (1,) * (a.ndim - 2)), a.dtype.type(0), a) for name, a in sensors.items()
    }
    side = data.draw(st.sampled_from([16, 33, 64, 100]))
    check_view(view, sensors, image_size=side)


@every_variant
@pytest.mark.parametrize("defect", [*DEFECTS, *INFRARED_DEFECTS])
def test_a_view_sees_a_defect_if_one_of_its_sensors_does(variant, defect):
    view = build(variant)
    reads = set(view.sensors)
    traces = {"void": INFRARED, "stain": COLOUR, "fade": COLOUR, "dent": COLOUR | GEOMETRY, "bump": COLOUR | GEOMETRY}
    defective, intact = (
        view(example_sensors(view.sensors, kind="biscuit", size=(64, 64), defect=name, keyed_by=defect), image_size=64)
        for name in (defect, None)
    )
    assert defective.equal(intact) == reads.isdisjoint(traces.get(defect, reads))
