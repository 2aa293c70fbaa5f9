"""Detectors that were exported to ONNX, loaded again: they predict as the detector that they were exported from."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch

from crdkit.config.build import build_scorer
from crdkit.config.run_config import RunConfig
from crdkit.detector._engine import Engine
from crdkit.detector._explaining import WhenAttributed
from crdkit.detector._exported import NEEDS_FOLDER, ExportedEngine, ExportedNetworks, ExportedPredictor, read_model
from crdkit.detector._saved import check_header, thresholds_of
from crdkit.detector.detector import Detector
from crdkit.detector.prediction import Prediction
from crdkit.errors import ConfigError, CrdkitError, DetectorFormatError, first_line
from crdkit.model.crd import CRD
from crdkit.model.layers import FeatureSpec
from crdkit.scoring.scorer import Scorer


class ExportedDetector(Detector):
    """A detector whose networks are an exported ONNX file, run by ONNX Runtime on the CPU.

    It predicts, decides and is measured as any other. Its views are made by crdkit, as they were in training, and the
    graph is entered after them. It cannot be trained, calibrated or exported, and alarms have no attribution, for which
    parts of the networks would have to be taken away.

    Args:
        networks: of the file.
        **parts: as for `Detector`, without the model.
    """

    def __init__(self, *, networks: ExportedNetworks, **parts: Any) -> None:
        self._networks = networks
        super().__init__(model=cast(CRD, networks), **parts)

    def _use(self, config: RunConfig) -> None:
        super()._use(config)
        self._predictor = ExportedPredictor(self._networks, self.scorer, views=self.views)

    def _engine(self) -> Engine:
        return ExportedEngine(self._networks, self.scorer)

    @property
    def attribution(self) -> WhenAttributed:
        """Always "never". The default of other detectors, "alarms", is accepted too, and "always" is refused."""
        return "never"

    @attribution.setter
    def attribution(self, value: WhenAttributed) -> None:
        Detector.attribution.fset(self, value)  # type: ignore[attr-defined]  # refuses unknown words
        if value == "always":
            raise ConfigError(f"attribution (={value!r}) takes parts of the networks away: {NEEDS_FOLDER}")

    def _attributed(self, found: Prediction, views: Mapping[str, torch.Tensor], engine: Engine) -> Prediction:
        return found

    def to(self, device: str | torch.device) -> Detector:
        """Return self: ONNX Runtime runs it on the CPU, whatever the device."""
        return self

    def compile(self) -> Detector:
        """Return self: ONNX Runtime runs it already."""
        return self

    def save(self, path: Path | str) -> None:
        """Refuse.

        Raises:
            CrdkitError: always; copy the file instead.
        """
        raise CrdkitError("an exported detector is its file: copy that, with what lies beside it, instead of saving it")

    def export(self, file: Path | str, format: str | None = None, *, overwrite: bool = False) -> Path:  # noqa: A002
        """Refuse.

        Raises:
            CrdkitError: always.
        """
        raise CrdkitError(f"this detector was exported already: {NEEDS_FOLDER}")


def load_exported(file: Path, *, allow_plugins: bool = False) -> ExportedDetector:
    """Return the detector in an .onnx file; with a description beside it, the file must be the one described.

    Args:
        file: that `Detector.export` wrote.
        allow_plugins: import and run the code that it names: views and scores of your own.

    Raises:
        UntrustedCodeError: it names code to import, and ``allow_plugins`` is false.
        DetectorFormatError: the file cannot be read, is damaged, or is none that crdkit has exported.
        ConfigError: a package of the extra ``onnx`` is missing.
    """
    if not file.is_file():
        raise DetectorFormatError(f"{file}: does not exist")
    model, description = read_model(file)
    header = check_header(description.get("detector"), file)
    config = RunConfig.from_file(header.config, file=file, allow_plugins=allow_plugins)
    specs = {name: FeatureSpec(**spec.model_dump()) for name, spec in header.specs.items()}
    return ExportedDetector(
        config=config,
        networks=ExportedNetworks(file, model, description, specs=specs),
        scorer=_scorer(config, description, file),
        sensor_statistics=header.sensors,
        thresholds=thresholds_of(header, config, where=str(file)),
    )


def _scorer(config: RunConfig, description: Mapping[str, Any], file: Path) -> Scorer:
    from safetensors.torch import load

    scorer = build_scorer(config)
    try:
        scorer.load_state_dict(load(base64.b64decode(description["scorer"])))
    except Exception as error:  # of a damaged description
        raise DetectorFormatError(f"{file}: is damaged: {first_line(error)}; copy or export it again") from error
    return scorer
