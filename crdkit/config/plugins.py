"""Imports the user's own parts: a module by its name, or a file beside the configuration."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from crdkit._core.sources import noting_imports
from crdkit.errors import ConfigError, CrdkitError


def resolve_plugin(name: str, *, folders: Sequence[Path]) -> str:
    """Return a plug-in's name that works from any working directory: a file's absolute path, or a module's name.

    Args:
        name: a path to a .py file, ``"parts"`` for a file parts.py, or ``"package.module"`` that is installed. If
            the file of a path is gone, one with the same name in ``folders`` is used.
        folders: where a file may lie, first match first.
    """
    file = Path(name if name.endswith(".py") else f"{name}.py").expanduser()
    candidates = [folder / part for part in (file, Path(file.name)) for folder in folders]
    return next((str(path.absolute()) for path in candidates if path.is_file()), name)


def loaded_plugin(name: str) -> ModuleType | None:
    """Return the module of a plug-in that this process has imported already; ``name`` as `resolve_plugin` returns it.

    Examples:
        >>> loaded_plugin("crdkit.errors").__name__, loaded_plugin("/nowhere/parts.py")
        ('crdkit.errors', None)
    """
    if not name.endswith(".py"):
        return sys.modules.get(name)
    path = str(Path(name).absolute())
    return next((module for module in list(sys.modules.values()) if getattr(module, "__file__", None) == path), None)


def import_plugin(name: str) -> ModuleType:
    """Import a module by name, or a file that ends in .py; importing it again gives the same module.

    A file is imported under its own name unless that is taken, and can import the modules beside it.

    Raises:
        ConfigError: there is no such module or file, or importing it fails.
    """
    is_file = name.endswith(".py")
    try:
        with noting_imports():
            return _import_file(Path(name)) if is_file else importlib.import_module(name)
    except CrdkitError:
        raise
    except Exception as error:  # whatever the user's code raises
        reason = str(error) if isinstance(error, (ImportError, OSError)) else f"{type(error).__name__}: {error}"
        advice = (
            "put it there, or in the working directory" if is_file else "install it, or give the path of its .py file"
        )
        if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("crdkit."):
            advice = "correct its import"
        raise ConfigError(f"plugin {name!r} cannot be imported: {reason}; {advice}") from error


def _import_file(path: Path) -> ModuleType:
    path = path.absolute()
    known = loaded_plugin(str(path))
    if known is not None:
        return known
    if not path.is_file():
        raise FileNotFoundError("the file does not exist")
    name = path.stem if not _importable(path.stem) else f"{path.stem}_{zlib.crc32(str(path).encode()):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python module")
    folder = str(path.parent)
    is_new = folder not in sys.path
    if is_new:
        sys.path.append(folder)  # last, so that it shadows nothing
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        if is_new and folder in sys.path:
            sys.path.remove(folder)
        raise
    return module


def _importable(name: str) -> bool:
    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
