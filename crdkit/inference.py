"""A trained CRD as predictions run it: modalities side by side on a CPU, normalisations folded into convolutions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from crdkit.cuda_graph import WARM_UP, Capture, Run
from crdkit.errors import ConfigError
from crdkit.evaluation import Maps, Scorer
from crdkit.folding import fold_teachers, fold_where_equal, random_images
from crdkit.layers import Levels
from crdkit.model import CRD, Branch, CRDOutput
from crdkit.onnx_runtime import CompiledBranch, CompiledTeacher, require_packages
from crdkit.presence import Presence
from crdkit.progress import track
from crdkit.threads import by_branch, share_of_threads, side_by_side

Teacher = Callable[[torch.Tensor], Levels]
"""Returns the levels of images."""
Imitation = Callable[[Mapping[str, Sequence[torch.Tensor]], Presence | None], Levels]
"""Returns a branch's output levels from all teachers' features."""

_MOST_GRAPHS = 4  # batch sizes; each keeps the memory of its activations


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Result of one sample, as numpy arrays of the input's height and width."""

    anomaly_map: np.ndarray
    """(H, W) float32: fused and smoothed."""
    score: float
    """The image's anomaly score: the maximum of the fused map at the detector's own resolution."""
    maps: dict[str, np.ndarray]
    """By modality, (H, W) float32: smoothed, not normalised."""
    scores: dict[str, float] = field(default_factory=dict)
    """By modality: the maximum of its map at the detector's own resolution."""
    missing: tuple[str, ...] = ()
    """Modalities without a sensor; they have no map, and the fused one is of the others."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields under anomalib's names where one exists."""
        return {
            "anomaly_map": self.anomaly_map,
            "pred_score": self.score,
            "maps": self.maps,
            "pred_scores": self.scores,
            "missing": self.missing,
        }


class Inference:
    """Teachers, branches and scorer of a detector, for inputs only.

    On a CPU a modality's view and teacher, and then its branch, run beside those of the others, each on its share of
    the threads. BatchNorm is folded into copies of the convolutions there, which takes their memory once more; a part
    that then computes anything else (tried here, on a random image) is left as it is.

    Args:
        model: the trained CRD; what it learns later is not seen.
        scorer: the calibrated aggregation and the smoothing.
        capture: replay every batch size that comes often, such as a single sample, as a CUDA graph; None: never.
    """

    def __init__(self, model: CRD, scorer: Scorer, *, capture: Capture | None = None) -> None:
        self.scorer = scorer
        self._capture = capture
        self._buffers: dict[int, dict[str, torch.Tensor]] = {}
        self._replays: dict[int, Run[Maps]] = {}
        self._seen: Counter[int] = Counter()
        self.device = scorer.device
        self.teachers = model.teachers_by_modality()
        self.branches: dict[str, Branch] = {name: model.branch(name) for name in model.modalities}
        if self.device.type == "cpu":
            self._fold()
        self._run_teacher: dict[str, Teacher] = dict(self.teachers)
        self._run_branch: dict[str, Imitation] = {
            name: partial(_output, branch) for name, branch in self.branches.items()
        }
        self._teacher_of = model.teacher_of

    @torch.no_grad()
    def _fold(self) -> None:
        image = random_images(self.scorer.size)
        self.teachers = fold_teachers(self.teachers, image)
        features = {name: teacher(image) for name, teacher in self.teachers.items()}
        self.branches = {
            name: fold_where_equal(branch, lambda part: part(features).output) for name, branch in self.branches.items()
        }

    @torch.no_grad()
    def compile(self) -> None:
        """Let ONNX Runtime run teachers and branches on a CPU from now on, each on its share of the threads.

        Raises:
            ConfigError: PyTorch is too old, a package is missing, or a network cannot be exported; nothing is changed.
            CrdkitError: the temporary folder cannot be written.
        """
        require_packages()
        share = share_of_threads(len(self.branches), self.device)
        users = Counter(self._teacher_of.values())  # of each distinct teacher, by the first of them
        images = random_images(self.scorer.size, count=2)
        features = {name: teacher(images) for name, teacher in self.teachers.items()}
        work = [("teacher", name) for name in users] + [("branch", name) for name in self.branches]
        teachers: dict[str, Teacher] = {}
        branches: dict[str, Imitation] = {}
        for part, name in track(work, description="compiling", total=len(work)):
            what = f"the {part} of {name!r}"
            if part == "teacher":
                threads = users[name] * (share - 1) + 1  # those who call it at the same time bring one each
                teachers[name] = CompiledTeacher(self.teachers[name], images, threads=threads, name=what)
            else:
                branches[name] = CompiledBranch(self.branches[name], features, threads=share, name=what)
        self._run_teacher = {name: teachers[first] for name, first in self._teacher_of.items()}
        self._run_branch = branches

    def __call__(self, inputs: Callable[[str], torch.Tensor], present: Presence | None = None) -> Maps:
        """Return maps and scores of the views that ``inputs`` gives; the next call may overwrite them.

        Args:
            inputs: returns the (B, C, S, S) view of a modality; called once for each, on a CPU from threads.
            present: which samples have each modality; None: all.
        """
        if self._capture is not None and present is None:
            return self._from_buffers({name: inputs(name) for name in self.branches}, self._capture)
        return self._run(inputs, present)

    def _from_buffers(self, views: dict[str, torch.Tensor], capture: Capture) -> Maps:
        """Copy the views into the buffers of their batch size, and run there: as it is at first, then as a replay."""
        count = len(next(iter(views.values())))
        if count not in self._buffers:
            if len(self._buffers) == _MOST_GRAPHS:
                return self._run(views.__getitem__, None)
            self._buffers[count] = {name: torch.empty_like(view, device=self.device) for name, view in views.items()}
        buffers = self._buffers[count]
        for name, view in views.items():
            buffers[name].copy_(view, non_blocking=True)
        if count not in self._replays:
            self._seen[count] += 1
            if self._seen[count] <= WARM_UP:
                return self._run(buffers.__getitem__, None)
            try:
                self._replays[count] = capture(lambda: self._run(buffers.__getitem__, None))
            except ConfigError:  # a network of the user's own that reads values back: it is run as it is
                self._capture = None
                return self._run(buffers.__getitem__, None)
        return self._replays[count]()

    @torch.inference_mode()
    def _run(self, inputs: Callable[[str], torch.Tensor], present: Presence | None) -> Maps:
        def see(name: str) -> Levels:
            return self._run_teacher[name](inputs(name).to(self.device))

        def imitate(name: str) -> Levels:
            return self._run_branch[name](features, present)

        with side_by_side(len(self.branches), self.device) as each:
            features = by_branch(each, see, self.branches)
            output = by_branch(each, imitate, self.branches)
            out = CRDOutput(
                teacher=dict(features), filtered={}, amplified={}, decoder={}, output=output, present=present
            )
            maps: Maps = self.scorer(out, each_branch=each)
        return maps


def _output(branch: Branch, features: Mapping[str, Sequence[torch.Tensor]], present: Presence | None) -> Levels:
    output: Levels = branch(features, present).output
    return output
