"""Overrides ``key.path=value`` of nested config values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel

from crdkit._core.documents import parse_yaml
from crdkit.errors import ConfigError, shorten

OTHER = "other"
"""In ``by_category``: stands for every category that is not named."""
FIXED = ("plugins", "by_category")
"""Keys that no category can choose: code must be known before it is allowed."""
KEPT_WITH_DATA = {"root", "category", "image_size", "on_bad_sample", "workers"}


def apply_override(values: dict[str, Any], key: str, value: Any) -> None:
    """Set ``key`` (a dotted path) in ``values`` in place; the validation that follows checks the result.

    Naming another part drops the options of the part it replaces, except those that every dataset has.

    Raises:
        ConfigError: the path runs through something that is not a mapping.
    """
    *parents, last = key.split(".")
    node = values
    for depth, parent in enumerate(parents):
        child = node.setdefault(parent, {})
        if child is None:
            child = node[parent] = {}
        if not isinstance(child, dict):
            where = ".".join(parents[: depth + 1])
            override = shorten(f"{key}={value}")
            raise ConfigError(f"override {override}: {shorten(where)} (={shorten(repr(child))}) has no keys of its own")
        node = child
    if last == "name" and parents and node.get("name") not in (None, value):
        keep = KEPT_WITH_DATA if parents == ["data"] else {"encoder"} if parents[0] == "modalities" else set()
        for option in [option for option in node if option not in keep]:
            del node[option]
    if parents == ["modalities"] and value is None:
        node.pop(last, None)
        return
    node[last] = value


def choose_by_category(values: dict[str, Any]) -> None:
    """Set in ``values``, in place, every key of ``by_category`` to what it holds for ``data.category``.

    Without a category nothing is set: the file's own values stay.

    Raises:
        ConfigError: a key has no choices, or no choice for categories that are not named.

    Examples:
        >>> values = {"data": {"category": "tire"}, "by_category": {"scoring.sigma": {"tire": 2, "other": 4}}}
        >>> choose_by_category(values)
        >>> values["scoring"]
        {'sigma': 2}
    """
    table, data = values["by_category"], values.get("data")
    category = data.get("category") if isinstance(data, dict) else getattr(data, "category", None)
    for key, choices in table.items() if isinstance(table, dict) else ():
        if str(key).partition(".")[0] in FIXED:
            raise ConfigError(f"by_category: {key} cannot depend on the category; set it for all of them")
        if not isinstance(choices, dict) or OTHER not in choices:
            raise ConfigError(
                f"by_category: {key} (={shorten(repr(choices))}) needs a value for each category and one for "
                f"{OTHER!r}, e.g. {{tire: 7, {OTHER}: 5}}"
            )
        if category is not None:
            apply_override(values, key, choices.get(category, choices[OTHER]))


def keep_choices(table: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return what remains of ``by_category`` after an override of ``key``: nothing at or below it.

    Examples:
        >>> keep_choices({"modalities.normals.kernel": {}, "scoring.sigma": {}}, "modalities.normals")
        {'scoring.sigma': {}}
    """
    part = key.removesuffix(".name")  # another part drops the options of the one it replaces
    return {
        chosen: choices for chosen, choices in table.items() if chosen != part and not chosen.startswith(f"{part}.")
    }


def read_override(override: str, config: BaseModel) -> tuple[str, Any]:
    """Split ``key.path=value`` and read the value: as text if ``config`` has text or a path there, else as YAML.

    Text stays as it was typed, so that ``data.category=007`` and a folder ``scans #2`` keep their names; null, and
    text in quotes, are read as YAML everywhere.

    Raises:
        ConfigError: there is no ``=`` or no key, or the value is not valid YAML.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {shorten(repr(override))} must look like key.path=value, e.g. training.epochs=20")
    kinds = _plain_types(_annotation(config, key.split(".")))
    if kinds and kinds <= {str, Path, NoneType} and text[:1] not in ("'", '"') and text not in ("", "null", "~"):
        return key, text
    try:
        return key, parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"override {shorten(repr(override))}: the value is {error}") from error


def spread(overrides: Iterable[object], config: BaseModel) -> list[str | tuple[str, Any]]:
    """Return overrides one by one: texts as they are, mappings as pairs of a dotted key and a value.

    A mapping may be nested: inside a part of ``config`` it changes only the keys that it names.

    Raises:
        ConfigError: something is neither text nor a mapping with texts as keys.

    Examples:
        >>> from crdkit.config import RunConfig
        >>> spread(["data.category=bagel", {"training": {"epochs": 3}, "scoring.sigma": 2}], RunConfig.preset("quick"))
        ['data.category=bagel', ('training.epochs', 3), ('scoring.sigma', 2)]
    """
    found: list[str | tuple[str, Any]] = []
    for override in overrides:
        if isinstance(override, str):
            found.append(override)
        elif isinstance(override, Mapping):
            found += _pairs(override, config)
        else:
            raise ConfigError(
                "an override must be text, e.g. 'training.epochs=20', or a mapping, e.g. {'training.epochs': 20}, got "
                f"{type(override).__name__}"
            )
    return found


def key_of(override: str | tuple[str, Any]) -> str:
    """Return the dotted key of one of `spread`."""
    return override.partition("=")[0] if isinstance(override, str) else override[0]


def _pairs(values: Mapping[Any, Any], config: BaseModel, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if not isinstance(name, str) or not name:
            raise ConfigError(f"the keys of overrides are texts, e.g. {{'training.epochs': 20}}, got {name!r}")
        key = f"{path}.{name}" if path else name
        there = _node(config, key.split("."))
        part = isinstance(there, BaseModel) or (
            isinstance(there, Mapping) and any(isinstance(below, BaseModel) for below in there.values())
        )
        if part and isinstance(value, Mapping):
            yield from _pairs(value, config, key)
        else:
            yield key, value


def _node(node: Any, path: Iterable[str]) -> Any:
    """Return what stands at ``path``, or None."""
    for key in path:
        node = node.get(key) if isinstance(node, Mapping) else getattr(node, key, None)
    return node


def _annotation(node: Any, path: list[str]) -> Any:
    """Return the annotation of the field at ``path``, or None if there is no such field yet."""
    node = _node(node, path[:-1])
    holders = [node, getattr(node, "view", None)]  # a branch is written with its view's options inline
    fields = [type(holder).model_fields.get(path[-1]) for holder in holders if isinstance(holder, BaseModel)]
    return next((field.annotation for field in fields if field is not None), None)


def _plain_types(annotation: Any) -> set[Any]:
    """Return the classes of an annotation's alternatives, without the metadata of ``Annotated``.

    Examples:
        >>> _plain_types(str | None) == {str, NoneType}
        True
    """
    if annotation is None:
        return set()
    if hasattr(annotation, "__metadata__"):
        return _plain_types(get_args(annotation)[0])
    alternatives = get_args(annotation)
    return set().union(*map(_plain_types, alternatives)) if alternatives else {annotation}
