"""A validation split for data sets that have none: a share of the training normals, chosen by names and a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import Field

from crdkit.data import DatasetConfig, SampleRecord, Split
from crdkit.errors import DataError


class HeldOutConfig(DatasetConfig):
    """Options of a dataset whose validation split is taken from the training samples.

    Examples:
        >>> HeldOutConfig(name="mine", validation_share=0.2).validation_seed
        0
    """

    validation_share: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="of the training samples, at least one; held out if there is no validation split",
    )
    validation_seed: int | None = Field(
        0,
        ge=0,
        description="which they are: those with the smallest SHA-256 of seed and name; null: of the name",
    )


def hold_out(
    records: Sequence[SampleRecord],
    split: Split,
    *,
    share: float,
    seed: int | None,
    unit: Callable[[SampleRecord], str] = lambda record: record.sample_id,
) -> list[SampleRecord]:
    """Return the training or the validation split of the normal samples ``records``, in their order.

    Held out are the ``share`` of units, rounded, at least one and never all, with the smallest SHA-256 of
    ``"<seed>:<unit>"``, or of ``"<unit>"`` without a seed. It depends on names only, so that it is the same share on
    every machine, and another sample changes little of it.

    Args:
        records: all normal samples that there are for both splits.
        split: ``train`` or ``validation``.
        share: of the units that is held out.
        seed: gives another share; None: by the names alone.
        unit: what stays together, such as all views of one specimen; by default each sample is one.

    Raises:
        DataError: there are not two units.

    Examples:
        >>> from pathlib import Path
        >>> def record(name):
        ...     return SampleRecord(
        ...         sample_id=name, split="train", label=0, defect_type="good", files={"rgb": Path(name)}
        ...     )
        >>> records = [record(f"good/{number:03d}") for number in range(10)]
        >>> [found.sample_id for found in hold_out(records, "validation", share=0.2, seed=0)]
        ['good/004', 'good/008']
        >>> len(hold_out(records, "train", share=0.2, seed=0))
        8
    """
    units = dict.fromkeys(map(unit, records))
    if len(units) < 2:
        raise DataError(
            f"{records[0].image_path}: is the only normal sample; add more: training and validation need one each"
        )
    before = "" if seed is None else f"{seed}:"
    ranked = sorted(units, key=lambda name: hashlib.sha256(f"{before}{name}".encode()).digest())
    held_out = set(ranked[: min(max(1, round(share * len(units))), len(units) - 1)])
    return [replace(record, split=split) for record in records if (unit(record) in held_out) == (split == "validation")]


def describe_share(share: float, seed: int | None, *, unit: str = "sample") -> Mapping[str, Any]:
    """Return what `Dataset.held_out` says of a split by `hold_out`.

    Examples:
        >>> describe_share(0.1, 0)["rule"]
        'the training samples with the smallest SHA-256 of seed and name'
    """
    of = "name" if seed is None else "seed and name"
    return {"share": share, "seed": seed, "rule": f"the training {unit}s with the smallest SHA-256 of {of}"}
