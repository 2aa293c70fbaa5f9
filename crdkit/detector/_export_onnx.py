"""A traced detector as an ONNX file: standard operators, named sides, thresholds that have defaults."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from crdkit.detector._export_description import KEY
from crdkit.detector._export_graph import Plan, every_input, threshold_defaults, view_input
from crdkit.errors import ConfigError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

MOST_BYTES = 2**31 - 2**24
"""Above this the weights get a file of their own: a protocol buffer holds two gibibytes at most."""


def write_onnx(program: ExportedProgram, plan: Plan, file: Path, *, description: Mapping[str, Any]) -> None:
    """Convert a traced detector, and write it with its description; weights are inside if they fit.

    Raises:
        ConfigError: it needs an operator that is not one of ONNX itself.
        Exception: what the converter raises for an operator that it does not know.
    """
    views = [view_input(name) for name in plan.networks]
    names = [*plan.output_names, *views]
    inputs = list(plan.input_names)
    made = torch.onnx.export(program, dynamo=True, optimize=True, verbose=False, input_names=inputs, output_names=names)
    converted = cast(torch.onnx.ONNXProgram, made)
    model: Any = converted.model
    _name_sides(model, plan)
    _require_standard(model)
    del model.graph.outputs[len(plan.output_names) :]  # views stay as values inside, by their names
    _set_defaults(model, threshold_defaults(plan))
    model.producer_name, model.producer_version = "crdkit", str(description["crdkit"])
    model.metadata_props[KEY] = json.dumps(description, allow_nan=False)
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    converted.save(file, external_data=size > MOST_BYTES)


def _name_sides(model: Any, plan: Plan) -> None:
    """Call free sides N, H and W, as the description does."""
    import onnx_ir as ir

    for value, entry in zip(model.graph.inputs, every_input(plan), strict=True):
        value.shape = ir.Shape(entry.shape)
    for value in model.graph.outputs:
        value.shape = ir.Shape(["N", *list(value.shape)[1:]])


def _require_standard(model: Any) -> None:
    others = sorted(
        {f"{node.domain}.{node.op_type}" for node in model.graph.all_nodes() if node.domain not in ("", "ai.onnx")}
    )
    if others or model.functions:
        raise ConfigError(f"it needs operators that are not part of ONNX: {', '.join(others) or 'functions'}")


def _set_defaults(model: Any, defaults: Mapping[str, float]) -> None:
    """Give inputs values that are used where a program leaves them out."""
    import onnx_ir as ir

    for value in model.graph.inputs:
        if value.name in defaults:
            value.const_value = ir.tensor(np.array(defaults[value.name], np.float32), name=value.name)
            model.graph.register_initializer(value)


def open_session(file: Path | bytes, *, threads: int = 0, folder: Path | None = None) -> Any:
    """Open an ONNX file, or its bytes, with ONNX Runtime on the CPU.

    Args:
        file: the file or its content.
        threads: of a call; 0: one per core.
        folder: where a file of weights beside it lies, if only the content is given.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # fatal: errors are raised as well
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    model = file if isinstance(file, bytes) else str(file)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_session(session: Any, arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the named outputs of a session for inputs by name."""
    return dict(zip(names, session.run(list(names), dict(arrays)), strict=True))
