"""The only forward path from views to maps: for metrics as the model was trained, else folded or compiled."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch

from crdkit._core.branches import BranchMap, by_branch, share_of_threads, side_by_side
from crdkit._core.capture import Capture, CaptureError, Replays
from crdkit._core.device import convolutions_channels_last
from crdkit._core.memory import in_host_memory
from crdkit._core.progress import track
from crdkit.detector._fitting import require_fitting
from crdkit.detector._kept import KeptNetworks
from crdkit.detector._onnx import CompiledBranch, CompiledTeacher, require_packages
from crdkit.model.crd import CRD, Branch
from crdkit.model.folding import fold_teachers, fold_where_equal, random_images
from crdkit.model.layers import Levels, Presence
from crdkit.scoring.scorer import Maps, Scorer
from crdkit.views import View
from crdkit.views.foreground import is_foreground, join_foregrounds, outlined_by

Teacher = Callable[[torch.Tensor], Levels]
"""Returns the levels of images."""
Imitation = Callable[[Mapping[str, Sequence[torch.Tensor]], Presence | None], Levels]
"""Returns a branch's output levels from all teachers' features."""
Views = Callable[[str], torch.Tensor]
"""Returns the (B, C, S, S) view of a modality; called once for each, on a CPU from threads."""
MAX_GRAPHS = 4  # batch sizes; each keeps the memory of its activations


_logger = logging.getLogger(__name__)


class RawMaps(NamedTuple):
    """What the scorer reads."""

    branches: dict[str, torch.Tensor]
    """By modality, (B, S, S) float32, not smoothed."""
    foreground: torch.Tensor | None
    """(B, S, S) bool: where the object is; None if no view shows it, or the image score does not ask."""

    def of(self, rows: slice) -> RawMaps:
        """Return those of some samples."""
        foreground = None if self.foreground is None else self.foreground[rows]
        return RawMaps({name: maps[rows] for name, maps in self.branches.items()}, foreground)


class Engine:
    """Teachers, branches and scorer of a detector, for inference only.

    On a CPU a modality's view and teacher, and then its branch, run alongside those of the others, each on its share
    of the threads. On a GPU the convolutions of the model, and the views, become channels_last, as in training.

    Args:
        model: the trained CRD; later changes of its weights have no effect.
        scorer: the calibrated aggregation, the smoothing and the image score.
        views: by modality; those that are 0 where the object is not tell where it is.
        fold: on a CPU, fold BatchNorm into copies of the convolutions, which takes their memory once more; a part that
            then gives other results (checked here, on a random image) is left unfolded.
        capture: replay every frequent batch size, such as a single sample, as a CUDA graph; None: never.
    """

    def __init__(
        self,
        model: CRD,
        scorer: Scorer,
        *,
        views: Mapping[str, View] | None = None,
        fold: bool = False,
        capture: Capture | None = None,
    ) -> None:
        self.scorer, self._specs = scorer, model.specs
        self.device = scorer.device
        self.outlines = outlined_by(views or {}) if scorer.score.uses_foreground else frozenset[str]()
        self.teachers = model.teachers_by_modality()
        self.branches: dict[str, Branch] = {name: model.branch(name) for name in model.modalities}
        if self.device.type != "cpu":
            convolutions_channels_last(model)
        elif fold:
            self._fold()
        self._teacher_of = model.teacher_of
        self._run_teacher: dict[str, Teacher] = dict(self.teachers)
        self._run_branch: dict[str, Imitation] = {
            name: partial(_output, branch) for name, branch in self.branches.items()
        }
        self._replays: Replays[Maps] | None = None if capture is None else Replays(capture)
        self._buffers: dict[Hashable, dict[str, torch.Tensor]] = {}

    @property
    def captures(self) -> bool:
        """Whether calls share static buffers: then only one may run at a time, until its results are read."""
        return self._replays is not None

    @torch.no_grad()
    def _fold(self) -> None:
        image = random_images(self.scorer.size)
        self.teachers = fold_teachers(self.teachers, image)
        features = {name: teacher(image) for name, teacher in self.teachers.items()}
        require_fitting(features, self._specs, image_size=self.scorer.size)
        self.branches = {
            name: fold_where_equal(branch, lambda part: part(features).output) for name, branch in self.branches.items()
        }

    @torch.no_grad()
    def compile(self, kept: KeptNetworks | None = None) -> None:
        """Let ONNX Runtime run teachers and branches on a CPU from now on, each on its share of the threads.

        Args:
            kept: networks that earlier processes have exported, and where later ones find these.

        Raises:
            ConfigError: PyTorch is too old, a package is missing, or a network cannot be exported; nothing is changed.
            CrdkitError: the temporary folder cannot be written.
        """
        require_packages()
        share = share_of_threads(len(self.branches), self.device)
        users = Counter(self._teacher_of.values())  # of each distinct teacher, by its first user
        images = random_images(self.scorer.size, count=2)
        features = {name: teacher(images) for name, teacher in self.teachers.items()}
        work = [("teacher", name) for name in users] + [("branch", name) for name in self.branches]
        teachers: dict[str, Teacher] = {}
        branches: dict[str, Imitation] = {}
        for part, name in track(work, description="compiling", total=len(work)):
            what = f"the {part} of {name!r}"
            if part == "teacher":
                threads = users[name] * (share - 1) + 1  # each concurrent caller brings its own thread
                teachers[name] = CompiledTeacher(self.teachers[name], images, threads=threads, name=what, kept=kept)
            else:
                branches[name] = CompiledBranch(self.branches[name], features, threads=share, name=what, kept=kept)
        self._run_teacher = {name: teachers[first] for name, first in self._teacher_of.items()}
        self._run_branch = branches

    def __call__(self, inputs: Views, present: Presence | None = None) -> Maps:
        """Return maps and scores; the next call may overwrite them.

        Args:
            inputs: returns the views.
            present: which samples have each modality; None: all.
        """
        if self._replays is not None and present is None:
            return self._score_from_buffers({name: inputs(name) for name in self.branches}, self._replays)
        return self._score(inputs, present)

    @torch.inference_mode()
    def raw_maps(self, inputs: Views, present: Presence | None = None) -> RawMaps:
        """Return what the scorer is calibrated on: every branch's unsmoothed map, and where the object is."""
        with side_by_side(len(self.branches), self.device) as each:
            return self._compare(inputs, present, each)

    def _score_from_buffers(self, views: dict[str, torch.Tensor], replays: Replays[Maps]) -> Maps:
        """Copy the views into the buffers of their batch size, and run there: directly at first, then as a replay."""
        kind = self.device.type
        dtype, reduced = torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
        size = len(next(iter(views.values()))), dtype, reduced  # a graph keeps the precision it was captured in
        if size not in self._buffers:
            if len(self._buffers) == MAX_GRAPHS:
                return self._score(views.__getitem__, None)
            self._buffers[size] = {name: self._to_device(torch.empty_like(view)) for name, view in views.items()}
        buffers = self._buffers[size]
        for name, view in views.items():
            buffers[name].copy_(view if view.is_cuda else in_host_memory(view, self.device), non_blocking=True)

        def run() -> Maps:
            with torch.autocast(kind, dtype, reduced, cache_enabled=False):  # no copy of a weight outlives the capture
                return self._score(buffers.__getitem__, None)

        try:
            return replays(size, run)
        except CaptureError as error:  # a user's own network that reads values back: run it directly
            _logger.info("predictions run without a CUDA graph: %s", error)
            self._replays, self._buffers = None, {}
            return self._score(buffers.__getitem__, None)

    def _to_device(self, view: torch.Tensor) -> torch.Tensor:
        order = torch.preserve_format if self.device.type == "cpu" else torch.channels_last
        return view.to(self.device, memory_format=order)

    @torch.inference_mode()
    def _score(self, inputs: Views, present: Presence | None) -> Maps:
        with side_by_side(len(self.branches), self.device) as each:
            raw, foreground = self._compare(inputs, present, each)
            maps: Maps = self.scorer(raw, present, foreground=foreground, each_branch=each)
        return maps

    def _compare(self, inputs: Views, present: Presence | None, each: BranchMap) -> RawMaps:
        """Return every branch's map, its teacher's levels against its own, and where the object is."""
        inside: dict[str, torch.Tensor] = {}

        def run_teacher(name: str) -> Levels:
            view = self._to_device(inputs(name))
            if name in self.outlines:
                inside[name] = is_foreground(view)
            return self._run_teacher[name](view)

        def run_branch(name: str) -> Levels:
            return self._run_branch[name](features, present)

        features = by_branch(each, run_teacher, self.branches)
        require_fitting(features, self._specs, image_size=self.scorer.size)
        foreground = join_foregrounds([*inside.values()])
        output = by_branch(each, run_branch, self.branches)
        return RawMaps(self.scorer.raw_maps(features, output, each_branch=each), foreground)


def _output(branch: Branch, features: Mapping[str, Sequence[torch.Tensor]], present: Presence | None) -> Levels:
    output: Levels = branch(features, present).output
    return output
