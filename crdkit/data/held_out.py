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
    config: HeldOutConfig,
    *,
    unit: Callable[[SampleRecord], str] = lambda record: record.sample_id,
) -> list[SampleRecord]:
    """Return the training or the validation split of the normal samples ``records``, in their order.

    Held out are the ``validation_share`` of units, rounded, at least one and never all, with the smallest SHA-256 of
    ``"<validation_seed>:<unit>"``, or of ``"<unit>"`` without a seed. It depends on names only, so that it is the
    same share on every machine, and another sample changes little of it.

    Args:
        records: all normal samples that there are for both splits.
        split: ``train`` or ``validation``.
        config: says how large the share is, and which seed chooses it.
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
        >>> config = HeldOutConfig(name="mine", validation_share=0.2)
        >>> [found.sample_id for found in hold_out(records, "validation", config)]
        ['good/004', 'good/008']
        >>> len(hold_out(records, "train", config))
        8
    """
    units = dict.fromkeys(map(unit, records))
    if len(units) < 2:
        raise DataError(
            f"{records[0].image_path}: is the only normal sample; add more: training and validation need one each"
        )
    before = "" if config.validation_seed is None else f"{config.validation_seed}:"
    ranked = sorted(units, key=lambda name: hashlib.sha256(f"{before}{name}".encode()).digest())
    held_out = set(ranked[: min(max(1, round(config.validation_share * len(units))), len(units) - 1)])
    return [replace(record, split=split) for record in records if (unit(record) in held_out) == (split == "validation")]


def describe_share(config: HeldOutConfig, *, unit: str = "sample") -> Mapping[str, Any]:
    """Return what `Dataset.held_out` says of a split by `hold_out`.

    Examples:
        >>> describe_share(HeldOutConfig(name="mine"))["rule"]
        'the training samples with the smallest SHA-256 of seed and name'
    """
    share, seed = config.validation_share, config.validation_seed
    of = "name" if seed is None else "seed and name"
    return {"share": share, "seed": seed, "rule": f"the training {unit}s with the smallest SHA-256 of {of}"}
