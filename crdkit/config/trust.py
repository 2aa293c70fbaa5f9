"""Whose code may run: what a file names is imported only if the caller allows it, or has named it himself before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

from crdkit._core.registry import PLUGIN_GROUP
from crdkit.config.plugins import loaded_plugin
from crdkit.errors import UntrustedCodeError

PLUGINS, TARGET = "plugins", "target"
"""Keys whose values are imported, wherever they stand; an option ``target`` has the form ``module:callable``."""

_named: set[str] = set()
"""What callers of this process have named, or allowed, so far."""


def named_code(values: Any, key: str = "", *, kind: str = "") -> Iterator[tuple[str, str]]:
    """Iterate over the key and the name of everything that ``values`` would have imported.

    Keys of ``by_category`` count by their last part, with the choices of every category.

    Args:
        values: of a configuration, as they were read.
        key: where they stand in it.
        kind: `PLUGINS` or `TARGET` if they stand below such a key.

    Examples:
        >>> encoder = {"name": "module", "target": "own.networks:build"}
        >>> list(named_code({"plugins": ["own"], "modalities": {"rgb": {"encoder": encoder}}}))
        [('plugins', 'own'), ('modalities.rgb.encoder.target', 'own.networks:build')]
    """
    if isinstance(values, Mapping):
        for name, value in values.items():
            inside, last = f"{key}.{name}" if key else str(name), str(name).rpartition(".")[2]
            yield from named_code(value, inside, kind=kind or (last if last in (PLUGINS, TARGET) else ""))
    elif isinstance(values, (list, tuple, set, frozenset)):
        for value in values:
            yield from named_code(value, key, kind=kind)
    elif kind == PLUGINS or (kind == TARGET and ":" in str(values)):
        yield key, values.decode(errors="replace") if isinstance(values, bytes) else str(values)


def remember(values: Mapping[str, Any]) -> None:
    """Trust from now on what ``values`` name: the caller gave them, or allowed the file that they are from."""
    _named.update(name for _, name in named_code(values))


def require_trusted(values: Mapping[str, Any], *, source: str) -> None:
    """Refuse what was read from a file if it names code that nobody in this process has named or allowed.

    Trusted are also plug-ins that are loaded already, of which nothing would run again, and those of installed
    packages. A ``target`` is called, so a loaded module is not enough for it.

    Args:
        values: of a configuration; file names of plug-ins are absolute.
        source: the file, for the message.

    Raises:
        UntrustedCodeError: the message lists what would be imported.
    """
    found = [(key, name) for key, name in dict.fromkeys(named_code(values)) if name not in _named]
    installed = {entry.module for entry in metadata.entry_points(group=PLUGIN_GROUP)} if found else set[str]()
    foreign = [
        f"{key} {name!r}"
        for key, name in found
        if key != PLUGINS or (name not in installed and loaded_plugin(name) is None)
    ]
    if foreign:
        raise UntrustedCodeError(
            f"{source}: would import and run code that you did not name: {', '.join(foreign)}; "
            "if you trust it, allow it with --allow-plugins (in Python: allow_plugins=True)"
        )
