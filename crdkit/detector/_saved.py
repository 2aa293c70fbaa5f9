"""A detector on disk: config.json and model.safetensors, and errors for one that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, FiniteFloat, ValidationError, field_validator
from torch import nn

import crdkit
from crdkit._core.documents import parse_json
from crdkit._core.files import below, new_folder, read_tensors, sha256_of, write_tensors, write_text
from crdkit._core.registry import StrictConfig
from crdkit.config.build import build_scorer
from crdkit.config.run_config import RunConfig
from crdkit.data.statistics import from_json
from crdkit.detector import _saved_thresholds
from crdkit.detector._paths import without_paths
from crdkit.detector._rebuild import rebuild, require_kinds
from crdkit.detector._saved_thresholds import SavedThresholds
from crdkit.detector.card import CARD
from crdkit.errors import (
    ConfigError,
    CrdkitError,
    DetectorFormatError,
    UnknownNameError,
    explain,
    first_line,
    shorten,
)
from crdkit.model.crd import CRD
from crdkit.model.layers import FeatureSpec
from crdkit.scoring.conformal import Normals
from crdkit.scoring.scorer import Scorer
from crdkit.scoring.thresholds import Thresholds

FORMAT = "crdkit-detector"
FORMAT_VERSION = 4
READABLE = (1, 2, 3, 4)
"""Version 1 is that of crdkit 0.1.0 as one flat package; it also held options that have since been removed."""
CHECKSUMS_SINCE = 3
"""From this version on there must be a checksum, so that its loss is noticed too."""
THRESHOLDS_SINCE = 4
"""From this version on there must be thresholds, or null."""
WEIGHTS = "model.safetensors"

Count = Annotated[int, Field(ge=1, le=2**20)]


class _Spec(StrictConfig):
    channels: tuple[Count, ...]
    sizes: tuple[Count, ...]
    signed: bool


class DetectorHeader(StrictConfig):
    """The content of config.json."""

    format: str
    format_version: int
    crdkit: str
    config: dict[str, Any]
    specs: dict[str, _Spec]
    sha256: dict[str, str] = Field(default_factory=dict)
    """Checksum of the file beside it, by name; empty before version 3."""
    sensors: dict[str, Any] = Field(default_factory=dict)
    """See `Saved.sensor_statistics`."""
    normal_scores: tuple[FiniteFloat, ...] = ()
    """Of the samples that fitted the aggregation; version 3 had no more."""
    thresholds: SavedThresholds | None = None

    @field_validator("sensors")
    @classmethod
    def _are_statistics(cls, value: dict[str, Any]) -> dict[str, Any]:
        from_json(value)
        return value


@dataclass(frozen=True)
class Saved:
    """What a detector consists of."""

    config: RunConfig
    model: CRD
    scorer: Scorer
    sensor_statistics: Mapping[str, Any] = field(default_factory=dict)
    """What the sensors of the training samples were like; ``sensors`` in config.json."""
    thresholds: Thresholds | None = None


def detector_folder(folder: Path | str) -> Path:
    """Return the detector in a run directory; any other folder is taken for a detector itself."""
    nested = Path(folder) / "detector"
    return nested if nested.exists() else Path(folder)


def write_detector(path: Path, detector: Saved, *, card: str) -> None:
    """Write ``config.json``, ``model.safetensors`` and README.md, a ``card``, to the new folder ``path``, atomically.

    Raises:
        CrdkitError: ``path`` exists and is not an empty folder, or cannot be written.
    """
    header, state = header_of(detector), state_of(detector)
    with new_folder(path) as folder:
        write_tensors(folder / WEIGHTS, state)
        seal(header, weights=folder / WEIGHTS, thresholds=detector.thresholds)
        (folder / CARD).write_text(card, encoding="utf-8", errors="backslashreplace")
        (folder / "config.json").write_text(_as_text(header), encoding="utf-8")


def header_of(detector: Saved) -> dict[str, Any]:
    """Return the content of config.json without what `seal` adds."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "crdkit": crdkit.__version__,
        "config": without_paths(detector.config),
        "specs": {name: asdict(spec) for name, spec in detector.model.specs.items()},
        "sensors": dict(detector.sensor_statistics),
    }


