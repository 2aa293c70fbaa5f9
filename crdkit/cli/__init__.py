"""The command line: exit code 0 done, 2 wrong use or bad input in one line, 1 a bug, 130 Ctrl-C, 143 SIGTERM."""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from crdkit._core.printable import printable
from crdkit._core.progress import say
from crdkit.cli.app import app
from crdkit.cli.stopping import INTERRUPTED, TERMINATED, Terminated, how_to_go_on, sigterm_raises
from crdkit.errors import BadSampleWarning, CrdkitError, UnusualDataWarning

ANYWHERE = ("-q", "--quiet", "-v", "--verbose")


_WHAT_FITS = "set a smaller training.batch_size, or training.device=cpu"


class _StandardErrorHandler(logging.Handler):
    """Shows the library's messages as progress is shown: warnings always, others unless quiet."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            _one_line_warning(record.getMessage())
        else:
            say(record.getMessage())


@contextmanager
def _log_to_standard_error() -> Iterator[None]:
    logger, handler = logging.getLogger("crdkit"), _StandardErrorHandler()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # or a plug-in that configures logging would print every message twice, and despite -q
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    with warnings.catch_warnings(), _log_to_standard_error(), sigterm_raises():
        warnings.showwarning = _one_line_warning
        warnings.simplefilter("always", BadSampleWarning)
        warnings.simplefilter("always", UnusualDataWarning)
        return _run(arguments)


def _run(arguments: list[str] | None) -> int:
    try:
        given = _flags_first(sys.argv[1:] if arguments is None else arguments)
        result: Any = app(given, standalone_mode=False, prog_name="crdkit")
        return _stopped(arguments) if result == INTERRUPTED else int(result or 0)
    except CrdkitError as error:
        _show_origin()
        return _fail(str(error), code=2)
    except (KeyboardInterrupt, Terminated) as stopped:
        return _stopped(arguments, terminated=isinstance(stopped, Terminated))
    except OSError as error:  # a full disk or a removed folder: the system's message is the clearest
        _show_origin()
        return _fail(f"{error.filename or 'a file'}: {error.strerror or error}", code=2)
    except Exception as error:
        if type(error).__module__.startswith(("click", "typer")):
            return _usage_error(error, arguments)
        return _unexpected(error)


def _flags_first(arguments: list[str]) -> list[str]:
    """Move -q and -v from anywhere in the line to its beginning, where the program's own options stand."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    flags = [argument for argument in arguments[:end] if argument in ANYWHERE]
    return [*flags, *(argument for argument in arguments[:end] if argument not in ANYWHERE), *arguments[end:]]


def _show_origin() -> None:
    """Print where an error arose, if details are wanted."""
    if logging.getLogger("crdkit").isEnabledFor(logging.DEBUG):
        traceback.print_exc()


def _unexpected(error: Exception) -> int:
    if type(error).__name__ == "OutOfMemoryError":  # torch's; `fit` says more about its own
        return _fail(f"a device's memory has run out: {_WHAT_FITS}", code=2)
    traceback.print_exc()
    return _fail(f"internal error: {type(error).__name__}: {error}; please report it", code=1)


def _usage_error(error: Any, arguments: list[str] | None) -> int:
    if type(error).__name__ == "Abort":
        return _stopped(arguments)
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return 2
    return _fail(f"{error.format_message()} (see crdkit --help)", code=2)


def _fail(message: str, *, code: int) -> int:
    print(printable(f"error: {message}"), file=sys.stderr)
    return code


def _stopped(arguments: list[str] | None, *, terminated: bool = False) -> int:
    print(f"{'terminated' if terminated else 'interrupted'}{how_to_go_on(arguments)}", file=sys.stderr)
    return TERMINATED if terminated else INTERRUPTED


def _one_line_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(printable(f"warning: {message}"), file=sys.stderr)  # with --quiet too


def entry_point() -> None:
    """Entry point of the console script."""
    sys.exit(main())
