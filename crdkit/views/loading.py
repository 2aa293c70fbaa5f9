"""All splits of a run, loaded and looked at together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crdkit.data import Dataset, SampleRecord, Split
from crdkit.views.oddities import report_oddities
from crdkit.views.split import LoadedSplit, Views, load_split


def load_splits(
    dataset: Dataset, records: Mapping[Split, Sequence[SampleRecord]], *, views: Views
) -> dict[Split, LoadedSplit]:
    """Load the samples of several splits into host memory; see `load_split`.

    Raises:
        DataError: a file is missing or unreadable, or all views of a modality are constant.

    Warns:
        UnusualDataWarning: the data look wrong, see `crdkit.views.oddities`.
    """
    splits = {name: load_split(dataset, name, views=views, records=listed) for name, listed in records.items()}
    samples = [pair for split in splits.values() for pair in zip(split.records, split.summaries, strict=True)]
    report_oddities(samples, views=views, data=dataset.config)
    return splits
