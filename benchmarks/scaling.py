"""Measure how a training step grows with resolution, sensors and data: ``python -m benchmarks.scaling [--write]``.

Preset `quick`, random images: no data set is needed, only the offline teacher. About a minute on a quiet core. Seconds
are processor time of the one thread that computes, which other programs lengthen far less than the time on the clock.
`python -m benchmarks.scaling_figure` draws the figure of docs/performance-log.md from what this writes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import environment
from benchmarks.measurements import with_features
from crdkit._core.progress import set_quiet
from crdkit.config import RunConfig
from crdkit.config.build import build_model
from crdkit.data import SampleRecord
from crdkit.views.split import LoadedSplit

RESULTS = Path(__file__).parent / "results"
PRESET = "quick"
SENSORS = {"rgb": "rgb", "depth": "depth", "normals": "normals", "infrared": "single_channel"}
"""View of each sensor, in the order in which they join."""
SIZES, COUNTS, SAMPLES = (64, 128, 192, 256), (1, 2, 3, 4), (16, 32, 64)
GRAPHS = (("full", "concat"), ("star", "mean"))


def configure(*, sensors: int, image_size: int, topology: str = "full", merge: str = "concat") -> RunConfig:
    """Return the preset for the first ``sensors`` sensors."""
    preset = RunConfig.preset(PRESET)
    encoder = json.dumps(preset.modalities["rgb"].encoder.model_dump(mode="json"))
    views = [f"{name}: {{name: {view}, encoder: {encoder}}}" for name, view in list(SENSORS.items())[:sensors]]
    return preset.with_overrides(
        f"modalities={{{', '.join(views)}}}",
        f"data.image_size={image_size}",
        f"graph.topology={topology}",
        f"graph.merge={merge}",
        "training.device=cpu",
        "training.precision=fp32",
    )


def epoch_seconds(config: RunConfig, *, samples: int, epochs: int) -> list[float]:
    """Return the processor time of each epoch on random images, but for one that warms up."""
    size = config.data.image_size
    images = torch.rand(samples, 3, size, size, generator=torch.Generator().manual_seed(0))
    record = SampleRecord(sample_id="random", split="train", label=0, defect_type="good", files={})
    split = LoadedSplit(
        records=(record,) * samples,
        inputs=dict.fromkeys(config.modalities, images),
        masks=None,
    )
    loaded = with_features(config, build_model(config), split)
    moments: list[float] = []
    loaded.train(epochs=1 + epochs, on_epoch=lambda log: moments.append(time.process_time()))
    return [after - before for before, after in pairwise(moments)]


def measure(
    *, sizes: Sequence[int], counts: Sequence[int], samples: Sequence[int], image_size: int, epochs: int
) -> dict[str, Any]:
    """Measure steps over sizes and sensors, and epochs over samples; ``image_size`` is that of the latter two."""
    machine = environment()
    batch = RunConfig.preset(PRESET).training.batch_size

    def steps(**options: Any) -> dict[str, Any]:
        return {**options, "step_seconds": epoch_seconds(configure(**options), samples=batch, epochs=epochs)}

    return {
        "environment": machine,
        "preset": PRESET,
        "batch_size": batch,
        "image_size": image_size,
        "resolution": [steps(sensors=2, image_size=size) for size in sizes],
        "sensors": [
            steps(sensors=count, image_size=image_size, topology=topology, merge=merge)
            for topology, merge in GRAPHS
            for count in counts
        ],
        "data": [
            {
                "samples": count,
                "epoch_seconds": epoch_seconds(configure(sensors=2, image_size=image_size), samples=count, epochs=1),
            }
            for count in samples
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-size", type=int, default=128, help="where sensors and samples are counted")
    parser.add_argument("--epochs", type=int, default=5, help="steps at each point; the figure shows the quickest")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/scaling.json")
    options = parser.parse_args()
    set_quiet(True)
    torch.set_num_threads(1)
    result = measure(sizes=SIZES, counts=COUNTS, samples=SAMPLES, image_size=options.image_size, epochs=options.epochs)
    text = json.dumps(result, indent=2) + "\n"
    print(text)
    if options.write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "scaling.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
