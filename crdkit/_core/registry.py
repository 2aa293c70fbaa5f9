"""Names for interchangeable parts, and the strict configuration that each part declares."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError, model_validator
from pydantic_core import CoreSchema, core_schema

from crdkit._core.sources import note_loading, noting_imports
from crdkit.errors import (
    ConfigError,
    DuplicateNameError,
    PluginWarning,
    UnknownNameError,
    explain,
    shorten,
    unknown_name,
)


class StrictConfig(BaseModel):
    """A frozen pydantic model that refuses unknown keys and names the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, value: Any) -> Any:
        for key in value if isinstance(value, dict) else ():
            if key not in cls.model_fields:
                raise unknown_name("key", str(key), cls.model_fields)
        return value


def _absolute(path: Path) -> Path:
    text = str(path)
    if not text.isprintable():
        raise ValueError(f"a path cannot hold control characters or broken text, got {shorten(text)!r}")
    if max(len(os.fsencode(part)) for part in path.parts or ("",)) > MAX_NAME or len(os.fsencode(text)) > MAX_PATH:
        raise ValueError(f"a file system cannot hold a path of {len(text)} characters, {shorten(text)!r}")
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"{path.parts[0]!r} in {shorten(text)!r} is no home folder ({error})") from error


MAX_NAME, MAX_PATH = 255, 4000
"""Bytes, as file systems limit a file's name and a path."""
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
"""A path that means the same from any working directory, so that a saved configuration can be moved."""


class ComponentConfig(StrictConfig):
    """The options of one registered part; ``name`` says which entry of its registry they belong to."""

    name: str


class Component:
    """A registrable part: it owns its options as a nested ``Config``; a part without options inherits its kind's."""

    Config: ClassVar[type[ComponentConfig]] = ComponentConfig


T = TypeVar("T", bound=Component)

PLUGIN_GROUP = "crdkit.plugins"
"""Entry points of this group name modules of installed packages; importing them registers their parts."""


@cache
def _load_installed_plugins() -> dict[str, str]:
    """Import every entry point of `PLUGIN_GROUP`, once, and return those that failed with the reason.

    A broken one belongs to somebody else's package: a warning names it, and it hides no other part.
    """
    failed: dict[str, str] = {}
    for entry in metadata.entry_points(group=PLUGIN_GROUP):
        try:
            with noting_imports():
                entry.load()
        except Exception as error:
            source = f"plug-in {entry.name!r} ({entry.value}) of {entry.dist.name if entry.dist else 'a package'}"
            failed[source] = f"{type(error).__name__}: {error}"
            warnings.warn(f"{source} could not be imported: {failed[source]}", PluginWarning, stacklevel=2)
    return failed


class Registry(Generic[T]):
    """Maps names to classes of one kind; a package's own modules are found at the first look-up.

    So are the plug-ins of installed packages (entry points of the group ``crdkit.plugins``). A module of ``package``
    that lacks an optional dependency, or a broken plug-in, is remembered and never hides the entries of the others.

    In an annotation (``Annotated[ProjectionConfig, projections]``) it makes a config's field take the options of any
    entry, and validates them by that entry's own ``Config``.

    Examples:
        >>> from typing import Annotated
        >>> from crdkit.model.projections import ProjectionConfig, projections
        >>> projections.get("bottleneck").__name__
        'Bottleneck'
        >>> class Options(StrictConfig):
        ...     filter: Annotated[ProjectionConfig, projections]
        >>> Options.model_validate({"filter": "bottleneck"}).filter.size
        8

    Args:
        kind: the word for an entry in messages.
        package: whose public modules are searched for entries.
        removed: former names, and what to use in their place.
    """

    def __init__(self, kind: str, *, package: str, removed: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self._package = package
        self._removed = removed or {}
        self._entries: dict[str, type[T]] = {}
        self._discovered = False
        self._unavailable: dict[str, str] = {}

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Register the decorated class under ``name``.

        Raises:
            DuplicateNameError: another class has that name already.
        """

        def decorate(cls: type[T]) -> type[T]:
            known = self._entries.get(name)
            if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
                raise DuplicateNameError(
                    f"{self.kind} {name!r} is registered twice: by {known.__module__}.{known.__qualname__} "
                    f"and by {cls.__module__}.{cls.__qualname__}; give one of them another name"
                )
            self._entries[name] = cls
            module = sys.modules.get(cls.__module__)
            again = known is not None and known is not cls  # its module is being executed again
            if module is not None and (again or getattr(getattr(module, "__spec__", None), "_initializing", False)):
                note_loading(module)
            return cls

        return decorate

    def get(self, name: str) -> type[T]:
        """Return the class registered under ``name``.

        Raises:
            UnknownNameError: nothing has that name; the message gives the nearest match and the list.
        """
        self._discover()
        if name not in self._entries and name in self._removed:
            raise UnknownNameError(f"{self.kind} {name!r} was removed: {self._removed[name]}")
        if name not in self._entries:
            missing = "".join(f"; {module} could not be imported: {why}" for module, why in self._unavailable.items())
            raise unknown_name(self.kind, name, self._entries, hint=missing)
        return self._entries[name]

    def build(self, config: ComponentConfig, **arguments: Any) -> T:
        """Return the part that ``config`` names, built from it and the other arguments that parts of this kind take.

        Raises:
            UnknownNameError: no entry has that name.
        """
        part: Callable[..., T] = self.get(config.name)
        return part(config, **arguments)

    def names(self) -> list[str]:
        """Return every registered name, sorted."""
        self._discover()
        return sorted(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def build_config(self, value: Any) -> Any:
        """Turn ``{"name": ..., option: ...}``, or a bare name, into the named part's own ``Config``.

        Its type depends on the name, so the signature cannot state it; a field's annotation does.

        Raises:
            ConfigError: ``value`` has no name, is neither a mapping nor a name, or an option is refused.
            UnknownNameError: no entry has that name.
        """
        if isinstance(value, ComponentConfig):
            return value
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            raise ConfigError(
                f"{self.kind} must be a name or a mapping with the key 'name', got {shorten(repr(value))}"
            )
        try:
            return self.get(value["name"]).Config.model_validate(value)
        except ValidationError as error:
            raise ConfigError(explain(error)) from error

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__, prefix=f"{self._package}."):
            if module.ispkg or module.name.rpartition(".")[2].startswith("_"):
                continue
            try:
                importlib.import_module(module.name)
            except ImportError as error:
                self._unavailable[module.name] = str(error)
        self._unavailable |= _load_installed_plugins()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # write all options of the entry's own Config, not only those that ``source`` declares
        written = core_schema.wrap_serializer_function_ser_schema(
            lambda config, write: write(config), schema=core_schema.any_schema()
        )
        return core_schema.no_info_before_validator_function(self.build_config, handler(source), serialization=written)
