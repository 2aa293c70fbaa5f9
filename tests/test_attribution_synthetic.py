"""A trained detector attributes defects that one sensor alone can see to that sensor, and its regions lie on them."""

from __future__ import annotations

import pytest

import crdkit
from benchmarks.decisions import examine, sensors_of
from crdkit.config import RunConfig
from crdkit.data.synthetic import write_folder


@pytest.mark.slow
def test_the_sensor_that_sees_a_defect_has_the_largest_share(tmp_path):
    counts = {"train": 24, "validation": 8, "test_good": 1, "test_per_defect": 1}
    root = write_folder(tmp_path / "data", categories=["gear"], size=128, sensors=["rgb", "xyz"], **counts)
    small = ("data.name=folder", "data.category=gear", "data.image_size=128", "training.epochs=12", "scoring.sigma=2")
    detector = crdkit.fit(RunConfig.preset("quick").with_overrides(f"data.root={root}", *small))
    normals = [detector.predict(sensors_of("gear", 0, "decide", index)[0]) for index in range(20)]
    detector.decide(0.05, normals=normals)
    found = list(examine(detector, "gear", 0, 3))
    for kind, least in (("attributed", 8), ("peak", 12)):
        right = [value for name, value in found if name == kind]
        assert len(right) >= least
        assert sum(right) >= 0.95 * len(right)
