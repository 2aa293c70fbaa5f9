"""Decodes samples: a pool of threads reads files and builds what the caller wants from them, in order."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import TypeVar

from crdkit._core.parallel import map_in_order
from crdkit.data import Dataset, RawSample, SampleRecord
from crdkit.errors import BadSampleWarning, DataError

T = TypeVar("T")

_MAX_NAMED = 3


def decode(
    dataset: Dataset,
    records: Sequence[SampleRecord],
    build: Callable[[RawSample], T],
    *,
    sensors: Sequence[str] | None = None,
    description: str = "reading",
) -> Generator[tuple[SampleRecord, T], None, None]:
    """Yield ``(record, build(sample))`` for each readable sample, in the order of ``records``.

    Args, threads and leaving early are as in `decode_all`.

    Raises:
        DataError: the first bad sample in order, or with ``on_bad_sample="skip"`` no sample is readable.

    Warns:
        BadSampleWarning: at the end, once, with the number of skipped samples and why the first were.
    """
    bad: list[str] = []
    outcomes = decode_all(dataset, records, build, sensors=sensors, description=description)
    with closing(outcomes):
        for record, outcome in zip(records, outcomes, strict=True):
            if isinstance(outcome, DataError):
                bad.append(str(outcome))
            else:
                yield record, outcome
    report_skipped(bad, total=len(records))


def decode_all(
    dataset: Dataset,
    records: Sequence[SampleRecord],
    build: Callable[[RawSample], T],
    *,
    sensors: Sequence[str] | None = None,
    description: str = "reading",
) -> Generator[T | DataError, None, None]:
    """Yield what ``build`` makes of each sample, in the order of ``records``, or why it cannot be read.

    ``dataset.read`` and ``build`` run in ``dataset.config.workers`` threads, at most a few samples ahead
    of the caller. Leaving early, by an exception, Ctrl-C or ``close()``, cancels all that has not begun.

    Args:
        dataset: reads the samples; its ``on_bad_sample`` decides what a DataError of either step does.
        records: the samples of one split.
        build: what to make of a sample, usually its views; called from any thread.
        sensors: the sensors to decode, except those of the dataset for which a record names no file; None for all.
        description: the words before the progress bar.

    Raises:
        DataError: the first bad sample in order, unless ``on_bad_sample="skip"``.
    """
    skip = dataset.config.on_bad_sample == "skip"
    known = dataset.sensors if sensors is not None else ()

    def work(record: SampleRecord) -> T | DataError:
        wanted = sensors and [name for name in sensors if name in record.files or name not in known]
        try:
            sample = dataset.read(record, wanted)
        except DataError as error:
            return error
        try:
            return build(sample)
        except DataError as error:  # a view does not know the path
            located = DataError(f"{', '.join(map(str, record.files.values()))}: {error}")
            located.__cause__ = error
            return located

    outcomes = map_in_order(work, records, workers=dataset.config.workers, description=description)
    with closing(outcomes):
        for outcome in outcomes:
            if isinstance(outcome, DataError) and not skip:
                raise outcome
            yield outcome


def report_skipped(reasons: Sequence[str], *, total: int) -> None:
    """Report how many samples were skipped, and why the first of them were.

    Raises:
        DataError: all ``total`` samples were skipped.

    Warns:
        BadSampleWarning: some were skipped.
    """
    if not reasons:
        return
    if len(reasons) == total:
        raise DataError(f"none of the {total} samples can be read; the first: {reasons[0]}")
    named = "; ".join(reasons[:_MAX_NAMED])
    rest = f"; and {len(reasons) - _MAX_NAMED} more" if len(reasons) > _MAX_NAMED else ""
    warnings.warn(
        f"skipped {len(reasons)} of {total} samples (data.on_bad_sample=skip): {named}{rest}",
        BadSampleWarning,
        stacklevel=3,
    )
