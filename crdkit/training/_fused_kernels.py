"""Triton kernels of the loss: sums over rows of two tensors in one pass over memory, and their gradient in another.

They need the package ``triton``, which comes with PyTorch's builds for CUDA; `_fused_loss` imports them when asked to.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

_BLOCK = 1024
_BLOCKS_PER_PART = 16
"""Of a long row; each part is summed by itself, in the same order every time."""


@triton.jit  # type: ignore[untyped-decorator]
def _sum_rows(  # noqa: PLR0917 - a kernel's arguments have no names
    first: Any,
    second: Any,
    dots: Any,
    squares: Any,
    length: Any,
    chunk: Any,
    BLOCK: tl.constexpr,  # noqa: N803 - Triton's way to write a constant
) -> None:
    row, part, parts = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    dot = tl.zeros((BLOCK,), tl.float32)
    square = tl.zeros((BLOCK,), tl.float32)
    for begin in range(0, chunk, BLOCK):
        places = part * chunk + begin + tl.arange(0, BLOCK)
        x = tl.load(first + row * length + places, mask=places < length, other=0.0).to(tl.float32)
        y = tl.load(second + row * length + places, mask=places < length, other=0.0).to(tl.float32)
        dot += x * y
        square += y * y
    tl.store(dots + row * parts + part, tl.sum(dot, 0))
    tl.store(squares + row * parts + part, tl.sum(square, 0))


@triton.jit  # type: ignore[untyped-decorator]
def _add_rows(  # noqa: PLR0917
    first: Any,
    second: Any,
    of_dot: Any,
    of_square: Any,
    out: Any,
    length: Any,
    chunk: Any,
    BLOCK: tl.constexpr,  # noqa: N803
) -> None:
    row, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    by_first, by_second = tl.load(of_dot + row), 2 * tl.load(of_square + row)
    for begin in range(0, chunk, BLOCK):
        places = part * chunk + begin + tl.arange(0, BLOCK)
        x = tl.load(first + row * length + places, mask=places < length, other=0.0).to(tl.float32)
        y = tl.load(second + row * length + places, mask=places < length, other=0.0).to(tl.float32)
        value = (by_first * x + by_second * y).to(out.dtype.element_ty)
        tl.store(out + row * length + places, value, mask=places < length)


def sum_rows(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return, of two contiguous (R, L) tensors, the (R,) float32 sums of first * second and of second * second."""
    rows, length = first.shape
    chunk, block, parts = _division(length)
    dots, squares = first.new_empty(2, rows, parts, dtype=torch.float32)
    _sum_rows[(rows, parts)](first, second, dots, squares, length, chunk, BLOCK=block)
    return dots.sum(dim=1), squares.sum(dim=1)


def add_rows(
    first: torch.Tensor, second: torch.Tensor, *, of_dot: torch.Tensor, of_square: torch.Tensor
) -> torch.Tensor:
    """Return the gradient of ``second``: that of both sums of `sum_rows`, each (R,), carried back to (R, L)."""
    rows, length = first.shape
    chunk, block, parts = _division(length)
    out = torch.empty_like(second)
    _add_rows[(rows, parts)](
        first, second, of_dot.contiguous(), of_square.contiguous(), out, length, chunk, BLOCK=block
    )
    return out


def _division(length: int) -> tuple[int, int, int]:
    """Return the values of a part, of a block, and the number of parts of a row."""
    block = min(_BLOCK, triton.next_power_of_2(length))
    chunk = min(_BLOCKS_PER_PART, triton.cdiv(length, block)) * block
    return chunk, block, triton.cdiv(length, chunk)
