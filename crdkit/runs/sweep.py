"""A sweep: one configuration over categories and seeds, or several, alone or shared by many processes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from crdkit._core.distributed import Ranks, claim
from crdkit._core.files import is_empty, write_text
from crdkit._core.locks import hold
from crdkit._core.progress import overall
from crdkit.config.run_config import RunConfig
from crdkit.data.discover import list_categories, require_category
from crdkit.errors import ConfigError, CrdkitError
from crdkit.runs._pipeline import require_unchanged
from crdkit.runs.begin import discard
from crdkit.runs.directory import is_finished, read_metrics, require_same_config
from crdkit.runs.evaluate import rescore, same_students
from crdkit.runs.fit import fit
from crdkit.runs.summary import RunResult, Summary, write_summary

STATE = ".sweep"
"""Hidden folder for claims and for the reasons of skipped runs."""
POLL_S = 1.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a sweep."""

    category: str
    seed: int
    config: RunConfig
    folder: Path
    """Its run directory."""
    variant: str = ""

    @property
    def name(self) -> str:
        """The run's name in progress and messages."""
        return f"{self.variant + ': ' if self.variant else ''}{self.category} seed {self.seed}"

    @property
    def finished(self) -> bool:
        """Whether its results exist."""
        return is_finished(self.folder)

    @property
    def has_detector(self) -> bool:
        """Whether it is finished and its detector still exists."""
        return self.finished and (self.folder / "detector" / "config.json").exists()

    def result(self) -> RunResult:
        """Read its results.

        Raises:
            CrdkitError: it is not finished.
        """
        metrics = read_metrics(self.folder)
        return RunResult(
            category=self.category, seed=self.seed, folder=self.folder, metrics=metrics, variant=self.variant
        )


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A run that failed, and why."""

    job: Job
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """Return its entry in results.json."""
        return {"category": self.job.category, "seed": self.job.seed, "reason": self.reason}


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The outcome of a sweep."""

    out: Path
    jobs: Sequence[Job]
    results: Sequence[RunResult]
    """Finished runs in the order of ``jobs``."""
    skipped: Sequence[Skipped]
    is_main: bool
    """Whether this process is rank 0: another rank may leave before all runs are finished."""

    def summary(self, variant: str = "") -> Summary:
        """Return the finished runs of one variant."""
        return Summary(results=[result for result in self.results if result.variant == variant])

    def write(self) -> None:
        """Write results.md, results.csv and results.json into ``out``, or into the folder of each variant.

        Raises:
            CrdkitError: a file cannot be written.
        """
        for variant in dict.fromkeys(job.variant for job in self.jobs):
            lacking = [skip.as_dict() for skip in self.skipped if skip.job.variant == variant]
            folder = self.out / folder_name(variant) if variant else self.out
            folder.mkdir(parents=True, exist_ok=True)
            write_summary(folder, self.summary(variant), skipped=lacking)

    def raise_if_skipped(self) -> None:
        """Raise the error that ends an incomplete sweep.

        Raises:
            CrdkitError: a run was skipped.
        """
        if self.skipped:
            names = ", ".join(skip.job.name for skip in self.skipped)
            raise CrdkitError(
                f"{self.out}: {len(self.skipped)} of {len(self.jobs)} runs were skipped ({names}); "
                "fix the causes that their messages name, and resume"
            )


def sweep(
    base: RunConfig,
    *,
    out: Path | str,
    categories: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    variants: Mapping[str, Sequence[str]] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    missing: Literal["refuse", "skip"] = "refuse",
) -> Sweep:
    """Run ``base`` for every category and seed in ``out/<category>/seed<seed>``, and write the tables into ``out``.

    Started by torchrun, ranks share the runs: whichever is free takes the next. Rank 0 stays until all are finished,
    takes over what a killed rank left, and writes the tables; the others leave when no run is left to take.

    Args:
        base: the configuration; its category and seed are replaced.
        out: new or empty folder, which all ranks share.
        categories: None for all that lie in ``data.root``.
        seeds: of training.
        variants: overrides by label; each is a sweep of its own in ``out/<label>``. Variants that differ only in
            aggregation or scoring share their students: they are trained once, and scored in every way.
        resume: continue in a folder that a sweep has written: finished runs are read, interrupted ones continue from
            their newest checkpoint, the rest are run. Those there must have read the data that are there now.
        overwrite: replace the runs of this sweep that ``out`` holds; whatever else lies there is left alone.
        missing: what to do about a category that has no folder in ``data.root``: refuse the sweep, or skip its runs.

    Raises:
        ConfigError: a name or an override is refused, or a run in ``out`` has another configuration.
        DataError: ``categories`` is None and ``data.root`` holds none, or a run in ``out`` has read other data.
        CrdkitError: ``out`` is not empty and neither ``resume`` nor ``overwrite`` is set; another sweep writes there;
            or it cannot be written.
    """
    if resume and overwrite:
        raise ConfigError("resume and overwrite exclude each other: give --resume to go on, or --overwrite to replace")
    out = Path(out)
    names = list_categories(base.data) if categories is None else categories
    jobs = list(_plan_jobs(base, out=out, categories=names, seeds=seeds, variants=variants or {"": ()}))
    if missing == "refuse":
        for config in {job.category: job.config for job in jobs}.values():
            require_category(config.data)
    ranks = Ranks.from_environment()
    with ExitStack() as held:
        ranks.agree(lambda: _prepare_folder(out, jobs, held, resume=resume, overwrite=overwrite))
        ranks.use_local_device()
        work = _Worker(out=out, jobs=jobs, is_main=ranks.is_main)
        work.do()
        done = [job.result() for job in jobs if job.finished]
        skipped = [Skipped(job=job, reason=work.skipped[job.folder]) for job in jobs if job.folder in work.skipped]
        outcome = Sweep(out=out, jobs=jobs, results=done, skipped=skipped, is_main=ranks.is_main)
        if ranks.is_main:
            outcome.write()
    return outcome


