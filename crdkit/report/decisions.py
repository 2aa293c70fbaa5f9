"""Decisions as the gallery shows them: a sentence, and the shares of the modalities as a bar."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from crdkit.report.marks import colour_of
from crdkit.report.wording import count_in_words, shares_in_words
from crdkit.scoring.table import Judged


def decision(found: Judged, modalities: Sequence[str]) -> dict[str, Any]:
    """Return what the template shows of a decision: empty where nothing was decided.

    Args:
        found: the decision.
        modalities: of the detector, in order, which sets the colours.
    """
    words = []
    if found.label is not None:
        chance = "" if found.p_value is None else f" (p {found.p_value:.3g})"
        words.append(f"decided {'anomalous' if found.label else 'normal'}{chance}")
    if found.mask is not None and (found.label or found.regions):
        words.append(f"{count_in_words(found)} above the pixel threshold")
    shares = {name: share for name, share in (found.attribution or {}).items() if share >= 0.005}
    return {
        "text": ", ".join(words),
        "raised": f"raised by {shares_in_words(shares)}" if shares else "",
        "shares": [
            {"name": name, "percent": f"{100 * share:.0f}", "colour": _css(colour_of(name, modalities))}
            for name, share in shares.items()
        ],
    }


def legend(modalities: Iterable[str]) -> list[dict[str, str]]:
    """Return the colour of each modality's regions."""
    names = list(modalities)
    return [{"name": name, "colour": _css(colour_of(name, names))} for name in names]


def _css(colour: Sequence[int]) -> str:
    return "rgb({} {} {})".format(*colour)
