"""Decisions as a page shows them: a sentence, and the colours of the modalities."""

from __future__ import annotations

from collections.abc import Sequence

from crdkit.report.marks import colour_of
from crdkit.report.wording import count_in_words, shares_in_words
from crdkit.scoring.table import Judged


def decision(found: Judged) -> dict[str, str]:
    """Return what a page says of a decision: ``text``, and ``raised`` by which modalities; empty where nothing was."""
    words = []
    if found.label is not None:
        chance = "" if found.p_value is None else f" (p {found.p_value:.3g})"
        words.append(f"decided {'anomalous' if found.label else 'normal'}{chance}")
    if found.mask is not None and (found.label or found.regions):
        words.append(f"{count_in_words(found)} above the pixel threshold")
    shares = {name: share for name, share in (found.attribution or {}).items() if share >= 0.005}
    return {"text": ", ".join(words), "raised": f"raised by {shares_in_words(shares)}" if shares else ""}


def colours_of(modalities: Sequence[str]) -> list[str]:
    """Return the colour of each modality's regions and shares, as CSS has it."""
    return ["rgb({} {} {})".format(*colour_of(name, modalities)) for name in modalities]
