"""Pages of finished runs, made again: the report of one, and several side by side on the same samples."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crdkit._core.locks import hold
from crdkit._core.progress import track
from crdkit.config.run_config import RunConfig
from crdkit.detector import Unusual
from crdkit.errors import CrdkitError, DataError
from crdkit.report.compared import SideBySide, write_side_by_side
from crdkit.report.data import ReportData
from crdkit.report.explorer import Explored, explore
from crdkit.report.gallery import order
from crdkit.report.page import write_report
from crdkit.report.pictures import BUDGET
from crdkit.runs.compare import Scored, compare_scored
from crdkit.runs.directory import flatten, read_log, read_metrics, report_data
from crdkit.runs.evaluate import load_test_split, open_run
from crdkit.scoring.intervals import RESAMPLES, Difference
from crdkit.scoring.measure import measure
from crdkit.scoring.names import MISSING
from crdkit.scoring.table import shown_path


@dataclass(frozen=True)
class _Run:
    """One run's part of a page of several."""

    name: str
    folder: Path
    title: str
    metrics: Mapping[str, Any]
    options: Mapping[str, Any]
    notes: Sequence[str]
    labelled: bool
    scored: Scored
    order: NDArray[np.int64]
    """Of the samples on the page."""
    explored: Explored


def rebuild_report(
    folder: Path | str,
    *overrides: str,
    out: Path | str | None = None,
    allow_plugins: bool = False,
    unusual: Unusual = "error",
) -> Path:
    """Write the report of a finished run again, with the thresholds that its detector has now, and return its path.

    The samples are read and scored once more; nothing is trained, and no other file of the run changes but figures/.

    Args:
        folder: the run directory.
        overrides: as in `crdkit.runs.evaluate.evaluate_run`; ``data.root=...`` where the data have moved.
        out: an HTML file; None: report.html and figures/ in ``folder``.
        allow_plugins: as in `crdkit.runs.evaluate.evaluate_run`.
        unusual: as there.

    Raises:
        DataError: the data cannot be read, or are not the samples of the run.
        CrdkitError: the folder holds no finished run, another process writes there, or what `evaluate_run` raises.
    """
    run, page = Path(folder), None if out is None else _page(out)
    data, _, _ = _see(run, *overrides, allow_plugins=allow_plugins, unusual=unusual)
    if page is not None:
        write_report(data, page)
        return page
    with hold(run):
        write_report(data, run / "report.html", figures=run / "figures")
    return run / "report.html"


