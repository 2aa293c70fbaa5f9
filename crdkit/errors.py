"""Errors that a caller can fix: each message names what was wrong, what was expected and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError


MOST_NAMES, MOST_PROBLEMS, LONGEST_VALUE = 40, 5, 100
"""What a message lists at most: known names, problems, and characters of a value that somebody gave."""


class CrdkitError(ValueError):
    """Wrong use or bad input; the command line prints it as one line and exits with 2.

    The other errors are subclasses of it, so one ``except`` catches them all.

    Examples:
        >>> from crdkit.config import load_config
        >>> try:
        ...     load_config("nowhere.yaml")
        ... except CrdkitError as error:
        ...     print(error)
        nowhere.yaml: cannot be read: [Errno 2] No such file or directory: 'nowhere.yaml'
    """


class ConfigError(CrdkitError):
    """A configuration that cannot be used: an unknown key, a value out of range, a bad override.

    Examples:
        >>> from crdkit.config import RunConfig
        >>> RunConfig.preset("quick").with_overrides("training.epochs=0")
        Traceback (most recent call last):
            ...
        crdkit.errors.ConfigError: training.epochs=0: training.epochs (=0): input should be greater than or equal to 1
    """


class UntrustedCodeError(ConfigError):
    """A file that names code to import, which the caller has neither named nor allowed; see SECURITY.md.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from crdkit.config import load_config
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "run.yaml")
        ...     _ = file.write_text("plugins: [their_parts]")
        ...     load_config(str(file))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        crdkit.errors.UntrustedCodeError: .../run.yaml: would import and run code that you did not name: plugins ...
    """


class UnknownNameError(ConfigError):
    """A name that is not registered; the message gives the nearest match and every known name.

    Examples:
        >>> from crdkit.model.projections import projections
        >>> projections.get("botleneck")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        crdkit.errors.UnknownNameError: unknown projection 'botleneck' - did you mean 'bottleneck'? known: ...
    """


class DuplicateNameError(CrdkitError):
    """A name registered twice; the message names both modules.

    Examples:
        >>> from crdkit.views import View, views
        >>> views.get("rgb").__name__
        'RGB'
        >>> @views.register("rgb")  # doctest: +ELLIPSIS
        ... class MyView(View):
        ...     pass
        Traceback (most recent call last):
            ...
        crdkit.errors.DuplicateNameError: modality 'rgb' is registered twice: by crdkit.views.rgb.RGB and by ...
    """


class DataError(CrdkitError):
    """A dataset or file that cannot be read or does not match its layout; the message names the path.

    Examples:
        >>> from pathlib import Path
        >>> from crdkit.data.discover import open_datasets
        >>> open_datasets(Path("nowhere"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        crdkit.errors.DataError: nowhere: is not a folder; ...
    """


class MissingSplitError(DataError):
    """A dataset has no folder for a split; a training does without the test split, and then measures nothing.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from crdkit.data.adapters.folder import Folder
        >>> from crdkit.data.synthetic import write_folder
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     root = write_folder(Path(scratch, "scans"), categories=["gear"], train=1, test_per_defect=0, size=32)
        ...     try:
        ...         Folder(Folder.Config(root=root / "gear/test/good")).records("train")
        ...     except MissingSplitError as error:
        ...         print(str(error).rpartition(": there")[2])  # doctest: +ELLIPSIS
         is no split 'train'; add the folder train/good/<sensor>, or a manifest.yaml that says where ...
    """


class DetectorFormatError(CrdkitError):
    """A detector or checkpoint that is not what it claims to be, or of an unknown format version.

    Examples:
        >>> from crdkit.detector import Detector
        >>> Detector.load("nowhere")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        crdkit.errors.DetectorFormatError: nowhere: holds no detector (no config.json); ...
    """


class PluginWarning(UserWarning):
    """A plug-in of an installed package cannot be used; everything else still works.

    Examples:
        >>> import warnings
        >>> from crdkit.views import views
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", PluginWarning)  # stop rather than go on without a part
        ...     "rgb" in views
        True
    """


class BadSampleWarning(UserWarning):
    """Samples were left out because they could not be read (``data.on_bad_sample=skip``).

    Examples:
        >>> import tempfile, warnings
        >>> from pathlib import Path
        >>> from crdkit.data.adapters.mvtec3d import MVTec3D
        >>> from crdkit.data.synthetic import write_mvtec3d
        >>> from crdkit.views.split import load_split
        >>> with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as seen:
        ...     warnings.simplefilter("always", BadSampleWarning)
        ...     root = write_mvtec3d(Path(folder, "scans"), categories=["gear"], train=3, test_per_defect=0, size=32)
        ...     (root / "gear/train/good/rgb/000.png").unlink()
        ...     dataset = MVTec3D(MVTec3D.Config(root=root, category="gear", on_bad_sample="skip"))
        ...     split = load_split(dataset, "train", views={})
        >>> split.skipped, seen[0].category.__name__
        (1, 'BadSampleWarning')
    """


class UnusualDataWarning(UserWarning):
    """Data that can be read, but look wrong: another unit, a view without content, images that are turned.

    Examples:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", UnusualDataWarning)  # stop rather than train on such data
    """


class FewNormalsWarning(UserWarning):
    """Normal samples do not support the rate of false alarms that was asked for; the message says how many more would.

    Examples:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", FewNormalsWarning)  # stop rather than decide at another rate
    """


class CaptureWarning(UserWarning):
    """A training step cannot be captured as a CUDA graph; training goes on without one, to the same result.

    Examples:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", CaptureWarning)  # stop rather than train more slowly
    """


class CacheWarning(UserWarning):
    """A cached split is damaged, or a split cannot be cached; the files are decoded instead.

    Examples:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", CacheWarning)  # when slower reading is acceptable
    """


def unknown_name(what: str, name: str, known: Iterable[str], *, hint: str = "") -> UnknownNameError:
    """Describe a failed look-up of ``name`` among ``known``, with the nearest match.

    Examples:
        >>> str(unknown_name("encoder", "tim", ["timm", "efficientnet_lite"]))
        "unknown encoder 'tim' - did you mean 'timm'? known: efficientnet_lite, timm"
        >>> str(unknown_name("model", "net190", (f"net{depth}" for depth in range(100))))  # too many to list
        "unknown model 'net190' - did you mean 'net90'? similar: net19, net10, net9, net1; 100 names are known"
    """
    names, name = sorted(known), shorten(name)
    close = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
    guess = f" - did you mean {close[0]!r}?" if close else " -"
    if len(names) <= MOST_NAMES:
        return UnknownNameError(f"unknown {what} {name!r}{guess} known: {', '.join(names) or 'none'}{hint}")
    others = f" similar: {', '.join(close[1:])};" if close[1:] else ""
    return UnknownNameError(f"unknown {what} {name!r}{guess}{others} {len(names)} names are known{hint}")


def shorten(text: str, *, limit: int = LONGEST_VALUE) -> str:
    """Return ``text`` as messages quote it: in one line, of ``limit`` characters at most.

    Examples:
        >>> shorten("a b"), len(shorten("x" * 5000))
        ('a b', 100)
    """
    line = text if text.isprintable() else repr(text)[1:-1]
    return line if len(line) <= limit else line[: limit - 4] + " ..."


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that is not blank, or the error's type if there is none.

    Examples:
        >>> first_line(RuntimeError("  no such layer ")), first_line(KeyboardInterrupt())
        ('no such layer', 'KeyboardInterrupt')
    """
    lines = (line.strip() for line in str(error).splitlines())
    return next((shorten(line, limit=300) for line in lines if line), type(error).__name__)


def explain(error: ValidationError) -> str:
    """Return the problems of a validation error in one line: the key, what is wrong, what is allowed."""
    problems = error.errors(include_url=False, include_context=False)
    shown = "; ".join(_explain_one(problem) for problem in problems[:MOST_PROBLEMS])
    return shown + (f"; and {len(problems) - MOST_PROBLEMS} more" if len(problems) > MOST_PROBLEMS else "")


def _explain_one(problem: Any) -> str:
    path = ".".join(shorten(str(part)) for part in problem["loc"] if part not in _HIDDEN_LOCATIONS)
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{path} is missing"
    if problem["type"] == "value_error":
        return f"{path}: {message}" if path and not message.startswith(path) else message
    return f"{path} (={shorten(repr(problem['input']))}): {message[0].lower()}{message[1:]}"


_HIDDEN_LOCATIONS = {"view", "function-before[validate(), any]"}
