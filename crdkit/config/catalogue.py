"""What can be named in a configuration, and the options of each entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from crdkit._core.registry import Registry
from crdkit.config.options import Option, options_of
from crdkit.config.run_config import preset_names, preset_summary
from crdkit.data import DatasetConfig, datasets
from crdkit.errors import unknown_name
from crdkit.model.encoders import encoders
from crdkit.model.graph import EdgeConfig, GraphConfig
from crdkit.model.projections import projections
from crdkit.model.student import StudentConfig
from crdkit.scoring.aggregations import aggregations
from crdkit.scoring.config import ScoringConfig
from crdkit.scoring.scores import scores
from crdkit.training.config import TrainingConfig
from crdkit.views import views

REGISTRIES: Mapping[str, Registry[Any]] = {
    "encoders": encoders,
    "modalities": views,
    "filters": projections,
    "amplifiers": projections,
    "aggregations": aggregations,
    "scores": scores,
    "datasets": datasets,
}
"""By their key in a configuration, in the plural; any projection can be a filter or an amplifier."""
KINDS: Mapping[str, str] = {"modality": "modalities", **{kind[:-1]: kind for kind in REGISTRIES if kind[-3:] != "ies"}}
"""The plural of each kind of part."""


SECTIONS: Mapping[str, type[BaseModel]] = {
    "training": TrainingConfig,
    "graph": GraphConfig,
    "student": StudentConfig,
    "scoring": ScoringConfig,
    "data": DatasetConfig,
}
"""The sections of a configuration that are no registered part, or that all parts of a kind share."""


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
    keys: Sequence[Option] = ()
    """The same options, each with its choices and what it is."""


def catalogue(kind: str | None = None) -> dict[str, list[Entry]]:
    """Return the entries of one kind, or of all.

    Raises:
        UnknownNameError: there is no such kind, and no such section of a configuration; see `section_options`.

    Examples:
        >>> [entry.name for entry in catalogue("scores")["scores"]]
        ['maximum', 'relative_maximum', 'top_mean']
    """
    kinds = [*REGISTRIES, "presets"]
    if kind is not None and kind not in (*kinds, *SECTIONS):
        raise unknown_name("kind", kind, (*kinds, *SECTIONS))
    return {name: _entries(name) for name in kinds if kind in (None, name)}


def section_options(section: str | None = None) -> dict[str, list[Option]]:
    """Return every key of one section, or of all; nothing for another name, which `catalogue` looks up.

    Examples:
        >>> [option.key for option in section_options("scoring")["scoring"]]
        ['scoring.sigma', 'scoring.score', 'scoring.false_alarms', 'scoring.sampled_thresholds']
    """
    return {name: _section(name) for name in SECTIONS if section in (None, name)}


def _section(name: str) -> list[Option]:
    options = options_of(SECTIONS[name], prefix=f"{name}.")
    if name == "graph":
        options += options_of(EdgeConfig, prefix="graph.edges[].")
    if name == "data":
        for dataset in datasets:
            shared, own = DatasetConfig.model_fields, datasets.get(dataset).Config
            options += options_of(own, prefix="data.", without=shared, only=f"of the dataset {dataset}: ")
    return options


def _entries(kind: str) -> list[Entry]:
    if kind == "presets":
        return [Entry(name=name, summary=preset_summary(name), options={}) for name in preset_names()]
    registry = REGISTRIES[kind]
    return [_describe(name, registry.get(name)) for name in registry]


def _describe(name: str, part: Any) -> Entry:
    fields = part.Config.model_fields
    options = {key: str(field.get_default(call_default_factory=True)) for key, field in fields.items() if key != "name"}
    keys = options_of(part.Config)
    return Entry(name=name, summary=_first_sentence(part), options=options, keys=keys)


def _first_sentence(part: Any) -> str:
    paragraph = " ".join((part.__doc__ or "").strip().split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".").replace("`", "")
