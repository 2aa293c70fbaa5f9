"""Decodes a whole split once: files are read and turned into modalities by a pool of threads, in order."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import TypeVar

from crdkit.datasets import Dataset, RawSample, SampleRecord
from crdkit.errors import DataError
from crdkit.progress import track

S = TypeVar("S")
T = TypeVar("T")

_MOST_WORKERS = 8
_NAMED_IN_WARNING = 3


class BadSampleWarning(UserWarning):
    """Samples were left out because they could not be read (``data.on_bad_sample=skip``)."""


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
        dataset: reads the samples; its ``on_bad_sample`` says what a DataError of either step does.
        records: the samples of one split.
        build: what to make of a sample, from any thread; usually the modalities' views.
        sensors: the sensors to decode, but for those of the dataset that a record names no file of; None for all.
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
        except DataError as error:  # a modality knows no path
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
    """Say that samples were skipped, and why the first of them were.

    Raises:
        DataError: all ``total`` samples were.

    Warns:
        BadSampleWarning: some were.
    """
    if not reasons:
        return
    if len(reasons) == total:
        raise DataError(f"none of {total} samples can be read; the first: {reasons[0]}")
    named = "; ".join(reasons[:_NAMED_IN_WARNING])
    rest = f"; and {len(reasons) - _NAMED_IN_WARNING} more" if len(reasons) > _NAMED_IN_WARNING else ""
    warnings.warn(
        f"skipped {len(reasons)} of {total} samples (data.on_bad_sample=skip): {named}{rest}",
        BadSampleWarning,
        stacklevel=3,
    )


def map_in_order(
    work: Callable[[S], T], items: Sequence[S], *, workers: int | None, description: str
) -> Generator[T, None, None]:
    """Yield ``work(item)`` of each item in order, from threads at most a few items ahead, and show the progress.

    Closing it, by an exception too, cancels all that has not begun.

    Args:
        work: called from any thread.
        items: what to work on.
        workers: threads; None for one per core, 8 at most.
        description: the words before the progress bar.
    """
    with closing(in_order(work, items, workers=workers)) as outcomes:
        yield from track(outcomes, description=description, total=len(items))


def in_order(work: Callable[[S], T], items: Iterable[S], *, workers: int | None) -> Generator[T, None, None]:
    """Yield ``work(item)`` of each item in order, from threads; ``items`` are taken at most a few ahead of the caller.

    Closing it, by an exception too, cancels all that has not begun.

    Args:
        work: called from any thread.
        items: what to work on; iterated over in the caller's thread.
        workers: threads; None for one per core, 8 at most.
    """
    workers = workers or min(_MOST_WORKERS, _cores())
    executor = ThreadPoolExecutor(workers, thread_name_prefix="crdkit-decode")
    waiting = iter(items)
    try:
        running: deque[Future[T]] = deque(executor.submit(work, item) for item in islice(waiting, 2 * workers))
        while running:
            result = running.popleft().result()
            running.extend(executor.submit(work, item) for item in islice(waiting, 1))
            yield result
    finally:
        executor.shutdown(cancel_futures=True)


def _cores() -> int:
    # a container or taskset may grant fewer cores than the machine has
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
