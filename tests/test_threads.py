"""Branches side by side: in order, to the end, whatever one of them does."""

from __future__ import annotations

import os
import threading
import time

import pytest
import torch
from torch import nn

from crdkit._core.branches import side_by_side
from crdkit.model.encoders import Encoder, EncoderConfig

CPU = torch.device("cpu")


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_branches_run_at_the_same_time_and_come_back_in_order(two_threads):
    both = threading.Barrier(2, timeout=30)  # breaks unless two are inside
    with side_by_side(2, CPU) as each:
        assert torch.get_num_threads() == 1
        assert list(each(lambda name: (both.wait(), torch.get_num_threads(), name)[1:], ["a", "b"])) == [
            (1, "a"),
            (1, "b"),
        ]
    assert torch.get_num_threads() == 2


def test_the_others_end_before_an_error_is_raised(two_threads):
    started, ended = threading.Event(), []

    def branch(name):
        if name == "bad":
            started.wait(30)
            raise ValueError("bad branch")
        started.set()
        torch.rand(300, 300) @ torch.rand(300, 300)
        ended.append(name)

    with pytest.raises(ValueError, match="bad branch"), side_by_side(2, CPU) as each:
        each(branch, ["bad", "good"])
    assert ended == ["good"]
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_gradients_are_recorded_as_the_caller_has_it(two_threads, mode):
    with mode(), side_by_side(2, CPU) as each:
        expected = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        found = each(lambda _: (torch.is_grad_enabled(), torch.is_inference_mode_enabled()), ["a", "b"])
    assert found == [expected] * 2


def test_one_branch_keeps_all_threads(two_threads):
    with side_by_side(1, CPU) as each:
        assert each is map
        assert torch.get_num_threads() == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork beside threads is what is tested
def test_a_forked_process_has_threads_of_its_own(two_threads):
    with side_by_side(2, CPU) as each:
        list(each(str.upper, ["a", "b"]))
    child = os.fork()
    if not child:
        try:
            with side_by_side(2, CPU) as each:
                os._exit(0 if list(each(str.upper, ["a", "b"])) == ["A", "B"] else 1)
        finally:
            os._exit(2)
    for _ in range(300):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        threading.Event().wait(0.1)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
        pytest.fail("the forked process hangs")
    assert os.waitstatus_to_exitcode(status) == 0


class Hooked(Encoder):
    """Leaves its features where a hook puts them, as many networks do."""

    def __init__(self):
        super().__init__(EncoderConfig.model_construct(image_size=None))
        self.network = nn.Identity()
        self.network.register_forward_hook(self._keep)
        self.set_normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        self.freeze()

    def _keep(self, module, inputs, output):
        self.kept = output

    def features(self, images):
        self.network(images)
        time.sleep(0.05)  # time enough for another thread's call
        return [self.kept]


def test_modalities_that_share_a_teacher_with_hooks_get_their_own_features(two_threads):
    teacher = Hooked()
    images = {name: torch.full((1, 3, 2, 2), value) for name, value in (("a", 0.25), ("b", 0.75))}
    with side_by_side(2, CPU) as each:
        found = each(lambda name: teacher(images[name])[0], images)
    for expected, level in zip(images.values(), found, strict=True):
        assert torch.equal(level, expected)
