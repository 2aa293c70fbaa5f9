"""One epoch in numbers, as log.jsonl keeps it, and in words, as a terminal shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crdkit.training.losses import TERMS

EpochLog = dict[str, Any]
"""``{"epoch", "loss", "losses": {modality: {term: mean}}, "learning_rate", "seconds"}``."""


def epoch_log(
    modalities: Sequence[str], means: Sequence[Sequence[float]], *, epoch: int, rate: float, seconds: float
) -> EpochLog:
    """Return the log of an epoch.

    Args:
        modalities: of the model.
        means: of each modality's terms, in the order of `TERMS`.
        epoch: counted from 1.
        rate: of learning.
        seconds: that it took.

    Examples:
        >>> epoch_log(["rgb"], [[0.1, 0.0, 0.2, 0.3]], epoch=1, rate=0.01, seconds=2.0)["losses"]["rgb"]["decoder"]
        0.2
    """
    losses = {name: dict(zip(TERMS, row, strict=True)) for name, row in zip(modalities, means, strict=True)}
    total = sum(sum(terms.values()) for terms in losses.values())
    return {"epoch": epoch, "loss": total, "losses": losses, "learning_rate": rate, "seconds": round(seconds, 4)}


def last_in_words(history: Sequence[EpochLog], *, samples: int) -> list[str]:
    """Return the last epoch in lines: the loss and the pace, then each branch with its terms; none before the first.

    The first line says what the loss is, whether it falls, and what to do if not. Terms that are 0, as those of filters
    without edges, are left out.

    Examples:
        >>> log = epoch_log(["rgb"], [[0.1, 0.0, 0.2, 0.3]], epoch=1, rate=0.01, seconds=2.0)
        >>> last_in_words([log], samples=80)  # doctest: +NORMALIZE_WHITESPACE
        ['loss 0.6 (how far students are from their teachers; it should fall), 40.0 samples/s',
         'rgb: filter 0.1, decoder 0.2, output 0.3']
    """
    if not history:
        return []
    log = history[-1]
    pace = f", {samples / log['seconds']:.1f} samples/s" if log["seconds"] else ""
    branches = [
        f"{name}: {', '.join(f'{term} {value:.4g}' for term, value in terms.items() if value)}"
        for name, terms in log["losses"].items()
    ]
    first = history[0]["loss"]
    risen = f"not below the {first:.4g} of the start: try a smaller training.learning_rate"
    state = f"fell from {first:.4g}" if log["loss"] < first else risen
    state = state if len(history) > 1 else "it should fall"
    return [f"loss {log['loss']:.4g} (how far students are from their teachers; {state}){pace}", *branches]
