"""Damage that mutation fuzzing found in files that no other test covers."""

from __future__ import annotations

import pytest
import torch

from crdkit.detector._rebuild import require_kinds


def test_numbers_of_another_kind_than_a_tensor_holds():
    own = {"mean": torch.zeros(2)}
    require_kinds(own, {"mean": torch.zeros(2, dtype=torch.float16)})
    for wrong in (torch.int64, torch.complex64):
        with pytest.raises(RuntimeError, match=r"mean is .*, expected torch\.float32"):
            require_kinds(own, {"mean": torch.zeros(2, dtype=wrong)})
