"""Which names a modality can have: those that every table, file and network of a run can hold."""

from __future__ import annotations

from functools import cache

from torch import nn

from crdkit.errors import ConfigError

RESERVED = {
    "fused": "the result of all modalities together, in tables and reports",
    "mask": "the ground truth in reports",
}
"""Names that crdkit gives itself, and what it calls by them."""
LONGEST = 100
"""Characters; a folder of maps and a column of scores.csv are named after a modality."""


def require_modality_name(name: str) -> None:
    """Refuse a modality's name that cannot be used.

    Raises:
        ConfigError: the message says what is wrong with it, and what to choose.

    Examples:
        >>> require_modality_name("rgb")
        >>> require_modality_name("keys")
        Traceback (most recent call last):
            ...
        crdkit.errors.ConfigError: modality 'keys': PyTorch uses this name for itself; choose another, e.g. 'keys_view'
    """
    if not name.isidentifier():
        raise ConfigError(
            f"a modality's name may only contain letters, digits and _, and not begin with a digit, got {name!r}"
        )
    if len(name) > LONGEST:
        raise ConfigError(f"modality {name[:20] + '...'!r}: its name has {len(name)} characters; use {LONGEST} at most")
    reason = f"this name stands for {RESERVED[name]}" if name in RESERVED else ""
    if name in _names_of_pytorch():
        reason = "PyTorch uses this name for itself"
    if reason:
        raise ConfigError(f"modality {name!r}: {reason}; choose another, e.g. {name.strip('_') + '_view'!r}")


@cache
def _names_of_pytorch() -> frozenset[str]:
    # a module cannot hold another under the name of one of its own attributes
    return frozenset(dir(nn.ModuleDict()))
