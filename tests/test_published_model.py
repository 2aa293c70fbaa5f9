"""The published model (WideResNet-50-2, 256 x 256, 387 M student parameters) runs on an ordinary computer's CPU."""

from __future__ import annotations

import json
import subprocess
import sys

import golden
import pytest
import torch

from crdkit.data.synthetic import write_mvtec3d
from crdkit.runs.directory import read_metrics

GIB = 2**30

SCRIPT = """
import json, resource, sys
from pathlib import Path
import crdkit

data = sys.argv[1]
untrained = "{name: timm, model: wide_resnet50_2.tv_in1k, pretrained: false}"
run = crdkit.RunConfig.preset("crd-mvtec3d").with_overrides(
    f"data.root={data}", "data.category=gear", f"modalities.rgb.encoder={untrained}",
    f"modalities.depth.encoder={untrained}", "training.epochs=1", "training.batch_size=2", "training.device=cpu",
)
detector = crdkit.fit(run)
from crdkit.config.build import build_dataset
dataset = build_dataset(run)
scores = [detector.predict(dataset.read(record).sensors).score for record in dataset.records("test")[:2]]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"peak": peak, "scores": scores, "parameters": detector.model.count_parameters()}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="reads the peak of memory as POSIX tells it")
def test_trains_two_steps_and_scores_two_samples_within_12_gib(tmp_path):
    data = write_mvtec3d(tmp_path / "data", categories=["gear"], train=4, validation=2, test_good=1, test_per_defect=1)
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(data)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    result = json.loads(finished.stdout)
    assert result["peak"] < 12 * GIB
    assert result["parameters"]["student"] == 386_713_612
    assert len(set(result["scores"])) == 2
    print(f"peak memory {result['peak'] / GIB:.2f} GiB")


EVALUATE = """
import json, resource, sys
from crdkit.cli import main

code = main(sys.argv[1:])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"code": code, "peak": peak}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="reads the peak of memory as POSIX tells it")
def test_a_published_checkpoint_is_scored_within_8_gib(tmp_path):
    data = write_mvtec3d(tmp_path / "data", categories=["gear"], train=0, validation=2, test_good=1, test_per_defect=0)
    checkpoint, out = tmp_path / "crd_gear.pth", tmp_path / "out"
    torch.save({f"student_{name}": golden.student_state(name) for name in golden.MODALITIES}, checkpoint)
    options = [f"data.root={data}", "data.category=gear", "training.device=cpu", "training.batch_size=1"]
    options += [f"modalities.{name}.encoder.pretrained=false" for name in golden.MODALITIES]
    command = ["evaluate", "crd-mvtec3d", *options, "--published", str(checkpoint), "--out", str(out)]
    finished = subprocess.run([sys.executable, "-c", EVALUATE, *command], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    result = json.loads(finished.stdout.splitlines()[-1])
    assert result["code"] == 0, finished.stderr
    assert result["peak"] < 8 * GIB
    metrics = read_metrics(out)
    assert metrics["parameters"]["student"] == 386_713_612
    assert metrics["students"] == str(checkpoint)
    print(f"peak memory {result['peak'] / GIB:.2f} GiB")
