"""Teachers and branches run by ONNX Runtime on a CPU: fused once, without PyTorch's overhead per convolution."""

from __future__ import annotations

import contextlib
import importlib
import io
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from crdkit.detector._kept import NETWORK, KeptNetworks, key_of
from crdkit.errors import ConfigError, CrdkitError, first_line
from crdkit.model.crd import Branch
from crdkit.model.folding import nearly_equal
from crdkit.model.layers import Levels, Presence

OLDEST_TORCH = "2.7"
_CHECKED_ROWS = ([0], [0, 1], [0, 1, 0])  # exporters take one sample for a constant


class CompiledTeacher:
    """A teacher as an ONNX Runtime session; may be called from several threads.

    Args:
        teacher: maps (B, 3, S, S) images in [0, 1] to levels.
        images: two to check it on, (2, 3, S, S).
        threads: of a call.
        name: what errors call it.
        kept: networks of earlier processes; None: none are read or kept.

    Raises:
        ConfigError: the teacher cannot be exported.
    """

    def __init__(
        self,
        teacher: nn.Module,
        images: torch.Tensor,
        *,
        threads: int,
        name: str,
        kept: KeptNetworks | None = None,
    ) -> None:
        self._network = _Compiled(ListTeacher(teacher), [images], threads=threads, name=name, kept=kept)

    def __call__(self, images: torch.Tensor) -> Levels:
        """Return the levels of (B, 1 or 3, S, S) images."""
        return self._network([images.expand(-1, 3, -1, -1)])


class CompiledBranch:
    """A branch as an ONNX Runtime session; may be called from several threads.

    Args:
        branch: what to compile; it still runs samples that lack a modality itself.
        features: of every modality, for two samples to check it on.
        threads: of a call.
        name: what errors call it.
        kept: networks of earlier processes; None: none are read or kept.

    Raises:
        ConfigError: the branch cannot be exported.
    """

    def __init__(
        self,
        branch: Branch,
        features: Mapping[str, Sequence[torch.Tensor]],
        *,
        threads: int,
        name: str,
        kept: KeptNetworks | None = None,
    ) -> None:
        self._branch = branch
        network = ListBranch(branch, {source: len(features[source]) for source in branch.reads})
        self._network = _Compiled(network, flatten(features, branch.reads), threads=threads, name=name, kept=kept)

    def __call__(self, features: Mapping[str, Sequence[torch.Tensor]], present: Presence | None = None) -> Levels:
        """Return the branch's output levels."""
        if present is not None:
            output: Levels = self._branch(features, present).output
            return output
        return self._network(flatten(features, self._branch.reads))


class _Compiled:
    """A network from a list of tensors to a list of tensors, for any number of samples, as a session."""

    def __init__(
        self,
        network: nn.Module,
        example: Sequence[torch.Tensor],
        *,
        threads: int,
        name: str,
        kept: KeptNetworks | None,
    ) -> None:
        network.eval()
        key = "" if kept is None else key_of(network, example)
        if kept is not None and kept.read(key, lambda file: self._open(file, network, example, threads) or None):
            return
        try:
            same = self._export(network, example, threads, lambda files: kept.write(key, files) if kept else None)
        except CrdkitError:
            raise
        except Exception as error:  # whatever the exporter raises for a user's own network
            raise ConfigError(f"{name} cannot be compiled: {reason(error)}; predict without compiling") from error
        if not same:
            raise ConfigError(
                f"{name} cannot be compiled: ONNX Runtime computes other values than PyTorch; predict without compiling"
            )

    def _export(
        self, network: nn.Module, example: Sequence[torch.Tensor], threads: int, keep: Callable[[list[Path]], None]
    ) -> bool:
        """Export and open it, through files: one network may exceed a protobuf's two gibibytes."""
        with tempfile.TemporaryDirectory(prefix="crdkit-", ignore_cleanup_errors=True) as folder:
            file = Path(folder) / NETWORK
            try:
                export_network(network, example, file)
            except OSError as error:
                raise CrdkitError(
                    f"{folder}: cannot be written: {error.strerror or error}; free space there, or set TMPDIR to "
                    "another folder"
                ) from error
            same = self._open(file, network, example, threads)
            if same:
                keep(list(Path(folder).iterdir()))
            return same

    def _open(self, file: Path, network: nn.Module, example: Sequence[torch.Tensor], threads: int) -> bool:
        """Open an exported network, and return whether it computes what PyTorch does."""
        self._session = _session(file, threads=threads)
        self._inputs = [value.name for value in self._session.get_inputs()]
        return all(self._equals(network, [tensor[rows] for tensor in example]) for rows in _CHECKED_ROWS)

    def __call__(self, inputs: Sequence[torch.Tensor]) -> Levels:
        given = (tensor.contiguous().numpy() for tensor in inputs)
        return [
            torch.from_numpy(values) for values in self._session.run(None, dict(zip(self._inputs, given, strict=True)))
        ]

    def _equals(self, network: nn.Module, inputs: list[torch.Tensor]) -> bool:
        return nearly_equal(self(inputs), network(inputs))


class ListTeacher(nn.Module):
    """A teacher that takes a list of one batch of images."""

    def __init__(self, teacher: nn.Module) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(self, inputs: list[torch.Tensor]) -> Levels:
        levels: Levels = self.teacher(inputs[0])
        return levels


class ListBranch(nn.Module):
    """A branch that takes the levels of all that it reads as one list."""

    def __init__(self, branch: Branch, levels: Mapping[str, int]) -> None:
        super().__init__()
        self.branch = branch
        self.levels = dict(levels)

    def forward(self, inputs: list[torch.Tensor]) -> Levels:
        remaining = iter(inputs)
        features = {source: [next(remaining) for _ in range(count)] for source, count in self.levels.items()}
        output: Levels = self.branch(features).output
        return output


def flatten(features: Mapping[str, Sequence[torch.Tensor]], sources: Sequence[str]) -> Levels:
    """Return the levels of ``sources`` as one list."""
    return list(chain.from_iterable(features[source] for source in sources))


def require_packages(what: str = "compiling") -> None:
    """Refuse to compile, or whatever else needs them, where it cannot work.

    Raises:
        ConfigError: PyTorch is too old, or a package of the extra ``onnx`` is missing or broken.
    """
    if torch.__version__ < OLDEST_TORCH:  # compares versions, not text
        raise ConfigError(f"{what} needs torch >= {OLDEST_TORCH}, found {torch.__version__}; upgrade it, or go without")
    for package in ("onnxruntime", "onnx", "onnxscript"):  # the exporter needs the latter two
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"{what} needs the package {error.name!r}, which is not installed; pip install 'crdkit[onnx]'"
            ) from error
        except ImportError as error:
            raise ConfigError(f"{what} needs the package {package!r}, which cannot be imported: {error}") from error


def _session(file: Path, *, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # other sessions need the cores that this one's idle threads would spin on
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # fatal: errors are raised as well
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def reason(error: BaseException) -> str:
    """Return the first line of the error at the start of a chain: the exporter's own errors are pages long."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)[:300]


def export_network(network: nn.Module, example: Sequence[torch.Tensor], file: Path) -> None:
    """Write a network from a list of tensors to a list of tensors as an ONNX file, for any number of samples."""
    batch = torch.export.Dim("batch")
    # the exporter warns about itself, and prints pages about what it cannot export: the error states it in one line
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (list(example),),
            dynamo=True,
            dynamic_shapes=([{0: batch} for _ in example],),
            optimize=True,
            verbose=False,
        )
        cast(torch.onnx.ONNXProgram, program).save(file, external_data=True)
