"""``training.shift``: what is drawn, what the teacher then sees, that it is trained on, and what is refused."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crdkit._core.memory import plan_memory
from crdkit.config.build import build_dataset, build_model, build_views
from crdkit.errors import ConfigError
from crdkit.runs.directory import read_log, read_metrics
from crdkit.runs.fit import fit
from crdkit.training import TeacherFeatures
from crdkit.training.shift import draw_shifts, shift_images
from crdkit.views.split import load_split

SHARED = {"rgb": ["rgb"], "depth": ["xyz"], "normals": ["xyz"], "albedo": ["light_0", "rgb"]}


def draw(sensors, pixels, *, count=2000, seed=0):
    return draw_shifts(sensors, count=count, pixels=pixels, generator=torch.Generator().manual_seed(seed))


def test_sensors_move_by_themselves_and_take_all_their_modalities_along():
    shifts = draw(SHARED, 3)
    assert list(shifts) == list(SHARED)
    assert not shifts["rgb"].any()
    assert torch.equal(shifts["depth"], shifts["normals"])
    assert not torch.equal(shifts["depth"], shifts["albedo"])
    for name in ("depth", "albedo"):
        for axis in (0, 1):
            counts = torch.bincount(shifts[name][:, axis] + 3, minlength=7)
            assert len(counts) == 7
            assert counts.min() > 2000 / 7 * 0.75
    again = draw(SHARED, 3)
    assert all(torch.equal(shifts[name], again[name]) for name in shifts)


@given(
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    moves=st.lists(st.tuples(st.integers(-7, 7), st.integers(-7, 7)), min_size=1, max_size=3),
)
def test_images_move_and_repeat_their_border(height, width, moves):
    images = torch.arange(len(moves) * 2 * height * width, dtype=torch.float32).view(len(moves), 2, height, width)
    found = shift_images(images, torch.tensor(moves)).numpy()
    for image, moved, (down, right) in zip(images.numpy(), found, moves, strict=True):
        wide = np.pad(image, ((0, 0), (7, 7), (7, 7)), mode="edge")
        expected = wide[:, 7 - down : 7 - down + height, 7 - right : 7 - right + width]
        np.testing.assert_array_equal(moved, expected)


@pytest.fixture(scope="module")
def loaded(tiny):
    split = load_split(build_dataset(tiny), "train", views=build_views(tiny))
    return build_model(tiny), split.inputs


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_the_teacher_sees_the_moved_images(loaded, device):
    model, inputs = loaded
    model = copy.deepcopy(model).to(device)  # on a GPU, images are copied from host memory
    order, shifts = torch.tensor([2, 0, 1]), draw({"rgb": ["rgb"], "depth": ["xyz"]}, 4, count=len(inputs["rgb"]))
    moved = {name: shift_images(images, shifts[name]) for name, images in inputs.items()}
    assert not torch.equal(moved["depth"], inputs["depth"])
    there = {name: shift.to(device) for name, shift in shifts.items()}
    found = TeacherFeatures(model, inputs, batch_size=4, level="recomputed").batches(order, 2, there)
    expected = TeacherFeatures(model, moved, batch_size=4, level="recomputed").batches(order, 2)
    for (_, batch), (_, other) in zip(found, expected, strict=True):
        for name in model.modalities:
            for one, level in zip(batch[name], other[name], strict=True):
                assert torch.equal(one, level)


def test_kept_features_cannot_be_moved(loaded):
    model, inputs = loaded
    features = TeacherFeatures(model, inputs, batch_size=4)
    with pytest.raises(ValueError, match="kept"):
        next(features.batches(torch.arange(2), 2, draw({name: ["rgb"] for name in inputs}, 1)))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_features_that_change_are_not_kept(device):
    sizes = {"features": 1, "device": torch.device(device), "budget": 100, "pinned": 100}
    plan = plan_memory({"train": 90, "test": 20}, recompute=True, **sizes)
    assert plan.features_at == "recomputed"
    assert plan.views_at["train"] == "device"  # each step reads them
    assert plan_memory({"train": 9, "test": 2}, **sizes).features_at == "device"


@pytest.mark.usefixtures("without_reports")
def test_a_run_trains_on_it_and_resumes_to_the_same_bytes(tiny, tmp_path, monkeypatch):
    moved = tiny.with_overrides("training.epochs=2", "training.shift=3")
    fit(moved, tmp_path / "whole")
    assert read_metrics(tmp_path / "whole")["resident"]["features"]["at"] == "recomputed"
    plain = fit(moved.with_overrides("training.shift=0"))
    losses = [line["loss"] for line in read_log(tmp_path / "whole")]
    assert losses != [line["loss"] for line in plain.history]

    from crdkit.training._checkpoint import Checkpoints

    keep = Checkpoints.keep

    def stop_after_the_first(self, *arguments, log, last, **options):
        keep(self, *arguments, log=log, last=True, **options)
        if len(log) == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "keep", stop_after_the_first)
        with pytest.raises(KeyboardInterrupt):
            fit(moved, tmp_path / "stopped")
    fit(moved, tmp_path / "stopped", resume=True)
    files = [(tmp_path / name / "detector/model.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert files[0] == files[1]


def test_one_sensor_cannot_be_moved_against_another(tiny):
    with pytest.raises(ConfigError, match=r"training\.shift \(=2\) moves .* \(depth\) show 'xyz': add a modality"):
        fit(tiny.with_overrides("modalities.rgb=null", "training.shift=2"))


def test_more_than_half_an_image_is_refused(tiny):
    half = tiny.data.image_size // 2
    with pytest.raises(ConfigError, match=rf"training\.shift \(={half}\) must be less than half of data\.image_size"):
        tiny.with_overrides(f"training.shift={half}")
