"""Every option of every part with extreme, mistyped, NaN, huge and empty values: refused in one line, or it works.

The walk finds registered parts and their options by itself; a new one needs no new test. What is accepted is built and
used on one small sample, and read back from its own YAML.
"""

from __future__ import annotations

import datetime
import math
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from crdkit._core.device import select_device
from crdkit._core.distributed import Ranks
from crdkit.config import RunConfig
from crdkit.config.build import build_dataset, build_graph, build_scorer, build_views
from crdkit.config.catalogue import REGISTRIES
from crdkit.config.overrides import apply_override
from crdkit.data.synthetic import LAYOUTS, category_folders
from crdkit.errors import CrdkitError
from crdkit.model.crd import CRD
from crdkit.model.encoders import encoders
from crdkit.model.graph import CrossmodalGraph
from crdkit.model.layers import FeatureSpec
from crdkit.testing.examples import EXAMPLES, example_features, example_sensors
from crdkit.training import TeacherFeatures, feature_dtype, require_trainable, train

SIZE = 32
LONGEST = 1200
"""Characters of a message; those that name every registered part of a kind are the longest."""
VALUES = (
    *(-1, 0, 1, 2, 7, 16, 2**31, 2**63, 10**30, -(10**30), True, False, None),
    *(0.5, 1.5, -0.5, 1e-300, 5e-324, 1e30, 1e300, -1e300, math.nan, math.inf, -math.inf, 1 + 2j, np.float32(2)),
    *("", " ", "auto", "nowhere", "nan", "1", "x" * 5000, "a/b", "../..", "~nobody/x", "\x00", "\ud800", "a\nb", "ä ö"),
    *([], [1], [0], [1, 1], [2, 1], [-1], [1, 9], [10**30], [1] * 2000, [[]], [0.5, "a"], [math.nan, 1.0], [1.5, 2]),
    *([0.5, 1.0], [1e-320, 1], [-1e308, 1e308], (1, 2, 3), {1, 2}, np.array([1, 2]), ["rgb", "rgb"], ["", "rgb"]),
    *([0.5] * 3, [1e300] * 3, [5e-324] * 3, [math.nan] * 3, [{"source": "rgb", "target": "rgb"}], [{"source": 1}]),
    *({}, {"a": 1}, {"rgb": 1}, {"rgb": 0, "depth": 0}, {"rgb": math.nan, "depth": 1}, {1: 2}, {"": {}}, {"a": 0.001}),
    *({"rgb": 1e308, "depth": 1e308}, {"rgb": 5e-324, "depth": 5e-324}, {"rgb": "one"}, {"a": {"b": {"c": [1]}}}),
    *({"name": "nowhere"}, {"name": 3}, {"name": None}, {"name": "max", "size": 3}, {"name": "bottleneck", "size": -1}),
    *(b"bytes", datetime.date(2026, 1, 1), object(), float, Path("nowhere")),
)
TEXTS = (
    "",
    "-1",
    "1e999",
    ".nan",
    "1e5",
    "[",
    "{a: ",
    "'",
    "[1.5, 2]",
    "null",
    "!!python/object:os.system x",
    "*a",
    "x: y",
)
TEACHER = {"name": "timm", "model": "test_resnet", "pretrained": False}
SPEC = FeatureSpec(channels=(4, 8, 8), sizes=(8, 4, 2), signed=False)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    counts = {"train": 3, "validation": 1, "test_good": 1, "test_per_defect": 0}
    folder = tmp_path_factory.mktemp("options")
    for name, write in LAYOUTS.items():
        write(folder / name, categories=["gear"], size=SIZE, **counts)
    values = {
        "data": {"name": "mvtec3d", "root": folder / "mvtec3d", "category": "gear", "image_size": SIZE},
        "modalities": {"rgb": {"encoder": TEACHER}, "depth": {"encoder": TEACHER}},
        "graph": {"filter": {"name": "bottleneck", "size": 2}},
        "student": {"depths": 1, "embedding_blocks": 1},
        "training": {"epochs": 1, "batch_size": 2, "device": "cpu"},
    }
    return RunConfig.from_dict(values)


def read_data(config):
    dataset = build_dataset(config)
    dataset.read(dataset.records("train")[0])


def look(config):
    for view in build_views(config).values():
        known = {
            sensor: sensor if sensor in ("rgb", "xyz", "infrared") or "polarisation" in sensor else "rgb"
            for sensor in view.sensors
        }
        sensors = {sensor: example_sensors([like])[like] for sensor, like in known.items()}
        image = view(sensors, image_size=SIZE)
        assert image.shape[1:] == (SIZE, SIZE)
        assert 0 <= image.min() <= image.max() <= 1


def teach(config):
    encoder = encoders.build(config.modalities["rgb"].encoder.at(SIZE), load_weights=False)
    spec = encoder.spec(SIZE)
    assert all(level.isfinite().all() for level in encoder(torch.rand(1, 3, SIZE, SIZE)))
    assert len(spec.channels) == len(spec.sizes)


def build_students(config):
    specs = dict.fromkeys(config.modalities, SPEC)
    return CRD(specs=specs, graph=build_graph(config), merge=config.graph.merge, student=config.student)


def distill(config):
    features = {name: example_features(SPEC) for name in config.modalities}
    out = build_students(config).eval().distill(features)
    assert all(level.isfinite().all() for levels in out.output.values() for level in levels)


