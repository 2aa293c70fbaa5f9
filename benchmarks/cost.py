"""Count parameters and operations as the number of sensors grows: ``python -m benchmarks.cost [--write]``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

import crdkit
from crdkit.config import RunConfig
from crdkit.runs.describe import FLOP_CONVENTION, describe

RESULTS = Path(__file__).parent / "results"
PRESET = "crd-mvtec3d"
SENSORS = ("rgb", "depth", "normals", "infrared")
VIEWS = {"infrared": "single_channel"}
GRAPHS = (("full", "concat"), ("full", "mean"), ("star", "mean"), ("ring", "mean"))


def config(count: int, topology: str, merge: str) -> RunConfig:
    """Return the published model for the first ``count`` sensors, each with a WideResNet-50-2 as its teacher."""
    preset = RunConfig.preset(PRESET)
    encoder = json.dumps(preset.modalities["rgb"].encoder.model_dump(mode="json"))
    views = (f"{name}: {{name: {VIEWS.get(name, name)}, encoder: {encoder}}}" for name in SENSORS[:count])
    modalities = "{" + ", ".join(views) + "}"
    return preset.with_overrides(f"modalities={modalities}", f"graph.topology={topology}", f"graph.merge={merge}")


def measure() -> dict[str, Any]:
    """Describe every graph at every number of sensors; no weights are read, and branches take no memory."""
    rows = []
    for topology, merge in GRAPHS:
        for count in range(1, len(SENSORS) + 1):
            described = describe(config(count, topology, merge))
            students = [part for part in described.parts if part.part != "teacher"]
            teachers = [part for part in described.parts if part.part == "teacher"]
            rows.append(
                {
                    "graph": f"{topology}, {merge}",
                    "sensors": count,
                    "edges": len(described.graph.edges),
                    "student_parameters": sum(part.parameters for part in students),
                    "teacher_parameters": sum(part.parameters for part in teachers),
                    "student_gflop": sum(part.gflop for part in students),
                    "teacher_gflop": sum(part.gflop for part in teachers),
                    "training_gflop": sum(described.training_gflop.values()),
                }
            )
    return {
        "preset": PRESET,
        "image_size": RunConfig.preset(PRESET).data.image_size,
        "convention": FLOP_CONVENTION,
        "rows": rows,
        "environment": {"crdkit": crdkit.__version__, "torch": torch.__version__},
    }


def ratio(result: dict[str, Any], graph: str, sensors: int) -> float:
    """Return the student parameters of a graph over those of the published model: two sensors, full, concat."""
    counted = {(row["graph"], row["sensors"]): row["student_parameters"] for row in result["rows"]}
    return float(counted[graph, sensors] / counted["full, concat", 2])


def markdown(result: dict[str, Any]) -> str:
    """Return the table for docs/performance-log.md."""
    lines = [
        "| graph, merge | N | edges | students, M parameters | times N = 2 full | GFLOP forward | GFLOP training |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row['graph']} | {row['sensors']} | {row['edges']} | {row['student_parameters'] / 1e6:.1f} "
        f"| {ratio(result, row['graph'], row['sensors']):.2f} | {row['student_gflop'] + row['teacher_gflop']:.1f} "
        f"| {row['training_gflop']:.1f} |"
        for row in result["rows"]
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write results/cost.json and results/cost.md")
    arguments = parser.parse_args()
    result = measure()
    print(markdown(result))
    if arguments.write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "cost.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        (RESULTS / "cost.md").write_text(markdown(result), encoding="utf-8")


if __name__ == "__main__":
    main()
