"""``key.path=value`` on nested config values."""

from __future__ import annotations

from typing import Any

from crdkit.errors import ConfigError

KEPT_WITH_DATA = {"root", "category", "image_size", "on_bad_sample", "workers"}


def apply_override(values: dict[str, Any], key: str, value: Any) -> None:
    """Set ``key`` (a dotted path) in ``values`` in place; the validation that follows judges the result.

    Naming another part drops the options of the part it replaces, but for what every dataset has.

    Raises:
        ConfigError: the path runs through something that is no mapping.
    """
    *parents, last = key.split(".")
    node = values
    for depth, parent in enumerate(parents):
        child = node.setdefault(parent, {})
        if child is None:
            child = node[parent] = {}
        if not isinstance(child, dict):
            where = ".".join(parents[: depth + 1])
            raise ConfigError(f"override {key}={value}: {where} (={child!r}) has no keys of its own")
        node = child
    if last == "name" and parents and node.get("name") not in (None, value):
        keep = KEPT_WITH_DATA if parents == ["data"] else {"encoder"} if parents[0] == "modalities" else set()
        for option in [option for option in node if option not in keep]:
            del node[option]
    if parents == ["modalities"] and value is None:
        node.pop(last, None)
        return
    node[last] = value
