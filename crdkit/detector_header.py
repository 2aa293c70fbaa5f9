"""A detector's config.json: what it holds, and what is said of one that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import crdkit
from crdkit.errors import DetectorFormatError, UnknownNameError, explain
from crdkit.registry import StrictConfig

FORMAT = "crdkit-detector"
FORMAT_VERSION = 1


class _Spec(StrictConfig):
    channels: tuple[int, ...]
    sizes: tuple[int, ...]
    signed: bool


class DetectorHeader(StrictConfig):
    """What the file holds."""

    format: str
    format_version: int
    crdkit: str
    config: dict[str, Any]
    specs: dict[str, _Spec]


def detector_folder(folder: Path | str) -> Path:
    """Return the detector in a run directory; any other folder is taken for a detector itself."""
    nested = Path(folder) / "detector"
    return nested if nested.exists() else Path(folder)


def read_header(file: Path) -> DetectorHeader:
    """Return the content of a detector's config.json.

    Raises:
        DetectorFormatError: the file is none, or of an unknown format version.
    """
    if not file.is_file():
        nested = file.parent / "detector"
        hint = f"did you mean {nested}?" if (nested / "config.json").is_file() else "give the folder that save() wrote"
        raise DetectorFormatError(f"{file.parent}: holds no detector (no config.json); {hint}")
    try:
        header = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DetectorFormatError(f"{file}: cannot be read: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise DetectorFormatError(f"{file}: is not a detector's config.json (key 'format' is not {FORMAT!r})")
    if header.get("format_version") != FORMAT_VERSION:
        raise DetectorFormatError(
            f"{file}: format version {header.get('format_version')!r} is unknown to crdkit {crdkit.__version__}, "
            f"which reads version {FORMAT_VERSION}; it was written by crdkit {header.get('crdkit')!r}: use that version"
        )
    try:
        return DetectorHeader.model_validate(header)
    except ValidationError as error:
        raise DetectorFormatError(f"{file}: is damaged: {explain(error)}; copy the detector again") from error
    except UnknownNameError as error:
        raise DetectorFormatError(f"{file}: is damaged: {error}; copy the detector again") from error
