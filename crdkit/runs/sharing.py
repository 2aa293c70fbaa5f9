"""Evaluation by many processes that share the test split: the numbers are those of a process alone."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from crdkit._core.files import read_tensors, write_tensors
from crdkit._core.shares import Shares, samples_per_share
from crdkit.data import SampleRecord
from crdkit.data.decode import report_skipped
from crdkit.detector import Detector, Unusual
from crdkit.detector.sharing import order_of, states
from crdkit.runs._pipeline import Pipeline
from crdkit.runs.directory import read_metrics
from crdkit.runs.evaluate import open_run
from crdkit.scoring.scorer import Maps
from crdkit.views.oddities import report_oddities
from crdkit.views.split import decode_split, from_decoded
from crdkit.views.summary import SampleSummary, from_json, to_json

_FILE = "scored.safetensors"


def share_evaluation(
    folder: Path | str,
    *overrides: str,
    out: Path | str,
    allow_plugins: bool = False,
    unusual: Unusual = "error",
    intervals: bool = False,
) -> dict[str, Any]:
    """Do what `crdkit.runs.evaluate.evaluate_run` does, together with all processes that call this alike.

    Each decodes and scores shares of the test split, and one of them measures. It holds the whole split in memory, as
    one alone would. A process that is killed loses what it had begun, and any later call does only what is missing.
    The seconds in metrics.json are those of the process that measured.

    Args:
        folder: a run or a detector directory.
        overrides: as for `evaluate_run`.
        out: new or empty folder, which all processes see, on a file system with locks.
        allow_plugins: as for `evaluate_run`.
        unusual: as for `evaluate_run`.
        intervals: as for `evaluate_run`.

    Raises:
        CrdkitError: as `evaluate_run` does, and if another detector, other samples or other options have begun to fill
            ``out``.
    """
    detector, run = open_run(folder, *overrides, allow_plugins=allow_plugins, unusual=unusual)
    records = run.records["test"]
    order = order_of("evaluate", run.config, source=folder, dataset=run.dataset, records=records)
    order |= {"unusual": unusual, "device": detector.device.type, "intervals": intervals}
    size = samples_per_share(len(records), run.config.training.batch_size)
    work = _Evaluation(
        Shares(Path(out), order=order, total=len(records), size=size), detector, run, intervals=intervals
    )
    work.shares.begin()
    work.shares.each(work.score, work.is_scored, description="evaluating")
    work.shares.finish(work.measure)
    return read_metrics(out)


class _Evaluation:
    """The steps: `score` a share, `measure` the split.

    Args:
        shares: of the samples.
        detector: scores.
        run: has listed the test split.
        intervals: whether they are computed.
    """

    def __init__(self, shares: Shares, detector: Detector, run: Pipeline, *, intervals: bool) -> None:
        self.shares, self._detector, self._run, self._intervals = shares, detector, run, intervals
        self._records = run.records["test"]
        self._known: set[int] = set()

    def is_scored(self, share: int) -> bool:
        """Return whether a share is scored, and its files are what they were then."""
        if share in self._known:
            return True
        same = self.shares.is_there(share) and self._read(share)[1]["files"] == self._states(share)
        if same:
            self._known.add(share)
        return same

    def score(self, share: int) -> None:
        """Decode and score a share, and keep its views, masks, maps and what its sensors hold."""
        run, before = self._run, self._states(share)
        records = self._records_of(share)
        decoded = decode_split(run.dataset, records, views=run.views, description="evaluating")
        tensors, skipped, summaries = decoded
        split = from_decoded(records, decoded, views=run.views)
        self._detector.require_usual(split)
        if len(split):
            maps = self._detector.score(split.at("device", self._detector.device))
            tensors |= {"maps.fused": maps.anomaly_map, "maps.score": maps.pred_score}
            tensors |= {f"branches.{name}": values for name, values in maps.branches.items()}
        header = {"files": before, "skipped": skipped, "summaries": [to_json(summary) for summary in summaries]}
        with self.shares.part(share) as kept:
            write_tensors(kept / _FILE, tensors, header=header)
        self._known.add(share)

    def measure(self, results: Path) -> Mapping[str, Any]:
        """Put the shares together, and write what an evaluation writes."""
        shutil.rmtree(results)  # what a killed process left
        results.mkdir()
        run, device = self._run, self._detector.device
        tensors, skipped, summaries = self._joined()
        report_skipped(list(skipped.values()), total=len(self._records))
        split = from_decoded(self._records, (tensors, skipped, summaries), views=run.views)
        report_oddities(list(zip(split.records, split.summaries, strict=True)), views=run.views, data=run.config.data)
        run.splits = {"test": split}
        run.place(self._detector.model, device)
        maps = Maps(
            anomaly_map=tensors["maps.fused"].to(device),
            pred_score=tensors["maps.score"].to(device),
            branches={name: tensors[f"branches.{name}"].to(device) for name in run.views},
            present=run.scored.present,
        )
        run.finish(self._detector, results, intervals=self._intervals, maps=maps)
        return {}

    def _joined(self) -> tuple[dict[str, torch.Tensor], dict[int, str], list[SampleSummary]]:
        """Return what `decode_split` gives for all samples, and maps and scores beside it."""
        found: list[dict[str, torch.Tensor]] = []
        skipped: dict[int, str] = {}
        summaries: list[SampleSummary] = []
        for share in range(len(self.shares)):
            tensors, header = self._read(share)
            first = self.shares.samples(share).start
            skipped |= {first + int(index): why for index, why in header["skipped"].items()}
            summaries += [from_json(values) for values in header["summaries"]]
            found += [tensors] if header["summaries"] else []
        # masks count only if every sample has one
        names = [name for name in (found[0] if found else ()) if all(name in tensors for tensors in found)]
        return {name: _concatenated([tensors[name] for tensors in found]) for name in names}, skipped, summaries

    def _records_of(self, share: int) -> Sequence[SampleRecord]:
        places = self.shares.samples(share)
        return self._records[places.start : places.stop]

    def _states(self, share: int) -> list[list[list[int]]]:
        return states(self._run.dataset, self._records_of(share))

    def _read(self, share: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        return read_tensors(self.shares.place(share) / _FILE)


def _concatenated(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the parts one after the other; one that stands for a missing view has a channel, and gets all of them."""
    shape = max((part.shape[1:] for part in parts), key=tuple)
    return torch.cat([part.expand(len(part), *shape) for part in parts])
