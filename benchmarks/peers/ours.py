"""A crdkit preset, trained and run on the scans of a job.

python -m benchmarks.peers.ours PRESET JOB.json     # saves the detector and the maps, prints one line of JSON
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

import crdkit
from benchmarks.memory import peak_bytes
from crdkit.config import RunConfig
from crdkit.config.build import build_dataset, build_views
from crdkit.views.split import load_split

T = TypeVar("T")


def cpu_seconds(function: Callable[[], T]) -> tuple[float, T]:
    """Return the seconds of all cores that a call took, and its result."""
    began = time.process_time()
    found = function()
    return time.process_time() - began, found


def measure(preset: str, job: Mapping[str, Any]) -> dict[str, Any]:
    """Train, or read the detector of a run that is there, and return what it took."""
    config = RunConfig.preset(preset).with_overrides(*job["overrides"], f"training.seed={job['seed']}")
    dataset, views = build_dataset(config), build_views(config)
    reading, _ = cpu_seconds(lambda: [load_split(dataset, split, views=views) for split in ("train", "validation")])
    everything, detector = cpu_seconds(lambda: crdkit.fit(config))
    detector.save(job["detector"])
    test = load_split(dataset, "test", views=views)
    predict, found = cpu_seconds(lambda: detector.score(test))
    np.savez(job["maps"], maps=found.anomaly_map.numpy(), scores=found.pred_score.numpy())
    distinct = {id(teacher): teacher for teacher in detector.model.teachers_by_modality().values()}.values()
    tensors = [tensor for one in (detector.model, *distinct) for tensor in (*one.parameters(), *one.buffers())]
    return {
        "train_cpu_s": everything - reading,
        "predict_cpu_s": predict / len(test),
        "peak_bytes": peak_bytes(),
        "model_bytes": sum({id(tensor): tensor.nbytes for tensor in tensors}.values()),
    }


if __name__ == "__main__":
    job = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    print(json.dumps(measure(sys.argv[1], job)))
