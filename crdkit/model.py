"""CRD: frozen teachers, a graph of crossmodal assistants, and one student branch per modality."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from crdkit.config import RunConfig
from crdkit.encoders import Encoder, encoders
from crdkit.errors import ConfigError, CrdkitError
from crdkit.graph import CrossmodalGraph, Edge, build_amplifiers, build_filters
from crdkit.layers import FeatureSpec, Levels, initialise
from crdkit.presence import Presence
from crdkit.student import Merge, Student, StudentConfig
from crdkit.threads import BranchMap, by_branch


@dataclass(frozen=True, kw_only=True)
class BranchOutput:
    """Features of one target modality; every list holds (B, C, H, W) levels, fine to coarse."""

    filtered: dict[str, Levels]
    amplified: dict[str, Levels]
    decoder: Levels
    output: Levels


@dataclass(frozen=True, kw_only=True)
class CRDOutput:
    """Features of all modalities: ``[target]`` or ``[target][source]`` -> levels (B, C, H, W), fine to coarse."""

    teacher: dict[str, Sequence[torch.Tensor]]
    filtered: dict[str, dict[str, Levels]]
    amplified: dict[str, dict[str, Levels]]
    decoder: dict[str, Levels]
    output: dict[str, Levels]
    present: Presence | None = None
    """Which samples have each modality; None: all have all. What is given of a missing one means nothing."""


class Branch(nn.Module):
    """Everything that is trained for one target modality: its incoming edges' parts and its student."""

    def __init__(
        self,
        target: str,
        *,
        specs: Mapping[str, FeatureSpec],
        edges: Sequence[Edge],
        merge: Merge,
        student: StudentConfig,
    ) -> None:
        super().__init__()
        self.target = target
        self.filters = nn.ModuleDict(build_filters(edges, specs))
        self.amplifiers = nn.ModuleDict(build_amplifiers(edges, specs))
        self.student = Student(
            specs[target], filters=len(self.filters), amplifiers=len(self.amplifiers), merge=merge, config=student
        )
        initialise(self)

    @property
    def reads(self) -> tuple[str, ...]:
        """The modalities whose features the branch reads, its target first."""
        return tuple(dict.fromkeys([self.target, *self.filters, *self.amplifiers]))

    def forward(self, teacher: Mapping[str, Sequence[torch.Tensor]], present: Presence | None = None) -> BranchOutput:
        """Run the branch on the teacher features of its target and its sources.

        What a filter or amplifier makes of a source that a sample lacks (``present``) never reaches the student.
        """
        filtered = {source: part(teacher[source]) for source, part in self.filters.items()}
        amplified = {source: part(teacher[source]) for source, part in self.amplifiers.items()}
        decoder, output = self.student(teacher[self.target], filtered=filtered, amplified=amplified, present=present)
        return BranchOutput(filtered=filtered, amplified=amplified, decoder=decoder, output=output)