def compare_reports(
    folders: Sequence[Path | str],
    *overrides: str,
    out: Path | str,
    image_level: bool = False,
    allow_plugins: bool = False,
    unusual: Unusual = "error",
    resamples: int = RESAMPLES,
) -> Path:
    """Write a page that shows the same samples as several finished runs see them, and how their metrics differ.

    Every run is compared with the first one, by paired differences with intervals; see `crdkit.metrics.compare`.

    Args:
        folders: of the runs, two or more, on the same samples.
        overrides: as in `crdkit.runs.evaluate.evaluate_run`, for all of them.
        out: an HTML file.
        image_level: leave out the differences of metrics of pixels, whose resamples take longest.
        allow_plugins: as in `crdkit.runs.evaluate.evaluate_run`.
        unusual: as there.
        resamples: of the bootstrap.

    Raises:
        DataError: the data cannot be read, or the runs have other samples, labels or masks.
        CrdkitError: there are fewer than two runs, a folder holds no finished run, or what `evaluate_run` raises.
    """
    paths = [Path(folder) for folder in folders]
    if len(paths) < 2 or len(set(paths)) < len(paths):
        listed = ", ".join(map(str, paths)) or "none"
        raise CrdkitError(f"runs to compare (={listed}): give two different ones, or more")
    page, runs = _page(out), list[_Run]()
    for path, name in zip(paths, short_names(paths), strict=True):
        seen = _see(path, *overrides, allow_plugins=allow_plugins, unusual=unusual)
        runs.append(_part(path, name, *seen, before=runs, budget=BUDGET // len(paths)))
    first, *others = runs
    what = SideBySide(
        title=first.title,
        names=[run.name for run in runs],
        folders=[str(run.folder) for run in runs],
        metrics=[run.metrics for run in runs],
        differences={
            run.name: _differences(first, run, image_level=image_level, resamples=resamples)
            for run in track(others, description="comparing runs", total=len(others))
        },
        options=_differing([run.options for run in runs]),
        notes=[f"{run.name}: {note}" for run in runs for note in run.notes],
        explored=[run.explored for run in runs],
    )
    write_side_by_side(what, page)
    return page


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths that tell them apart.

    Examples:
        >>> short_names([Path("runs/a/seed0"), Path("runs/b/seed0")]), short_names([Path("runs/a"), Path("b")])
        (['a/seed0', 'b/seed0'], ['a', 'b'])
    """
    parts = [path.absolute().parts for path in paths]
    for length in range(1, max(map(len, parts))):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _page(out: Path | str) -> Path:
    page = Path(out)
    if page.is_dir():
        raise CrdkitError(f"{page}: is a folder; name a file for the page, e.g. {page / 'report.html'}")
    return page


def _see(folder: Path, *overrides: str, allow_plugins: bool, unusual: Unusual) -> tuple[ReportData, RunConfig, Scored]:
    """Score the samples of a finished run once more."""
    known = read_metrics(folder)
    detector, run = open_run(
        folder, *overrides, allow_plugins=allow_plugins, unusual=unusual, or_validation=_normals_only(folder, known)
    )
    load_test_split(detector, run)
    split, config = run.scored, run.config
    paths = [shown_path(record, config.data.root) for record in split.records]
    _require_same_samples(folder, paths, config)
    maps = detector.score(split)
    data = report_data(
        config=config,
        metrics={**known, **measure(maps, split, sampled_thresholds=config.scoring.sampled_thresholds)},
        maps=maps,
        split=split,
        history=read_log(folder),
        decided=detector.decide_split(split, maps),
    )
    labels = np.zeros(len(split), dtype=np.int64) if split.labels is None else split.labels
    scores = maps.pred_score.cpu().numpy().astype(float)
    return data, config, Scored(str(folder), paths, labels, scores, maps.anomaly_map.cpu(), split.masks)


def _normals_only(folder: Path, metrics: Mapping[str, Any]) -> bool:
    try:
        return metrics["counts"]["test"] is None
    except (KeyError, TypeError) as error:
        raise CrdkitError(f"{folder / 'metrics.json'}: has no counts; give the folder of a finished run") from error


def _require_same_samples(folder: Path, paths: Sequence[str], config: RunConfig) -> None:
    """Refuse samples other than those that the run has scored."""
    file = folder / "scores.csv"
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            before = {row["image_path"] for row in csv.DictReader(lines)}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise CrdkitError(f"{file}: cannot be read: {error}; give the folder of a finished run") from error
    if unlike := sorted(before ^ set(paths)):
        owner = "scores.csv" if unlike[0] in before else str(config.data.root or config.data.name)
        raise DataError(
            f"{folder}: its scores.csv and {config.data.root or config.data.name} have different samples: only {owner} "
            f"has {unlike[0]}; for other samples use crdkit evaluate {folder} data.root=... --out FOLDER"
        )


def _part(
    folder: Path,
    name: str,
    data: ReportData,
    config: RunConfig,
    scored: Scored,
    *,
    before: Sequence[_Run],
    budget: int,
) -> _Run:
    """Return a run's part of the page; the inputs are those that no run before it has."""
    scored = replace(scored, name=name)
    placed = before[0].order if before else np.array(order(data.labels, data.scores))
    rows = scored.rows_of(before[0].scored)[placed] if before else placed
    shown = {key for run in before for key in run.explored.head["inputs"]}
    data = replace(data, inputs={key: images for key, images in data.inputs.items() if key not in shown})
    return _Run(
        name=name,
        folder=folder,
        title=data.title,
        metrics=data.metrics.get("aggregate") or {},
        options=dict(flatten(config.model_dump(mode="json"))),
        notes=data.notes,
        labelled=data.labels is not None,
        scored=scored,
        order=placed,
        explored=explore(data, name=name, rows=rows.tolist(), budget=budget),
    )


def _differences(first: _Run, second: _Run, *, image_level: bool, resamples: int) -> dict[str, Difference | None]:
    """Return how the metrics differ; nothing without labels."""
    if not (first.labelled and second.labelled):
        return {}
    one, two = first.scored, second.scored
    sizes = [None if scored.maps is None else scored.maps.shape[-1] for scored in (one, two)]
    if image_level or sizes[0] != sizes[1]:
        one, two = (replace(scored, maps=None, masks=None) for scored in (one, two))
    return dict(compare_scored(one, two, resamples=resamples).metrics)


def _differing(options: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the options that are not the same in all runs, as text by run; where the data lie does not count."""
    keys = dict.fromkeys(key for one in options for key in one if key not in ("data.root", "training.device"))
    found = {key: [repr(one[key]) if key in one else MISSING for one in options] for key in keys}
    return {key: texts for key, texts in found.items() if len(set(texts)) > 1}
