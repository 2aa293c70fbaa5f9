"""What is kept where, and that batches are the same wherever they come from."""

from __future__ import annotations

import logging

import pytest
import torch

from crdkit._core.memory import plan_memory, resident_budget
from crdkit.config import RunConfig
from crdkit.config.build import build_dataset, build_model, build_views
from crdkit.errors import ConfigError
from crdkit.model.layers import FeatureSpec
from crdkit.model.shapes import feature_bytes, pinned_bytes
from crdkit.runs.directory import read_metrics
from crdkit.training import TeacherFeatures, TrainingConfig, feature_dtype
from crdkit.training._features import Rows
from crdkit.views.split import load_split

CPU, GPU = torch.device("cpu"), torch.device("cuda")
VIEWS = {"train": 40, "validation": 10, "test": 20}


@pytest.mark.parametrize(
    ("device", "budget", "pinned", "features", "on_device"),
    [
        (GPU, 170, 0, "device", {"train", "validation", "test"}),  # everything fits
        (GPU, 169, 0, "device", {"validation", "test"}),  # the training views are read once: first to go
        (GPU, 110, 0, "device", {"validation"}),
        (GPU, 100, 0, "device", set()),  # features before views
        (GPU, 99, 100, "host", {"train", "validation", "test"}),
        (GPU, 35, 100, "host", {"validation", "test"}),
        (GPU, 99, 99, "recomputed", {"train", "validation", "test"}),
        (GPU, 50, 99, "recomputed", {"train", "validation"}),  # now each step reads them: last to go
        (GPU, 0, 0, "recomputed", set()),
        (CPU, 170, 0, "device", {"train", "validation", "test"}),
        (CPU, 169, 1000, "recomputed", {"train", "validation", "test"}),  # no other memory to go to
    ],
)
def test_what_is_kept_where(device, budget, pinned, features, on_device):
    chosen = plan_memory(VIEWS, features=100, device=device, budget=budget, pinned=pinned)
    assert chosen.features_at == features
    assert {split for split, level in chosen.views_at.items() if level == "device"} == on_device
    assert list(chosen.views_at) == list(VIEWS)
    on_it = sum(VIEWS[split] for split in on_device) + (100 if features == "device" else 0)
    assert on_it <= budget or device == CPU


def test_pinned_memory_is_counted_as_it_is_allocated():
    chosen = plan_memory(VIEWS, features=100, features_pinned=128, device=GPU, budget=99, pinned=127)
    assert chosen.features_at == "recomputed"
    chosen = plan_memory(VIEWS, features=100, features_pinned=128, device=GPU, budget=99, pinned=128)
    assert (chosen.features_at, chosen.features) == ("host", 100)
    spec = FeatureSpec(channels=(3, 64), sizes=(4, 2), signed=True)
    # 5 x 3 x 4 x 4 and 5 x 64 x 2 x 2 values of 2 bytes
    assert pinned_bytes({"a": spec, "b": spec}, torch.bfloat16, samples=5) == 2 * (512 + 4096)
    assert pinned_bytes({"a": FeatureSpec(channels=(4,), sizes=(4,), signed=True)}, torch.bfloat16, samples=4) == 512


@pytest.mark.parametrize(
    ("gib", "device", "bytes_"),
    [("auto", GPU, 35), ("auto", CPU, 8 * 2**30), (0.5, GPU, 2**29), (0, CPU, 0), (1e6, CPU, 10**6 * 2**30)],
)
def test_the_budget_of_a_device(monkeypatch, gib, device, bytes_):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (70, 100))
    assert resident_budget(gib, device) == bytes_
    assert TrainingConfig(resident_gib=gib).resident_gib == gib


def test_a_plan_says_whether_its_budget_was_chosen_for_it():
    plan = plan_memory({}, features=1, device=GPU, budget=35 * 2**30, pinned=0, automatic=True)
    assert plan.describe(GPU) == ["teacher features: 0.00 GiB, kept on cuda (training.resident_gib=auto: 35)"]


@pytest.mark.parametrize("wrong", [-1, "many", float("inf"), True, None, [1]])
def test_a_budget_is_a_number_or_auto(tiny, wrong):
    with pytest.raises(
        ConfigError, match=r"training\.resident_gib \(=.*\) must be auto or a number of GiB, 0 or more$"
    ):
        RunConfig.from_dict(tiny.model_dump(mode="json") | {"training": {"resident_gib": wrong}})


@pytest.mark.parametrize(
    ("features", "precision", "expected"),
    [
        ("auto", "fp32", torch.float32),
        ("auto", "bf16", torch.bfloat16),
        ("bf16", "fp32", torch.bfloat16),
        ("fp32", "bf16", torch.float32),
    ],
)
def test_the_precision_of_kept_features(features, precision, expected):
    assert feature_dtype(TrainingConfig(features=features, precision=precision), CPU) == expected


