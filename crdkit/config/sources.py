"""What stands for a configuration: a preset's name, a YAML file, a mapping of values, or a RunConfig."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from crdkit.config.run_config import RunConfig
from crdkit.errors import ConfigError

Source: TypeAlias = RunConfig | Mapping[str, Any] | Path | str
"""What stands for a configuration: one, its values, the path of a YAML file or the name of a preset."""


def load_config(source: Source, *, allow_plugins: bool = False) -> RunConfig:
    """Return a preset by name, or the configuration in a YAML file or in a mapping of values.

    Args:
        source: a text that ends in .yaml or .yml is the path of a file, any other the name of a preset.
        allow_plugins: import and run the code that the file names, because you trust it.

    Raises:
        UntrustedCodeError: the file names code to import, and ``allow_plugins`` is false.
        ConfigError: neither exists, or the content is refused.

    Examples:
        >>> load_config("crd-mvtec3d").training.epochs
        200
        >>> values = {"data": {"name": "mvtec3d"}, "modalities": {"rgb": {}}, "training": {"epochs": 3}}
        >>> load_config(values).training.epochs
        3
    """
    if isinstance(source, RunConfig):
        return source
    if isinstance(source, Mapping):
        return RunConfig.from_dict(source)
    if isinstance(source, Path) or (isinstance(source, str) and source.endswith((".yaml", ".yml"))):
        return RunConfig.from_yaml(source, allow_plugins=allow_plugins)
    if isinstance(source, str):
        return RunConfig.preset(source)
    raise ConfigError(
        "expected a configuration, its values as a mapping, the path of a YAML file or the name of a preset, e.g. "
        f"'quick', got {type(source).__name__}"
    )