class CRD(nn.Module):
    """Crossmodal Reverse Distillation over any number of modalities.

    N = 1 without edges is Reverse Distillation, N = 2 with the full graph is CRD (arXiv 2412.08949).

    Args:
        specs: shapes of each modality's teacher features; the keys are the modalities, in order.
        graph: the directed edges between them.
        merge: how several filters reach the bottleneck.
        student: size of the students.
        teachers: frozen encoders by modality, one module may serve several; None if only `distill` is needed.

    Examples:
        >>> from crdkit.layers import FeatureSpec
        >>> spec = FeatureSpec(channels=(4, 8), sizes=(8, 4), signed=True)
        >>> model = CRD(specs={"rgb": spec}, graph=CrossmodalGraph(modalities=("rgb",)))
        >>> out = model.distill({"rgb": [torch.rand(2, 4, 8, 8), torch.rand(2, 8, 4, 4)]})
        >>> [tuple(level.shape) for level in out.output["rgb"]]
        [(2, 4, 8, 8), (2, 8, 4, 4)]
    """

    def __init__(
        self,
        *,
        specs: Mapping[str, FeatureSpec],
        graph: CrossmodalGraph,
        merge: Merge = "concat",
        student: StudentConfig | None = None,
        teachers: Mapping[str, Encoder] | None = None,
    ) -> None:
        super().__init__()
        if tuple(specs) != graph.modalities:
            raise ConfigError(f"specs are of {list(specs)}, but the graph joins {list(graph.modalities)}")
        self.specs = dict(specs)
        self.graph = graph
        self.teacher_of, distinct = _share(teachers or {})
        self.teachers = nn.ModuleDict(distinct)
        self.branches = nn.ModuleDict(
            {
                target: Branch(
                    target,
                    specs=specs,
                    edges=graph.incoming(target),
                    merge=merge,
                    student=student or StudentConfig(),
                )
                for target in graph.modalities
            }
        )

    @classmethod
    def from_config(
        cls, config: RunConfig, *, load_weights: bool = True, specs: Mapping[str, FeatureSpec] | None = None
    ) -> CRD:
        """Build teachers, graph and students as ``config`` says; equal encoder options share one teacher.

        Args:
            config: the run; ``training.seed`` decides the students' initial weights.
            load_weights: False where a state dict is loaded right after: teachers' weights are not read.
            specs: shapes of the teachers' features by modality; measured on a probe image if None.
        """
        teachers = build_teachers(config, load_weights=load_weights)
        if specs is None:
            specs = {name: teacher.spec(config.data.image_size) for name, teacher in teachers.items()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.training.seed)
            return cls(
                specs=specs,
                graph=config.build_graph(),
                merge=config.graph.merge,
                student=config.student,
                teachers=teachers,
            )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in order."""
        return self.graph.modalities

    @property
    def device(self) -> torch.device:
        """The device that the students are on."""
        return next(iter(self.student_parameters())).device

    def teachers_by_modality(self) -> dict[str, nn.Module]:
        """Return the frozen teacher of every modality; one module may serve several.

        Raises:
            CrdkitError: the model has no teachers.
        """
        if not self.teachers:
            raise CrdkitError(
                "this model has no teachers, so it cannot read images: pass teacher features to "
                "CRD.distill(), or build it with CRD(..., teachers=...)"
            )
        return {name: self.teachers[self.teacher_of[name]] for name in self.modalities}

    def teacher_features(
        self, images: Mapping[str, torch.Tensor], *, each_branch: BranchMap = map
    ) -> dict[str, Levels]:
        """Return the frozen teachers' levels of (B, 1 or 3, H, W) images in [0, 1], by modality.

        Args:
            images: of every modality.
            each_branch: how modalities are run, see `crdkit.threads`.

        Raises:
            CrdkitError: a modality is missing, or the model has no teachers.
        """
        teachers = self.teachers_by_modality()
        self._require(images, "images")
        return by_branch(each_branch, lambda name: teachers[name](images[name]), self.modalities)

    def distill(
        self,
        features: Mapping[str, Sequence[torch.Tensor]],
        present: Presence | None = None,
        *,
        each_branch: BranchMap = map,
    ) -> CRDOutput:
        """Run every branch on teacher features ``{modality: [(B, C_l, H_l, W_l)]}``.

        Args:
            features: of every modality, any values where a sample lacks it.
            present: which samples have each modality; None: all. Trained with ``training.modality_dropout``,
                branches do without what is missing.
            each_branch: how branches are run, see `crdkit.threads`.

        Raises:
            CrdkitError: a modality is missing, or its levels have other shapes than the model was built for.
        """
        self._require(features, "features")
        for name, spec in self.specs.items():
            found = [tuple(level.shape[1:]) for level in features[name]]
            expected = [(c, s, s) for c, s in zip(spec.channels, spec.sizes, strict=True)]
            if found != expected:
                raise CrdkitError(f"features of {name!r} have shapes {found}, expected {expected} (C, H, W)")
        if present is not None:
            self._require(present, "presence flags")
        branches: dict[str, BranchOutput] = by_branch(
            each_branch, lambda name: self.branch(name)(features, present), self.modalities
        )
        return CRDOutput(
            teacher={name: features[name] for name in self.modalities},
            filtered={name: out.filtered for name, out in branches.items()},
            amplified={name: out.amplified for name, out in branches.items()},
            decoder={name: out.decoder for name, out in branches.items()},
            output={name: out.output for name, out in branches.items()},
            present=present,
        )

    def empty_features(self) -> dict[str, Levels]:
        """Return teacher features of one sample that have shapes but no values (device "meta")."""
        return {
            name: [torch.empty(1, c, s, s, device="meta") for c, s in zip(spec.channels, spec.sizes, strict=True)]
            for name, spec in self.specs.items()
        }

    def branch(self, target: str) -> Branch:
        """Return the trained part of one target modality."""
        return cast(Branch, self.branches[target])

    def forward(
        self, images: Mapping[str, torch.Tensor], present: Presence | None = None, *, each_branch: BranchMap = map
    ) -> CRDOutput:
        """Run teachers and branches on (B, 1 or 3, H, W) images in [0, 1], by modality; see `distill`."""
        features = self.teacher_features(images, each_branch=each_branch)
        return self.distill(features, present, each_branch=each_branch)

    def student_parameters(self) -> Iterable[nn.Parameter]:
        """Iterate over what training changes: everything but the teachers."""
        return self.branches.parameters()

    def count_parameters(self) -> dict[str, int]:
        """Return the number of parameters of the students (with their edges' parts) and of the teachers."""
        return {
            "student": sum(parameter.numel() for parameter in self.branches.parameters()),
            "teacher": sum(parameter.numel() for parameter in self.teachers.parameters()),
        }

    def _require(self, given: Mapping[str, object], what: str) -> None:
        missing = [name for name in self.modalities if name not in given]
        if missing:
            raise CrdkitError(
                f"{what} of modality {', '.join(map(repr, missing))} are missing: the model needs "
                f"{list(self.modalities)}, got {sorted(given)}"
            )


def build_teachers(config: RunConfig, *, load_weights: bool = True) -> dict[str, Encoder]:
    """Build the teacher of every modality; equal encoder options share one module."""
    teachers: dict[str, Encoder] = {}
    for name, branch in config.modalities.items():
        options = branch.encoder.at(config.data.image_size)
        twin = next((teacher for teacher in teachers.values() if teacher.config == options), None)
        teachers[name] = twin or encoders.get(options.name)(options, load_weights=load_weights)
    return teachers


def _share(teachers: Mapping[str, Encoder]) -> tuple[dict[str, str], dict[str, Encoder]]:
    """Keep one module per distinct teacher, named after the first modality that uses it."""
    owner: dict[str, str] = {}
    distinct: dict[str, Encoder] = {}
    for name, teacher in teachers.items():
        first = next((key for key, module in distinct.items() if module is teacher), name)
        owner[name] = first
        distinct.setdefault(first, teacher)
    return owner, distinct
