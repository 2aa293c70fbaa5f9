"""What an exported detector reads: sensors as they are delivered where the graph makes views, else prepared views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crdkit.config.run_config import RunConfig
from crdkit.data.statistics import from_json
from crdkit.detector._export_graph import RESERVED, GraphInput, Plan, sensor_input, view_input
from crdkit.detector.view_networks import Stored, ViewNetwork, as_network
from crdkit.errors import ConfigError
from crdkit.scoring.thresholds import Thresholds
from crdkit.views import View


def make_plan(
    config: RunConfig,
    views: Mapping[str, View],
    *,
    channels: Mapping[str, int],
    sensor_statistics: Mapping[str, Any],
    thresholds: Thresholds | None,
) -> Plan:
    """Return the plan of a detector.

    Args:
        config: of the detector.
        views: by modality.
        channels: of every modality's view.
        sensor_statistics: of the detector, which say how sensors are delivered.
        thresholds: of the detector.

    Raises:
        ConfigError: two inputs or outputs would have one name.
    """
    size = config.data.image_size
    modalities = {name: view.sensors for name, view in views.items()}
    stored = how_stored(sensor_statistics) | _colours(views)
    networks = _networks(views, size=size, stored=stored)
    read = dict.fromkeys(sensor for name in networks for sensor in modalities[name])
    inputs = [sensor_input(sensor, stored[sensor]) for sensor in read]
    inputs += [
        GraphInput(name=view_input(name), dtype="float32", shape=("N", channels[name], size, size), modality=name)
        for name in views
        if name not in networks
    ]
    plan = Plan(
        modalities=modalities,
        sensors=tuple(sorted({sensor for names in modalities.values() for sensor in names})),
        image_size=size,
        inputs=tuple(inputs),
        networks=networks,
        spares=config.training.modality_dropout > 0,
        thresholds=thresholds,
    )
    _require_names(plan)
    return plan


def how_stored(sensor_statistics: Mapping[str, Any]) -> dict[str, Stored]:
    """Return how each sensor was delivered in training, if always in one way."""
    return {
        name: Stored(dtype="float32" if known.kinds[0] == "float" else known.kinds[0], channels=known.channels[0])
        for name, known in from_json(sensor_statistics).items()
        if len(known.kinds) == len(known.channels) == 1
    }


def _colours(views: Mapping[str, View]) -> dict[str, Stored]:
    """Return the sensors that can only be 8-bit colour images, statistics or not."""
    colour = Stored(dtype="uint8", channels=3)
    return {sensor: colour for view in views.values() if view.config.name == "rgb" for sensor in view.sensors}


def _networks(views: Mapping[str, View], *, size: int, stored: Mapping[str, Stored]) -> dict[str, ViewNetwork]:
    """Return the views that a graph can make of sensors whose names are free for inputs."""
    taken = RESERVED | {view_input(name) for name in views} | {f"score_{name}" for name in views}
    taken |= {f"map_{name}" for name in views}
    found = {name: as_network(view, image_size=size, stored=stored) for name, view in views.items()}
    return {
        name: network
        for name, network in found.items()
        if network is not None and not taken.intersection(views[name].sensors)
    }


def _require_names(plan: Plan) -> None:
    names = [*plan.input_names, *plan.output_names, *(view_input(name) for name in plan.networks)]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"this detector cannot be exported: its modalities {', '.join(plan.modalities)} give {name!r} for two "
                "inputs or outputs; train with other names of modalities"
            )
