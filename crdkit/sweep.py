"""A sweep: one configuration over categories and seeds, or several, alone or shared by many processes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from crdkit.check import list_categories
from crdkit.checkpoint import require_same_config
from crdkit.config import RunConfig
from crdkit.errors import ConfigError, CrdkitError
from crdkit.files import write_text
from crdkit.progress import overall, say
from crdkit.ranks import Ranks, claim
from crdkit.rescore import rescore, same_students
from crdkit.results import RunResult, Summary, write_summary
from crdkit.run import fit
from crdkit.run_directory import read_metrics

STATE = ".sweep"
"""Hidden folder for claims and for the reasons of skipped runs."""
POLL_S = 1.0


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
        """Return what progress and messages call it."""
        return f"{self.variant + ': ' if self.variant else ''}{self.category} seed {self.seed}"

    @property
    def finished(self) -> bool:
        """Whether its results are there."""
        return (self.folder / "metrics.json").exists()

    @property
    def has_detector(self) -> bool:
        """Whether it is finished and its detector is still there."""
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
    """A run that could not be done, and why."""

    job: Job
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """Return its entry in results.json."""
        return {"category": self.job.category, "seed": self.job.seed, "reason": self.reason}


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What came of a sweep."""

    out: Path
    jobs: Sequence[Job]
    results: Sequence[RunResult]
    """Finished runs in the order of ``jobs``."""
    skipped: Sequence[Skipped]
    leader: bool
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
        """Raise what ends a sweep that is not complete.

        Raises:
            CrdkitError: a run was skipped.
        """
        if self.skipped:
            names = ", ".join(skip.job.name for skip in self.skipped)
            raise CrdkitError(
                f"{self.out}: {len(self.skipped)} of {len(self.jobs)} runs were skipped ({names}); "
                "mend what their messages name, and resume"
            )


def sweep(
    base: RunConfig,
    *,
    out: Path | str,
    categories: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    variants: Mapping[str, Sequence[str]] | None = None,
    resume: bool = False,
) -> Sweep:
    """Run ``base`` for every category and seed in ``out/<category>/seed<seed>``, and write the tables into ``out``.

    Started by torchrun, ranks share the runs: whichever is free takes the next. Rank 0 stays until all are finished,
    takes over what a killed rank left, and writes the tables; the others leave when nothing is left to take.

    Args:
        base: the configuration; its category and seed are replaced.
        out: new or empty folder, which all ranks share.
        categories: None for all that lie in ``data.root``.
        seeds: of training.
        variants: overrides by label; each is a sweep of its own in ``out/<label>``. Variants that differ in aggregation
            or scoring alone share their students: they are trained once, and scored in every way.
        resume: go on in a folder that a sweep has written: what is finished is read, what was interrupted goes on from
            its newest checkpoint, the rest is done.

    Raises:
        ConfigError: a name or an override is refused, or a run in ``out`` has another configuration.
        DataError: ``categories`` is None and ``data.root`` holds none.
        CrdkitError: ``out`` is not empty and ``resume`` is false, or cannot be written.
    """
    out = Path(out)
    names = list_categories(base.data) if categories is None else categories
    jobs = list(_plan(base, out=out, categories=names, seeds=seeds, variants=variants or {"": ()}))
    ranks = Ranks.from_environment()
    ranks.agree(lambda: _open(out, jobs, resume=resume))
    ranks.use_local_device()
    work = _Work(out=out, jobs=jobs, leader=ranks.leader)
    work.do()
    done = [job.result() for job in jobs if job.finished]
    skipped = [Skipped(job=job, reason=work.skipped[job.folder]) for job in jobs if job.folder in work.skipped]
    outcome = Sweep(out=out, jobs=jobs, results=done, skipped=skipped, leader=ranks.leader)
    if ranks.leader:
        outcome.write()
    return outcome


def folder_name(variant: str) -> str:
    """Return the folder of a variant's runs."""
    return variant.replace(" ", "_")


def _plan(
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


def _open(out: Path, jobs: Sequence[Job], *, resume: bool) -> None:
    """Make ``out`` ready; refuse what is not empty or was made by another configuration."""
    try:
        if not resume and out.exists() and any(out.iterdir()):
            raise CrdkitError(
                f"{out}: is not empty; give --resume to go on with the sweep in it, or choose a new folder"
            )
        for job in jobs:
            require_same_config(job.folder, job.config)
        (out / STATE).mkdir(parents=True, exist_ok=True)
        for record in (out / STATE).glob("*.skipped"):
            record.unlink()  # tried anew
    except OSError as error:
        raise CrdkitError(f"{out}: cannot be written: {error.strerror or error}") from error


@dataclass(kw_only=True)
class _Work:
    """The runs of a sweep, as one process goes through them."""

    out: Path
    jobs: Sequence[Job]
    leader: bool
    skipped: dict[Path, str] = field(default_factory=dict)
    """Reasons by run directory, other ranks' too."""

    def do(self) -> None:
        """Do every run that no other process does; as the leader, stay until all are finished or skipped."""
        before = sum(job.finished for job in self.jobs)
        with overall("sweep", total=len(self.jobs), done=before) as shown:
            open_jobs = list(self.jobs)
            while open_jobs:
                for job in list(open_jobs):
                    if self._settle(job):
                        open_jobs.remove(job)
                        shown.update(sum(job.finished for job in self.jobs) + len(self.skipped))
                if open_jobs and not self.leader:
                    return
                if open_jobs:
                    time.sleep(POLL_S)

    def _settle(self, job: Job) -> bool:
        """Do ``job`` unless another process has done it or is at it; return whether it needs no more attention."""
        if self._settled(job):
            return True
        if not all(self._settled(twin) for twin in takewhile(lambda twin: twin is not job, self._alike(job))):
            return False  # its students are being trained, or soon will be
        with claim(self._state(job, "lock")) as ours:
            if not ours:
                return False
            if not self._settled(job):  # another process may have come to its end just before
                self._run(job)
        return True

    def _settled(self, job: Job) -> bool:
        record = self._state(job, "skipped")
        if not job.finished and record.exists():
            self.skipped.setdefault(job.folder, record.read_text(encoding="utf-8"))
        return job.finished or job.folder in self.skipped

    def _run(self, job: Job) -> None:
        say(f"{job.name}:")
        try:
            trained = next((twin.folder for twin in self._alike(job) if twin.has_detector), None)
            if trained is None:
                fit(job.config, job.folder, resume=True)
            else:
                say(f"the students of {trained} serve here too")
                rescore(job.config, trained, job.folder)
        except CrdkitError as error:
            self.skipped[job.folder] = str(error)
            write_text(self._state(job, "skipped"), str(error))
            say(f"skipped {job.name}: {error}")

    def _alike(self, job: Job) -> Iterator[Job]:
        """Iterate over the jobs that train the same students, ``job`` among them, in order."""
        for other in self.jobs:
            if (other.category, other.seed) == (job.category, job.seed) and same_students(other.config, job.config):
                yield other

    def _state(self, job: Job, kind: str) -> Path:
        return self.out / STATE / f"{'.'.join(job.folder.relative_to(self.out).parts)}.{kind}"
