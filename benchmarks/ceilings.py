"""What a device can do at best: the yardstick for shares of it."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.parts import clock

_REPEATS = 5


def matmul_flops(device: torch.device, *, size: int, dtype: torch.dtype, products: int = 10) -> float:
    """Return the most FLOP/s that products of two (size, size) matrices reached; a multiply and an add count as two."""
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(left)

    def multiply() -> None:
        for _ in range(products):
            torch.mm(left, right, out=out)

    multiply()  # warm-up
    return products * 2 * size**3 / min(clock(multiply, device) for _ in range(_REPEATS))


def copy_bytes_per_second(device: torch.device, *, size: int, copies: int = 10) -> float:
    """Return the highest rate of copying ``size`` bytes within the device; reading and writing both count."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        for _ in range(copies):
            target.copy_(source)

    copy()
    return copies * 2 * size / min(clock(copy, device) for _ in range(_REPEATS))


def upload_bytes_per_second(device: torch.device, *, size: int) -> float:
    """Return the highest rate of copying ``size`` bytes from (pinned) host memory to the device."""
    source = torch.zeros(size, dtype=torch.uint8, pin_memory=device.type == "cuda")
    target = torch.empty(size, dtype=torch.uint8, device=device)
    target.copy_(source)
    return size / min(clock(lambda: target.copy_(source, non_blocking=True), device) for _ in range(_REPEATS))


def ceilings(device: torch.device) -> dict[str, Any]:
    """Measure the device; on a CPU with sizes that take no time, in float32."""
    gpu = device.type == "cuda"
    dtype = torch.bfloat16 if gpu else torch.float32
    size, copied = (8192, 2**30) if gpu else (256, 2**20)
    return {
        "matmul_tflops": matmul_flops(device, size=size, dtype=dtype) / 1e12,
        "matmul": f"{size} x {size}, {str(dtype).removeprefix('torch.')}",
        "copy_gb_per_s": copy_bytes_per_second(device, size=copied) / 1e9,
        "upload_gb_per_s": upload_bytes_per_second(device, size=copied) / 1e9,
    }