def folder_name(variant: str) -> str:
    """Return the folder of a variant's runs."""
    return variant.replace(" ", "_")


def _plan_jobs(
    base: RunConfig,
    *,
    out: Path,
    categories: Sequence[str],
    seeds: Sequence[int],
    variants: Mapping[str, Sequence[str]],
) -> Iterator[Job]:
    for variant, options in variants.items():
        if variant and (Path(folder_name(variant)).name != folder_name(variant) or variant.startswith(".")):
            raise ConfigError(f"variant {variant!r} must be the name of a folder: no path, no dot in front")
        config = base.with_overrides(*options)
        for category in dict.fromkeys(categories):
            if Path(category).name != category or category.startswith("."):
                raise ConfigError(f"category {category!r} must be the name of a folder in data.root")
            for seed in dict.fromkeys(seeds):
                yield Job(
                    category=category,
                    seed=seed,
                    config=config.with_overrides(f"data.category={category}", f"training.seed={seed}"),
                    folder=out / folder_name(variant) / category / f"seed{seed}",
                    variant=variant,
                )


def _prepare_folder(out: Path, jobs: Sequence[Job], held: ExitStack, *, resume: bool, overwrite: bool) -> None:
    """Prepare ``out`` and keep other sweeps out of it; refuse what another configuration or other data have written."""
    held.enter_context(hold(out))
    try:
        if not (resume or overwrite or is_empty(out)):
            raise CrdkitError(
                f"{out}: is not empty; give --resume to continue the sweep in it, --overwrite to replace its runs, or "
                "choose a new folder"
            )
        for job in jobs:
            if overwrite:
                discard(job.folder)
            elif require_same_config(job.folder, job.config) and job.finished:
                require_unchanged(job.folder, job.config)
        (out / STATE).mkdir(parents=True, exist_ok=True)
        for record in (out / STATE).glob("*.skipped"):
            record.unlink()  # will be tried again
    except OSError as error:
        raise CrdkitError(f"{out}: cannot be written: {error.strerror or error}") from error


@dataclass(kw_only=True)
class _Worker:
    """Goes through the runs of a sweep in one process."""

    out: Path
    jobs: Sequence[Job]
    is_main: bool
    skipped: dict[Path, str] = field(default_factory=dict)
    """Reasons by run directory, also those of other ranks."""

    def do(self) -> None:
        """Do every run that no other process does; rank 0 stays until all are finished or skipped."""
        before = sum(job.finished for job in self.jobs)
        with overall("sweep", total=len(self.jobs), done=before) as shown:
            open_jobs = list(self.jobs)
            while open_jobs:
                for job in list(open_jobs):
                    if self._run_unless_taken(job):
                        open_jobs.remove(job)
                        shown.update(sum(job.finished for job in self.jobs) + len(self.skipped))
                if open_jobs and not self.is_main:
                    return
                if open_jobs:
                    time.sleep(POLL_S)

    def _run_unless_taken(self, job: Job) -> bool:
        """Do ``job`` unless another process has done it or is doing it; return whether nothing is left to do for it."""
        if self._is_done(job):
            return True
        if not all(self._is_done(twin) for twin in takewhile(lambda twin: twin is not job, self._twins(job))):
            return False  # its students are being trained, or will be soon
        with claim(self._state_file(job, "lock")) as ours:
            if not ours:
                return False
            if not self._is_done(job):  # another process may just have finished it
                self._run(job)
        return True

    def _is_done(self, job: Job) -> bool:
        record = self._state_file(job, "skipped")
        if not job.finished and record.exists():
            self.skipped.setdefault(job.folder, record.read_text(encoding="utf-8"))
        return job.finished or job.folder in self.skipped

    def _run(self, job: Job) -> None:
        _logger.info("%s:", job.name)
        try:
            trained = next((twin.folder for twin in self._twins(job) if twin.has_detector), None)
            if trained is None:
                fit(job.config, job.folder, resume=True)
            else:
                _logger.info("reusing the students of %s", trained)
                rescore(job.config, trained, job.folder, overwrite=True)
        except CrdkitError as error:
            self.skipped[job.folder] = str(error)
            write_text(self._state_file(job, "skipped"), str(error))
            _logger.info("skipped %s: %s", job.name, error)

    def _twins(self, job: Job) -> Iterator[Job]:
        """Iterate over the jobs that train the same students, ``job`` among them, in order."""
        for other in self.jobs:
            if (other.category, other.seed) == (job.category, job.seed) and same_students(other.config, job.config):
                yield other

    def _state_file(self, job: Job, kind: str) -> Path:
        return self.out / STATE / f"{'.'.join(job.folder.relative_to(self.out).parts)}.{kind}"
