"""The networks of an exported detector, from views to maps: its file without what makes views, in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from crdkit._core.documents import parse_json
from crdkit._core.files import sha256_of
from crdkit.detector._engine import Engine, RawMaps, Views
from crdkit.detector._export_cut import cut
from crdkit.detector._export_description import FORMAT, FORMAT_VERSION, KEY
from crdkit.detector._export_graph import PRESENT, view_input
from crdkit.detector._export_onnx import open_session, run_session
from crdkit.detector._kept import KeptNetworks
from crdkit.detector._predictor import Predictor
from crdkit.errors import ConfigError, DetectorFormatError, first_line
from crdkit.model.crd import CRD, Branch
from crdkit.model.layers import FeatureSpec, Presence
from crdkit.scoring.scorer import Maps, Scorer
from crdkit.views import View

NEEDS_FOLDER = (
    "an exported detector holds its networks as one graph; use the detector's folder that it was exported from"
)


def read_model(file: Path) -> tuple[Any, dict[str, Any]]:
    """Return the model in an .onnx file, without weights that lie apart, and the description in it.

    Raises:
        ConfigError: the package ``onnx`` is missing.
        DetectorFormatError: the file cannot be read, is damaged, or is none that crdkit has exported.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401  what runs it
    except ImportError as error:
        raise ConfigError(
            f"{file}: an exported detector needs the package {error.name!r}; pip install 'crdkit[onnx]'"
        ) from error
    _require_checksum(file)
    try:
        model = onnx.load(str(file), load_external_data=False)
        text = {entry.key: entry.value for entry in model.metadata_props}.get(KEY)
        description = None if text is None else parse_json(text)
    except Exception as error:  # protobuf raises many types
        raise DetectorFormatError(f"{file}: cannot be read: {first_line(error)}; copy or export it again") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise DetectorFormatError(f"{file}: is no detector that crdkit has exported; see `crdkit export`")
    if description.get("format_version") != FORMAT_VERSION:
        raise DetectorFormatError(
            f"{file}: export format {description.get('format_version')!r} is unknown to this crdkit, which reads "
            f"{FORMAT_VERSION}; crdkit {description.get('crdkit')!r} wrote it: use that version, or export again"
        )
    return model, description


def _require_checksum(file: Path) -> None:
    """Refuse a file, and weights beside it, that are not those of the description beside it, if there is one."""
    sums: dict[str, str] = {}
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        sums = dict(parse_json(file.with_suffix(".json").read_text(encoding="utf-8"))["sha256"])
    for path in (file, file.with_name(f"{file.name}.data")):
        try:
            if path.name in sums and sha256_of(path) != sums[path.name]:
                raise DetectorFormatError(
                    f"{path}: is not the file that was exported with {file.with_suffix('.json').name}: its SHA-256 "
                    "checksum differs; copy all files of the export again"
                )
        except OSError as error:
            raise DetectorFormatError(f"{path}: cannot be read: {error.strerror or error}") from error


class ExportedNetworks(nn.Module):
    """Stands for the model of a detector; several threads may call it.

    Args:
        file: the .onnx file.
        model: its content, which is cut down to what is needed.
        description: in it.
        specs: shapes of the teachers' features, by modality.

    Raises:
        DetectorFormatError: the file lacks a value, or ONNX Runtime cannot run it.
    """

    def __init__(
        self, file: Path, model: Any, description: Mapping[str, Any], *, specs: Mapping[str, FeatureSpec]
    ) -> None:
        super().__init__()
        self.specs = dict(specs)
        self._outputs = ["score", "anomaly_map", *(f"map_{name}" for name in specs)]
        try:
            self.sensors: list[str] = next((e["sensors"] for e in description["inputs"] if e["name"] == PRESENT), [])
            self._reads = {name: tuple(description["modalities"][name]["sensors"]) for name in specs}
            self._channels = {name: int(description["modalities"][name]["channels"]) for name in specs}
            self._counts = {name: int(count) for name, count in description["parameters"].items()}
            views = {view_input(name): channels for name, channels in self._channels.items()}
            cut(model, views, self._outputs, size=int(description["image_size"]))
            threads = torch.get_num_threads()
            self._session = open_session(model.SerializeToString(), threads=threads, folder=file.absolute().parent)
            self._blank = {
                e["name"]: np.zeros([1 if isinstance(side, str) else side for side in e["shape"]], e["dtype"])
                for e in description["inputs"]
                if e["kind"] == "sensor" and e["name"] in {value.name for value in self._session.get_inputs()}
            }
        except Exception as error:  # of a damaged file
            raise DetectorFormatError(f"{file}: cannot be run: {first_line(error)}; copy or export it again") from error

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in order."""
        return tuple(self.specs)

    def count_parameters(self) -> dict[str, int]:
        """Return the number of parameters of the students and of the teachers."""
        return dict(self._counts)

    def maps(self, views: Mapping[str, torch.Tensor], present: Presence | None) -> Maps:
        """Return maps and scores of (N, C, S, S) views by modality; samples may lack some where the file allows it."""
        arrays = {
            view_input(name): view.expand(-1, self._channels[name], -1, -1).contiguous().numpy()
            for name, view in views.items()
        }
        count = len(next(iter(views.values())))
        arrays |= {name: blank.repeat(count, axis=0) for name, blank in self._blank.items()}  # asked for their number
        if self.sensors:
            arrays[PRESENT] = self._presence(present, count=count)
        found = run_session(self._session, arrays, self._outputs)
        tensors = {name: torch.from_numpy(values) for name, values in found.items()}
        return Maps(
            anomaly_map=tensors["anomaly_map"][:, 0],
            pred_score=tensors["score"],
            branches={name: tensors[f"map_{name}"][:, 0] for name in self.specs},
            present=present,
        )

    def _presence(self, present: Presence | None, *, count: int) -> Any:
        """Return (N, sensors) bool: a sensor is there if a modality that reads it is."""
        has = present or {name: torch.ones(count, dtype=torch.bool) for name in self.specs}
        columns = [
            torch.stack([has[name] for name, sensors in self._reads.items() if sensor in sensors]).any(dim=0)
            for sensor in self.sensors
        ]
        return torch.stack(columns, dim=1).numpy()


class ExportedEngine(Engine):
    """The forward path of an exported detector."""

    def __init__(self, networks: ExportedNetworks, scorer: Scorer) -> None:
        self.networks, self.scorer = networks, scorer
        self.device = scorer.device
        self.branches = cast(dict[str, Branch], dict.fromkeys(networks.modalities))

    @property
    def captures(self) -> bool:
        """Whether calls share buffers: they do not."""
        return False

    def compile(self, kept: KeptNetworks | None = None) -> None:
        """Do nothing: ONNX Runtime runs the networks already."""

    def __call__(self, inputs: Views, present: Presence | None = None) -> Maps:
        """Return maps and scores."""
        return self.networks.maps({name: inputs(name).cpu() for name in self.branches}, present)

    def raw_maps(self, inputs: Views, present: Presence | None = None) -> RawMaps:
        """Refuse: the file has no unsmoothed maps.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"a detector is calibrated on unsmoothed maps: {NEEDS_FOLDER}")


class ExportedPredictor(Predictor):
    """Predicts with an exported engine, which is never built anew."""

    def __init__(self, networks: ExportedNetworks, scorer: Scorer, *, views: Mapping[str, View]) -> None:
        super().__init__(cast(CRD, networks), scorer, views=views, graph=False)
        self.engine = ExportedEngine(networks, scorer)

    def to(self, device: torch.device) -> None:
        """Do nothing: ONNX Runtime runs on the CPU."""
