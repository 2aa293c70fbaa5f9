"""What can be named in a configuration, and the options of each entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crdkit._core.registry import Registry
from crdkit.config.run_config import preset_names, preset_summary
from crdkit.data import datasets
from crdkit.errors import unknown_name
from crdkit.model.encoders import encoders
from crdkit.model.projections import projections
from crdkit.scoring.aggregations import aggregations
from crdkit.views import views

REGISTRIES: Mapping[str, Registry[Any]] = {
    "encoders": encoders,
    "modalities": views,
    "filters": projections,
    "amplifiers": projections,
    "aggregations": aggregations,
    "datasets": datasets,
}
"""By their key in a configuration, in the plural; any projection can be a filter or an amplifier."""
KINDS: Mapping[str, str] = {"modality": "modalities", **{kind[:-1]: kind for kind in REGISTRIES if kind[-3:] != "ies"}}
"""The plural of each kind of part."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One name, what it is, and its options with their defaults.

    Examples:
        >>> (entry,) = [entry for entry in catalogue("filters")["filters"] if entry.name == "bottleneck"]
        >>> entry.options
        {'size': '8'}
    """

    name: str
    summary: str
    options: Mapping[str, str]


def catalogue(kind: str | None = None) -> dict[str, list[Entry]]:
    """Return the entries of one kind, or of all.

    Raises:
        UnknownNameError: there is no such kind.

    Examples:
        >>> [entry.name for entry in catalogue("datasets")["datasets"]]
        ['eyecandies', 'folder', 'mvtec3d']
    """
    kinds = [*REGISTRIES, "presets"]
    if kind is not None and kind not in kinds:
        raise unknown_name("kind", kind, kinds)
    return {name: _entries(name) for name in kinds if kind in (None, name)}


def _entries(kind: str) -> list[Entry]:
    if kind == "presets":
        return [Entry(name=name, summary=preset_summary(name), options={}) for name in preset_names()]
    registry = REGISTRIES[kind]
    return [_describe(name, registry.get(name)) for name in registry]


def _describe(name: str, part: Any) -> Entry:
    fields = part.Config.model_fields
    options = {key: str(field.get_default(call_default_factory=True)) for key, field in fields.items() if key != "name"}
    return Entry(name=name, summary=_first_sentence(part), options=options)


def _first_sentence(part: Any) -> str:
    paragraph = " ".join((part.__doc__ or "").strip().split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".").replace("`", "")
