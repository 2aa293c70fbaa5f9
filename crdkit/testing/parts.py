"""The contracts of projections and aggregations, and of every registered part."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from crdkit.config.catalogue import KINDS, REGISTRIES, catalogue
from crdkit.model.layers import FeatureSpec, Levels
from crdkit.model.projections import Projection, projections
from crdkit.scoring.aggregations import Aggregation, AggregationConfig, aggregations
from crdkit.testing.examples import SPECS, example_features
from crdkit.testing.requirement import require, require_close, require_same

Options = Mapping[str, Any]

MODALITIES = ("rgb", "depth", "infrared", "normals")


def check_description(kind: str, name: str, options: Options | None = None) -> None:
    """Check what every part promises: it describes itself, and its options survive a round trip through JSON.

    Raises:
        AssertionError: the message names the broken promise.

    Examples:
        >>> check_description("aggregation", "tail_norm", {"power": 3})
    """
    what = f"{kind} {name!r}"
    plural = KINDS[kind]
    registry = REGISTRIES[plural]
    part = registry.get(name)
    require("name" in part.Config.model_fields, f"{what}: its Config has no field 'name'")
    config = registry.build_config({"name": name, **(options or {})})
    require(isinstance(config, part.Config), f"{what}: its options are a {type(config).__name__}, not its Config")
    require(config.name == name, f"{what}: its Config names {config.name!r}; give the field 'name' the registered name")
    again = registry.build_config(config.model_dump(mode="json"))
    require(again == config, f"{what}: its options do not survive JSON: {config!r} was read back as {again!r}")
    (entry,) = [entry for entry in catalogue(plural)[plural] if entry.name == name]
    require(bool(entry.summary), f"{what}: its class has no docstring; its first sentence is what `crdkit list` prints")


def check_projection(name: str, options: Options | None = None) -> None:
    """Check a projection on pairs of feature pyramids: shapes, sign, gradients, saved state.

    Raises:
        AssertionError: the message names the broken promise.

    Examples:
        >>> check_projection("bottleneck", {"size": 4})
    """
    check_description("filter", name, options)
    config = projections.build_config({"name": name, **(options or {})})
    for source_name, source in SPECS.items():
        for target_name, target in SPECS.items():

            def build(source: FeatureSpec = source, target: FeatureSpec = target) -> Projection:
                return projections.build(config, source=source, target=target)

            _check_edge(f"projection {name!r} ({source_name} -> {target_name})", build, source, target)


def _check_edge(what: str, build: Callable[[], Projection], source: FeatureSpec, target: FeatureSpec) -> None:
    part = build()
    levels = example_features(source)
    before = [level.clone() for level in levels]
    out: Levels = part(levels)
    require_same(levels, before, f"{what} modifies the features that it is given")
    found = [tuple(level.shape) for level in out]
    expected = [(2, channels, size, size) for channels, size in zip(target.channels, target.sizes, strict=True)]
    require(
        found == expected, f"{what} returns levels of shapes {found}, expected the target's {expected} (B, C, H, W)"
    )
    require(all(bool(level.isfinite().all()) for level in out), f"{what} returns values that are not finite")
    if not target.signed:
        lowest = min(float(level.detach().amin()) for level in out)
        require(lowest >= 0, f"{what} returns {lowest:.3g}: features of this target are never negative, end in a ReLU")
    torch.stack([level.sum() for level in out]).sum().backward()
    for key, parameter in part.named_parameters():
        if parameter.requires_grad:
            require(parameter.grad is not None, f"{what}: its parameter {key!r} gets no gradient, so it never trains")
    part.eval()
    restored = build()
    restored.load_state_dict(part.state_dict())
    restored.eval()
    with torch.no_grad():
        expected_out: Levels = part(levels)
        require_same(restored(levels), expected_out, f"{what}: a copy with its state dict gives other results")
        alone: Levels = part([level[:1] for level in levels])
    require_close(
        alone, [level[:1] for level in expected_out], f"{what}: a sample's result depends on the others of its batch"
    )


def check_aggregation(name: str, options: Options | None = None, *, modalities: Sequence[str] | None = None) -> None:
    """Check an aggregation: one finite float32 map, never lower where a branch is higher, and a state that is saved.

    Args:
        name: the registered name.
        options: needed if some have no default.
        modalities: names to fuse, if the options fit only certain ones; else it is checked on one, two and four.

    Raises:
        AssertionError: the message names the broken promise.

    Examples:
        >>> check_aggregation("weighted", {"weights": {"rgb": 1, "xyz": 2}}, modalities=["rgb", "xyz"])
    """
    check_description("aggregation", name, options)
    config = aggregations.build_config({"name": name, **(options or {})})
    counts = (1, 2, len(MODALITIES))
    for names in [tuple(modalities)] if modalities else [MODALITIES[:count] for count in counts]:
        _check_fusion(f"aggregation {name!r} of {', '.join(names)}", aggregations.get(name), config, names)


def _check_fusion(what: str, cls: type[Aggregation], config: AggregationConfig, names: Sequence[str]) -> None:
    part = cls(config, modalities=names)
    generator = torch.Generator().manual_seed(0)
    # branches that differ in level, spread and tail
    normals = {
        key: (1 + rank) * torch.rand(5, 8, 8, generator=generator) ** (1 + rank) for rank, key in enumerate(names)
    }
    before = copy.deepcopy(normals)
    part.calibrate(normals)
    fused = part(normals)
    require_same([*normals.values()], [*before.values()], f"{what} modifies the maps that it is given")
    shape = (tuple(fused.shape), fused.dtype)
    require(shape == ((5, 8, 8), torch.float32), f"{what} returns {shape[1]} {shape[0]}, expected float32 (B, H, W)")
    require(bool(fused.isfinite().all()), f"{what} returns values that are not finite")
    _check_order(what, part, normals, fused)
    _check_independence(what, part, normals, fused)
    part.calibrate({key: maps + 1 for key, maps in normals.items()})
    part.calibrate(normals)
    require_same([part(normals)], [fused], f"{what}: a second calibration does not replace the first")
    restored = cls(config, modalities=names)
    restored.load_state_dict(part.state_dict())
    require_same([restored(normals)], [fused], f"{what}: a copy with its state dict gives other results")
    part.calibrate({key: torch.full((2, 8, 8), 0.3) for key in names})
    for values in (torch.full((2, 8, 8), 0.3), torch.rand(2, 8, 8, generator=generator)):
        finite = bool(part(dict.fromkeys(names, values)).isfinite().all())
        require(finite, f"{what} is not finite after a calibration on constant maps; divide by something above 0")


def _check_order(what: str, part: Aggregation, normals: Mapping[str, torch.Tensor], fused: torch.Tensor) -> None:
    """Where maps rise, the result must not fall: it may stay if one of them rises, and must rise if all do."""
    raised = {key: maps.clone() for key, maps in normals.items()}
    for maps in raised.values():
        maps[0, 2, 3] += 5
    slack = 1e-5 * fused.abs().clamp_min(1)
    for key in normals:
        one = part({**normals, key: raised[key]})
        require(bool((one >= fused - slack).all()), f"{what} falls somewhere when the map of {key!r} rises at a pixel")
    together = part(raised)
    rises = bool(together[0, 2, 3] > fused[0, 2, 3])
    require(rises, f"{what} does not rise at a pixel where every map does")


def _check_independence(what: str, part: Aggregation, normals: Mapping[str, torch.Tensor], fused: torch.Tensor) -> None:
    alone = part({key: maps[:1] for key, maps in normals.items()})
    require_close([alone], [fused[:1]], f"{what}: a sample's result depends on the others of its batch")
    turned = part({key: normals[key] for key in reversed([*normals])})
    require_same([turned], [fused], f"{what} depends on the order of the mapping; iterate over self.modalities")
