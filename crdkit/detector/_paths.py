"""Paths of this machine in a configuration: a detector is saved without them, and finds them again in its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crdkit.config.run_config import RunConfig


def without_paths(config: RunConfig) -> dict[str, Any]:
    """Return the values of a configuration without the folders and files of this machine.

    Options of ``data`` that are paths, such as ``root``, ``cache`` and ``manifest``, get their default None; a path
    that has no default stays. Of the weights that teachers were read from, which are inside the detector, the files'
    names stay, so that teachers that differed still do.
    """
    values: dict[str, Any] = config.model_dump(mode="json")
    values["data"].update(dict.fromkeys(_optional_paths(config)))
    encoders = {name: branch.encoder for name, branch in config.modalities.items()}
    used = {path for encoder in encoders.values() for _, path in encoder if isinstance(path, Path)}
    names = {path: path.name for path in used}
    if len(set(names.values())) < len(names):
        names = {path: f"{number}-{path.name}" for number, path in enumerate(sorted(used))}
    for modality, encoder in encoders.items():
        found = {option: names[path] for option, path in encoder if isinstance(path, Path)}
        values["modalities"][modality]["encoder"].update(found)
    return values


def with_paths_of_run(config: RunConfig, folder: Path | str, *, allow_plugins: bool = False) -> RunConfig:
    """Return the configuration of a detector with the paths of its data, if ``folder`` is the run that made it.

    Args:
        config: as it was loaded.
        folder: a run directory, whose config.yaml holds them; in any other folder nothing is found.
        allow_plugins: as for `Detector.load`.

    Raises:
        ConfigError: the config.yaml in it cannot be read.
    """
    file = Path(folder) / "config.yaml"
    if not file.is_file():
        return config
    run = RunConfig.from_yaml(file, allow_plugins=allow_plugins)
    if run.data.name != config.data.name:
        return config
    paths = {name: path for name, path in _optional_paths(run).items() if getattr(config.data, name) is None}
    return config.model_copy(update={"data": config.data.model_copy(update=paths)})


def _optional_paths(config: RunConfig) -> dict[str, Path]:
    """Return the options of ``data`` that are set to a path and could be None, by name."""
    fields = type(config.data).model_fields
    return {name: path for name, path in config.data if isinstance(path, Path) and fields[name].default is None}
