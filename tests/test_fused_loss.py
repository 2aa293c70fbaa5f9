"""The fused loss equals the eager one, forward and backward: on a CPU in Triton's interpreter, on a GPU compiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fused_loss_interpreted import CASES, SHAPES, difference, losses_and_gradients
from together import build_model

import crdkit
from crdkit.errors import ConfigError
from crdkit.training import TrainingConfig
from crdkit.training._fused_loss import fused_distance_from, require_fused_loss
from crdkit.training.losses import distance_from
from crdkit.training.step import build_objectives

ROUNDING = {"torch.float32": 1e-4, "torch.bfloat16": 1e-2}
"""Of gradients, relative to their norm; a loss, which is a sum in float32, differs by 1e-4 at most."""


def test_in_the_interpreter_losses_and_gradients_are_those_of_the_eager_form():
    pytest.importorskip("triton", reason="needs triton, which comes with PyTorch's CUDA builds for Linux")
    program = Path(__file__).with_name("fused_loss_interpreted.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, env=environment, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(cases) == len(CASES)
    for case in cases:
        assert case["losses"] <= 1e-4, case
        assert case["gradients"] <= ROUNDING[case["dtype"]], case


def test_it_is_refused_where_it_cannot_run(tiny, monkeypatch):
    with pytest.raises(ConfigError, match=r"training\.fused_loss=on needs a CUDA device, but the device is cpu; use"):
        crdkit.fit(tiny.with_overrides("training.fused_loss=on"))
    monkeypatch.setitem(sys.modules, "crdkit.training._fused_kernels", None)
    with pytest.raises(ConfigError, match=r"needs the package 'triton', .*`pip install triton`, or use"):
        require_fused_loss(TrainingConfig(fused_loss="on"), torch.device("cuda"))
    require_fused_loss(TrainingConfig(fused_loss="off"), torch.device("cuda"))


@pytest.mark.parametrize(("given", "kept"), [(True, "on"), (False, "off")])
def test_yaml_words(given, kept):
    assert TrainingConfig(fused_loss=given).fused_loss == kept


@pytest.mark.parametrize(("fused", "expected"), [("off", distance_from), ("on", fused_distance_from)])
def test_objectives_compare_as_the_config_says(fused, expected):
    objectives = build_objectives(build_model(), TrainingConfig(fused_loss=fused))
    assert [objective.compare for objective in objectives.values()] == [expected] * 2


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["flattened", "per_position", "hard_position"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_losses_and_gradients_are_those_of_the_eager_form(kind, dtype):
    pytest.importorskip("triton")
    options = {"kind": kind, "dtype": dtype, "order": torch.channels_last, "counted": True, "device": "cuda"}
    fused, eager = (
        losses_and_gradients(compare, shapes=(*SHAPES, (3, 64, 32, 32)), **options)
        for compare in (fused_distance_from, distance_from)
    )
    assert difference(fused[0], eager[0]) <= 1e-4
    assert difference(fused[1], eager[1]) <= ROUNDING[str(dtype)]
