"""RunConfig: everything that decides a run, as data that can be written down and read back."""

from __future__ import annotations

import copy
import importlib.resources
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from crdkit.aggregations import AggregationConfig, aggregations
from crdkit.amplifiers import AmplifierConfig, amplifiers
from crdkit.datasets import DatasetConfig, datasets
from crdkit.encoders import EncoderConfig, encoders
from crdkit.errors import ConfigError, explain, unknown_name
from crdkit.filters import FilterConfig, filters
from crdkit.graph import CrossmodalGraph, Edge, Topology, topology_pairs
from crdkit.losses import LossKind
from crdkit.modalities import ModalityConfig, modalities
from crdkit.overrides import apply_override, choose_by_category, keep_choices, read_override
from crdkit.plugins import import_plugin, resolve_plugin
from crdkit.registry import StrictConfig
from crdkit.student import Merge, StudentConfig


class BranchConfig(StrictConfig):
    """One modality: how raw sensors are viewed (written inline), and the teacher that sees that view."""

    view: Annotated[ModalityConfig, modalities]
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


class EdgeConfig(StrictConfig):
    """One directed edge; a part that is not mentioned is the graph's, null leaves it out."""

    source: str
    target: str
    filter: Annotated[FilterConfig, filters] | None = None
    amplifier: Annotated[AmplifierConfig, amplifiers] | None = None

    @model_serializer(mode="wrap")
    def _only_what_was_given(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # "not mentioned" and null mean different things, and must read back so
        return {key: value for key, value in serialise(self).items() if key in self.model_fields_set}


class GraphConfig(StrictConfig):
    """Which modalities help which, and with what."""

    topology: Topology = Field("full", description="none, full, star (hub <-> each), ring (i -> i+1) or edges")
    hub: str | None = Field(None, description="centre of the star; the first modality if null")
    edges: tuple[EdgeConfig, ...] = Field((), description="with topology: edges")
    filter: Annotated[FilterConfig, filters] | None = Field(default_factory=lambda: filters.build_config("bottleneck"))
    amplifier: Annotated[AmplifierConfig, amplifiers] | None = Field(
        default_factory=lambda: amplifiers.build_config("inverted_bottleneck")
    )
    merge: Merge = Field("concat", description="how several filters reach the bottleneck")

    @model_validator(mode="after")
    def _edges_fit_topology(self) -> GraphConfig:
        if bool(self.edges) != (self.topology == "edges"):
            raise ValueError(
                f"graph.topology={self.topology} with {len(self.edges)} graph.edges: "
                "list edges if, and only if, the topology is 'edges'"
            )
        return self

    def build(self, names: tuple[str, ...]) -> CrossmodalGraph:
        """Return the graph over the modalities ``names``.

        Raises:
            ConfigError: an edge repeats, starts where it ends, or names an unknown modality.
        """
        if self.topology == "edges":
            edges = tuple(self._edge(edge) for edge in self.edges)
        elif self.filter is None and self.amplifier is None:
            edges = ()
        else:
            edges = tuple(
                Edge(source=source, target=target, filter=self.filter, amplifier=self.amplifier)
                for source, target in topology_pairs(self.topology, names, hub=self.hub)
            )
        return CrossmodalGraph(modalities=names, edges=edges)

    def _edge(self, edge: EdgeConfig) -> Edge:
        given = edge.model_fields_set
        return Edge(
            source=edge.source,
            target=edge.target,
            filter=edge.filter if "filter" in given else self.filter,
            amplifier=edge.amplifier if "amplifier" in given else self.amplifier,
        )


class TrainingConfig(StrictConfig):
    """How the students are trained."""

    epochs: int = Field(200, ge=1)
    batch_size: int = Field(16, ge=1)
    seed: int = Field(0, ge=0, lt=2**63)
    device: str = Field("auto", description="auto (CUDA where there is one), cpu, cuda, cuda:1, ...")
    learning_rate: float = Field(0.005, gt=0, description="of Adam")
    betas: tuple[float, float] = Field((0.5, 0.999), description="of Adam")
    schedule: Literal["exponential", "cosine", "constant"] = Field("exponential", description="stepped per epoch")
    gamma: float = Field(0.95, gt=0, le=1, description="factor per epoch of the exponential schedule")
    optimizers: Literal["per_branch", "joint"] = Field("per_branch", description="one Adam per branch, or one in all")
    loss: LossKind = Field(
        "flattened", description="one cosine per sample and level, one per position, or mostly those hard to imitate"
    )
    modality_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="probability that a training sample lacks a sensor; above 0 the detector can do without one",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "fp32", description="of the students' forward pass; auto: bf16 where the device computes it natively"
    )
    resident_gib: float = Field(
        8.0,
        ge=0,
        description="what views and teacher features may take on the device, GiB; features that do not fit are kept in "
        "the host's memory, if the device is another, or recomputed each step",
    )
    pinned_gib: float = Field(
        16.0, ge=0, description="what teacher features may take in the host's memory, GiB, where a GPU cannot hold them"
    )
    graph: Literal["auto", "on", "off"] = Field(
        "auto",
        description="replay each step as one captured CUDA graph; auto: on a GPU that trains a detector alone",
    )
    compile: bool = Field(
        False, description="torch.compile of every branch; needs a C++ compiler on a CPU, Triton on a GPU"
    )

    @field_validator("graph", mode="before")
    @classmethod
    def _yaml_reads_on_as_true(cls, value: Any) -> Any:
        return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


