"""The steps of an export: trace, convert, compare with PyTorch, write what belongs to the file."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from crdkit._core.files import sha256_of
from crdkit.detector._engine import Engine
from crdkit.detector._export_blame import blame
from crdkit.detector._export_description import KEY, describe_export
from crdkit.detector._export_graph import DetectorGraph, as_tensors, dynamic_shapes, view_input
from crdkit.detector._export_onnx import open_session, run_session, write_onnx
from crdkit.detector._export_plan import make_plan
from crdkit.detector._export_sample import make_samples, write_arrays
from crdkit.detector._saved import Saved
from crdkit.errors import ConfigError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from crdkit.detector.detector import Detector

Arrays = Mapping[str, np.ndarray]
STEPS = 3
TOLERANCE = 1e-4
"""How far outputs may be from PyTorch's, relative to the largest value."""
_SAMPLE = (1, 8, 4)  # samples, and quarters of the image size
_TRACED = (2, 5, 6)  # exporters take one sample, and equal sizes, for fixed
_COMPARED = (_SAMPLE, _TRACED, (3, 4, 4))


def write_export(detector: Detector, file: Path, chosen: Literal["onnx", "torch"]) -> Iterator[None]:
    """Write ``file`` and what belongs to it; yields after each of `STEPS` steps.

    Raises:
        ConfigError: a part of the detector cannot be exported; the message names it.
    """
    job = _Export(detector, chosen)
    try:
        job.trace()
        yield
        job.convert(file)
        yield
        job.compare(file)
    except OSError:
        raise
    except Exception as error:  # whatever an exporter raises for a user's own part
        raise ConfigError(blame(job.engine, error, onnx=chosen == "onnx")) from error
    job.write_beside(file)
    yield


class _Export:
    """One export: the graph, a sample, and what is written."""

    program: ExportedProgram

    def __init__(self, detector: Detector, chosen: Literal["onnx", "torch"]) -> None:
        self.chosen = chosen
        self.engine = _engine_on_cpu(detector)
        thresholds, statistics = detector.keep_thresholds(), detector.sensor_statistics
        self.saved = Saved(detector.config, detector.model, self.engine.scorer, statistics, thresholds)
        self.views = detector.views
        declared = {name: view.channels for name, view in self.views.items()}
        self.plan = make_plan(
            detector.config, self.views, channels=declared, sensor_statistics=statistics, thresholds=thresholds
        )
        # in an ONNX file they stay as values inside, which `Detector.load` feeds
        self.made = tuple(self.plan.networks) if chosen == "onnx" else ()
        self.graph = DetectorGraph(self.engine, self.plan, with_views=chosen == "onnx")
        self.sample = self._samples(*_SAMPLE)
        self.outputs = self._expected(self.sample)
        made = {name: self.outputs.pop(view_input(name)).shape[1] for name in self.made}
        self.description = describe_export(self.saved, self.views, self.plan, channels=declared | made)

    def _samples(self, count: int, height: int, width: int) -> dict[str, np.ndarray]:
        """Return inputs of made-up samples; sides in quarters of the image size."""
        sides = {"height": self.plan.image_size * height // 4, "width": self.plan.image_size * width // 4}
        return make_samples(self.plan, self.saved.sensor_statistics, count=count, seed=count, **sides)

    @torch.inference_mode()
    def _expected(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return PyTorch's outputs, and the views that the graph makes."""
        found = self.graph(as_tensors(self.plan, arrays))
        names = [*self.plan.output_names, *map(view_input, self.made)]
        return {name: values.numpy() for name, values in zip(names, found, strict=True)}

    def trace(self) -> None:
        """Let PyTorch follow two samples through the graph."""
        example = as_tensors(self.plan, self._samples(*_TRACED))
        shapes = (dynamic_shapes(self.plan),)
        with torch.no_grad(), _quiet():
            self.program = torch.export.export(self.graph, (example,), dynamic_shapes=shapes, strict=False)

    def convert(self, file: Path) -> None:
        """Write the file."""
        with _quiet():
            if self.chosen == "onnx":
                write_onnx(self.program, self.plan, file, description=self.description)
            else:
                torch.export.save(self.program, file, extra_files={f"{KEY}.json": json.dumps(self.description)})

    def compare(self, file: Path) -> None:
        """Refuse a file whose outputs are not those of PyTorch.

        Raises:
            ConfigError: an output differs.
        """
        run = self._runner(file)
        for tried in _COMPARED:
            arrays = self._samples(*tried)
            expected, found = self._expected(arrays), run(arrays)
            for name in self.plan.output_names:
                difference = relative_difference(found[name], expected[name])
                if found[name].shape != expected[name].shape or not difference <= TOLERANCE:
                    raise ConfigError(
                        f"its output {name!r} differs from PyTorch's for {tried[0]} sample(s), by {difference:.2g} of "
                        "the largest value"
                    )

    def _runner(self, file: Path) -> Any:
        names = self.plan.output_names
        if self.chosen == "onnx":
            session = open_session(file)
            return lambda arrays: run_session(session, arrays, names)
        program = torch.export.load(file).module()

        def run(arrays: Arrays) -> dict[str, np.ndarray]:
            with torch.inference_mode():
                found = program(as_tensors(self.plan, arrays))
            return {name: values.numpy() for name, values in zip(names, found, strict=True)}

        return run

    def write_beside(self, file: Path) -> None:
        """Write the description, and the sample with its outputs."""
        sample = dict(self.sample)
        if self.chosen == "torch":  # which has no default values
            tensors = as_tensors(self.plan, sample)
            sample = {name: values.numpy() for name, values in zip(self.plan.input_names, tensors, strict=True)}
        folder = file.with_suffix(".selftest")
        folder.mkdir()
        write_arrays(folder, sample)
        write_arrays(folder, self.outputs)
        apart = file.with_name(f"{file.name}.data")
        files = [file, apart] if apart.exists() else [file]
        description = self.description | {
            "file": file.name,
            "file_format": self.chosen,
            "sha256": self.description["sha256"] | {path.name: sha256_of(path) for path in files},
            "selftest": {
                "folder": folder.name,
                "inputs": list(sample),
                "outputs": list(self.outputs),
                "tolerance": TOLERANCE,
            },
        }
        text = json.dumps(description, indent=2, allow_nan=False) + "\n"
        file.with_suffix(".json").write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Lose what exporters warn of about themselves, and the pages that they print: errors say it in one line."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _engine_on_cpu(detector: Detector) -> Engine:
    """Return the engine of a detector, as PyTorch has it, with BatchNorm folded."""
    if detector.device.type == "cpu":
        return detector._predictor.ready()
    model, scorer = deepcopy(detector.model).cpu(), deepcopy(detector.scorer).cpu()
    return Engine(model, scorer, views=detector.views, fold=True)


def relative_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference over the largest expected value; of decisions, 0: they follow from the others.

    Examples:
        >>> relative_difference(np.array([1.0, 4.1]), np.array([1.0, 4.0]))
        0.025
    """
    if expected.dtype == bool or found.shape != expected.shape:
        return 0.0
    difference = np.abs(found.astype(np.float64) - expected).max()
    return round(float(difference / max(np.abs(expected).max(), 1e-12)), 9)
