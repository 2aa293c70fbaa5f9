"""The contracts of registered parts, as functions for your own tests: crdkit's own parts pass the same ones.

A broken promise is an AssertionError that names the part, what it did and what was expected:

    import crdkit.testing
    import my_parts  # registers them

    def test_my_amplifier():
        crdkit.testing.check("amplifier", "my_amplifier")

Nothing here needs pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from crdkit.config.catalogue import KINDS, REGISTRIES
from crdkit.errors import unknown_name
from crdkit.testing.data import check_dataset, check_modality, check_view
from crdkit.testing.examples import EXAMPLES, example_features, example_sensors
from crdkit.testing.parts import check_aggregation, check_description, check_projection
from crdkit.testing.scores import check_score
from crdkit.testing.teachers import check_encoder

__all__ = [
    "check",
    "check_aggregation",
    "check_dataset",
    "check_description",
    "check_encoder",
    "check_modality",
    "check_projection",
    "check_score",
    "check_view",
    "example_features",
    "example_sensors",
    "registered",
]

_CHECKS: Mapping[str, Callable[..., None]] = MappingProxyType(
    {
        "encoder": check_encoder,
        "modality": check_modality,
        "filter": check_projection,
        "amplifier": check_projection,
        "aggregation": check_aggregation,
        "score": check_score,
        "dataset": check_dataset,
    }
)


def check(kind: str, name: str, options: Mapping[str, Any] | None = None, **arguments: Any) -> None:
    """Check that the part registered under ``name`` keeps every promise of its kind.

    Args:
        kind: encoder, modality, filter, amplifier, aggregation, score or dataset.
        name: the registered name.
        options: as in a configuration; needed if some have no default.
        arguments: further arguments of that kind's check, e.g. ``samples`` for a modality with sensors of its own.

    Raises:
        AssertionError: the message names the broken promise.
        UnknownNameError: there is no such kind or name.

    Examples:
        >>> check("filter", "bottleneck")
        >>> check("amplifier", "inverted_bottleneck", {"expansion": 3})
    """
    if kind not in _CHECKS:
        raise unknown_name("kind", kind, _CHECKS)
    if options is not None:
        arguments["options"] = options
    _CHECKS[kind](name, **(arguments or EXAMPLES.get((kind, name), {})))


def registered(kind: str | None = None) -> list[tuple[str, str]]:
    """Return the (kind, name) of every registered part, plug-ins included, or of those of one kind.

    Raises:
        UnknownNameError: there is no such kind.

    Examples:
        >>> ("amplifier", "inverted_bottleneck") in registered("amplifier")
        True
    """
    if kind is not None and kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    return [(one, name) for one, plural in KINDS.items() if kind in (None, one) for name in REGISTRIES[plural]]