def state_of(detector: Saved) -> dict[str, torch.Tensor]:
    """Return the content of model.safetensors."""
    parts: Mapping[str, nn.Module] = {"model": detector.model, "scorer": detector.scorer}
    return {f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}


def seal(header: dict[str, Any], *, weights: Path, thresholds: Thresholds | None) -> None:
    """Add to the content of config.json the checksum of the file of weights, if it has none, and thresholds."""
    if not header.get("sha256"):
        header["sha256"] = {WEIGHTS: sha256_of(weights)}
    made_from = {"config": header["config"], "weights": header["sha256"][WEIGHTS]}
    header["thresholds"] = None if thresholds is None else _saved_thresholds.to_json(thresholds, **made_from)


def write_thresholds(path: Path, thresholds: Thresholds) -> None:
    """Write the thresholds of the detector in ``path`` into its config.json, atomically; its weights stay as they are.

    The file gets this format version, whatever it had.

    Raises:
        DetectorFormatError: the folder holds no detector.
        CrdkitError: the file cannot be written.
    """
    file = path / "config.json"
    read_header(file)
    header = parse_json(file.read_text(encoding="utf-8"))
    header.pop("normal_scores", None)
    header |= {"format_version": FORMAT_VERSION, "crdkit": crdkit.__version__}
    seal(header, weights=path / WEIGHTS, thresholds=thresholds)
    write_text(file, _as_text(header))


def _as_text(header: Mapping[str, Any]) -> str:
    return json.dumps(header, indent=2, allow_nan=False) + "\n"


def read_detector(path: Path, *, allow_plugins: bool = False) -> Saved:
    """Read a folder that `write_detector` wrote, on the CPU.

    Raises:
        UntrustedCodeError: it names code to import, and ``allow_plugins`` is false.
        DetectorFormatError: the folder holds no detector, a damaged one, or one of an unknown format version.
    """
    file, weights = path / "config.json", path / WEIGHTS
    header = read_header(file)
    config = RunConfig.from_file(header.config, file=file, allow_plugins=allow_plugins)
    try:
        specs = {name: FeatureSpec(**spec.model_dump()) for name, spec in header.specs.items()}
    except ConfigError as error:
        raise DetectorFormatError(f"{file}: is damaged: {error}; copy the detector again") from error
    if list(specs) != list(config.modalities):
        raise DetectorFormatError(
            f"{file}: specs are for {shorten(str(list(specs)))}, but modalities are "
            f"{shorten(str(list(config.modalities)))}; copy the detector again"
        )
    with ThreadPoolExecutor(1, "crdkit-checksum") as alongside:  # takes about as long as building the model
        found = alongside.submit(sha256_of, weights) if header.sha256 else None
        try:
            model, scorer = _load(config, specs, file=file)
        finally:  # that it is another file explains whatever went wrong with it
            if found and not found.exception() and found.result() != header.sha256.get(WEIGHTS):
                raise DetectorFormatError(
                    f"{weights}: is not the file that was saved with {file.name}: its SHA-256 checksum differs; "
                    "copy the detector again"
                )
    return Saved(config, model, scorer, header.sensors, thresholds_of(header, config, where=str(file)))


def thresholds_of(header: DetectorHeader, config: RunConfig, *, where: str) -> Thresholds | None:
    """Return the thresholds in a config.json; version 3 had scores of the samples that fitted the aggregation.

    Raises:
        DetectorFormatError: they are damaged.
    """
    if header.normal_scores:
        scores = {tuple(config.modalities): Normals(header.normal_scores, rule="in-sample")}
        return Thresholds(scores=scores, peaks={}, false_alarms=config.scoring.false_alarms)
    if header.thresholds is None:
        return None
    weights = header.sha256.get(WEIGHTS, "")
    return _saved_thresholds.from_json(header.thresholds, config=header.config, weights=weights, where=where)


