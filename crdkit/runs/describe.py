"""What a configuration builds, and what each of its parts costs, before anything is trained or downloaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from crdkit._core.registry import ComponentConfig
from crdkit.config import RunConfig
from crdkit.config.build import build_graph, build_teachers
from crdkit.detector import detector_folder, read_config, read_thresholds
from crdkit.model.crd import CRD, Branch
from crdkit.model.graph import CrossmodalGraph, Edge
from crdkit.model.layers import FeatureSpec, Levels
from crdkit.model.shapes import empty_features
from crdkit.runs.directory import read_metrics
from crdkit.runs.provenance import shown_hashes

FLOP_CONVENTION = (
    "GFLOP: matrix products and convolutions of one sample, forward; a multiply and an add count as two (MACs x 2)"
)


@dataclass(frozen=True, kw_only=True)
class PartCost:
    """The parameters and the computation of one part."""

    modality: str
    """Whose teacher or branch it belongs to."""
    part: str
    """``teacher``, ``filter <- SOURCE``, ``amplifier <- SOURCE``, ``bottleneck`` or ``decoder``."""
    parameters: int
    """0 for a teacher that another modality's row has already counted."""
    gflop: float
    """Forward, of one sample; see `FLOP_CONVENTION`."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """A graph, its shapes, and what its parts cost.

    Examples:
        >>> from crdkit.config import RunConfig
        >>> single = describe(RunConfig.preset("quick").with_overrides("modalities.depth=null", "data.image_size=64"))
        >>> [row["part"] for row in single.table()]
        ['teacher', 'bottleneck', 'decoder', 'total']
    """

    config: RunConfig
    graph: CrossmodalGraph
    specs: Mapping[str, FeatureSpec]
    """Shapes of each teacher's features."""
    parts: Sequence[PartCost]
    training_gflop: Mapping[str, float]
    """Forward and backward of each modality's branch, of one sample; the teachers' features are kept between epochs."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Of a run: where its data lies, seed, environment, hashes; empty for a configuration."""

    def table(self) -> list[dict[str, Any]]:
        """Return one row per part with the keys ``modality``, ``part``, ``parameters`` and ``gflop``, and their sum."""
        total = PartCost(
            modality="",
            part="total",
            parameters=sum(part.parameters for part in self.parts),
            gflop=sum(part.gflop for part in self.parts),
        )
        return [asdict(part) for part in (*self.parts, total)]

    def mermaid(self) -> str:
        """Return the graph as a Mermaid flowchart: modalities with their teachers, edges with their parts."""
        names = {name: f"m{index}" for index, name in enumerate(self.graph.modalities)}
        lines = ["flowchart LR"]
        for name, node in names.items():
            lines.append(
                f'  {node}["{_escape_mermaid(name)}<br>{_escape_mermaid(self.config.modalities[name].encoder.name)}"]'
            )
        for edge in self.graph.edges:
            parts = "<br>".join(_escape_mermaid(f"{kind} {part.name}") for kind, part in _parts_of(edge))
            lines.append(f'  {names[edge.source]} -- "{parts}" --> {names[edge.target]}')
        lines.append(f'  fused(["{_escape_mermaid(self.config.aggregation.name)}"])')
        lines += [f"  {node} -. anomaly map .-> fused" for node in names.values()]
        return "\n".join(lines) + "\n"


def describe(config: RunConfig) -> Description:
    """Return the graph of ``config`` and what each part costs; no weights are read, and no data.

    Teachers are built with random weights and shown one image; branches are built without memory for their weights.

    Raises:
        ConfigError: the configuration cannot be built.

    Examples:
        >>> teacher = "{name: timm, model: test_resnet, pretrained: false}"
        >>> run = RunConfig.preset("quick").with_overrides("data.image_size=32", *(
        ...     f"modalities.{name}.encoder={teacher}" for name in ("rgb", "depth")))
        >>> described = describe(run)
        >>> described.specs["depth"].sizes
        (8, 4, 2)
        >>> [part.part for part in described.parts if part.modality == "rgb"]
        ['teacher', 'filter <- depth', 'amplifier <- depth', 'bottleneck', 'decoder']
    """
    teachers = build_teachers(config, load_weights=False)
    size = config.data.image_size
    specs: dict[str, FeatureSpec] = {}
    costs: dict[str, PartCost] = {}
    for name, teacher in teachers.items():
        owner = next((other for other in specs if teachers[other] is teacher), None)
        if owner is not None:
            specs[name] = specs[owner]
            costs[name] = PartCost(modality=name, part="teacher", parameters=0, gflop=costs[owner].gflop)
            continue
        with FlopCounterMode(display=False) as counter:
            specs[name] = teacher.spec(size)
        gflop = counter.get_total_flops() / 1e9
        costs[name] = PartCost(modality=name, part="teacher", parameters=_parameters(teacher), gflop=gflop)
    with torch.device("meta"):
        model = CRD(specs=specs, graph=build_graph(config), merge=config.graph.merge, student=config.student).eval()
    parts = [part for name in specs for part in (costs[name], *_branch_costs(model.branch(name), model))]
    return Description(
        config=config,
        graph=model.graph,
        specs=specs,
        parts=tuple(parts),
        training_gflop={name: _training_gflop(model.branch(name), model) for name in specs},
    )


