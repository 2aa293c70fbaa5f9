"""Damage that mutation fuzzing found in files that no other test covers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from crdkit.detector._rebuild import require_kinds
from crdkit.scoring.maps import GaussianSmoothing


def test_numbers_of_another_kind_than_a_tensor_holds():
    own = {"mean": torch.zeros(2)}
    require_kinds(own, {"mean": torch.zeros(2, dtype=torch.float16)})
    for wrong in (torch.int64, torch.complex64):
        with pytest.raises(RuntimeError, match=r"mean is .*, expected torch\.float32"):
            require_kinds(own, {"mean": torch.zeros(2, dtype=wrong)})
    counter = {"num_batches_tracked": torch.zeros((), dtype=torch.int64)}
    for wrong in (torch.float32, torch.complex64):
        with pytest.raises(RuntimeError, match=r"num_batches_tracked is .*, expected torch\.int64"):
            require_kinds(counter, {"num_batches_tracked": torch.zeros((), dtype=wrong)})


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="asks Linux for the peak of memory")
def test_a_size_that_config_json_may_name_takes_no_more_memory_than_its_smoothing_filter():
    def status(key):
        found = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
        return int(found.split()[1]) * 1024

    GaussianSmoothing(4.0, size=64)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    smoothing = GaussianSmoothing(4.0, size=4096)
    assert status("VmHWM") - before < 1.25 * smoothing.matrix.nbytes
