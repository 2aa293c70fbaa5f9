"""Detector: a trained CRD with everything it needs to score a new sample; saved, loaded, used for prediction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import ValidationError

import crdkit
from crdkit.config import RunConfig
from crdkit.errors import CrdkitError, DataError, DetectorFormatError, UnknownNameError, explain
from crdkit.evaluation import Scorer
from crdkit.files import new_folder
from crdkit.layers import FeatureSpec
from crdkit.model import CRD
from crdkit.registry import StrictConfig
from crdkit.resident import build_views, view_sample, visible
from crdkit.scans import check_sensors
from crdkit.training import select_device

FORMAT = "crdkit-detector"
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Result of one sample, as numpy arrays of the input's height and width."""

    anomaly_map: np.ndarray
    """(H, W) float32: fused and smoothed."""
    score: float
    """The image's anomaly score: the maximum of the fused map at the detector's own resolution."""
    maps: dict[str, np.ndarray]
    """By modality, (H, W) float32: smoothed, not normalised."""
    missing: tuple[str, ...] = ()
    """Modalities without a sensor; they have no map, and the fused one is of the others."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields under anomalib's names where one exists."""
        return {
            "anomaly_map": self.anomaly_map,
            "pred_score": self.score,
            "maps": self.maps,
            "missing": self.missing,
        }


