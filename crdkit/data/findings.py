"""What a check of a dataset finds, and how more is made to look at the samples that it reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from crdkit.data import Dataset, RawSample, SampleRecord

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something about a file or folder that the user should know.

    Examples:
        >>> finding = Finding(severity="warning", path=Path("rgb/000.png"), message="sensor 'rgb' is 0 everywhere")
        >>> print(f"{finding.severity}: {finding.path}: {finding.message}")
        warning: rgb/000.png: sensor 'rgb' is 0 everywhere
    """

    severity: Severity
    """``error``: it stops training or makes its results wrong; ``warning``: look at it; ``note``: good to know."""
    path: Path
    message: str


class Look(Protocol):
    """A further look at the samples that a check reads, such as at their views."""

    def sample(self, sample: RawSample) -> Any:
        """Return what is to be kept of one sample; called from any thread.

        Raises:
            DataError: the sample cannot be used.
        """

    def findings(self, dataset: Dataset, kept: Sequence[tuple[SampleRecord, Any]]) -> Iterable[Finding]:
        """Return what is wrong with all samples, from what was kept of them."""


class Looks:
    """Several looks at the same samples.

    Examples:
        >>> from crdkit.data.agreement import EdgeAgreement
        >>> list(Looks(EdgeAgreement(), EdgeAgreement()).findings(None, []))
        []
    """

    def __init__(self, *looks: Look) -> None:
        self._looks = looks

    def sample(self, sample: RawSample) -> tuple[Any, ...]:
        """Return what each look keeps of one sample.

        Raises:
            DataError: the sample cannot be used.
        """
        return tuple(look.sample(sample) for look in self._looks)

    def findings(self, dataset: Dataset, kept: Sequence[tuple[SampleRecord, tuple[Any, ...]]]) -> Iterator[Finding]:
        """Iterate over what each look finds."""
        for place, look in enumerate(self._looks):
            yield from look.findings(dataset, [(record, several[place]) for record, several in kept])
