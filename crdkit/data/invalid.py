"""Values that stand for "not measured", such as -9999: turned into it where they are known, recognised where not."""

from __future__ import annotations

import numpy as np

_SAMPLED = 4096  # values that are looked at
_MIN_SHARE = 0.002  # of those, from which on a value repeats
_FAR = 10.0  # times the largest other magnitude


def mark_invalid(array: np.ndarray, value: float, *, missing: float = np.nan) -> np.ndarray:
    """Return an array (H, W) or scan (H, W, 3) as floats, ``missing`` where it held ``value``; in a scan, where Z did.

    Examples:
        >>> mark_invalid(np.array([[0, 700], [65535, 710]], np.uint16), 65535)
        array([[  0., 700.],
               [ nan, 710.]], dtype=float32)
    """
    floats = array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float32)
    invalid = floats == floats.dtype.type(value)
    if array.ndim == 3:
        invalid = invalid[..., -1:]
    return np.where(invalid, floats.dtype.type(missing), floats) if invalid.any() else floats


def fill_value(array: np.ndarray) -> float | None:
    """Return the value that seems to stand for "not measured" in an array (H, W), or in the Z of a scan (H, W, 3).

    It is the lowest or the highest of all, repeats, and is far from the rest: the gap is wider than the rest, and it
    has another sign than all of them, or ten times their largest magnitude. None if there is no such value, as in any
    measurement of one scene. Zeros and NaN do not count; some thousand pixels are looked at.

    Examples:
        >>> z = np.random.default_rng(0).normal(0.5, 0.01, (40, 40))
        >>> z[:3] = -1
        >>> fill_value(z), fill_value(z[3:])
        (-1.0, None)
    """
    plane = array[..., -1] if array.ndim == 3 else array
    stride = max(1, int(np.sqrt(plane.size / _SAMPLED)))
    values = plane[::stride, ::stride].astype(np.float64).ravel()
    values = np.sort(values[np.isfinite(values) & (values != 0)])
    for fill, rest in ((values[:1], values[values > values[:1]]), (values[-1:], values[values < values[-1:]])):
        if rest.size and values.size - rest.size >= max(3, _MIN_SHARE * values.size):
            value, low, high = float(fill[0]), float(rest[0]), float(rest[-1])
            gap = low - value if value < low else value - high
            other_sign = value < 0 < low or high < 0 < value
            if gap > high - low and (other_sign or abs(value) >= _FAR * max(abs(low), abs(high))):
                return value
    return None


def fill_hint(array: np.ndarray, *, sensor: str) -> str:
    """Return what to say about the `fill_value` of a sensor's array, or "" if there is none."""
    value = fill_value(array)
    if value is None:
        return ""
    plane = array[..., -1] if array.ndim == 3 else array
    count = np.count_nonzero(plane == plane.dtype.type(value))
    return (
        f'{count} pixels hold {value:.8g}, far from all others: this looks like a value for "not measured"; '
        f"set data.invalid.{sensor}={value:.8g}"
    )
