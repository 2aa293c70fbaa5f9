"""A whole detector as one network of named inputs and outputs, which exporters can trace."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from crdkit.detector._engine import Engine
from crdkit.detector.view_networks import Stored, ViewNetwork, resize_floats
from crdkit.model.encoders import Encoder
from crdkit.model.layers import Presence
from crdkit.scoring.maps import anomaly_score
from crdkit.scoring.thresholds import Modalities, Thresholds
from crdkit.views.foreground import is_foreground, join_foregrounds

PRESENT, THRESHOLD, PIXEL_THRESHOLD = "present", "threshold", "pixel_threshold"
RESERVED = {PRESENT, THRESHOLD, PIXEL_THRESHOLD, "score", "anomaly_map", "label", "mask"}


@dataclass(frozen=True, kw_only=True)
class GraphInput:
    """One input of the graph."""

    name: str
    dtype: str
    """Of numpy."""
    shape: tuple[str | int, ...]
    """Sides with a name may vary: N samples, H x W pixels as the sensors have them."""
    sensor: str | None = None
    """Whose values it holds as they are delivered."""
    modality: str | None = None
    """Whose prepared view it holds, if no sensor's."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the graph reads, and how it makes views of it."""

    modalities: Mapping[str, tuple[str, ...]]
    """The sensors of each, in the order of the detector."""
    sensors: tuple[str, ...]
    """All of them, in the order of ``present``."""
    image_size: int
    inputs: tuple[GraphInput, ...]
    """Sensors as they are delivered, then prepared views."""
    networks: Mapping[str, ViewNetwork]
    """Of the modalities whose views the graph makes."""
    spares: bool
    """Whether samples may lack sensors: then there is an input ``present``."""
    thresholds: Thresholds | None = field(repr=False)

    @property
    def views(self) -> tuple[str, ...]:
        """The modalities whose views are made outside."""
        return tuple(name for name in self.modalities if name not in self.networks)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        branches = [f"{kind}_{name}" for kind in ("score", "map") for name in self.modalities]
        return ("score", "anomaly_map", *branches, "label", "mask")

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order; thresholds come last."""
        present = (PRESENT,) if self.spares else ()
        return (*(entry.name for entry in self.inputs), *present, THRESHOLD, PIXEL_THRESHOLD)


def view_input(modality: str) -> str:
    """Return the name of a prepared view, an input of the graph or a value inside it."""
    return f"{modality}_view"


def sensor_input(name: str, stored: Stored) -> GraphInput:
    """Return the input of a sensor as it is delivered."""
    channels = () if stored.channels == 1 else (stored.channels,)
    return GraphInput(name=name, dtype=stored.dtype, shape=("N", "H", "W", *channels), sensor=name)


class DetectorGraph(nn.Module):
    """Maps inputs, in the order of a plan, to outputs; raw values, nothing is clamped.

    Args:
        engine: on a CPU, folded.
        plan: what is read.
        with_views: whether the views that the graph makes are outputs too, after the others.
    """

    def __init__(self, engine: Engine, plan: Plan, *, with_views: bool = False) -> None:
        super().__init__()
        self.plan, self._outlines, self._with_views = plan, engine.outlines, with_views
        self.networks = nn.ModuleDict(dict(plan.networks))
        distinct = {id(teacher): teacher for teacher in engine.teachers.values()}
        order = {key: place for place, key in enumerate(distinct)}
        self.teachers = nn.ModuleList(distinct.values())
        self.teacher_of = {name: order[id(teacher)] for name, teacher in engine.teachers.items()}
        self.branches = nn.ModuleDict(engine.branches)
        self.scorer = engine.scorer
        self.limits = _Limits(plan)
        self.eval()

    def forward(self, inputs: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Return the outputs, in the order of the plan."""
        given = dict(zip(self.plan.input_names, inputs, strict=True))
        present = self._present(given[PRESENT]) if self.plan.spares else None
        views = self._views(given, present)
        raw, foreground = self._compare(views, present)
        maps = self.scorer(raw, present, foreground=foreground)
        threshold, pixel_threshold = self.limits(given[THRESHOLD], given[PIXEL_THRESHOLD], present)
        found = [
            maps.pred_score,
            maps.anomaly_map[:, None],
            *(anomaly_score(values) for values in maps.branches.values()),
            *(values[:, None] for values in maps.branches.values()),
            maps.pred_score > threshold,
            maps.anomaly_map[:, None] > pixel_threshold.reshape(-1, 1, 1, 1),
        ]
        return (*found, *(views[name] for name in self.networks if self._with_views))

    def _present(self, sensors: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return which samples have each modality, all of whose sensors it takes, from (N, sensors) bool."""
        places = {name: place for place, name in enumerate(self.plan.sensors)}
        return {
            name: torch.stack([sensors[:, places[sensor]] for sensor in read]).all(dim=0)
            for name, read in self.plan.modalities.items()
        }

    def _views(self, given: Mapping[str, torch.Tensor], present: Presence | None) -> dict[str, torch.Tensor]:
        views = {}
        for name in self.plan.modalities:
            view = self.networks[name](given) if name in self.networks else given[view_input(name)]
            # whatever stands for a missing sensor, NaN too, is read as zeros
            views[name] = view if present is None else torch.where(present[name][:, None, None, None], view, 0)
        return views

    def _compare(
        self, views: Mapping[str, torch.Tensor], present: Presence | None
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        features = {name: self._features(name, view) for name, view in views.items()}
        foreground = join_foregrounds([is_foreground(views[name]) for name in views if name in self._outlines])
        output = {name: branch(features, present).output for name, branch in self.branches.items()}
        return self.scorer.raw_maps(features, output), foreground

    def _features(self, name: str, view: torch.Tensor) -> list[torch.Tensor]:
        teacher = self.teachers[self.teacher_of[name]]
        if isinstance(teacher, Encoder) and teacher.config.image_size not in (None, self.plan.image_size):
            # the order of `Encoder.forward` differs by rounding, and OpenVINO fails on it: it fuses the normalisation
            # of channels into the product of matrices before it
            normalised = teacher.normalise(view)
            return teacher.features(resize_floats(normalised, int(teacher.config.image_size or 0)))
        levels: list[torch.Tensor] = teacher(view)
        return levels


class _Limits(nn.Module):
    """The thresholds of samples: those that are given or, where these are NaN, those for the sensors that are there."""

    sets: torch.Tensor
    images: torch.Tensor
    pixels: torch.Tensor

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.names, self.looks_up = tuple(plan.modalities), plan.spares
        known = plan.thresholds.images if plan.thresholds is not None else {}
        sets = list(known) or [self.names]
        self.register_buffer("sets", torch.tensor([[name in names for name in self.names] for names in sets]))
        self.register_buffer("images", torch.tensor([default_threshold(plan.thresholds, names) for names in sets]))
        pixels = [default_threshold(plan.thresholds, names, pixels=True) for names in sets]
        self.register_buffer("pixels", torch.tensor(pixels))

    def forward(
        self, image: torch.Tensor, pixel: torch.Tensor, present: Presence | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the thresholds of images and of pixels, of all samples or (N,)."""
        if present is None:
            return image, pixel
        has = torch.stack([present[name] for name in self.names], dim=1)
        same = (has[:, None] == self.sets[None]).all(dim=2)  # (N, sets)
        known = same.any(dim=1)

        def chosen(given: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            own = torch.where(same, values[None], 0).sum(dim=1)
            return torch.where(given.isnan(), torch.where(known, own, math.inf), given)

        return chosen(image, self.images), chosen(pixel, self.pixels)


def default_threshold(thresholds: Thresholds | None, names: Modalities, *, pixels: bool = False) -> float:
    """Return a threshold as float32, infinity if there is none: then nothing is anomalous.

    It is rounded down, so that a float32 is above it if it is above the exact one.

    Examples:
        >>> default_threshold(None, ("rgb",))
        inf
    """
    cuts = {} if thresholds is None else thresholds.pixels if pixels else thresholds.images
    if names not in cuts:
        return math.inf
    nearest = np.float32(cuts[names].value)
    return float(np.nextafter(nearest, np.float32(-np.inf)) if float(nearest) > cuts[names].value else nearest)


def dynamic_shapes(plan: Plan) -> list[dict[int, object]]:
    """Return which axes of each input may vary, as `torch.export` takes them."""
    auto = torch.export.Dim.AUTO
    free = [{axis: auto for axis, side in enumerate(entry.shape) if isinstance(side, str)} for entry in plan.inputs]
    return [*free, *([{0: auto}] if plan.spares else []), {}, {}]


def as_tensors(plan: Plan, arrays: Mapping[str, np.ndarray]) -> list[torch.Tensor]:
    """Return arrays by name as the inputs that the graph takes; thresholds that are not given have their defaults."""
    defaults = {name: np.array(value, np.float32) for name, value in threshold_defaults(plan).items()}
    return [torch.from_numpy(np.array(({**defaults, **arrays})[name])) for name in plan.input_names]


def threshold_defaults(plan: Plan) -> dict[str, float]:
    """Return the default values of the inputs for thresholds; NaN: looked up by which sensors are there."""
    if plan.spares:
        return {THRESHOLD: math.nan, PIXEL_THRESHOLD: math.nan}
    names = tuple(plan.modalities)
    return {
        THRESHOLD: default_threshold(plan.thresholds, names),
        PIXEL_THRESHOLD: default_threshold(plan.thresholds, names, pixels=True),
    }


def every_input(plan: Plan) -> Sequence[GraphInput]:
    """Return all inputs, in order."""
    present = GraphInput(name=PRESENT, dtype="bool", shape=("N", len(plan.sensors)))
    return [
        *plan.inputs,
        *([present] if plan.spares else []),
        GraphInput(name=THRESHOLD, dtype="float32", shape=()),
        GraphInput(name=PIXEL_THRESHOLD, dtype="float32", shape=()),
    ]
