"""The model of a saved detector, with memory for the weights that its file holds and no more."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch

from crdkit.config.build import build_model, build_teachers
from crdkit.config.run_config import RunConfig
from crdkit.model.crd import CRD
from crdkit.model.layers import FeatureSpec

_SLACK = 2**22  # values, 16 MiB: where so few are missing, loading itself may name them


def rebuild(config: RunConfig, *, specs: Mapping[str, FeatureSpec], state: Mapping[str, torch.Tensor]) -> CRD:
    """Build the model that ``config`` describes and load ``state`` into it.

    Teachers and students are first built without memory, so that a damaged or hostile configuration cannot ask for more
    than the file holds, and nothing is spent on random weights that are replaced at once.

    Raises:
        CrdkitError: no such model can be built.
        RuntimeError: a tensor of the model is missing in ``state``, is not part of the model, or has another shape.
    """
    _require_teachers_fit(config, state)
    model = build_model(config, load_weights=False, specs=specs, allocate=False)
    require_kinds(model.state_dict(), state)
    fits = _shapes(model.state_dict()) == _shapes(state)
    if not fits:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nothing is copied: only its errors, or a module's own renaming, count
            model.load_state_dict(state)
    if fits and _is_all_stored(model):
        for module in model.modules():
            if any(tensor.is_meta for tensor in [*module.parameters(recurse=False), *module.buffers(recurse=False)]):
                module.to_empty(device="cpu", recurse=False)
    else:  # its weights fit by now, so the memory is that of the file
        model = build_model(config, load_weights=False, specs=specs)
    model.load_state_dict(state)
    return model


def _require_teachers_fit(config: RunConfig, state: Mapping[str, torch.Tensor]) -> None:
    """Refuse teachers that are larger than all of ``state``, before they get memory.

    Raises:
        CrdkitError: no such teacher can be built.
        RuntimeError: the teachers are larger.
    """
    try:
        with torch.device("meta"):
            teachers = build_teachers(config, load_weights=False)
    except (NotImplementedError, RuntimeError):  # a network that computes while it is built: it needs memory for that
        return
    parts = {id(teacher): teacher for teacher in teachers.values()}.values()
    expected = sum(tensor.numel() for part in parts for tensor in part.state_dict().values())
    found = sum(tensor.numel() for tensor in state.values())
    if expected > found + _SLACK:
        raise RuntimeError(f"the teachers that it names have {expected:,} weights, but the file holds {found:,}")


def require_kinds(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> None:
    """Refuse tensors whose numbers are of another kind, real, complex or integers; PyTorch would convert them.

    Raises:
        RuntimeError: a tensor is of another kind.
    """
    for name, tensor in own.items():
        if name in state and _kind(state[name]) != _kind(tensor):
            raise RuntimeError(f"{name} is {state[name].dtype}, expected {tensor.dtype}")


def _kind(tensor: torch.Tensor) -> str:
    return "real" if tensor.is_floating_point() else "complex" if tensor.is_complex() else "integer"


def _shapes(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


def _is_all_stored(model: CRD) -> bool:
    """Whether every tensor without memory is one that a file of weights holds."""
    stored = {id(tensor) for tensor in model.state_dict(keep_vars=True).values()}
    registered = [*model.parameters(), *model.buffers()]
    loose = [value for module in model.modules() for value in vars(module).values() if isinstance(value, torch.Tensor)]
    return all(id(tensor) in stored for tensor in [*registered, *loose] if tensor.is_meta)
