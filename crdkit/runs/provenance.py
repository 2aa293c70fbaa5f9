"""Hashes of what a run was made of and what it made: code, configuration, data, weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import crdkit
from crdkit.config.run_config import RunConfig
from crdkit.data import HOW_READ
from crdkit.runs.fingerprint import Fingerprint

_SHOWN = 16


@cache
def code_hash(package: Path = Path(crdkit.__file__).parent) -> str:
    """Return the SHA-256 of the installed crdkit: of the names and bytes of its modules and presets.

    Examples:
        >>> len(code_hash())
        64
    """
    digest = hashlib.sha256()
    for file in sorted(path for ending in ("*.py", "*.yaml") for path in package.rglob(ending)):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(package).as_posix()}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()


def config_hash(config: RunConfig) -> str:
    """Return the SHA-256 of the complete configuration, which is that of the bytes of the run's config.yaml."""
    return hashlib.sha256(config.to_yaml().encode()).hexdigest()


def training_hash(config: RunConfig) -> str:
    """Return the SHA-256 of what makes a training this one: the configuration without how its data are read."""
    values = config.model_dump(mode="json", exclude={"data": HOW_READ})
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def run_hashes(config: RunConfig, *, data: Fingerprint | None, detector: Path | None) -> dict[str, Any]:
    """Return the entry ``hashes`` of metrics.json.

    Args:
        config: of the run.
        data: of the splits that it has read; None if they were not compared.
        detector: the folder that it has saved, if it has.
    """
    hashes: dict[str, Any] = {"code": code_hash(), "config": config_hash(config)}
    if data is not None:
        hashes["data"] = data.digests()
    if detector is not None:
        header = json.loads((detector / "config.json").read_text(encoding="utf-8"))
        hashes["weights"] = header["sha256"]["model.safetensors"]
    return hashes


def shown_hashes(folder: Path, hashes: Mapping[str, Any]) -> dict[str, str]:
    """Return the first digits of a run's hashes by name, each with a remark if what lies here now has another.

    Args:
        folder: of the run, or what has its config.yaml.
        hashes: the entry ``hashes`` of its metrics.json; empty for a run of an earlier version.
    """
    written = folder / "config.yaml"
    now = {
        "code": (code_hash(), "not the crdkit that is installed"),
        "config": (hashlib.sha256(written.read_bytes()).hexdigest(), "config.yaml was changed afterwards"),
    }
    flat = {
        f"{name} {split}".strip(): value
        for name, entry in hashes.items()
        for split, value in (entry if isinstance(entry, dict) else {"": entry}).items()
    }
    return {
        f"sha256 of {name}": str(value)[:_SHOWN] + (f" ({now[name][1]})" if now.get(name, (value,))[0] != value else "")
        for name, value in flat.items()
    }
