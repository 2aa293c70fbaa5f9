"""The errors a caller can mend: each message names what was wrong, what was expected and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError


class CrdkitError(ValueError):
    """Wrong use or bad input; the command line prints it as one line and exits with 2."""


class ConfigError(CrdkitError):
    """A configuration that cannot be used: an unknown key, a value out of range, a bad override."""


class UnknownNameError(ConfigError):
    """A name that no registry entry has; the message holds the nearest match and every known name."""


class DuplicateNameError(CrdkitError):
    """A name registered twice; the message names both modules."""


class DataError(CrdkitError):
    """A dataset or file that cannot be read as its layout promises; the message holds the path."""


class DetectorFormatError(CrdkitError):
    """A detector or checkpoint that is not what it claims to be, or of an unknown format version."""


class PluginWarning(UserWarning):
    """An installed package's plug-in that cannot be used; everything else can."""


def unknown_name(what: str, name: str, known: Iterable[str], *, hint: str = "") -> UnknownNameError:
    """Describe a failed look-up of ``name`` among ``known``, with the nearest match.

    Examples:
        >>> str(unknown_name("encoder", "tim", ["timm", "efficientnet_lite"]))
        "unknown encoder 'tim' - did you mean 'timm'? known: efficientnet_lite, timm"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f" - did you mean {close[0]!r}?" if close else " -"
    return UnknownNameError(f"unknown {what} {name!r}{guess} known: {', '.join(names) or 'none'}{hint}")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that says something, or its type where none does.

    Examples:
        >>> first_line(RuntimeError("  no such layer ")), first_line(KeyboardInterrupt())
        ('no such layer', 'KeyboardInterrupt')
    """
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)


def explain(error: ValidationError) -> str:
    """Return every problem of a validation error in one line: key, what was wrong, what is allowed."""
    return "; ".join(_explain_one(problem) for problem in error.errors())


def _explain_one(problem: Any) -> str:
    path = ".".join(str(part) for part in problem["loc"] if part not in _SILENT_PARTS)
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{path} is missing"
    if problem["type"] == "value_error":
        return f"{path}: {message}" if path and not message.startswith(path) else message
    return f"{path} (={problem['input']!r}): {message[0].lower()}{message[1:]}"


_SILENT_PARTS = {"view", "function-before[validate(), any]"}
