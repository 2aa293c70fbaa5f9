"""A first training for a dataset: which preset reads it, and what must be set because its sensors are others."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import yaml

from crdkit.config.build import build_dataset, build_views
from crdkit.config.run_config import RunConfig
from crdkit.data import Dataset, SampleRecord, Sensors
from crdkit.data.scans import MAX_METRES
from crdkit.data.statistics import SensorSummary, summarise
from crdkit.errors import ConfigError, CrdkitError, DataError
from crdkit.views.look import is_like_depth
from crdkit.views.ranges import default_range, is_flat, propose_range, usual_values, written

_PRESETS = {"mvtec3d": "quick", "eyecandies": "quick-eyecandies"}
_TEACHER = "encoder: {name: efficientnet_lite0}"
_MAX_LOOKED_AT = 16
_MAX_IN_FULL = 4  # modalities of which each helps each other


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A training that reads every sensor of a dataset, to start from.

    Examples:
        >>> suggestion = Suggestion(preset="quick", overrides=("data.root=/scans", "data.category=gear"))
        >>> suggestion.config().data.category
        'gear'
    """

    preset: str
    overrides: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What was guessed, in plain words."""

    def config(self) -> RunConfig:
        """Return the configuration of the training."""
        return RunConfig.preset(self.preset).with_overrides(*self.overrides)

    def command(self, out: str) -> str:
        """Return the command that runs it.

        Examples:
            >>> Suggestion(preset="quick", overrides=("data.root=/my data", "data.category=a")).command("runs/a")
            "crdkit train quick 'data.root=/my data' data.category=a --out runs/a"
        """
        return shlex.join(["crdkit", "train", self.preset, *self.overrides, "--out", out])


def suggest_training(
    dataset: Dataset,
    *overrides: str,
    normal: Mapping[str, Sequence[SensorSummary]] | None = None,
    plain: Collection[str] = (),
) -> Suggestion:
    """Return a training on ``dataset`` and check on a sample that its modalities can read the sensors.

    Colour images become ``rgb``, scans ``depth``, images with one channel ``single_channel`` with the range that
    `crdkit.views.ranges.propose_range` gives, or ``depth`` if ``data.scale`` brings them to metres or the sensor's
    name says so.

    Args:
        dataset: its training split is looked at.
        overrides: ``data.*`` keys that the training has too.
        normal: what the normal samples hold, by sensor; None to look at some of the training split.
        plain: sensors with one channel that measure no distances, whatever they are called.

    Raises:
        ConfigError: an override is refused.
        DataError: no sample can be read, or a modality cannot read the sensors.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from crdkit.data.adapters.folder import Folder
        >>> from crdkit.data.synthetic import write_folder
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     options = {"sensors": ["infrared"], "train": 3, "test_per_defect": 0, "size": 32}
        ...     root = write_folder(Path(scratch, "scans"), categories=["gear"], **options)
        ...     found = suggest_training(Folder(Folder.Config(root=root, category="gear")))
        >>> found.overrides[3:5]
        ('modalities.rgb=null', 'modalities.depth=null')
        >>> found.overrides[5].split(", range")[0]
        'modalities.infrared={name: single_channel, sensor: infrared'
    """
    config = dataset.config
    preset = _PRESETS.get(config.name, "quick")
    where = [f"data.name={config.name}"] if RunConfig.preset(preset).data.name != config.name else []
    where += [
        f"data.root={config.root}",
        *([f"data.category={config.category}"] if config.category else []),
        *overrides,
    ]
    samples = _look_at(build_dataset(RunConfig.preset(preset).with_overrides(*where)))
    modalities, notes = (
        ([], [])
        if config.name in _PRESETS
        else _modalities(
            samples,
            RunConfig.preset(preset),
            metres=getattr(config, "scale", {}),
            normal=normal,
            plain=plain,
        )
    )
    suggestion = _in_a_star(Suggestion(preset=preset, overrides=(*where, *modalities), notes=tuple(notes)))
    run = suggestion.config()
    data = build_dataset(run)
    record, _ = samples[0]
    sensors = data.read(record).sensors
    for name, view in build_views(run).items():
        try:
            view(sensors, image_size=run.data.image_size)
        except DataError as error:
            raise DataError(f"{record.image_path}: modality {name!r} cannot be made of it: {error}") from error
    return suggestion


def _in_a_star(suggestion: Suggestion) -> Suggestion:
    """Return the suggestion with edges from one modality to each other alone, if there are many."""
    names = list(suggestion.config().modalities)
    if len(names) <= _MAX_IN_FULL:
        return suggestion
    star = ("graph.topology=star", f"graph.hub={names[0]}", "graph.merge=mean")
    note = (
        f"{len(names)} modalities help each other through {names[0]!r}: with all pairs, the cost grows with the square"
    )
    return replace(suggestion, overrides=(*suggestion.overrides, *star), notes=(*suggestion.notes, note))


def _look_at(dataset: Dataset) -> list[tuple[SampleRecord, Sensors]]:
    """Return some readable samples of the training split, spread over it."""
    records = dataset.records("train")
    step = math.ceil(len(records) / _MAX_LOOKED_AT)
    found, reason = [], ""
    for record in records[::step]:
        try:
            found.append((record, dataset.read(record).sensors))
        except CrdkitError as error:
            reason = str(error)
    if not found:
        raise DataError(reason)
    return found


def _modalities(
    samples: Sequence[tuple[SampleRecord, Sensors]],
    preset: RunConfig,
    *,
    metres: Collection[str],
    normal: Mapping[str, Sequence[SensorSummary]] | None,
    plain: Collection[str],
) -> tuple[list[str], list[str]]:
    """Return the overrides that give every sensor a modality, and what was guessed."""
    known = {(view.config.name, *view.sensors): name for name, view in build_views(preset).items()}
    scales: list[str] = []
    notes: list[str] = []
    kept: set[str] = set()
    wanted: dict[str, str] = {}
    for sensor in samples[0][1]:
        arrays = [sensors[sensor] for _, sensors in samples if sensor in sensors]
        kind, options = _kind(sensor, arrays[0], metres=sensor in metres, plain=sensor in plain), ""
        if (kind, sensor) in known:
            kept.add(known[kind, sensor])
            continue
        if kind == "depth" and np.issubdtype(arrays[0].dtype, np.integer):
            scales.append(f"data.scale.{sensor}=0.001")
            notes.append(f"sensor {sensor!r} is taken for depth in millimetres, by its name")
        if kind == "single_channel":
            found = (normal or {}).get(sensor) or [summarise({sensor: array})[sensor] for array in arrays]
            if arrays[0].dtype != np.uint8 or is_flat(usual_values(found), default_range("uint8")):
                low, high = limits = propose_range(found)
                options = f", range: {written(limits)}"
                notes.append(
                    f"sensor {sensor!r} is seen from {low:.10g} to {high:.10g}, by {len(found)} normal samples"
                )
        name = _modality(sensor, preset, taken={*kept, *wanted})
        if kind == "depth" and arrays[0].ndim == 2 and sensor in metres:
            notes.append(
                f"sensor {sensor!r} is in metres by data.scale, and is seen as depth: large values are far; if they "
                f"are heights, set modalities.{name}.mode=none"
            )
        wanted[name] = f"modalities.{name}={{name: {kind}, sensor: {_quoted(sensor)}{options}, {_TEACHER}}}"
    removed = [f"modalities.{name}=null" for name in preset.modalities if name not in kept and name not in wanted]
    return [*scales, *removed, *wanted.values()], notes


def _kind(sensor: str, array: np.ndarray, *, metres: bool, plain: bool) -> str:
    """Return the view that reads such an array.

    Args:
        sensor: its name.
        array: of one sample.
        metres: whether `data.scale` brings it to metres.
        plain: whether it is no distance, whatever its name says.
    """
    if array.ndim == 3:
        return "rgb" if array.dtype == np.uint8 else "depth"
    if plain:
        return "single_channel"
    if metres and np.nanmax(array) <= MAX_METRES:
        return "depth"
    if array.dtype != np.uint8 and is_like_depth(sensor):
        return "depth"
    return "single_channel"


def _modality(sensor: str, preset: RunConfig, *, taken: Collection[str]) -> str:
    """Return a name for the modality of a sensor: its own, or the nearest one that a configuration accepts."""
    name = re.sub(r"\W", "_", sensor)
    name = name if name.isidentifier() else f"sensor_{name}"
    try:
        preset.with_overrides(f"modalities.{name}={{name: rgb, {_TEACHER}}}")
    except ConfigError:
        name = f"sensor_{name}"
    return name if name not in taken else f"{name}_{len(taken)}"


def _quoted(text: str) -> str:
    """Return ``text`` as a value in YAML, in quotes if it would be anything but text."""
    plain = re.fullmatch(r"[A-Za-z_][\w-]*", text) and yaml.safe_load(text) == text
    return text if plain else json.dumps(text, ensure_ascii=False)
