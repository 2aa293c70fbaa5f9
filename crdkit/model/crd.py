"""CRD: frozen teachers, a graph of crossmodal assistants, and one student branch per modality."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from crdkit._core.branches import BranchMap, by_branch
from crdkit.errors import ConfigError, CrdkitError
from crdkit.model.encoders import Encoder
from crdkit.model.graph import CrossmodalGraph, Edge, Merge, build_projections
from crdkit.model.layers import FeatureSpec, Levels, Presence, initialise
from crdkit.model.student import Student, StudentConfig


@dataclass(frozen=True, kw_only=True)
class BranchOutput:
    """Features of one target modality; every list holds (B, C, H, W) levels, fine to coarse."""

    filtered: dict[str, Levels]
    amplified: dict[str, Levels]
    decoder: Levels
    output: Levels


@dataclass(frozen=True, kw_only=True)
class CRDOutput:
    """Features of all modalities; every list holds levels (B, C, H, W), fine to coarse."""

    teacher: dict[str, Sequence[torch.Tensor]]
    branches: dict[str, BranchOutput]
    """By target modality."""
    present: Presence | None = None
    """Which samples have each modality; None: all have all. The features of a missing one are meaningless."""

    @property
    def filtered(self) -> dict[str, dict[str, Levels]]:
        """The filters' output, by target and source."""
        return {name: branch.filtered for name, branch in self.branches.items()}

    @property
    def amplified(self) -> dict[str, dict[str, Levels]]:
        """The amplifiers' output, by target and source."""
        return {name: branch.amplified for name, branch in self.branches.items()}

    @property
    def decoder(self) -> dict[str, Levels]:
        """The decoders' levels before the merge with the amplifiers', by target."""
        return {name: branch.decoder for name, branch in self.branches.items()}

    @property
    def output(self) -> dict[str, Levels]:
        """The decoders' levels after the merge, by target."""
        return {name: branch.output for name, branch in self.branches.items()}


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
        self.filters = nn.ModuleDict(build_projections(edges, "filter", specs))
        self.amplifiers = nn.ModuleDict(build_projections(edges, "amplifier", specs))
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

        Where a sample lacks a source (``present``), its filter's features are zeros and its amplifier has weight 0.
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
        >>> from crdkit.model.layers import FeatureSpec
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
            raise ConfigError(f"specs are for {list(specs)}, but the graph joins {list(graph.modalities)}")
        self.specs = dict(specs)
        self.graph = graph
        self.teacher_of, distinct = _distinct_teachers(teachers or {})
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
            each_branch: runs a function for each modality, as `map` does.

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
                branches cope with what is missing.
            each_branch: runs a function for each branch, as `map` does.

        Raises:
            CrdkitError: a modality is missing, or its levels do not have the shapes that the model was built for.
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
        teacher = {name: features[name] for name in self.modalities}
        return CRDOutput(teacher=teacher, branches=branches, present=present)

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
        """Iterate over the parameters that training changes: all but the teachers'."""
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


def _distinct_teachers(teachers: Mapping[str, Encoder]) -> tuple[dict[str, str], dict[str, Encoder]]:
    """Keep one module per distinct teacher, named after the first modality that uses it."""
    owner: dict[str, str] = {}
    distinct: dict[str, Encoder] = {}
    for name, teacher in teachers.items():
        first = next((key for key, module in distinct.items() if module is teacher), name)
        owner[name] = first
        distinct.setdefault(first, teacher)
    return owner, distinct
