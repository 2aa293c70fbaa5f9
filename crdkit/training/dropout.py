"""Modality dropout: training samples that lack a sensor, so that a detector learns to do without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch


def draw_presence(
    sensors: Mapping[str, Sequence[str]], *, count: int, dropout: float, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """Return which of ``count`` samples keep each modality when every sensor fails with probability ``dropout``.

    A modality is missing if any of its sensors is; a sample that would have none keeps one, drawn at random.

    Args:
        sensors: the sensors that each modality needs.
        count: number of samples.
        dropout: probability that a sensor fails, independently for each sample and sensor.
        generator: on the CPU; the same state gives the same result.

    Examples:
        >>> shared = {"rgb": ["rgb"], "depth": ["xyz"], "normals": ["xyz"]}
        >>> present = draw_presence(shared, count=1000, dropout=0.4, generator=torch.Generator().manual_seed(0))
        >>> torch.equal(present["depth"], present["normals"]), bool((present["rgb"] | present["depth"]).all())
        (True, True)
    """
    names = sorted({sensor for needed in sensors.values() for sensor in needed})
    needs = torch.tensor([[name in needed for name in names] for needed in sensors.values()])  # (modalities, sensors)
    failed = torch.rand(count, len(names), generator=generator) < dropout
    spared = torch.randint(len(sensors), (count,), generator=generator)
    empty = _present(failed, needs).logical_not().all(dim=1)
    failed &= ~(empty[:, None] & needs[spared])
    return dict(zip(sensors, _present(failed, needs).unbind(dim=1), strict=True))


def restrict(shown: dict[str, torch.Tensor], known: Mapping[str, torch.Tensor] | None) -> dict[str, torch.Tensor]:
    """Return which samples show each modality if they also have it; a sample that would show none shows all it has.

    Args:
        shown: (samples,) bool by modality, as `draw_presence` returns it.
        known: which samples have each modality, (samples,) bool on any device; None: all.

    Examples:
        >>> shown = {"rgb": torch.tensor([True, False]), "depth": torch.tensor([True, True])}
        >>> known = {"rgb": torch.tensor([True, True]), "depth": torch.tensor([False, False])}
        >>> restrict(shown, known)["rgb"]
        tensor([True, True])
    """
    if known is None:
        return shown
    known = {name: has.cpu() for name, has in known.items()}
    both = {name: has & known[name] for name, has in shown.items()}
    none = torch.stack(list(both.values())).any(dim=0).logical_not()
    return {name: torch.where(none, known[name], has) for name, has in both.items()}


def _present(failed: torch.Tensor, needs: torch.Tensor) -> torch.Tensor:
    """Return (samples, modalities) bool from failed (samples, sensors) and needed (modalities, sensors) ones."""
    return ~(failed[:, None] & needs).any(dim=2)
