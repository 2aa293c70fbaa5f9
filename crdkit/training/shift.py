"""Shifted sensors: training samples whose sensors lie a few pixels apart, so that a detector learns not to mind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from crdkit.errors import ConfigError


def require_movable(sensors: Mapping[str, Sequence[str]], *, pixels: int) -> None:
    """Refuse ``training.shift`` where no sensor could be moved against another.

    Args:
        sensors: the sensors that each modality needs.
        pixels: the option, above 0.

    Raises:
        ConfigError: all modalities show one sensor.

    Examples:
        >>> require_movable({"rgb": ["rgb"], "depth": ["xyz"]}, pixels=4)
        >>> require_movable({"depth": ["xyz"], "normals": ["xyz"]}, pixels=4)
        Traceback (most recent call last):
        crdkit.errors.ConfigError: training.shift (=4) moves sensors against each other, but all modalities (depth, \
normals) show 'xyz': add a modality of another sensor, or leave training.shift out
    """
    shown = {needed[0] for needed in sensors.values()}
    if len(shown) == 1:
        raise ConfigError(
            f"training.shift (={pixels}) moves sensors against each other, but all modalities ({', '.join(sensors)}) "
            f"show {shown.pop()!r}: add a modality of another sensor, or leave training.shift out"
        )


def draw_shifts(
    sensors: Mapping[str, Sequence[str]], *, count: int, pixels: int, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """Return by how much each of ``count`` samples shifts each modality: (count, 2) int64, down and right, in pixels.

    Modalities of one sensor are shifted together; one of several sensors is shifted as its first one is. The sensor of
    the first modality stays where it is: only how sensors lie on each other matters.

    Args:
        sensors: the sensors that each modality needs.
        count: number of samples.
        pixels: largest shift in each direction; every whole number up to it is as likely.
        generator: on the CPU; the same state gives the same result.

    Examples:
        >>> shared = {"rgb": ["rgb"], "depth": ["xyz"], "normals": ["xyz"]}
        >>> shifts = draw_shifts(shared, count=1000, pixels=4, generator=torch.Generator().manual_seed(0))
        >>> torch.equal(shifts["depth"], shifts["normals"]), shifts["rgb"].any().item()
        (True, False)
        >>> shifts["depth"].min().item(), shifts["depth"].max().item()
        (-4, 4)
    """
    carriers = {modality: needed[0] for modality, needed in sensors.items()}
    reference = next(iter(carriers.values()))
    moved = sorted({*carriers.values()} - {reference})
    drawn = torch.randint(-pixels, pixels + 1, (count, len(moved), 2), generator=generator)
    by_sensor = dict(zip(moved, drawn.unbind(dim=1), strict=True))
    still = torch.zeros(count, 2, dtype=torch.int64)
    return {modality: by_sensor.get(carrier, still) for modality, carrier in carriers.items()}


def shift_images(images: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """Return ``images`` moved; what comes in from outside repeats the border.

    Args:
        images: (B, C, H, W).
        shifts: (B, 2) int64, down and right, in pixels, on the same device.

    Examples:
        >>> shift_images(torch.tensor([[[[1, 2, 3]]]]), torch.tensor([[0, 1]]))
        tensor([[[[1, 1, 2]]]])
    """
    height, width = images.shape[-2:]
    rows = (torch.arange(height, device=images.device) - shifts[:, :1]).clamp(0, height - 1)  # (B, H)
    columns = (torch.arange(width, device=images.device) - shifts[:, 1:]).clamp(0, width - 1)  # (B, W)
    samples = torch.arange(len(images), device=images.device)[:, None, None]
    return images.movedim(1, -1)[samples, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
