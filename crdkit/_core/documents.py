"""YAML and JSON texts that anyone may have written: what they hold, or one ValueError that says why not."""

from __future__ import annotations

import json
from typing import Any

import yaml

from crdkit._core.unique_keys import load_yaml
from crdkit.errors import first_line

MAX_VALUES = 1_000_000
"""Values in a document, counted where they are used: an alias repeats what it stands for."""
MAX_DEPTH = 64
_MAX_CHARACTERS = 2**24


def parse_yaml(text: str) -> Any:
    """Return what a YAML document holds.

    Raises:
        ValueError: it is not valid YAML, too large or too deeply nested, or contains itself.

    Examples:
        >>> parse_yaml("data: {category: gear}")
        {'data': {'category': 'gear'}}
        >>> parse_yaml("a: &a [*a]")
        Traceback (most recent call last):
            ...
        ValueError: not valid YAML: it contains itself
    """
    try:
        _check_length(text)
        content = load_yaml(text)
        _check_values(content)
    except Exception as error:  # besides its own, safe_load raises five types for dates, numbers and tags
        raise ValueError(f"not valid YAML: {_reason(error)}") from error
    return content


def parse_json(text: str) -> Any:
    """Return what a JSON document holds; NaN and infinity are refused, as JSON has neither.

    Raises:
        ValueError: it is not valid JSON, too large or too deeply nested.

    Examples:
        >>> parse_json('{"epochs": 3}')
        {'epochs': 3}
        >>> parse_json("[" * 100_000)
        Traceback (most recent call last):
            ...
        ValueError: not valid JSON: it is nested too deeply
    """
    try:
        _check_length(text)
        content = json.loads(text, parse_constant=_refuse_constant)
        _check_values(content)
    except Exception as error:  # a RecursionError too
        raise ValueError(f"not valid JSON: {_reason(error)}") from error
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON knows")


def _check_length(text: str) -> None:
    if len(text) > _MAX_CHARACTERS:
        raise ValueError(f"it has {len(text)} characters")


def _check_values(content: Any) -> None:
    """Refuse a structure that grows without bounds when it is walked, printed or validated."""
    known: dict[int, int] = {}

    def count(value: Any, above: tuple[int, ...]) -> int:
        if isinstance(value, (str, bytes)):
            return 1 + len(value) // 64
        if not isinstance(value, (dict, list, tuple, set)):
            return 1
        if id(value) in above:
            raise ValueError("it contains itself")
        if len(above) >= MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        if id(value) not in known:
            inside = (*above, id(value))
            parts = [*value, *value.values()] if isinstance(value, dict) else list(value)
            known[id(value)] = 1 + sum(count(part, inside) for part in parts)
        if known[id(value)] > MAX_VALUES:
            raise ValueError(f"it holds more than {MAX_VALUES} values")
        return known[id(value)]

    count(content, ())


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, yaml.YAMLError):
        return " ".join(str(error).split())[:300]
    if isinstance(error, ValueError):
        return first_line(error)
    return "a value does not fit its tag"
