"""RunConfig: everything that defines a run, as data that can be written to a file and read back."""

from __future__ import annotations

import copy
import importlib.resources
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from types import NoneType
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_serializer, model_validator

from crdkit._core.documents import parse_yaml
from crdkit._core.registry import StrictConfig
from crdkit.config.overrides import apply_override, choose_by_category, keep_choices, key_of, read_override, spread
from crdkit.config.plugins import import_plugin, resolve_plugin
from crdkit.config.trust import remember, require_trusted
from crdkit.data import DatasetConfig, datasets
from crdkit.errors import ConfigError, explain, shorten, unknown_name
from crdkit.model.encoders import EncoderConfig, encoders
from crdkit.model.graph import GraphConfig
from crdkit.model.modality_names import require_modality_name
from crdkit.model.student import StudentConfig
from crdkit.scoring.aggregations import AggregationConfig, aggregations
from crdkit.scoring.config import ScoringConfig
from crdkit.training.config import TrainingConfig
from crdkit.views import ViewConfig, views


class BranchConfig(StrictConfig):
    """One modality: how raw sensors are viewed (written inline), and the teacher that sees that view.

    Examples:
        >>> branch = RunConfig.preset("quick").modalities["depth"]
        >>> branch.view.sensor, branch.encoder.name
        ('xyz', 'efficientnet_lite0')
    """

    view: Annotated[ViewConfig, views]
    encoder: Annotated[EncoderConfig, encoders] = Field(default_factory=lambda: encoders.build_config("timm"))

    @model_validator(mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "view" in value:
            return value
        options = dict(value)
        parts = {"encoder": options.pop("encoder")} if "encoder" in options else {}
        return {"view": options, **parts}

    @model_serializer
    def _inline(self) -> dict[str, Any]:
        return {**self.view.model_dump(), "encoder": self.encoder.model_dump()}


class RunConfig(StrictConfig):
    """Everything that defines a run; frozen, and refused if it contains an unknown key.

    Examples:
        >>> run = RunConfig.preset("quick").with_overrides("data.category=bagel", "training.epochs=3")
        >>> run.data.category, run.training.epochs, list(run.modalities)
        ('bagel', 3, ['rgb', 'depth'])
    """

    plugins: tuple[str, ...] = Field(
        (), description="modules or .py files to import first, which register the user's own parts"
    )
    data: Annotated[DatasetConfig, datasets] = Field(description="the dataset, where it lies and how it is read")
    modalities: dict[str, BranchConfig] = Field(
        min_length=1, description="by name: a view of sensors, its options, and the encoder that sees it"
    )
    graph: GraphConfig = Field(GraphConfig(), description="which modalities help which, and with what")
    student: StudentConfig = Field(StudentConfig(), description="size of every branch's student")
    training: TrainingConfig = Field(TrainingConfig(), description="how the students are trained")
    aggregation: Annotated[AggregationConfig, aggregations] = Field(
        default_factory=lambda: aggregations.build_config("normalised_sum"),
        description="how the modalities' maps become one",
    )
    scoring: ScoringConfig = Field(ScoringConfig(), description="how maps become a score, and what is measured")
    by_category: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="options that a published recipe sets by category: {key.path: {category: value, other: value}}",
    )

    @model_validator(mode="before")
    @classmethod
    def _choose_by_category(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not value.get("by_category"):
            return value
        values = copy.deepcopy(value)
        choose_by_category(values)
        return values

    @model_validator(mode="before")
    @classmethod
    def _import_plugins(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, dict) or not value.get("plugins"):
            return value
        names = value["plugins"]
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"plugins (={shorten(repr(names))}) must be a list of module names or .py files")
        resolved = (info.context or {}).get("plugins", ())  # in another working directory they still mean the same
        plugins = tuple(name if name in resolved else resolve_plugin(name, folders=[Path.cwd()]) for name in names)
        for name in plugins:
            import_plugin(name)
        return {**value, "plugins": plugins}

    @field_validator("modalities", mode="before")
    @classmethod
    def _name_after_key(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        for key, branch in value.items():
            require_modality_name(str(key))
            if not isinstance(branch, (BranchConfig, dict, NoneType)):
                raise ConfigError(
                    f"modality {key!r} (={shorten(repr(branch))}) must hold the options of a view, e.g. "
                    f"modalities.{key}={{name: rgb}}, or null to remove it"
                )
        return {
            key: branch if isinstance(branch, BranchConfig) else {"name": key, **(branch or {})}
            for key, branch in value.items()
        }

    @model_validator(mode="after")
    def _parts_fit_the_modalities(self) -> RunConfig:
        self.graph.build(tuple(self.modalities))
        self.aggregation.check_modalities(tuple(self.modalities))
        if self.data.on_blank_sensor == "missing" and not self.training.modality_dropout:
            raise ValueError("data.on_blank_sensor=missing needs training.modality_dropout above 0")
        if 2 * self.training.shift >= self.data.image_size:
            raise ValueError(
                f"training.shift (={self.training.shift}) must be less than half of data.image_size "
                f"(={self.data.image_size}): a few pixels, as far as sensors may lie apart"
            )
        remember(self.model_dump())
        return self

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, source: str = "config") -> RunConfig:
        """Validate ``values``; plug-ins that they name are imported. For values from a file there is `from_file`.

        Raises:
            ConfigError: a key is unknown or a value is not allowed; the message names every problem with its key.
        """
        return cls._validate(values, source=source)

    @classmethod
    def _validate(cls, values: Mapping[str, Any], *, source: str, plugins: tuple[str, ...] = ()) -> RunConfig:
        try:
            return cls.model_validate(dict(values), context={"plugins": plugins})
        except ValidationError as error:
            raise ConfigError(f"{source}: {explain(error)}") from error

    @classmethod
    def from_file(cls, values: Mapping[str, Any], *, file: Path, allow_plugins: bool = False) -> RunConfig:
        """Validate what was read from ``file``: it imports nothing that the caller has not named before.

        Args:
            values: the file's content; a plug-in without a path lies beside the file or in the working directory.
            file: where they are from.
            allow_plugins: import and run the code that the file names, because you trust it.

        Raises:
            UntrustedCodeError: the file names code, and ``allow_plugins`` is false.
            ConfigError: as `from_dict`.
        """
        names, plugins = values.get("plugins"), tuple[str, ...]()
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            folders = [file.absolute().parent, Path.cwd()]
            plugins = tuple(resolve_plugin(name, folders=folders) for name in names)
            values = {**values, "plugins": plugins}
        if not allow_plugins:
            require_trusted(values, source=str(file))
        return cls._validate(values, source=str(file), plugins=plugins)

    @classmethod
    def from_yaml(cls, path: Path | str, *, allow_plugins: bool = False) -> RunConfig:
        """Read a YAML file; see `from_file`.

        Raises:
            UntrustedCodeError: the file names code to import, and ``allow_plugins`` is false.
            ConfigError: the file is missing or is not a YAML mapping, or its content is refused.
        """
        return cls.from_file(_read_yaml(Path(path)), file=Path(path), allow_plugins=allow_plugins)

    @classmethod
    def preset(cls, name: str) -> RunConfig:
        """Return a preset of this package.

        Raises:
            UnknownNameError: there is no such preset.
        """
        if name not in preset_names():
            raise unknown_name("preset", name, preset_names())
        text = (importlib.resources.files("crdkit.config.presets") / f"{name}.yaml").read_text(encoding="utf-8")
        return cls.from_dict(yaml.safe_load(text), source=f"preset {name}")

    def with_overrides(self, *overrides: str | Mapping[str, Any]) -> RunConfig:
        """Return a copy with each ``key.path=value`` applied; values are read as YAML, names and paths verbatim.

        A mapping ``{"key.path": value}`` does the same with Python values; nested, ``{"training": {"epochs": 3}}``, it
        changes only the keys that it names.

        Naming another part (``aggregation.name=max``) drops the options of the part it replaces;
        ``modalities.depth=null`` removes a modality. What is overridden here is no longer set by ``by_category``.

        Raises:
            ConfigError: an override has no ``=``, its key is unknown, or its value is not allowed.
        """
        given = spread(overrides, self)
        if not given:
            return self
        first = [key_of(override).endswith((".name", "plugins")) for override in given]
        if any(first) and not all(first):  # parts first, then their options, which are read as the parts declare them
            named = self._override([override for override, is_part in zip(given, first, strict=True) if is_part])
            return named._override([override for override, is_part in zip(given, first, strict=True) if not is_part])
        return self._override(given)

    def _override(self, overrides: Sequence[str | tuple[str, Any]]) -> RunConfig:
        values = self.model_dump(mode="json")
        for override in overrides:
            key, value = read_override(override, self) if isinstance(override, str) else override
            apply_override(values, key, value)
            values["by_category"] = keep_choices(values["by_category"] or {}, key)
        return self._validate(values, source=" ".join(map(_shown, overrides)), plugins=self.plugins)

    def to_yaml(self) -> str:
        """Return the complete configuration as YAML that `from_yaml` reads back to an equal one."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def _shown(override: str | tuple[str, Any]) -> str:
    return shorten(override if isinstance(override, str) else f"{override[0]}={override[1]}")


def preset_names() -> list[str]:
    """Return the names of the package's presets, sorted.

    Examples:
        >>> [name for name in preset_names() if name.endswith("-mvtec3d")]
        ['best-mvtec3d', 'crd-mvtec3d', 'trd-mvtec3d']
    """
    folder = importlib.resources.files("crdkit.config.presets")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def preset_summary(name: str) -> str:
    """Return the opening comment of a preset's file, in one line."""
    lines = (
        (importlib.resources.files("crdkit.config.presets") / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    )
    return " ".join(line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), lines))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    try:
        values = parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"{path}: is {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of config keys, got {type(values).__name__}")
    return values
