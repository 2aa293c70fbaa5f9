"""What every registered modality promises: image shape and range, same bytes always, nothing changed on the way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from example_sensors import example_sensors
from hypothesis import given, settings
from hypothesis import strategies as st

from crdkit.modalities import Modality, modalities
from crdkit.synthetic import DEFECTS, INFRARED_DEFECTS, OBJECT_KINDS

GEOMETRY = {"xyz", "depth", "normals"}
COLOUR = {"rgb", *(f"image_{light}" for light in range(6))}
INFRARED = {"infrared", "thermal", "polarisation"}
VARIANTS = [
    *modalities.names(),
    {"name": "depth", "sensor": "depth"},
    {"name": "depth", "mode": "none"},
    {"name": "normals", "mode": "trd"},
    {"name": "normals", "sensor": "normals"},
    {"name": "normals", "sensor": "normals", "decode": True},
    {"name": "single_channel", "range": [29300, 31800]},
    {"name": "lights", "sensors": ["image_1", "rgb"]},
    *({"name": "rgb", "sensor": f"image_{light}"} for light in range(6)),
]
every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)


def build(variant: str | dict) -> Modality:
    config = modalities.build_config(variant)
    return modalities.get(config.name)(config)


def same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.numpy().tobytes() == second.numpy().tobytes()


@every_variant
@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data())
def test_view_is_a_finite_unit_image_and_the_same_every_time(variant, data):
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
    image = view(sensors, image_size=side)
    assert image.shape in ((1, side, side), (3, side, side))
    assert image.dtype == torch.float32
    assert image.is_contiguous()
    assert bool(image.isfinite().all())
    assert 0 <= float(image.min()) <= float(image.max()) <= 1
    assert same(image, build(variant)(sensors, image_size=side))


@every_variant
def test_number_of_channels_does_not_depend_on_the_sample(variant):
    view = build(variant)
    shapes = {view(example_sensors(view.sensors, kind=kind), image_size=32).shape for kind in OBJECT_KINDS}
    assert len(shapes) == 1


@every_variant
def test_four_threads_give_the_same_bytes(variant):
    view = build(variant)
    samples = [example_sensors(view.sensors, index=index) for index in range(4)] * 4
    alone = [view(sensors, image_size=48) for sensors in samples]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda sensors: view(sensors, image_size=48), samples))
    assert all(same(first, second) for first, second in zip(alone, together, strict=True))
    assert not same(alone[0], alone[1])


@every_variant
def test_memory_layout_and_other_sensors_do_not_matter(variant):
    view = build(variant)
    sensors = example_sensors(view.sensors)
    expected = view(sensors, image_size=40)
    fortran = {name: np.asfortranarray(array) for name, array in sensors.items()}
    strided = {name: np.repeat(array, 2, axis=0)[::2] for name, array in sensors.items()}
    others = {"unrelated": np.zeros((2, 2)), **sensors}
    for same_values in (fortran, strided, others):
        assert same(view(same_values, image_size=40), expected)


@every_variant
def test_result_owns_its_memory(variant):
    view = build(variant)
    sensors = {name: array.copy() for name, array in example_sensors(view.sensors, size=(48, 48)).items()}
    before = {name: array.copy() for name, array in sensors.items()}
    view(sensors, image_size=48).fill_(0.5)  # no resizing is needed: the easiest place to hand out the input
    assert all(np.array_equal(sensors[name], before[name]) for name in sensors)


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
    assert same(defective, intact) == reads.isdisjoint(traces.get(defect, reads))