def score(config):
    scorer = build_scorer(config)
    maps = {name: torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) for name in config.modalities}
    scorer.aggregation.calibrate(maps)
    assert scorer(maps).pred_score.isfinite().all()


def learn(config):
    """Train on features of one level: which options of training work does not depend on the network's size."""
    training, device = config.training, select_device(config.training.device)
    require_trainable(
        training, device, Ranks(), views={name: SimpleNamespace(sensors=[name]) for name in config.modalities}
    )
    training = training.model_copy(update={"epochs": 1})
    teacher = encoders.build(encoders.build_config({"name": "module", **EXAMPLES["encoder", "module"]["options"]}))
    names = config.modalities
    model = CRD(
        specs=dict.fromkeys(names, teacher.spec(32)),
        graph=CrossmodalGraph(modalities=tuple(names)),
        student=config.student,
        teachers=dict.fromkeys(names, teacher),
    )
    inputs = {name: torch.rand(4, 3, 32, 32) for name in config.modalities}
    level = "recomputed" if training.shift else "device"
    features = TeacherFeatures(model, inputs, batch_size=2, level=level, dtype=feature_dtype(training, device))
    train(model, features, training, samples=4, on_epoch=lambda log: None)


PLACES = {
    "encoders": ("modalities.rgb.encoder", teach),
    "modalities": ("modalities.rgb", look),
    "filters": ("graph.filter", distill),
    "amplifiers": ("graph.amplifier", distill),
    "aggregations": ("aggregation", score),
    "scores": ("scoring.score", score),
    "datasets": ("data", read_data),
}
SECTIONS = {"training": learn, "scoring": score, "student": distill, "graph": distill}
OPTIONS = {(kind, registry.get(name).Config): name for kind, registry in REGISTRIES.items() for name in registry}
PARTS = [*SECTIONS, *(f"{kind} {name}" for (kind, _), name in OPTIONS.items())]
"""One part for each class of options: the EfficientNet-Lites share theirs."""


def part(base, name):
    """Return a configuration with that part, where its options lie, their class, and how it is used."""
    if name in SECTIONS:
        return base, name, type(getattr(base, name)), SECTIONS[name]
    kind, _, entry = name.partition(" ")
    place, use = PLACES[kind]
    options = dict(EXAMPLES.get((REGISTRIES[kind].kind, entry), {}).get("options", {}))
    if kind == "datasets":
        root = base.data.root.with_name(entry)
        options |= {"root": root, "category": category_folders(root)[0].name}
    if "weights" in options:
        options["weights"] = {"rgb": 1, "depth": 2}
    return with_part(base, place, entry, options), place, REGISTRIES[kind].get(entry).Config, use


def with_part(config, place, name, options):
    values = config.model_dump(mode="json")
    apply_override(values, f"{place}.name", name)
    for option, value in options.items():
        apply_override(values, f"{place}.{option}", value)
    return RunConfig.from_dict(values)


def with_value(config, key, value):
    values = config.model_dump(mode="json")
    *parents, last = key.split(".")
    node = values
    for parent in parents:
        node = node[parent]
    node[last] = value
    return RunConfig.from_dict(values)


class Tries:
    """Tries configurations; what is neither refused in one line nor works is a problem."""

    def __init__(self):
        self.problems, self.used = [], 0

    def __call__(self, tried, make, use, limit_s=20):
        started = time.monotonic()
        try:
            config = make()
            if RunConfig.from_dict(yaml.safe_load(config.to_yaml())) != config:
                self.problems.append(f"{tried}: another when read back from its YAML")
            use(config)
            self.used += 1
        except CrdkitError as error:
            text = str(error)
            if len(text) > LONGEST or not text.isprintable():
                self.problems.append(f"{tried}: not a line of at most {LONGEST} characters: {text[:200]!r}")
        except Exception as error:
            self.problems.append(f"{tried}: {type(error).__name__}: {error}"[:500])
        if time.monotonic() - started > limit_s:
            self.problems.append(f"{tried}: took {time.monotonic() - started:.0f} s")


@pytest.fixture
def tries():
    tries = Tries()
    yield tries
    assert not tries.problems, "\n".join(tries.problems)


@pytest.mark.parametrize("name", PARTS)
def test_every_value_is_refused_in_one_line_or_works(base, name, tries):
    config, place, options, use = part(base, name)
    for option in options.model_fields:
        for value in VALUES:
            key = f"{place}.{option}"
            tries(f"{key}={value!r:.80}", lambda: with_value(config, key, value), use)  # noqa: B023


@pytest.mark.parametrize("name", PARTS)
def test_every_text_of_an_override_is_refused_in_one_line_or_works(base, name, tries):
    config, place, options, use = part(base, name)
    tries(name, lambda: config, use)
    assert tries.used
    for override in (f"{place}.{option}={text}" for option in options.model_fields for text in TEXTS):
        tries(override, lambda: config.with_overrides(override), use)  # noqa: B023


@pytest.mark.parametrize("device", ["meta", "cuda:99", "cpu:3", "xpu", "mps", "CPU", "hip", "cuda:-1", "privateuseone"])
def test_a_device_is_refused_or_trains(base, device, tries):
    tries(device, lambda: base.with_overrides(f"training.device={device}"), learn)


@pytest.mark.parametrize("section", RunConfig.model_fields)
def test_a_whole_section_can_be_anything(base, section, tries):
    for value in VALUES:
        tries(f"{section}={value!r:.80}", lambda: with_value(base, section, value), lambda config: None)  # noqa: B023