class ScoringConfig(StrictConfig):
    """How maps become a score, and what is measured on them beside the exact metrics."""

    sigma: float = Field(4.0, ge=0, description="standard deviation of the smoothing, in pixels of the map")
    sampled_thresholds: bool = Field(
        False, description="measure AU-PRO with 100 thresholds too (aupro100t_*), as some published numbers are"
    )


class RunConfig(StrictConfig):
    """Everything that decides a run; frozen, and refused if it holds an unknown key.

    Examples:
        >>> run = RunConfig.preset("quick").with_overrides("data.category=bagel", "training.epochs=3")
        >>> run.data.category, run.training.epochs, list(run.modalities)
        ('bagel', 3, ['rgb', 'depth'])
    """

    plugins: tuple[str, ...] = Field(
        (), description="modules or .py files to import first, which register the user's own parts"
    )
    data: Annotated[DatasetConfig, datasets]
    modalities: dict[str, BranchConfig] = Field(min_length=1)
    graph: GraphConfig = GraphConfig()
    student: StudentConfig = StudentConfig()
    training: TrainingConfig = TrainingConfig()
    aggregation: Annotated[AggregationConfig, aggregations] = Field(
        default_factory=lambda: aggregations.build_config("normalised_sum")
    )
    scoring: ScoringConfig = ScoringConfig()
    by_category: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="options that a published recipe chooses by category: {key.path: {category: value, other: value}}",
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
    def _import_plugins(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not value.get("plugins"):
            return value
        names = value["plugins"]
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"plugins (={names!r}) must be a list of module names or .py files")
        plugins = tuple(resolve_plugin(name, folders=[Path.cwd()]) for name in names)
        for name in plugins:
            import_plugin(name)
        return {**value, "plugins": plugins}

    @field_validator("modalities", mode="before")
    @classmethod
    def _name_after_key(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        for key in value:
            if not str(key).isidentifier():
                raise ValueError(f"a modality's name is made of letters, digits and _, got {key!r}")
        return {
            key: branch if isinstance(branch, BranchConfig) else {"name": key, **(branch or {})}
            for key, branch in value.items()
        }

    @model_validator(mode="after")
    def _parts_fit_the_modalities(self) -> RunConfig:
        self.build_graph()
        self.aggregation.check_modalities(tuple(self.modalities))
        return self

    def build_graph(self) -> CrossmodalGraph:
        """Return the graph over this run's modalities."""
        return self.graph.build(tuple(self.modalities))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, source: str = "config") -> RunConfig:
        """Validate ``values``.

        Raises:
            ConfigError: a key is unknown or a value not allowed; every problem is named, with its key.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(f"{source}: {explain(error)}") from error

    @classmethod
    def from_yaml(cls, path: Path | str) -> RunConfig:
        """Read a YAML file; plug-ins may lie beside it.

        Raises:
            ConfigError: the file is missing, is no YAML mapping, or its content is refused.
        """
        values = _read_yaml(Path(path))
        if isinstance(values.get("plugins"), list):
            folders = [Path(path).absolute().parent, Path.cwd()]
            values["plugins"] = [resolve_plugin(str(name), folders=folders) for name in values["plugins"]]
        return cls.from_dict(values, source=str(path))

    @classmethod
    def preset(cls, name: str) -> RunConfig:
        """Return a preset of this package.

        Raises:
            UnknownNameError: there is no such preset.
        """
        if name not in preset_names():
            raise unknown_name("preset", name, preset_names())
        text = (importlib.resources.files("crdkit.presets") / f"{name}.yaml").read_text(encoding="utf-8")
        return cls.from_dict(yaml.safe_load(text), source=f"preset {name}")

    def with_overrides(self, *overrides: str) -> RunConfig:
        """Return a copy with each ``key.path=value`` applied; values are read as YAML, names and paths as typed.

        Naming another part (``aggregation.name=max``) drops the options of the part it replaces;
        ``modalities.depth=null`` takes a modality out. What is overridden here is no longer chosen by ``by_category``.

        Raises:
            ConfigError: an override has no ``=``, its key is unknown, or its value is not allowed.
        """
        if not overrides:
            return self
        parts = [override for override in overrides if override.partition("=")[0].endswith((".name", "plugins"))]
        if 0 < len(parts) < len(overrides):  # first the parts, then their options, which are read as each declares
            return self.with_overrides(*parts).with_overrides(*(text for text in overrides if text not in parts))
        values = self.model_dump(mode="json")
        for override in overrides:
            key, value = read_override(override, self)
            apply_override(values, key, value)
            values["by_category"] = keep_choices(values["by_category"] or {}, key)
        return self.from_dict(values, source=" ".join(overrides))

    def to_yaml(self) -> str:
        """Return the complete configuration as YAML that `from_yaml` reads back to an equal one."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load_config(preset_or_file: str) -> RunConfig:
    """Return a preset by name, or the configuration in a file that ends in .yaml or .yml.

    Raises:
        ConfigError: neither exists, or the content is refused.
    """
    if preset_or_file.endswith((".yaml", ".yml")):
        return RunConfig.from_yaml(preset_or_file)
    return RunConfig.preset(preset_or_file)


def preset_names() -> list[str]:
    """Return the names of the package's presets, sorted."""
    folder = importlib.resources.files("crdkit.presets")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def preset_summary(name: str) -> str:
    """Return the comment that opens a preset's file, in one line."""
    lines = (importlib.resources.files("crdkit.presets") / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    return " ".join(line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), lines))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of config keys, got {type(values).__name__}")
    return values