def _load(config: RunConfig, specs: Mapping[str, FeatureSpec], *, file: Path) -> tuple[CRD, Scorer]:
    weights = file.with_name(WEIGHTS)
    try:
        state = read_tensors(weights)[0]
    except (OSError, ValueError) as error:
        raise DetectorFormatError(f"{weights}: cannot be read: {error}; copy the detector again") from error
    try:
        scorer = build_scorer(config)
        model = rebuild(config, specs=specs, state=below("model.", state))
        require_kinds(scorer.state_dict(), below("scorer.", state))
        scorer.load_state_dict(below("scorer.", state))
    except CrdkitError as error:
        raise type(error)(f"{file}: {error}") from error
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise DetectorFormatError(f"{weights}: does not fit its config.json: {reason}") from error
    except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:  # sizes that make no sense
        raise DetectorFormatError(
            f"{file}: describes no model: {first_line(error)}; copy the detector again"
        ) from error
    return model, scorer


def read_config(path: Path | str, *, allow_plugins: bool = False) -> RunConfig:
    """Return the configuration in the detector folder ``path``; its weights are not read.

    Raises:
        UntrustedCodeError: it names code to import, and ``allow_plugins`` is false.
        DetectorFormatError: the folder holds no detector, or one of an unknown format version.
    """
    file = Path(path) / "config.json"
    return RunConfig.from_file(read_header(file).config, file=file, allow_plugins=allow_plugins)


def read_thresholds(path: Path | str, *, allow_plugins: bool = False) -> Thresholds | None:
    """Return the thresholds of the detector in a run or detector directory; its weights are not read.

    Raises:
        UntrustedCodeError: it names code to import, and ``allow_plugins`` is false.
        DetectorFormatError: the folder holds no detector, or a damaged one.
    """
    file = detector_folder(path) / "config.json"
    header = read_header(file)
    config = RunConfig.from_file(header.config, file=file, allow_plugins=allow_plugins)
    return thresholds_of(header, config, where=str(file))


def read_header(file: Path) -> DetectorHeader:
    """Return the content of a detector's config.json.

    Raises:
        DetectorFormatError: the file is missing or damaged, or of an unknown format version.
    """
    if not file.is_file():
        nested = file.parent / "detector"
        hint = f"did you mean {nested}?" if (nested / "config.json").is_file() else "give the folder that save() wrote"
        raise DetectorFormatError(f"{file.parent}: holds no detector (no config.json); {hint}")
    try:
        header = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DetectorFormatError(f"{file}: cannot be read: {error}") from error
    return check_header(header, file)


def check_header(header: Any, file: Path) -> DetectorHeader:
    """Return the checked content of a detector's config.json, which is in ``file``.

    Raises:
        DetectorFormatError: it is damaged, or of an unknown format version.
    """
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise DetectorFormatError(f"{file}: is not a detector's config.json (key 'format' is not {FORMAT!r})")
    if header.get("format_version") not in READABLE:
        raise DetectorFormatError(
            f"{file}: format version {header.get('format_version')!r} is unknown to crdkit {crdkit.__version__}, "
            f"which reads versions {' and '.join(map(str, READABLE))}; it was written by crdkit "
            f"{header.get('crdkit')!r}: use that version"
        )
    if header["format_version"] >= CHECKSUMS_SINCE and not header.get("sha256"):
        raise DetectorFormatError(f"{file}: is damaged: sha256 is missing; copy the detector again")
    if header["format_version"] >= THRESHOLDS_SINCE and "thresholds" not in header:
        raise DetectorFormatError(f"{file}: is damaged: thresholds are missing; copy the detector again")
    try:
        return DetectorHeader.model_validate(header)
    except ValidationError as error:
        raise DetectorFormatError(f"{file}: is damaged: {explain(error)}; copy the detector again") from error
    except UnknownNameError as error:
        raise DetectorFormatError(f"{file}: is damaged: {error}; copy the detector again") from error
