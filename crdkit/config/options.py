"""The keys of a configuration's section: default, choices or range, and what each is."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from crdkit._core.registry import ComponentConfig, Registry

REQUIRED = "required"


@dataclass(frozen=True, kw_only=True)
class Option:
    """One key of a configuration."""

    key: str
    default: str
    """As it is written in YAML; `REQUIRED` if there is none."""
    choices: tuple[str, ...]
    """Every value, or the name of every part, that is allowed; empty if they cannot be listed."""
    range: str
    """Of a number, such as ``>= 1, <= 64``; empty for other values."""
    description: str


def options_of(
    config: type[BaseModel], *, prefix: str = "", without: Collection[str] = (), only: str = ""
) -> list[Option]:
    """Return every key that ``config`` declares, but for ``name``, which says whose options they are.

    Args:
        config: of a section or a part.
        prefix: what stands before each key.
        without: fields that are left out.
        only: what stands before each description.

    Examples:
        >>> from crdkit.scoring.config import ScoringConfig
        >>> sigma = options_of(ScoringConfig, prefix="scoring.")[0]
        >>> sigma.key, sigma.default, sigma.range
        ('scoring.sigma', '4.0', '>= 0, <= 1000')
    """
    return [
        Option(
            key=prefix + name,
            default=_default(field),
            choices=tuple(dict.fromkeys(_choices(field.annotation, field.metadata))),
            range=", ".join(_limits(field.annotation, field.metadata)),
            description=only + " ".join((field.description or "").split()),
        )
        for name, field in config.model_fields.items()
        if name not in ("name", *without)
    ]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return REQUIRED
    value = field.get_default(call_default_factory=True)
    if isinstance(value, ComponentConfig):
        return value.name
    written = value if isinstance(value, (str, int, float, NoneType)) else list(value) if value else value
    return yaml.safe_dump(written, default_flow_style=True, width=10_000).removesuffix("\n").removesuffix("\n...")


def _choices(annotation: Any, metadata: Any = ()) -> Iterator[str]:
    for part in metadata:
        if isinstance(part, Registry):
            yield from part
    if get_origin(annotation) is Literal:
        yield from (str(value) for value in get_args(annotation))
    elif annotation is bool:
        yield from ("true", "false")
    elif annotation is NoneType:
        return
    elif hasattr(annotation, "__metadata__"):
        yield from _choices(get_args(annotation)[0], annotation.__metadata__)
    elif get_origin(annotation) not in (tuple, dict, list):
        for part in get_args(annotation):
            yield from _choices(part)


def _limits(annotation: Any, metadata: Any = ()) -> Iterator[str]:
    for limit in metadata:
        for name, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
            if (bound := getattr(limit, name, None)) is not None:
                yield f"{sign} {bound}"
        yield from _limits(None, getattr(limit, "metadata", ()))
    if hasattr(annotation, "__metadata__"):
        yield from _limits(get_args(annotation)[0], annotation.__metadata__)
    elif get_origin(annotation) is not Literal:
        inner = [limits for part in dict.fromkeys(get_args(annotation)) if (limits := list(_limits(part)))]
        yield from inner[0] if inner else ()
