"""Numbers of many runs: per category and over all, mean and standard deviation over seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from crdkit._core.files import write_text
from crdkit.errors import CrdkitError
from crdkit.report.grid import PLUS_MINUS, Cell, Column, Grid
from crdkit.scoring.names import COLUMNS, label

SECONDS = "seconds"
MEAN = "mean"
"""Name of the row for all categories, in tables and in published values."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The metrics of one finished run.

    Examples:
        >>> metrics = {"aggregate": {"image_auroc": 0.9}, "branches": {"rgb": {"image_auroc": 0.8}}}
        >>> result = RunResult(category="gear", seed=0, folder=Path("runs/gear/seed0"), metrics=metrics)
        >>> result.value("image_auroc"), result.value("image_auroc", branch="rgb"), result.value("image_ap")
        (0.9, 0.8, None)
    """

    category: str
    seed: int
    folder: Path
    """Its run directory."""
    metrics: Mapping[str, Any]
    """The content of its metrics.json."""
    variant: str = ""

    def value(self, key: str, *, branch: str | None = None) -> float | None:
        """Return a metric of the fused map, or of the map of ``branch``; with `SECONDS` how long the run took.

        None stands for what cannot be computed or was not measured.

        Raises:
            CrdkitError: the run has no such branch.
        """
        if key == SECONDS:
            seconds: float = self.metrics["seconds"]["total"]
            return seconds
        branches = self.metrics["branches"]
        if branch is not None and branch not in branches:
            raise CrdkitError(f"{self.folder}: has no branch {branch!r}, but {', '.join(branches)}")
        values: Mapping[str, float | None] = self.metrics["aggregate"] if branch is None else branches[branch]
        return values.get(key)


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """Mean and standard deviation over seeds.

    Examples:
        >>> Statistic.of([0.5, 0.75, None])
        Statistic(mean=0.625, std=0.1767766952966369)
    """

    mean: float | None
    """None if no seed has a value."""
    std: float | None
    """Of the sample (n - 1); None for fewer than two values."""

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Statistic:
        """Return the statistic of the values that are not None.

        Examples:
            >>> Statistic.of([0.9, 1.0, None]).mean
            0.95
        """
        known = [value for value in values if value is not None]
        return cls(mean=mean(known) if known else None, std=stdev(known) if len(known) > 1 else None)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The runs of one configuration, by category.

    Examples:
        >>> def run(category, seed, auroc):
        ...     metrics = {"aggregate": {"image_auroc": auroc}, "branches": {}, "seconds": {"total": 60}}
        ...     return RunResult(category=category, seed=seed, folder=Path("runs"), metrics=metrics)
        >>> summary = Summary(results=[run("bagel", 0, 0.875), run("bagel", 1, 0.625), run("tire", 0, 0.25)])
        >>> summary.of("bagel", "image_auroc").mean, summary.of("mean", "image_auroc").mean
        (0.75, 0.5)
        >>> print(summary.grid(["image_auroc"]).markdown(), end="")
        | category | runs | I-AUROC | seconds |
        |---|--:|--:|--:|
        | bagel | 2 | 75.0 ± 17.7 | 60.0 ± 0.0 |
        | tire | 1 | 25.0 | 60.0 |
        | mean | 3 | 50.0 | 60.0 |
    """

    results: Sequence[RunResult]

    @property
    def categories(self) -> list[str]:
        """Every category, in the order of its first run."""
        return list(dict.fromkeys(result.category for result in self.results))

    @property
    def seeds(self) -> list[int]:
        """Every seed, in ascending order."""
        return sorted({result.seed for result in self.results})

    def runs(self, category: str) -> list[RunResult]:
        """Return the runs of one category; of all for `MEAN`."""
        return [result for result in self.results if category in (MEAN, result.category)]

    def with_seed(self, seed: int) -> Summary:
        """Return the runs of one seed."""
        return Summary(results=[result for result in self.results if result.seed == seed])

    def of(self, category: str, key: str, *, branch: str | None = None) -> Statistic:
        """Return a metric of one category, over its seeds.

        For `MEAN` it is the mean of the categories' means. Its deviation is that of each seed's mean over categories,
        from the seeds that have a value in every category.
        """
        if category != MEAN:
            return Statistic.of([result.value(key, branch=branch) for result in self.runs(category)])
        means = [self.of(name, key, branch=branch).mean for name in self.categories]
        complete = []
        for seed in self.seeds:
            values = [result.value(key, branch=branch) for result in self.results if result.seed == seed]
            known = [value for value in values if value is not None]
            if len(known) == len(self.categories):
                complete.append(mean(known))
        return Statistic(mean=Statistic.of(means).mean, std=Statistic.of(complete).std)

    def grid(self, keys: Sequence[str] = COLUMNS, *, title: str = "") -> Grid:
        """Return the table of a sweep: percent, and seconds of a run; one row per category and their mean."""
        columns = [Column("runs", "count"), *(Column(label(key), "measured") for key in keys)]
        rows = {}
        for name in [*self.categories, MEAN]:
            cells = [Cell(len(self.runs(name)), digits=0)]
            cells += [percent_cell(self.of(name, key)) for key in keys]
            seconds = self.of(name, SECONDS)
            rows[name] = [*cells, Cell(seconds.mean, seconds.std)]
        return Grid(title=title, name="category", columns=[*columns, Column(SECONDS, "measured")], rows=rows)

    def as_dict(self, keys: Sequence[str] = COLUMNS, *, skipped: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """Return the content of results.json: fractions as in metrics.json, and seconds."""
        named = [*keys, SECONDS]
        return {
            "seeds": self.seeds,
            "categories": {name: self._entry(name, named) for name in self.categories},
            MEAN: self._entry(MEAN, named),
            "skipped": list(skipped),
        }

    def _entry(self, category: str, keys: Sequence[str]) -> dict[str, Any]:
        statistics = {key: self.of(category, key) for key in keys}
        entry: dict[str, Any] = {key: {"mean": value.mean, "std": value.std} for key, value in statistics.items()}
        if category != MEAN:
            runs = self.runs(category)
            entry["runs"] = {str(run.seed): {key: run.value(key) for key in keys} for run in runs}
        return entry


def percent_cell(statistic: Statistic) -> Cell:
    """Return a fraction's mean and deviation in percent."""
    value, std = (None if number is None else 100 * number for number in (statistic.mean, statistic.std))
    return Cell(value, std)


def write_summary(folder: Path, summary: Summary, *, skipped: Sequence[Mapping[str, Any]] = ()) -> Grid:
    """Write results.md, results.csv and results.json of a sweep into ``folder``, and return their table.

    Args:
        folder: exists already.
        summary: the finished runs.
        skipped: ``{"category", "seed", "reason"}`` of each run that failed.

    Raises:
        CrdkitError: a file cannot be written.
    """
    grid = summary.grid()
    lines = [grid.markdown(), note(summary)]
    lines += [f"skipped: {entry['category']} seed {entry['seed']}: {entry['reason']}\n" for entry in skipped]
    write_text(folder / "results.md", "\n".join(lines))
    write_text(folder / "results.csv", grid.csv())
    write_text(folder / "results.json", json.dumps(summary.as_dict(skipped=skipped), indent=2) + "\n")
    return grid


def note(summary: Summary) -> str:
    """Return one paragraph about what the numbers of a table are and where they were measured."""
    seeds = ", ".join(map(str, summary.seeds)) or "none"
    where = sorted(
        {
            f"{run.metrics['environment']['device']}, torch {run.metrics['environment']['torch']}, "
            f"crdkit {run.metrics['environment']['crdkit']}"
            for run in summary.results
        }
    )
    return (
        f"Percent, and seconds of a run; mean {PLUS_MINUS} sample standard deviation over seeds ({seeds}). "
        f"Measured on: {'; '.join(where) or 'nothing'}.\n"
    )
