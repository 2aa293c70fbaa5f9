"""Raw sensors of one synthetic sample for any modality: what the contract of every registered one is tested on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from crdkit.synthetic import SENSORS, make_scene, render_sensors, sample_key, scanner_camera

STANDS_FOR = {"thermal": "infrared", "polarisation": "infrared"}  # single channels of 16 bits too


def example_sensors(
    names: Sequence[str],
    *,
    size: tuple[int, int] = (48, 64),
    kind: str = "gear",
    defect: str | None = None,
    keyed_by: str | None = None,
    index: int = 0,
) -> dict[str, np.ndarray]:
    """Return the raw arrays of ``names``; another kind of sensor than the known ones needs an entry above.

    ``keyed_by`` a defect's name gives the intact twin of the scene with that defect.
    """
    sources = {name: STANDS_FOR.get(name, name) for name in names}
    unknown = [source for source in sources.values() if source not in SENSORS]
    assert not unknown, f"no example of the sensors {unknown}: add them to crdkit.synthetic or to STANDS_FOR"
    key = sample_key(0, kind, "test", keyed_by or str(defect), index)
    measured = _measure(tuple(dict.fromkeys(sources.values())), size, kind=kind, defect=defect, key=key)
    return {name: measured[source] for name, source in sources.items()}


@cache
def _measure(
    sensors: tuple[str, ...], size: tuple[int, int], *, kind: str, defect: str | None, key: tuple[int, ...]
) -> dict[str, np.ndarray]:
    measured = render_sensors(make_scene(kind, camera=scanner_camera(size), key=key, defect=defect), sensors)
    for array in measured.values():
        array.flags.writeable = False  # a view must leave what it reads alone
    return measured
