"""What two predictions of one sample have in common, whichever way they were computed."""

from __future__ import annotations

import numpy as np
import pytest


def same(one, other, *, atol=1e-6):
    """Compare two predictions; ``atol`` is of the branches' maps."""
    assert one.score == pytest.approx(other.score, rel=1e-5)
    assert one.scores == pytest.approx(other.scores, rel=1e-5)
    assert one.missing == other.missing
    np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, atol=1e-5 * np.abs(other.anomaly_map).max())
    assert one.maps.keys() == other.maps.keys()
    for name, values in one.maps.items():
        np.testing.assert_allclose(values, other.maps[name], atol=atol)
