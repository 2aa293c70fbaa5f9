"""A detector as one file for programs without crdkit: ONNX, or a program of `torch.export`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from crdkit._core.documents import parse_json
from crdkit._core.files import PARTIAL
from crdkit._core.progress import track
from crdkit.detector._export_description import FORMAT
from crdkit.detector._export_run import STEPS, write_export
from crdkit.detector._onnx import require_packages
from crdkit.detector._saved import WEIGHTS, detector_folder, read_header
from crdkit.errors import ConfigError, CrdkitError, DetectorFormatError

if TYPE_CHECKING:
    from crdkit.detector.detector import Detector

Format = Literal["onnx", "torch"]
SUFFIXES: Mapping[str, str] = {"onnx": ".onnx", "torch": ".pt2"}


def export_detector(
    detector: Detector,
    file: Path | str,
    *,
    format: str | None = None,  # noqa: A002  the word of the command line
    overwrite: bool = False,
) -> Path:
    """Write a detector as one file, with a description and a sample for a self-test beside it.

    ``part.onnx`` comes with ``part.json`` and ``part.selftest/``. All are written, or none. Afterwards the file is run
    on made-up samples, and its outputs are compared with PyTorch's.

    Args:
        detector: to export; it stays as it is.
        file: ends in .onnx or .pt2.
        format: "onnx" or "torch"; None: what the suffix says.
        overwrite: whether an earlier export is replaced.

    Returns:
        The file.

    Raises:
        ConfigError: the format is unknown, a package is missing, or a part of the detector cannot be exported; the
            message names it.
        CrdkitError: the file exists, or cannot be written.
    """
    target = Path(file).expanduser()
    chosen = _format(target, format)
    if chosen == "onnx":
        require_packages("exporting")
    with _new_files(target, overwrite=overwrite) as folder:
        steps = write_export(detector, folder / target.name, chosen)
        for _ in track(steps, description=f"exporting {target.name}", total=STEPS):
            pass
    return target


def _format(file: Path, given: str | None) -> Format:
    by_suffix = {suffix: name for name, suffix in SUFFIXES.items()}.get(file.suffix.lower())
    if given is not None and given not in get_args(Format):
        raise ConfigError(f"format (={given!r}) must be one of {', '.join(get_args(Format))}")
    wanted = given or by_suffix
    if wanted is None or wanted != by_suffix:
        endings = ", ".join(f"{suffix} for {name}" for name, suffix in SUFFIXES.items())
        raise ConfigError(f"{file}: its suffix does not say {given or 'the format'}; the name must end in {endings}")
    return "onnx" if wanted == "onnx" else "torch"


def files_of(file: Path) -> dict[str, Path]:
    """Return what an export consists of: ``json``, ``selftest``, ``weights`` (only if they are apart) and ``file``."""
    return {
        "json": file.with_suffix(".json"),
        "selftest": file.with_suffix(".selftest"),
        "weights": file.with_name(f"{file.name}.data"),
        "file": file,
    }


def describe_file(file: Path) -> dict[str, Any]:
    """Return the description that lies beside an exported file.

    Raises:
        DetectorFormatError: there is none, or it is damaged.
    """
    beside = files_of(file)["json"]
    try:
        found = parse_json(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DetectorFormatError(f"{beside}: cannot be read: {error}; export the detector again") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise DetectorFormatError(f"{beside}: does not describe an exported detector; export it again")
    return found


def is_export_of(file: Path, folder: Path) -> bool:
    """Return whether ``file`` is there, and was exported from the weights of the run or detector in ``folder``."""
    if not file.is_file() or not files_of(file)["json"].is_file():
        return False
    header = read_header(detector_folder(folder) / "config.json")
    weights = describe_file(file).get("sha256", {}).get("weights")
    return bool(weights) and header.sha256.get(WEIGHTS) == weights


@contextmanager
def _new_files(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a hidden folder beside ``target``, whose content takes its place at the end, the file itself last."""
    final = files_of(target)
    there = [path for path in final.values() if path.exists()]
    if folders := [path for path in there if path.is_dir() and path != final["selftest"]]:
        raise CrdkitError(f"{folders[0]} is a folder; choose another name")
    if there and not overwrite:
        raise CrdkitError(f"{there[0]} exists; choose another name, or replace the export with --overwrite")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=PARTIAL, dir=target.parent))
    except OSError as error:
        raise CrdkitError(f"{target}: cannot be written: {error.strerror or error}") from error
    try:
        yield folder
        for path in final.values():
            written = folder / path.name
            if path.is_dir() and not path.is_symlink():
                path.rename(folder / f"{path.name}.old")
            if written.exists():
                written.replace(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise CrdkitError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
