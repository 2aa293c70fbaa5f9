"""Maps on the host: one resize and one copy for all samples of a size, and nothing kept that nobody asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crdkit.detector import Detector, _outputs
from crdkit.detector import _predictor as predictor
from crdkit.detector._outputs import maps_on_host
from crdkit.detector._samples import PreparedSample

SIZES = [(48, 64), (33, 97), (48, 64), (400, 20), (48, 64)]


@pytest.fixture
def maps():
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(len(SIZES), 32, 32, generator=generator) for name in ("", "rgb", "depth")}


def prepared(sizes=SIZES, missing=()):
    return [
        PreparedSample(height=height, width=width, views={}, missing=("depth",) if row in missing else ())
        for row, (height, width) in enumerate(sizes)
    ]


def test_grouped_maps_are_those_of_single_samples(maps, monkeypatch):
    copies = []
    monkeypatch.setattr(_outputs, "_begin_copy", lambda values: copies.append(tuple(values.shape)) or values.clone())
    samples = prepared(missing=[2])
    expected, found = maps_on_host(maps, samples), _outputs._in_groups(maps, samples)
    assert copies == [(3, 3, 48, 64), (3, 1, 33, 97), (3, 1, 400, 20)]  # one for each size
    for one, other, sample in zip(expected, found, samples, strict=True):
        assert [*one] == [*other] == ["", "rgb"] if sample.missing else ["", "rgb", "depth"]
        for name, values in one.items():
            np.testing.assert_allclose(other[name], values, atol=1e-6)
            assert other[name].shape == (sample.height, sample.width)
            assert other[name].base is None  # it keeps no other sample's map
    one_size = _outputs._in_groups(maps, prepared(SIZES[:1] * 5))
    assert copies[3:] == [(3, 5, 48, 64)]
    np.testing.assert_allclose(one_size[4]["rgb"], maps_on_host(maps, prepared(SIZES[:1] * 5))[4]["rgb"], atol=1e-6)


def test_on_a_cpu_every_map_is_resized_by_itself(maps):
    """Several at once are rounded in another way there."""
    sample = prepared()[0]
    alone = torch.nn.functional.interpolate(maps["rgb"][:1][None], size=(48, 64), mode="bilinear")[0, 0]
    np.testing.assert_array_equal(maps_on_host(maps, [sample] * 5)[0]["rgb"], alone.numpy())


def test_flags_are_copied_once_and_only_if_something_is_missing(detector, monkeypatch):
    copies = []
    monkeypatch.setattr(predictor, "to_device", lambda values, device: copies.append(values.tolist()) or values)
    engine = detector._predictor.ready()
    assert predictor._presence(prepared(), engine) is None
    present = predictor._presence(prepared(missing=[1, 3]), engine)
    assert {name: has.tolist() for name, has in present.items()} == {
        "rgb": [True] * 5,
        "depth": [True, False, True, False, True],
    }
    assert len(copies) == 1


def test_another_device_gets_its_views_from_threads(detector, samples, monkeypatch):
    expected, threads = detector.predict_batch(samples), set()
    own = Detector(config=detector.config, model=detector.model, scorer=detector.scorer)
    own._predictor.engine = detector._predictor.ready()
    prepare = own._preparation

    def watched(sensors, *, name=""):
        import threading

        threads.add(threading.current_thread().name.split("_")[0])
        return prepare(sensors, name=name)

    monkeypatch.setattr(own, "_preparation", watched)
    monkeypatch.setattr(Detector, "device", torch.device("cuda"))
    for one, other in zip(own.predict_batch(samples), expected, strict=True):
        assert one.score == pytest.approx(other.score, rel=1e-5)
    assert threads == {"crdkit-decode"}
