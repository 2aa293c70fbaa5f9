"""The part of a detector that is written to disk and read again: its own folder, and files for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from crdkit.detector._explaining import Explains
from crdkit.detector._saved import Saved, read_detector, write_detector
from crdkit.detector.card import model_card
from crdkit.errors import DetectorFormatError

if TYPE_CHECKING:
    from crdkit.detector.detector import Detector

ONNX = ".onnx"


class Stored(Explains):
    """The part of a detector that is written to disk and read again."""

    sensor_statistics: dict[str, Any]
    metrics: Mapping[str, Any] | None

    def save(self, path: Path | str) -> None:
        """Write ``config.json`` and ``model.safetensors`` (teachers included) to the new folder ``path``, atomically.

        A model card, README.md, is written beside them; nothing reads it.

        Raises:
            CrdkitError: ``path`` exists and is not an empty folder, or cannot be written.
        """
        kept = self.sensor_statistics, self.keep_thresholds()
        card = model_card(self.config, metrics=self.metrics)
        write_detector(Path(path), Saved(self.config, self.model, self.scorer, *kept), card=card)

    def export(self, file: Path | str, format: str | None = None, *, overwrite: bool = False) -> Path:  # noqa: A002
        """Write one file for programs without crdkit; see `crdkit.detector.export.export_detector`.

        Args:
            file: ends in .onnx, or in .pt2 for a program of `torch.export`.
            format: "onnx" or "torch"; None: what the suffix says.
            overwrite: whether an earlier export is replaced.

        Returns:
            The file; its description (.json) and a self-test (.selftest) are beside it.

        Raises:
            ConfigError: a package of the extra ``onnx`` is missing, or a part of the detector cannot be exported.
            CrdkitError: the file exists, or cannot be written.
        """
        from crdkit.detector.export import export_detector

        return export_detector(cast("Detector", self), file, format=format, overwrite=overwrite)


def read_parts(path: Path, *, allow_plugins: bool) -> dict[str, Any]:
    """Return the arguments of the detector in the folder ``path``.

    Raises:
        UntrustedCodeError: see `Detector.load`.
        DetectorFormatError: it holds none.
    """
    if path.is_file():
        raise DetectorFormatError(
            f"{path}: expected the folder of a detector, or a file that ends in {ONNX}; a program of torch.export is "
            "loaded with torch.export.load"
        )
    return vars(read_detector(path, allow_plugins=allow_plugins))
