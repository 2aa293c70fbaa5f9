"""Devices by name, and copies to them that do not wait."""

from __future__ import annotations

import torch

from crdkit.errors import ConfigError, first_line, shorten


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