def describe_run(folder: Path | str, *, allow_plugins: bool = False) -> Description:
    """Describe a run or a detector directory, with its provenance.

    Raises:
        UntrustedCodeError: it names code to import, and ``allow_plugins`` is false.
        DetectorFormatError: the folder holds neither a run nor a detector, or a damaged one.
    """
    folder = Path(folder)
    written = folder / "config.yaml"
    config = (
        RunConfig.from_yaml(written, allow_plugins=allow_plugins)
        if written.is_file()
        else read_config(folder, allow_plugins=allow_plugins)
    )
    description = describe(config)
    provenance = {
        "data": " ".join(str(part) for part in (config.data.name, config.data.root, config.data.category) if part),
        "seed": str(config.training.seed),
    }
    if (detector_folder(folder) / "config.json").is_file():
        thresholds = read_thresholds(folder, allow_plugins=allow_plugins)
        provenance |= {} if thresholds is None else thresholds.facts()
    if written.is_file():
        provenance |= _run_facts(folder)
    return replace(description, provenance=provenance)


def _run_facts(folder: Path) -> dict[str, str]:
    if not (folder / "metrics.json").is_file():
        return {"finished": "no"}
    metrics = read_metrics(folder)
    counts, seconds = (
        {key: value for key, value in metrics.get(group, {}).items() if value is not None}
        for group in ("counts", "seconds")
    )
    return {
        **{key: str(value) for key, value in metrics.get("environment", {}).items()},
        "samples": ", ".join(f"{count} {split}" for split, count in counts.items()),
        "seconds": ", ".join(f"{phase} {value}" for phase, value in seconds.items()),
        **shown_hashes(folder, metrics.get("hashes", {})),
    }


def _branch_costs(branch: Branch, model: CRD) -> list[PartCost]:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        branch(empty_features(model.specs))
    counted = counter.get_flop_counts()
    modules: dict[str, tuple[str, nn.Module]] = {}
    for kind in ("filter", "amplifier"):
        for source, module in getattr(branch, f"{kind}s").items():
            modules[f"{kind} <- {source}"] = (f"{kind}s.{source}", module)
    for part in ("bottleneck", "decoder"):
        modules[part] = (f"student.{part}", getattr(branch.student, part))
    return [
        PartCost(
            modality=branch.target,
            part=part,
            parameters=_parameters(module),
            gflop=sum(counted.get(f"{type(branch).__name__}.{path}", {}).values()) / 1e9,
        )
        for part, (path, module) in modules.items()
    ]


def _training_gflop(branch: Branch, model: CRD) -> float:
    with FlopCounterMode(display=False) as counter:
        out = branch(empty_features(model.specs))
        trained = [*out.filtered.values(), *out.amplified.values(), out.decoder, out.output]
        torch.stack([level.sum() for level in _flatten(trained)]).sum().backward()
    return float(counter.get_total_flops()) / 1e9


def _flatten(groups: Iterable[Levels]) -> list[torch.Tensor]:
    return [level for levels in groups for level in levels]


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _parts_of(edge: Edge) -> list[tuple[str, ComponentConfig]]:
    found = (("filter", edge.filter), ("amplifier", edge.amplifier))
    return [(kind, part) for kind, part in found if part is not None]


def _escape_mermaid(value: str) -> str:
    # the characters that end or style a label, as Mermaid escapes them
    return "".join(f"#{ord(c)};" if c in '"#<>&;`' else c for c in value)