class Detector:
    """What users hold in their hands: made by `crdkit.fit` or `Detector.load`.

    Args:
        config: the run that made it.
        model: the trained CRD, teachers included.
        scorer: the calibrated aggregation and the smoothing.
    """

    def __init__(self, *, config: RunConfig, model: CRD, scorer: Scorer) -> None:
        self.config = config
        self.model = model.eval()
        self.scorer = scorer.eval()
        self.views = build_views(config)

    @property
    def device(self) -> torch.device:
        """The device that predictions run on."""
        return self.scorer.aggregation.mean.device

    @property
    def sensors(self) -> tuple[str, ...]:
        """Names of the raw sensors that `predict` needs, or can use, sorted."""
        return tuple(sorted({sensor for view in self.views.values() for sensor in view.sensors}))

    def to(self, device: str | torch.device) -> Detector:
        """Move to ``device`` and return self.

        Raises:
            ConfigError: there is no such device here.
        """
        target = select_device(device) if isinstance(device, str) else device
        self.model.to(target)
        self.scorer.to(target)
        return self

    @torch.no_grad()
    def predict(self, sensors: Mapping[str, np.ndarray]) -> Prediction:
        """Find defects in one sample.

        Args:
            sensors: raw measurements by sensor name, e.g. ``{"rgb": (H, W, 3) uint8, "xyz": (H, W, 3) metres}``,
                all of one height and width; 0 or NaN where a scan measured nothing. A detector trained with
                ``training.modality_dropout`` does without some of them, if a modality has all of its own.

        Raises:
            DataError: a sensor is missing, differs in size, or is nothing that its modality reads.
        """
        missing = self._missing(sensors)
        measured = check_sensors({name: sensors[name] for name in self.sensors if name in sensors})
        height, width = next(iter(measured.values())).shape[:2]
        size = self.config.data.image_size
        views = view_sample(self.views, measured, image_size=size)
        views |= {name: torch.zeros(1, size, size) for name in missing}
        present = {name: torch.tensor([name not in missing], device=self.device) for name in self.views}
        out = self.model(
            {name: view[None].to(self.device) for name, view in views.items()}, present if missing else None
        )
        maps = self.scorer(out)

        def at_input_size(values: torch.Tensor) -> np.ndarray:
            resized = F.interpolate(values[:, None], size=(height, width), mode="bilinear", align_corners=False)
            array: np.ndarray = resized[0, 0].cpu().numpy()
            return array

        return Prediction(
            anomaly_map=at_input_size(maps.anomaly_map),
            score=float(maps.pred_score[0]),
            maps={name: at_input_size(values) for name, values in maps.branches.items() if name not in missing},
            missing=missing,
        )

    def _missing(self, sensors: Mapping[str, np.ndarray]) -> tuple[str, ...]:
        """Return the modalities that ``sensors`` leave without one of their own.

        Raises:
            DataError: the detector cannot do without them, or none would be left.
        """
        seen = visible(self.views, sensors)
        absent = [name for name in self.sensors if name not in sensors]
        if not absent or (seen and self.config.training.modality_dropout > 0):
            return tuple(name for name in self.views if name not in seen)
        hint = (
            "every modality lacks one of its sensors"
            if self.config.training.modality_dropout > 0
            else "train with training.modality_dropout > 0 to do without one"
        )
        raise DataError(
            f"sensor {', '.join(map(repr, absent))} is missing: this detector needs "
            f"{list(self.sensors)}, got {sorted(sensors)}; {hint}"
        )

    def save(self, path: Path | str) -> None:
        """Write ``config.json`` and ``model.safetensors`` (teachers included) to the new folder ``path``.

        The folder appears whole or not at all.

        Raises:
            CrdkitError: ``path`` exists and is not an empty folder, or cannot be written.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        header = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "crdkit": crdkit.__version__,
            "config": self.config.model_dump(mode="json"),
            "specs": {name: asdict(spec) for name, spec in self.model.specs.items()},
        }
        with new_folder(Path(path)) as folder:
            try:
                save_file(self._state(), folder / "model.safetensors")
            except SafetensorError as error:  # a full disk, for one
                raise CrdkitError(f"{path}: cannot be written: {error}") from error
            (folder / "config.json").write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str, *, device: str = "auto") -> Detector:
        """Read a folder that `save` wrote; nothing else is needed, neither the data nor a network.

        Raises:
            DetectorFormatError: the folder holds no detector, or one of an unknown format version.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        file = Path(path) / "config.json"
        header = _read_header(file)
        config = RunConfig.from_dict(header.config, source=str(file))
        specs = {name: FeatureSpec(**spec.model_dump()) for name, spec in header.specs.items()}
        if list(specs) != list(config.modalities):
            raise DetectorFormatError(
                f"{file}: specs are of {list(specs)}, but modalities are {list(config.modalities)}; "
                "copy the detector again"
            )
        model = CRD.from_config(config, load_weights=False, specs=specs)
        scorer = Scorer(config)
        weights = Path(path) / "model.safetensors"
        try:
            state = load_file(weights)
        except (OSError, SafetensorError) as error:
            raise DetectorFormatError(f"{weights}: cannot be read: {error}; copy the detector again") from error
        for prefix, module in (("model.", model), ("scorer.", scorer)):
            part = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            try:
                module.load_state_dict(part)
            except RuntimeError as error:
                reason = " ".join(str(error).split())[:300]
                raise DetectorFormatError(f"{weights}: does not fit its config.json: {reason}") from error
        return cls(config=config, model=model, scorer=scorer).to(device)

    def _state(self) -> dict[str, torch.Tensor]:
        state = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        state |= {f"scorer.{name}": value for name, value in self.scorer.state_dict().items()}
        return {name: value.detach().cpu().contiguous() for name, value in state.items()}


def read_config(path: Path | str) -> RunConfig:
    """Return the configuration in the detector folder ``path``; its weights are not read.

    Raises:
        DetectorFormatError: the folder holds no detector, or one of an unknown format version.
    """
    file = Path(path) / "config.json"
    return RunConfig.from_dict(_read_header(file).config, source=str(file))


class _Spec(StrictConfig):
    channels: tuple[int, ...]
    sizes: tuple[int, ...]
    signed: bool


class _Header(StrictConfig):
    """What a detector's config.json holds."""

    format: str
    format_version: int
    crdkit: str
    config: dict[str, Any]
    specs: dict[str, _Spec]


def _read_header(file: Path) -> _Header:
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
        return _Header.model_validate(header)
    except ValidationError as error:
        raise DetectorFormatError(f"{file}: is damaged: {explain(error)}; copy the detector again") from error
    except UnknownNameError as error:
        raise DetectorFormatError(f"{file}: is damaged: {error}; copy the detector again") from error
