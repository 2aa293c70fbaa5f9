"""`crdkit evaluate --intervals` and `crdkit compare`: what they print, write and refuse."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_cli import fails, run

from crdkit.data import SampleRecord
from crdkit.detector import Detector
from crdkit.errors import CrdkitError, DataError
from crdkit.metrics import Rate, compare, error_rates, intervals, recall_at
from crdkit.runs.compare import Scored, compare_runs
from crdkit.runs.directory import read_metrics
from crdkit.runs.evaluate import rescore
from crdkit.scoring import Maps
from crdkit.scoring.certainty import measure_certainty
from crdkit.scoring.conformal import Normals
from crdkit.scoring.thresholds import Thresholds
from crdkit.views.split import LoadedSplit


@pytest.fixture(scope="module")
def other(finished, tiny, tmp_path_factory):
    """The same students with another aggregation."""
    folder = tmp_path_factory.mktemp("other") / "max"
    rescore(tiny.with_overrides("aggregation.name=max"), finished, folder)
    return folder


def scores_of(folder):
    with (folder / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [float(row["pred_score"]) for row in rows], [int(row["gt_label"]) for row in rows]


def test_intervals_are_printed_and_written(finished, tmp_path, capsys):
    code, out, err = run(capsys, "-q", "evaluate", finished, "--intervals", "--out", tmp_path / "again")
    assert (code, err) == (0, "")
    metrics = read_metrics(tmp_path / "again")
    assert list(metrics["intervals"]) == list(metrics["aggregate"])
    scores, labels = scores_of(tmp_path / "again")
    expected = intervals(None, None, scores, labels=labels)["image_auroc"]
    assert metrics["intervals"]["image_auroc"] == pytest.approx(list(expected))
    low, high = metrics["intervals"]["aupro_0.30"]
    assert 0 <= low <= high <= 1
    assert f"{100 * low:.1f} to {100 * high:.1f}" in out
    assert "95 % interval" in out
    assert not {"intervals", "decisions"} & read_metrics(finished).keys()
    threshold = Detector.load(finished / "detector").thresholds.images["rgb", "depth"].value
    decisions = metrics["decisions"]
    expected = error_rates(scores, labels, threshold)
    assert Rate(**decisions["false_alarms"]) == expected.false_alarms
    assert Rate(**decisions["misses"]) == expected.misses
    assert f"misses: {expected.misses}" in out
    assert decisions["image_recall_0.05"] == recall_at(scores, labels, 0.05)
    assert f"found at 5 % false alarms: {100 * decisions['image_recall_0.05']:.1f} %" in out


def test_samples_are_judged_by_the_threshold_of_what_they_have():
    both, alone = ("rgb", "depth"), ("rgb",)
    thresholds = Thresholds(
        scores={both: Normals([1.0] * 9, rule="split"), alone: Normals([5.0] * 9, rule="split")},
        peaks={},
        false_alarms=0.1,
    )
    labels = [0, 0, 1, 1, 1]
    present = {"rgb": torch.tensor([1, 1, 1, 1, 0]).bool(), "depth": torch.tensor([1, 0, 1, 0, 1]).bool()}
    records = [
        SampleRecord(sample_id=f"{row}", split="test", label=label, defect_type="x", files={})
        for row, label in enumerate(labels)
    ]
    split = LoadedSplit(records=tuple(records), inputs={"rgb": torch.zeros(5, 3, 2, 2)})
    maps = Maps(
        anomaly_map=torch.rand(5, 2, 2),
        pred_score=torch.tensor([2.0, 2.0, 2.0, 2.0, 9.0]),
        branches={name: torch.rand(5, 2, 2) for name in both},
        present=present,
    )
    found = measure_certainty(maps, split, thresholds)["decisions"]
    assert (found["false_alarms"]["count"], found["false_alarms"]["total"]) == (1, 2)
    assert (found["misses"]["count"], found["misses"]["total"]) == (1, 2)  # none is known without rgb
    undecided = measure_certainty(maps, split, None)["decisions"]
    assert undecided["misses"] is undecided["false_alarms"] is None
    assert undecided["image_recall_0.05"] == pytest.approx(1 / 3)
    unlabelled = replace(split, records=tuple(replace(record, label=None) for record in records))
    assert set(measure_certainty(maps, unlabelled, thresholds)["decisions"].values()) == {None}


def test_two_runs_are_compared_at_image_and_pixel_level(finished, other, capsys):
    code, out, err = run(capsys, "-q", "compare", finished, other, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["first"], found["second"]) == (str(finished), str(other))
    for place, folder in (("first", finished), ("second", other)):
        for name, value in read_metrics(folder)["aggregate"].items():
            assert found["metrics"][name][place] == pytest.approx(value, abs=1e-6), name
    code, out, _ = run(capsys, "-q", "compare", finished, other, "--image-level")
    assert code == 0
    assert "I-AUROC" in out
    assert f"{found['samples']['normal']} normal and {found['samples']['anomalous']} anomalous test samples" in out
    (one, labels), (two, _) = scores_of(finished), scores_of(other)
    expected = compare(None, None, None, (one, two), labels=labels)["image_auroc"]
    assert found["metrics"]["image_auroc"]["p_value"] == pytest.approx(expected.p_value, abs=0.01)
    assert f"{100 * expected.difference:+.1f}" in out


def test_other_samples_are_refused(finished, tmp_path, capsys):
    changed = tmp_path / "changed"
    changed.mkdir()
    lines = (finished / "scores.csv").read_text().splitlines()
    (changed / "scores.csv").write_text("\n".join(lines[:-1]) + "\n")
    message = fails(capsys, "compare", finished, changed, "--image-level")
    gone = lines[-1].split(",")[0]
    assert f"were scored on different test samples ({len(lines) - 1} and {len(lines) - 2})" in message
    assert f"only {finished} has {gone}; compare runs on one test split" in message
    path, kind, label, *rest = lines[1].split(",")
    flipped = ",".join([path, kind, str(1 - int(label)), *rest])
    (changed / "scores.csv").write_text("\n".join([lines[0], flipped, *lines[2:]]) + "\n")
    with pytest.raises(DataError, match=f"have different labels for {path}"):
        compare_runs(finished, changed, image_level=True)
    (changed / "scores.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    same = compare_runs(finished, changed, image_level=True).metrics["image_auroc"]
    assert (same.difference, same.p_value) == (0, 1)  # in another order


def test_what_is_no_run_is_refused(finished, tmp_path, capsys):
    assert "holds no scores.csv; give the directory of a finished run" in fails(
        capsys, "compare", finished, tmp_path, "--image-level"
    )
    (tmp_path / "scores.csv").write_text("image_path,gt_label,pred_score\na.png,,0.5\n")
    with pytest.raises(DataError, match=r"scores\.csv: cannot be read as the scores of labelled samples"):
        compare_runs(finished, tmp_path, image_level=True)
    with pytest.raises(CrdkitError, match=r"override 'data\.root=x': nothing is scored at image level"):
        compare_runs(finished, finished, "data.root=x", image_level=True)
    assert "--intervals is for finished runs" in fails(
        capsys, "evaluate", "quick", "--published", tmp_path / "none", "--intervals"
    )


def scored(name, maps, masks=None):
    return Scored(name, ["a", "b"], np.array([0, 1]), np.array([0.1, 0.9]), maps, masks)


def test_other_masks_and_other_sizes_are_refused():
    """The paths are the same, so only these tell."""
    maps, masks = torch.rand(2, 8, 8), torch.zeros(2, 8, 8, dtype=torch.bool)
    marked = masks.clone()
    marked[1, 2, 2] = True
    same = scored("two", maps, marked).in_order_of(scored("one", maps, marked.clone()))
    assert torch.equal(same.maps, maps)
    with pytest.raises(DataError, match=r"^one and two have different masks; compare on one test split$"):
        scored("two", maps, marked).in_order_of(scored("one", maps, masks))
    with pytest.raises(DataError, match=r"^one and two have different masks"):
        scored("two", maps).in_order_of(scored("one", maps, masks))
    with pytest.raises(
        DataError, match=r"maps of one and two have 8 and 4 pixels a side; only image-level metrics can"
    ):
        scored("two", torch.rand(2, 4, 4)).in_order_of(scored("one", maps))
