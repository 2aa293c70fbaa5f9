"""Every topology over one to four sensors, with both merges: a training step, and a detector that survives its disk."""

from __future__ import annotations

import itertools

import pytest
import torch

from crdkit.config import RunConfig
from crdkit.config.build import build_graph, build_model, build_scorer
from crdkit.detector import Detector
from crdkit.errors import ConfigError
from crdkit.model.projections import projections
from crdkit.scoring.aggregations import aggregations
from crdkit.testing import example_sensors
from crdkit.training.losses import TERMS, crd_losses

SENSORS = ("rgb", "depth", "infrared", "normals")
TOPOLOGIES = ("none", "full", "star", "ring", "edges")
PAIRS = {  # what each topology joins, by number of sensors
    "none": [0, 0, 0, 0],
    "full": [0, 2, 6, 12],
    "star": [0, 2, 4, 6],
    "ring": [0, 2, 3, 4],
    "edges": [0, 1, 2, 3],
}
OPTIONS = {"bottleneck": {"size": 2}}


def edges_of(names):
    """Return a chain of edges: with both parts, with the filter alone, with the amplifier alone."""
    left_out = itertools.cycle([{}, {"amplifier": None}, {"filter": None}])
    return [{"source": source, "target": target, **next(left_out)} for source, target in itertools.pairwise(names)]


def run_of(count, topology, *, merge="concat", filter_="bottleneck", amplifier="identity", aggregation="tail_norm"):
    names = SENSORS[:count]
    teacher = {"name": "timm", "model": "test_resnet", "pretrained": False}
    weights = {"weights": dict.fromkeys(names, 1.5)} if aggregation == "weighted" else {}
    return RunConfig.from_dict(
        {
            "data": {"name": "folder", "image_size": 32},
            "modalities": {name: {"encoder": teacher} for name in names},
            "graph": {
                "topology": topology,
                "edges": edges_of(names) if topology == "edges" else [],
                "filter": {"name": filter_, **OPTIONS.get(filter_, {})},
                "amplifier": {"name": amplifier},
                "merge": merge,
            },
            "student": {"depths": 1, "embedding_blocks": 1},
            "aggregation": {"name": aggregation, **weights},
            "scoring": {"sigma": 1},
        }
    )


def check_a_step_and_a_round_trip(run, folder):
    model = build_model(run)
    names = tuple(run.modalities)
    generator = torch.Generator().manual_seed(0)
    images = {name: torch.rand(2, 3, 32, 32, generator=generator) for name in names}
    out = model(images)
    losses = crd_losses(out)
    assert {name: list(terms) for name, terms in losses.items()} == {name: list(TERMS) for name in names}
    torch.stack([torch.stack([*terms.values()]).sum() for terms in losses.values()]).sum().backward()
    for name, parameter in model.branches.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
    for edge in model.graph.edges:
        assert (edge.source in out.filtered[edge.target]) == (edge.filter is not None)
        assert (edge.source in out.amplified[edge.target]) == (edge.amplifier is not None)

    detector = Detector(config=run, model=model, scorer=build_scorer(run))
    with torch.no_grad():
        seen = detector.model(images)
        detector.scorer.aggregation.calibrate(detector.scorer.raw_maps(seen.teacher, seen.output))
    sensors = example_sensors(detector.sensors, size=(40, 48))
    before = detector.predict(sensors)
    detector.save(folder / "detector")
    loaded = Detector.load(folder / "detector", device="cpu")
    assert loaded.config == run.model_copy(update={"data": run.data.model_copy(update={"root": None})})
    after = loaded.predict(sensors)
    assert after.score == before.score
    assert tuple(after.maps) == names
    for mine, theirs in [(after.anomaly_map, before.anomaly_map), *((after.maps[n], before.maps[n]) for n in names)]:
        assert mine.shape == (40, 48)
        assert mine.tobytes() == theirs.tobytes()
    loaded.save(folder / "again")
    for file in ("model.safetensors", "config.json"):
        assert (folder / "again" / file).read_bytes() == (folder / "detector" / file).read_bytes()


@pytest.mark.parametrize("merge", ["concat", "mean"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_topologies(topology, count, merge, tmp_path):
    if topology == "edges" and count == 1:
        with pytest.raises(ConfigError, match="list edges if, and only if, the topology is 'edges'"):
            run_of(count, topology)
        return
    run = run_of(count, topology, merge=merge)
    assert len(build_graph(run).edges) == PAIRS[topology][count - 1]
    check_a_step_and_a_round_trip(run, tmp_path)


@pytest.mark.parametrize("amplifier", projections.names())
@pytest.mark.parametrize("filter_", projections.names())
def test_filters_and_amplifiers(filter_, amplifier, tmp_path):
    check_a_step_and_a_round_trip(run_of(3, "star", filter_=filter_, amplifier=amplifier), tmp_path)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("aggregation", aggregations.names())
def test_aggregations(aggregation, count, tmp_path):
    check_a_step_and_a_round_trip(run_of(count, "ring", aggregation=aggregation), tmp_path)
