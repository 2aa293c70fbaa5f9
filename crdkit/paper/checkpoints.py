"""Checkpoints of the published CRD code (github.com/hito2448/CRD): read into a `crdkit.CRD`, and scored."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from crdkit.config.build import build_model
from crdkit.config.run_config import RunConfig
from crdkit.errors import DetectorFormatError
from crdkit.model.crd import CRD
from crdkit.model.encoders import Encoder
from crdkit.model.graph import GraphConfig
from crdkit.model.layers import FeatureSpec
from crdkit.runs.evaluate import score_students

PUBLISHED_SPEC = FeatureSpec(channels=(256, 512, 1024), sizes=(64, 32, 16), signed=False)
"""WideResNet-50-2, layers 1-3, at 256 x 256: the only teacher that the published checkpoints were made with."""
TWO_STATES = "a published checkpoint holds two state dicts, such as {'student_rgb': ..., 'student_depth': ...}"

# Levels are named a, b, c from fine to coarse in the projectors, but from coarse to fine in the merge weights.
_PATTERNS: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"bn\.bn_layer\.(\d)\.downsample\.(.+)", r"student.bottleneck.embedding.\1.shortcut.\2"),
    (r"bn\.bn_layer\.(\d)\.(.+)", r"student.bottleneck.embedding.\1.\2"),
    (r"bn\.conv1\.(.+)", r"student.bottleneck.levels.0.0.\1"),
    (r"bn\.bn1\.(.+)", r"student.bottleneck.levels.0.1.\1"),
    (r"bn\.conv2\.(.+)", r"student.bottleneck.levels.0.3.\1"),
    (r"bn\.bn2\.(.+)", r"student.bottleneck.levels.0.4.\1"),
    (r"bn\.conv3\.(.+)", r"student.bottleneck.levels.1.0.\1"),
    (r"bn\.bn3\.(.+)", r"student.bottleneck.levels.1.1.\1"),
    (r"bn\.conv4\.(.+)", r"student.bottleneck.levels.2.0.\1"),
    (r"bn\.bn4\.(.+)", r"student.bottleneck.levels.2.1.\1"),
    (r"decoder\.w_([abc])", lambda m: f"student.decoder.merge_weights.{'abc'.index(m[1])}"),
    (
        r"decoder\.layer(\d)\.(\d)\.upsample\.(.+)",
        lambda m: f"student.decoder.stages.{int(m[1]) - 1}.{m[2]}.shortcut.{m[3]}",
    ),
    (r"decoder\.layer(\d)\.(.+)", lambda m: f"student.decoder.stages.{int(m[1]) - 1}.{m[2]}"),
    (r"projector_filter\.conv_([abc])\.(.+)", lambda m: f"filters.SOURCE.levels.{'abc'.index(m[1])}.{m[2]}"),
    (r"projector_amply\.conv_([abc])\.(.+)", lambda m: f"amplifiers.SOURCE.levels.{'abc'.index(m[1])}.{m[2]}"),
)


def own_name(published: str, *, source: str) -> str | None:
    """Translate a tensor's name in a published checkpoint to its name in a `crdkit.model.crd.Branch`.

    Examples:
        >>> own_name("decoder.w_a", source="depth"), own_name("projector_filter.conv_c.0.weight", source="depth")
        ('student.decoder.merge_weights.0', 'filters.depth.levels.2.0.weight')
    """
    for pattern, replacement in _PATTERNS:
        match = re.fullmatch(pattern, published)
        if match:
            name = match.expand(replacement) if isinstance(replacement, str) else replacement(match)
            return name.replace("SOURCE", source)
    return None


def published_model(modalities: tuple[str, str], *, teachers: Mapping[str, Encoder] | None = None) -> CRD:
    """Build the published two-branch model, untrained."""
    graph = GraphConfig().build(modalities)
    return CRD(specs=dict.fromkeys(modalities, PUBLISHED_SPEC), graph=graph, teachers=teachers)


def load_students(
    students: Mapping[str, Mapping[str, torch.Tensor]], *, teachers: Mapping[str, Encoder] | None = None
) -> CRD:
    """Build a CRD from the two students of a published checkpoint, in eval mode.

    Args:
        students: ``{"rgb": state_dict, "depth": state_dict}`` (or ``"normals"``, as on Eyecandies); the
            published keys ``"student_rgb"`` ... work as well.
        teachers: encoders by modality; without them `CRD.distill` works, and calling the model reports what is missing.

    Raises:
        DetectorFormatError: there are not two students, or a tensor is missing, unknown or of another shape.

    Examples:
        >>> model = load_students(read_checkpoint("crd_bagel.pth"))  # doctest: +SKIP
        >>> load_students({"student_rgb": {}})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        crdkit.errors.DetectorFormatError: a published checkpoint holds two state dicts, such as ...
    """
    by_name = _by_modality(students)
    first, second = by_name
    model = published_model((first, second), teachers=teachers)
    load_into(model, by_name)
    return model.eval()


def load_into(model: CRD, students: Mapping[str, Any]) -> None:
    """Load the students of a published checkpoint, as `load_students` takes them, into ``model``.

    Raises:
        DetectorFormatError: there are not two students, they are of other modalities than the model's, or a tensor is
            missing, unknown or of another shape.

    Examples:
        >>> from crdkit.model import CrossmodalGraph
        >>> specs = {"rgb": FeatureSpec(channels=(4,), sizes=(4,), signed=False)}
        >>> model = CRD(specs=specs, graph=CrossmodalGraph(modalities=("rgb",)))
        >>> load_into(model, {"student_rgb": {}, "student_depth": {}})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        crdkit.errors.DetectorFormatError: the checkpoint holds students of ['depth', 'rgb'], but ...
    """
    by_name = _by_modality(students)
    if set(by_name) != set(model.modalities):
        raise DetectorFormatError(
            f"the checkpoint holds students of {sorted(by_name)}, but the configuration's modalities are "
            f"{sorted(model.modalities)}; choose the preset that the students were trained for"
        )
    first, second = by_name
    for target, source in ((first, second), (second, first)):
        own = model.branch(target).state_dict()
        model.branch(target).load_state_dict(_translate(by_name[target], own, target=target, source=source))


def read_checkpoint(path: Path | str) -> dict[str, Any]:
    """Read a file that the published code saved with `torch.save`; nothing in it is executed.

    Raises:
        DetectorFormatError: the file is missing, is not such a file, or holds more than tensors.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "crd.pth")
        ...     torch.save({"student_rgb": {"decoder.w_a": torch.ones(2)}, "student_depth": {}}, file)
        ...     students = read_checkpoint(file)
        >>> list(students), list(students["student_rgb"])
        (['student_rgb', 'student_depth'], ['decoder.w_a'])
    """
    import warnings
    import zipfile
    from pickle import UnpicklingError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a pickle's protocol: what cannot be read is an error below
            if zipfile.is_zipfile(path):  # torch.load does not compare the archive's checksums
                with zipfile.ZipFile(path) as archive:
                    damaged = archive.testzip()
                if damaged is not None:
                    raise ValueError(f"the checksum of {damaged} differs")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DetectorFormatError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnpicklingError as error:
        raise DetectorFormatError(
            f"{path}: holds more than tensors, or was not written by torch.save, so it is not read; give a dict of two "
            "state dicts, saved with torch.save({'student_rgb': student.state_dict(), ...}, FILE)"
        ) from error
    except Exception as error:  # torch.load raises many types on damaged bytes, struct.error for one
        raise DetectorFormatError(
            f"{path}: is damaged, or was not written by torch.save ({type(error).__name__}); copy the checkpoint again"
        ) from error
    if not isinstance(content, dict):
        raise DetectorFormatError(f"{path}: holds {type(content).__name__}; {TWO_STATES}")
    return content


def evaluate_published(config: RunConfig, checkpoint: Path | str, out: Path | str | None = None) -> dict[str, Any]:
    """Return the metrics of a checkpoint of the published CRD code: calibrated on validation normals, then scored.

    Args:
        config: the run that the students were trained for; its teachers are built, nothing is trained.
        checkpoint: what `read_checkpoint` reads.
        out: new or empty folder for a run directory, without log.jsonl and checkpoints/.

    Raises:
        DetectorFormatError: the checkpoint cannot be read, or its students are not those of ``config``.
        ConfigError: the configuration lacks something, or this machine does.
        DataError: the data cannot be read.
        CrdkitError: ``out`` holds other files or cannot be written.

    Examples:
        >>> run = RunConfig.preset("crd-mvtec3d").with_overrides("data.category=bagel")
        >>> metrics = evaluate_published(run, "crd_bagel.pth", "runs/published")  # doctest: +SKIP
        >>> evaluate_published(run, "nowhere.pth")
        Traceback (most recent call last):
            ...
        crdkit.errors.DetectorFormatError: nowhere.pth: cannot be read: No such file or directory
    """
    students = read_checkpoint(checkpoint)
    model = build_model(config)
    load_into(model, students)
    return score_students(config, model, out, students=str(checkpoint))


def _by_modality(students: Mapping[str, Any]) -> dict[str, Mapping[str, torch.Tensor]]:
    if not isinstance(students, Mapping):
        raise DetectorFormatError(f"{TWO_STATES}; got {type(students).__name__}")
    by_name = {str(key).removeprefix("student_"): state for key, state in students.items()}
    if len(by_name) != 2 or not all(isinstance(state, Mapping) for state in by_name.values()):
        raise DetectorFormatError(f"{TWO_STATES}; got keys {sorted(map(str, students))}")
    return by_name


def _translate(
    published: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], *, target: str, source: str
) -> dict[str, torch.Tensor]:
    translated: dict[str, torch.Tensor] = {}
    for name, tensor in published.items():
        ours = own_name(str(name), source=source)
        if ours is None or ours not in own:
            raise DetectorFormatError(
                f"student {target!r}: unknown tensor {name!r}; expected a student of the published CRD code "
                "(WideResNet-50-2, two modalities, both assistants)"
            )
        if not isinstance(tensor, torch.Tensor) or tensor.shape != own[ours].shape:
            raise DetectorFormatError(
                f"student {target!r}: {name!r} has shape {tuple(getattr(tensor, 'shape', ()))}, "
                f"expected {tuple(own[ours].shape)}"
            )
        translated[ours] = tensor
    missing = sorted(own.keys() - translated.keys())
    if missing:
        raise DetectorFormatError(
            f"student {target!r}: {len(missing)} tensors are missing, the first is {missing[0]!r} in crdkit's naming"
        )
    return translated