def test_without_training_there_are_only_views():
    chosen = plan_memory({"test": 30}, features=None, device=GPU, budget=29, pinned=0)
    assert chosen.features_at is None
    assert chosen.to_dict(cached=["test"]) == {
        "budget_bytes": 29,
        "views": {"test": {"bytes": 30, "at": "host", "cached": True}},
        "features": None,
    }
    assert chosen.describe(GPU) == ["views of test: 0.00 GiB, kept in host memory for cuda"]


@pytest.fixture(scope="module")
def loaded(tiny):
    split = load_split(build_dataset(tiny), "train", views=build_views(tiny))
    return build_model(tiny), split.inputs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_level_gives_the_same_batches(loaded, dtype):
    model, inputs = loaded
    order = torch.tensor([5, 0, 3, 1, 4])
    by_level = {}
    for level in ("device", "host", "recomputed"):
        features = TeacherFeatures(model, inputs, batch_size=4, level=level, dtype=dtype)
        by_level[level] = list(features.batches(order, 2))
        assert [indices.tolist() for indices, _ in by_level[level]] == [[5, 0], [3, 1], [4]]
        for indices, batch in by_level[level]:
            again = features.batch(indices)
            for name in model.modalities:
                for one, other in zip(batch[name], again[name], strict=True):
                    assert one.dtype == torch.float32
                    assert torch.equal(one, other)
    rounding = {} if dtype == torch.float32 else {"rtol": 2**-7, "atol": 1e-6}
    for level in ("host", "recomputed"):
        for (_, one), (_, other) in zip(by_level["device"], by_level[level], strict=True):
            for name in model.modalities:
                for expected, found in zip(one[name], other[name], strict=True):
                    torch.testing.assert_close(found, expected, **(rounding if level == "recomputed" else {}))


def test_features_are_kept_in_their_precision(loaded):
    model, inputs = loaded
    plain, rounded = (
        TeacherFeatures(model, inputs, batch_size=4, dtype=dtype).batch(torch.arange(2))["rgb"]
        for dtype in (torch.float32, torch.bfloat16)
    )
    for one, other in zip(plain, rounded, strict=True):
        assert torch.equal(one.bfloat16().float(), other)
    half, whole = (feature_bytes(model.specs, dtype) for dtype in (torch.bfloat16, torch.float32))
    levels = TeacherFeatures(model, inputs, batch_size=4).batch(torch.arange(1)).values()
    assert 2 * half == whole == sum(level.nbytes for pyramid in levels for level in pyramid)


def test_the_next_batch_is_sent_before_the_one_before_is_used():
    happened = []

    class Watched(Rows):
        def _queue_copies(self, indices):
            happened.append(f"send {indices.tolist()}")
            return super()._queue_copies(indices)

    store = torch.arange(12.0).reshape(6, 2)
    rows = Watched({"rgb": [store]}, device=CPU, host=True)
    happened.extend(batch["rgb"][0][:, 0].tolist() for batch in rows.batches(torch.tensor([4, 1, 3, 0, 5]).split(2)))
    assert happened == ["send [4, 1]", "send [3, 0]", [8.0, 2.0], "send [5]", [6.0, 0.0], [10.0]]
    assert list(rows.batches([])) == []


def test_a_batch_from_host_memory_is_a_copy():
    store = torch.zeros(3, 2)
    rows = Rows({"rgb": [store]}, device=CPU, host=True)
    rows.batch(torch.tensor([1]))["rgb"][0].fill_(7)
    assert not store.any()


@pytest.mark.usefixtures("without_reports")
def test_a_run_reports_what_it_keeps(finished, tiny, tmp_path, caplog):
    from crdkit import fit

    kept = read_metrics(finished)["resident"]
    assert kept["budget_bytes"] == 8 * 2**30
    counts = {split: view["bytes"] // (4 * 64 * 64 * 4) for split, view in kept["views"].items()}  # 3 + 1 channels
    assert counts == read_metrics(finished)["counts"]
    assert kept["features"]["at"] == "device"
    with caplog.at_level(logging.INFO, logger="crdkit"):
        fit(tiny.with_overrides("training.resident_gib=0", "training.precision=fp32"), tmp_path / "run")
    assert "GiB, recomputed on cpu (training.resident_gib=0)" in caplog.text
    assert read_metrics(tmp_path / "run")["resident"]["features"]["at"] == "recomputed"
    assert read_metrics(tmp_path / "run")["aggregate"].keys() == read_metrics(finished)["aggregate"].keys()


def test_channels_must_not_change_between_samples(tiny):
    from crdkit.errors import DataError

    views = build_views(tiny)
    rgb = views["rgb"]
    seen = []

    class Changing(type(rgb)):
        def __call__(self, sensors, *, image_size):
            seen.append(1)
            return super().__call__(sensors, image_size=image_size)[: 3 if len(seen) == 1 else 1]

    dataset = build_dataset(tiny.with_overrides("data.workers=1"))
    with pytest.raises(DataError, match=r"'rgb' gives \(1, 64, 64\) for sample .*, but \(3, 64, 64\)"):
        load_split(dataset, "train", views={"rgb": Changing(rgb.config)})
