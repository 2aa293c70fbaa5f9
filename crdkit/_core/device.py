"""Devices by name, copies to them that do not wait, and cuDNN's choice of kernels."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from crdkit.errors import ConfigError, first_line, shorten

_FREQUENT = 8  # batches


def select_device(name: str) -> torch.device:
    """Return the device called ``name``; "auto" is CUDA if it is available, else the CPU.

    Raises:
        ConfigError: this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        what = f"training.device (={shorten(name)!r})"
        raise ConfigError(f"{what} is not available here: {first_line(error)}; use auto or cpu") from error
    return device


def to_device(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy host values to the device without waiting for it: from pinned memory, which the copy keeps alive."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def convolutions_channels_last(module: nn.Module) -> None:
    """Store the weights of convolutions as GPUs read them fastest; values stay. Other parameters stay as they are."""
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)):
            part.to(memory_format=torch.channels_last)


def is_frequent(batches: int) -> bool:
    """Return whether so many batches of one shape are worth cuDNN's timing of its kernels, which takes about a second.

    Examples:
        >>> is_frequent(2), is_frequent(50)
        (False, True)
    """
    return batches >= _FREQUENT


class _Searching:
    """How many callers let cuDNN time its kernels, and what the setting was before the first."""

    lock = threading.Lock()
    callers = 0
    before = False


@contextmanager
def fastest_convolutions() -> Iterator[None]:
    """Let cuDNN time its kernels once per shape, unless the caller wants deterministic ones; also in several threads.

    The setting is one for the whole process: whoever leaves last puts back what it was before the first came.
    """
    cudnn = torch.backends.cudnn
    with _Searching.lock:
        if not _Searching.callers:
            _Searching.before = cudnn.benchmark
            cudnn.benchmark = _Searching.before or not cudnn.deterministic
        _Searching.callers += 1
    try:
        yield
    finally:
        with _Searching.lock:
            _Searching.callers -= 1
            if not _Searching.callers:
                cudnn.benchmark = _Searching.before


@contextmanager
def usual_convolutions() -> Iterator[None]:
    """Let cuDNN choose kernels by its own rules, without timing them, for shapes that do not come often."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
