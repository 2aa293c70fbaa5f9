"""The code that decides what a view is: crdkit's own, and what a plug-in consists of and imports."""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import FunctionType, ModuleType

from crdkit._core.sources import PACKAGE, ROOMS, State, has_changed, module_file, state

_OURS = __name__.partition(".")[0]
_EXCLUDED = {"cache.py", "check.py", "discover.py", "agreement", "importing", "synthetic"}  # no view needs these
_HASHED_BY_VERSION = {"numpy", "PIL", "sklearn", "scipy", "tifffile", "torch"}  # in the key already, wherever they lie
_SITE = {"site-packages", "dist-packages"}
_STANDARD = {Path(sysconfig.get_path(name)).absolute() for name in ("stdlib", "platstdlib")}


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Code, as it is in its files."""

    hashes: dict[str, str]
    """By file, or by the name of a package; of a library that a plug-in imports its version."""
    states: dict[Path, State]
    """Of every file, when its hash was computed."""

    @property
    def changed(self) -> Path | None:
        """A file that has changed since its hash was computed."""
        return next((path for path, before in self.states.items() if state(path) != before), None)


def code_of(classes: Iterable[type]) -> Sources:
    """Return crdkit's code that views depend on, and that of each class of another package with all that it imports.

    A plug-in's own code, which is hashed, is every file that it imports, directly or through another, wherever it
    lies, unless that is the standard library, or a package in site-packages other than its own. Imports are read from
    the source, so constants, imports inside functions and modules not loaded yet count. What is imported by a name
    that is computed, and not kept in a variable of its module, is not found.

    Raises:
        OSError: such a class has no file, like code typed into a notebook; or a file has changed since it was loaded.
    """
    modules = {sys.modules[base.__module__] for cls in classes for base in cls.__mro__}
    foreign = [m for m in modules if m.__name__.partition(".")[0] not in (_OURS, "abc", "builtins", "typing")]
    own = {module.__name__.partition(".")[0] for module in foreign}
    found, hashes = dict[Path, str](), dict[str, str]()
    waiting, rooms = list[tuple[str, Path]](), _files_of_rooms()
    for module in foreign:
        file = module_file(module)
        if file is None:
            raise FileNotFoundError(f"the code of module {module.__name__!r} is not in a file")
        waiting.append((module.__name__, file))
    while waiting:
        name, file = waiting.pop()
        if file in found:
            continue
        found[file] = name
        for other, path in _imports(name, file):
            top = other.partition(".")[0]
            if _is_library(top, path, own):
                hashes[f"version of {top}"] = _version(top, path)
            elif top != _OURS:
                waiting.append((other, path))
            elif path not in rooms:
                found.setdefault(path, other)
    files = [*found, *rooms]
    changed = next((file for file in files if _is_loaded(found.get(file), file) and has_changed(file)), None)
    if changed is not None:
        raise OSError(f"{changed} may have changed since this process loaded it; start a new one to use the cache")
    states = {file: state(file) for file in files}
    hashes |= {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in found}
    return Sources(hashes={_OURS: _hash_of_rooms(), **hashes}, states=states)


def _is_loaded(name: str | None, file: Path) -> bool:
    """Return whether a file is loaded; ``name`` is its module's, or None for crdkit's own."""
    module = None if name is None else sys.modules.get(name)
    return name is None or (module is not None and module_file(module) == file)


def _is_library(top: str, path: Path, own: set[str]) -> bool:
    return top in _HASHED_BY_VERSION or (top not in own and not _SITE.isdisjoint(path.parts))


def _version(top: str, path: Path) -> str:
    version = getattr(sys.modules.get(top), "__version__", None)
    return str(version) if version is not None else str(state(path))


def _imports(name: str, file: Path) -> Iterator[tuple[str, Path]]:
    """Iterate over names and files of the modules that a module imports, without those of the standard library."""
    module = sys.modules.get(name)
    named = set(_import_statements(file, state(file))) if file.suffix == ".py" else set[tuple[int, str]]()
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    names = {package, *(_absolute(level, imported, package) for level, imported in named)}
    if module is not None and module_file(module) == file:
        names |= set(_owners(module))
    for full in sorted(names):
        parts = full.split(".")
        for length in range(1, len(parts) + 1):  # packages on the way are run too
            part = ".".join(parts[:length])
            path = _locate(part)
            if path is not None and path != file and not _is_standard(path):
                yield part, path


@lru_cache(maxsize=8192)
def _import_statements(file: Path, _state: State) -> tuple[tuple[int, str], ...]:
    """Return level and name of everything that a file may import: what follows ``from`` could be a module too."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ()
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            found += [(node.level, base)] if base or node.level else []
            found += [(node.level, f"{base}.{alias.name}".lstrip(".")) for alias in node.names if alias.name != "*"]
    return tuple(found)


def _absolute(level: int, name: str, package: str) -> str:
    if not level:
        return name
    parents = package.split(".")[: len(package.split(".")) - level + 1]
    return ".".join([*parents, name] if name else parents)


def _owners(module: ModuleType) -> Iterator[str]:
    """Iterate over the modules that the values in a module are, or come from: however they were imported."""
    for value in list(vars(module).values()):
        if isinstance(value, ModuleType):
            yield value.__name__
        elif isinstance(value, (type, FunctionType)) and isinstance(value.__module__, str):
            yield value.__module__


def _locate(name: str) -> Path | None:
    """Return the file of a module, loaded or not; importing nothing. None: built in, without a file, or not there."""
    if not name or not all(part.isidentifier() for part in name.split(".")):
        return None
    if name in sys.modules:
        module = sys.modules[name]
        return None if module is None else module_file(module)
    spec = _find(name)
    return Path(spec.origin).absolute() if spec is not None and spec.has_location and spec.origin else None


def _find(name: str) -> ModuleSpec | None:
    parent, _, _ = name.rpartition(".")
    if not parent:
        return PathFinder.find_spec(name)
    above = getattr(sys.modules.get(parent), "__path__", None)
    if above is None and parent not in sys.modules:
        spec = _find(parent)
        above = spec and spec.submodule_search_locations
    return PathFinder.find_spec(name, list(above)) if above else None


def _is_standard(path: Path) -> bool:
    return _SITE.isdisjoint(path.parts) and not _STANDARD.isdisjoint(path.parents)


def _files_of_rooms(package: Path = PACKAGE) -> list[Path]:
    files = (file for room in ROOMS for file in (package / room).rglob("*.py"))
    return sorted(file for file in files if _EXCLUDED.isdisjoint(file.relative_to(package).parts))


@cache
def _hash_of_rooms(package: Path = PACKAGE) -> str:
    digest = hashlib.sha256()
    for file in _files_of_rooms(package):
        digest.update(f"{file.relative_to(package)}\n".encode() + file.read_bytes())
    return digest.hexdigest()
