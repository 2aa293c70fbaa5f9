"""`crdkit.testing` accepts sound parts of a user's own, and names the promise that a broken one does not keep."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from crdkit import testing
from crdkit.config.catalogue import KINDS, REGISTRIES
from crdkit.data.adapters.folder import Folder
from crdkit.data.synthetic import write_folder
from crdkit.errors import ConfigError, UnknownNameError
from crdkit.model.encoders import Encoder, EncoderConfig
from crdkit.model.projections import Projection, ProjectionConfig
from crdkit.scoring.aggregations import Aggregation, AggregationConfig
from crdkit.views import View, ViewConfig

BY_KIND = {kind: REGISTRIES[plural] for kind, plural in KINDS.items()}


@pytest.fixture
def register(monkeypatch):
    """Register a class as `own`, for one test."""

    def register(kind, cls):
        registry = BY_KIND[kind]
        registry.names()
        monkeypatch.setitem(registry._entries, "own", cls)
        return cls

    return register


class OwnFilter(Projection):
    """A 1x1 convolution."""

    def __init__(self, config, *, source, target):
        super().__init__(config, source=source, target=target)
        self.levels = nn.ModuleList(
            nn.Conv2d(source.channels[level], channels, 1)
            for level, channels in zip(self.source_levels, target.channels, strict=True)
        )

    def forward(self, source):
        levels = self.apply_levels(self.levels, source)
        return levels if self.target.signed else [level.relu() for level in levels]


class WrongSize(OwnFilter):
    def forward(self, source):
        return [F.avg_pool2d(level, 2) for level in super().forward(source)]


class Negative(OwnFilter):
    def forward(self, source):
        return [-level for level in super().forward(source)]


class Idle(OwnFilter):
    def __init__(self, config, *, source, target):
        super().__init__(config, source=source, target=target)
        self.unused = nn.Parameter(torch.zeros(1))


class InPlace(OwnFilter):
    def forward(self, source):
        source[0].add_(1)
        return super().forward(source)


class AcrossTheBatch(OwnFilter):
    def forward(self, source):
        return [level * level.abs().mean() for level in super().forward(source)]


class Unsaved(OwnFilter):
    def __init__(self, config, *, source, target):
        super().__init__(config, source=source, target=target)
        self.factor = torch.rand(1)

    def forward(self, source):
        return [level * self.factor for level in super().forward(source)]


class Undescribed(OwnFilter):
    pass


class NamedOtherwise(OwnFilter):
    class Config(ProjectionConfig):
        name: str = "own"

        def model_post_init(self, context):
            object.__setattr__(self, "name", "other")


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (
            WrongSize,
            r"projection 'own' \(cnn -> cnn\) returns levels of shapes .*expected the target's \[\(2, 4, 16, 16\)",
        ),
        (Negative, r"projection 'own' \(cnn -> cnn\) returns -\d.* are never negative, end in a ReLU"),
        (Idle, r"its parameter 'unused' gets no gradient, so it never trains"),
        (InPlace, r"modifies the features that it is given: a difference of up to 1"),
        (AcrossTheBatch, r"a sample's result depends on the others of its batch"),
        (Unsaved, r"a copy with its state dict gives other results: a difference"),
        (Undescribed, r"filter 'own': its class has no docstring"),
        (NamedOtherwise, r"filter 'own': its Config names 'other'; give the field 'name' the registered name"),
    ],
)
def test_broken_filters(register, cls, message):
    register("filter", OwnFilter)
    testing.check("filter", "own")
    if cls is not Undescribed:
        cls.__doc__ = "Broken."
    register("filter", cls)
    with pytest.raises(AssertionError, match=message):
        testing.check("filter", "own")


class OwnAggregationConfig(AggregationConfig):
    name: Literal["own"] = "own"


class OwnAggregation(Aggregation):
    """The largest map."""

    Config = OwnAggregationConfig

    def forward(self, maps):
        return self.stacked(maps).amax(dim=0)


class Falls(OwnAggregation):
    def forward(self, maps):
        return 2 * maps[self.modalities[0]] - super().forward(maps)


class Deaf(OwnAggregation):
    def forward(self, maps):
        return 0 * super().forward(maps)


class Doubles(OwnAggregation):
    def forward(self, maps):
        return super().forward(maps).double()


class Accumulates(OwnAggregation):
    def calibrate(self, maps):
        self.mean += self.stacked(maps).mean()

    def forward(self, maps):
        return super().forward(maps) - self.mean[0].float()


class DividesByZero(OwnAggregation):
    def forward(self, maps):
        return super().forward(maps) / self.std[0].float()


class Forgets(OwnAggregation):
    def calibrate(self, maps):
        self.offset = self.stacked(maps).mean()

    def forward(self, maps):
        return super().forward(maps) + getattr(self, "offset", 0)


class Ordered(OwnAggregation):
    def forward(self, maps):
        return super().forward(maps) + next(iter(maps.values()))


class Batched(OwnAggregation):
    def forward(self, maps):
        fused = super().forward(maps)
        return fused / fused.amax()


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Falls, r"aggregation 'own' of rgb, depth falls somewhere when the map of 'depth' rises at a pixel"),
        (Deaf, r"aggregation 'own' of rgb does not rise at a pixel where every map does"),
        (Doubles, r"returns torch\.float64 \(5, 8, 8\), expected float32 \(B, H, W\)"),
        (Accumulates, r"a second calibration does not replace the first"),
        (DividesByZero, r"is not finite after a calibration on constant maps"),
        (Forgets, r"a copy with its state dict gives other results"),
        (Ordered, r"depends on the order of the mapping; iterate over self\.modalities"),
        (Batched, r"a sample's result depends on the others of its batch|falls somewhere"),
    ],
)
def test_broken_aggregations(register, cls, message):
    register("aggregation", OwnAggregation)
    testing.check("aggregation", "own")
    cls.__doc__ = "Broken."
    register("aggregation", cls)
    with pytest.raises(AssertionError, match=message):
        testing.check("aggregation", "own")


class OwnEncoder(Encoder):
    """One level at stride 8."""

    class Config(EncoderConfig):
        name: Literal["own"] = "own"

    channels, strides = (4,), (8,)

    def __init__(self, config, *, load_weights=True):
        super().__init__(config, load_weights=load_weights)
        self.network = nn.Conv2d(3, 4, 8, stride=8)
        self.set_normalisation((0.5,) * 3, (0.5,) * 3)
        self.finish()

    def finish(self):
        self.freeze()

    def features(self, images):
        return [self.network(images)]


class WrongStride(OwnEncoder):
    strides = (4,)


class Trainable(OwnEncoder):
    def finish(self):
        pass


class LosesItsWeights(OwnEncoder):
    def __init__(self, config, *, load_weights=True):
        super().__init__(config, load_weights=load_weights)
        self.scale = torch.rand(1)

    def features(self, images):
        return [level * self.scale for level in super().features(images)]


class Random(OwnEncoder):
    def features(self, images):
        return [level + torch.rand(1) for level in super().features(images)]


class AnySize(OwnEncoder):
    def resample(self, images):
        return images


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (WrongStride, r"encoder 'own' declares strides \(4,\), but images of 64 give sides \(8,\)"),
        (Trainable, r"encoder 'own' has trainable parameters: \['network\.weight', .*call self\.freeze\(\)"),
        (LosesItsWeights, r"built with load_weights=False and given the saved state dict, it gives other results"),
        (Random, r"gives other features for the same images"),
        (AnySize, r"with image_size=64 gives other shapes for images of 32 x 32"),
    ],
)
def test_broken_encoders(register, cls, message):
    register("encoder", OwnEncoder)
    testing.check("encoder", "own")
    cls.__doc__ = "Broken."
    register("encoder", cls)
    with pytest.raises(AssertionError, match=message):
        testing.check("encoder", "own")


class OwnModality(View):
    """The first channel of a sensor that crdkit does not know."""

    class Config(ViewConfig):
        name: Literal["own"] = "own"

    sensors = ("ultrasound",)

    def __call__(self, sensors, *, image_size):
        image = torch.tensor(sensors["ultrasound"], dtype=torch.float32)[None, None] / 255
        return F.interpolate(image, size=(image_size, image_size), mode="bilinear")[0].contiguous()


class Outside(OwnModality):
    def __call__(self, sensors, *, image_size):
        return super().__call__(sensors, image_size=image_size) * 2


class Blind(OwnModality):
    def __call__(self, sensors, *, image_size):
        return torch.zeros(1, image_size, image_size)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Outside, r"modality 'own' has values from .* to 1\.\d+, expected values in \[0, 1\]"),
        (Blind, r"modality 'own' gives the same image for different samples"),
    ],
)
def test_broken_modalities_with_sensors_of_their_own(register, cls, message):
    samples = [{"ultrasound": np.random.default_rng(s).integers(0, 256, (40, 48)).astype(np.uint8)} for s in (0, 1)]
    register("modality", OwnModality)
    testing.check("modality", "own", samples=samples)
    with pytest.raises(UnknownNameError, match=r"unknown example sensor 'ultrasound' .*; pass samples of your own"):
        testing.check("modality", "own")
    cls.__doc__ = "Broken."
    register("modality", cls)
    with pytest.raises(AssertionError, match=message):
        testing.check("modality", "own", samples=samples)


def test_a_view_that_hands_out_its_input(register):
    class Shared(OwnModality):
        """Broken."""

        def __call__(self, sensors, *, image_size):
            array = sensors["ultrasound"]
            if array.shape == (image_size, image_size) and array.flags.writeable:
                return torch.from_numpy(array)[None]
            return super().__call__({"ultrasound": array * 255}, image_size=image_size)

    rng = np.random.default_rng(0)
    register("modality", Shared)
    with pytest.raises(AssertionError, match="its image shares memory with sensor 'ultrasound'; copy it"):
        testing.check(
            "modality", "own", samples=[{"ultrasound": rng.random((40, 48), dtype=np.float32)} for _ in range(2)]
        )


class OwnDataset(Folder):
    """The folder layout under another name."""

    class Config(Folder.Config):
        name: Literal["own"] = "own"


class Unordered(OwnDataset):
    def records(self, split):
        records = list(super().records(split))
        np.random.default_rng().shuffle(records)
        return records


class ReadsAnything(OwnDataset):
    def read(self, record, sensors=None):
        try:
            return super().read(record, sensors)
        except ValueError:
            return None


class GoodIsBad(OwnDataset):
    def records(self, split):
        return [replace(record, label=1) for record in super().records(split)]


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Unordered, r"dataset 'own', split 'train': records are not in a fixed order"),
        (ReadsAnything, r"dataset 'own': a truncated file must be refused with DataError, but was accepted"),
        (GoodIsBad, r"sample '.*' has label 1 and defect type 'good', expected label 0"),
    ],
)
def test_broken_datasets(register, tmp_path, cls, message):
    root = write_folder(tmp_path / "data", categories=["biscuit"], train=7, validation=1, test_good=1, size=32)
    register("dataset", OwnDataset)
    with pytest.raises(ConfigError, match=r"dataset 'own' has no synthetic writer .*: pass options with the root and"):
        testing.check("dataset", "own")
    (category,) = [folder.name for folder in root.iterdir()]
    options = {"root": str(root), "category": category}
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    testing.check("dataset", "own", options)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    cls.__doc__ = "Broken."
    register("dataset", cls)
    with pytest.raises(AssertionError, match=message):
        testing.check("dataset", "own", options)


def test_kinds_and_names_are_checked():
    with pytest.raises(UnknownNameError, match="unknown kind 'filters' - did you mean 'filter'"):
        testing.check("filters", "bottleneck")
    with pytest.raises(UnknownNameError, match="unknown kind 'amplifer' - did you mean 'amplifier'"):
        testing.registered("amplifer")
    with pytest.raises(UnknownNameError, match="unknown projection 'bottelneck' - did you mean 'bottleneck'"):
        testing.check("filter", "bottelneck")
    assert sorted({kind for kind, _ in testing.registered()}) == sorted(BY_KIND)


def test_it_needs_no_pytest():
    code = "import sys, crdkit; crdkit.testing.check('filter', 'identity'); print('pytest' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
