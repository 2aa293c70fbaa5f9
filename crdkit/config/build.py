"""From a configuration to objects: every part of a run is built here, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

import torch

from crdkit.config.run_config import RunConfig
from crdkit.data import Dataset, datasets
from crdkit.errors import ConfigError
from crdkit.model.crd import CRD
from crdkit.model.encoders import Encoder, encoders
from crdkit.model.graph import CrossmodalGraph
from crdkit.model.layers import FeatureSpec
from crdkit.scoring.aggregations import aggregations
from crdkit.scoring.scorer import Scorer
from crdkit.scoring.scores import scores
from crdkit.views import View, views


def build_dataset(config: RunConfig) -> Dataset:
    """Build the dataset adapter that ``config.data`` names.

    Examples:
        >>> build_dataset(RunConfig.preset("quick")).sensors
        ('rgb', 'xyz')
    """
    return datasets.build(config.data)


def build_views(config: RunConfig) -> dict[str, View]:
    """Build the view of every modality.

    Examples:
        >>> {name: view.sensors for name, view in build_views(RunConfig.preset("quick")).items()}
        {'rgb': ('rgb',), 'depth': ('xyz',)}
    """
    return {name: views.build(branch.view) for name, branch in config.modalities.items()}


def build_graph(config: RunConfig) -> CrossmodalGraph:
    """Build the graph over the modalities.

    Examples:
        >>> [str(edge) for edge in build_graph(RunConfig.preset("quick")).edges]
        ['depth -> rgb', 'rgb -> depth']
    """
    return config.graph.build(tuple(config.modalities))


def build_teachers(config: RunConfig, *, load_weights: bool = True) -> dict[str, Encoder]:
    """Build the teacher of every modality; equal encoder options share one module.

    Args:
        config: the run.
        load_weights: False if a state dict is loaded right after: weights are not read.

    Raises:
        ConfigError: a teacher cannot be built for images of this size, or its weights cannot be obtained.
        DataError: a file of weights is missing or does not fit.

    Examples:
        >>> teachers = build_teachers(RunConfig.preset("quick"), load_weights=False)
        >>> teachers["rgb"] is teachers["depth"]
        True
    """
    teachers: dict[str, Encoder] = {}
    for name, branch in config.modalities.items():
        options = branch.encoder.at(config.data.image_size)
        twin = next((teacher for teacher in teachers.values() if teacher.config == options), None)
        teachers[name] = twin or encoders.build(options, load_weights=load_weights)
    return teachers


def build_model(
    config: RunConfig,
    *,
    load_weights: bool = True,
    specs: Mapping[str, FeatureSpec] | None = None,
    allocate: bool = True,
) -> CRD:
    """Build teachers, graph and students.

    Args:
        config: the run; ``training.seed`` determines the students' initial weights.
        load_weights: False if a state dict is loaded right after: teachers' weights are not read.
        specs: shapes of the teachers' features by modality; measured on a probe image if None.
        allocate: False for students without memory, on PyTorch's device "meta", to look at their shapes.

    Raises:
        ConfigError: as `build_teachers`, or the options of the students or ``specs`` do not fit the teachers.

    Examples:
        >>> run = RunConfig.preset("quick").with_overrides("data.image_size=64", "student.depths=1")
        >>> model = build_model(run, load_weights=False)
        >>> model.modalities, model.specs["rgb"].sizes
        (('rgb', 'depth'), (16, 8, 4))
    """
    teachers = build_teachers(config, load_weights=load_weights)
    if specs is None:
        specs = {name: teacher.spec(config.data.image_size) for name, teacher in teachers.items()}
    for name, spec in specs.items():
        side = teachers[name].config.image_size or config.data.image_size
        if spec.channels != tuple(teachers[name].channels) or max(spec.sizes) > side:
            raise ConfigError(
                f"features of {name!r} cannot have channels {spec.channels} and sizes {spec.sizes}: its teacher gives "
                f"channels {tuple(teachers[name].channels)} of images of {side} x {side}"
            )
    with torch.random.fork_rng(devices=[]), nullcontext() if allocate else torch.device("meta"):
        torch.manual_seed(config.training.seed)
        return CRD(
            specs=specs,
            graph=build_graph(config),
            merge=config.graph.merge,
            student=config.student,
            teachers=teachers,
        )


def build_scorer(config: RunConfig) -> Scorer:
    """Build the aggregation, the smoothing and the image score, not calibrated yet.

    Raises:
        ConfigError: the aggregation lacks an option that has no default, such as weights.

    Examples:
        >>> scorer = build_scorer(RunConfig.preset("quick"))
        >>> scorer.size, type(scorer.aggregation).__name__
        (256, 'TailNorm')
    """
    aggregation = aggregations.build(config.aggregation, modalities=tuple(config.modalities))
    score = scores.build(config.scoring.score, sigma=config.scoring.sigma, size=config.data.image_size)
    return Scorer(aggregation, score)
