"""How a broken promise is reported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from crdkit.errors import DataError


def require(holds: bool, message: str) -> None:
    """Raise AssertionError with ``message`` unless ``holds``; unlike ``assert`` also under ``python -O``."""
    if not holds:
        raise AssertionError(message)


def same_bytes(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Return whether two tensors have the same dtype, shape and bit pattern."""
    return (
        first.dtype == second.dtype
        and first.numpy().tobytes() == second.numpy().tobytes()
        and (first.shape == second.shape)
    )


def require_same(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor], message: str) -> None:
    """Raise AssertionError with ``message`` and the largest difference unless all tensors have the same bytes."""
    for index, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        if not same_bytes(mine, theirs):
            raise AssertionError(f"{message}: {_difference(mine, theirs)} in tensor {index}")


def require_close(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor], message: str) -> None:
    """Raise AssertionError with ``message`` and the largest difference unless all tensors agree up to rounding."""
    for index, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        if mine.shape != theirs.shape or not torch.allclose(mine, theirs, rtol=1e-3, atol=1e-4):
            raise AssertionError(f"{message}: {_difference(mine, theirs)} in tensor {index}")


@contextmanager
def refused(what: str) -> Iterator[None]:
    """Expect the block to raise DataError, which must refuse ``what``.

    Raises:
        AssertionError: the block ends without an error, or with another one.
    """
    try:
        yield
    except DataError:
        return
    except Exception as error:
        raise AssertionError(f"{what} must be refused with DataError, but {error!r} was raised") from error
    raise AssertionError(f"{what} must be refused with DataError, but was accepted")


def _difference(found: torch.Tensor, expected: torch.Tensor) -> str:
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        return f"found {found.dtype} {tuple(found.shape)}, expected {expected.dtype} {tuple(expected.shape)}"
    return f"a difference of up to {(found.double() - expected.double()).abs().max():.3g}"
