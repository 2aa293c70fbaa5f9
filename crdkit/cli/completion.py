"""What the Tab key completes: presets, option keys, their values and registered names, found without importing torch.

Names and keys are read from the source files of crdkit's own parts, which takes milliseconds; those of plug-ins are not
completed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import typer

ROOT = Path(__file__).parent.parent
SECTIONS = {
    "training": "training/config.py",
    "graph": "model/graph.py",
    "student": "model/student.py",
    "scoring": "scoring/config.py",
}
"""File of each section of a configuration whose options belong to no registered part."""
PARTS = {
    "encoders": ("model/encoders",),
    "modalities": ("views",),
    "filters": ("model/projections",),
    "amplifiers": ("model/projections",),
    "aggregations": ("scoring/aggregations",),
    "scores": ("scoring/scores",),
    "datasets": ("data", "data/adapters"),
}
"""Folders of each kind of registered part: its contract's, and its parts' if that is another."""

Keys = Mapping[str, tuple[str, ...]]
"""Values that can be listed, by key."""


def complete_preset(incomplete: str) -> list[str]:
    """Return the presets that begin so; the shell itself completes files."""
    return [name for name in presets() if name.startswith(incomplete)]


def complete_kind(incomplete: str) -> list[str]:
    """Return what ``crdkit list`` takes."""
    return [name for name in (*PARTS, "presets", *SECTIONS, "data") if name.startswith(incomplete)]


def complete_layout(incomplete: str) -> list[str]:
    """Return the registered datasets."""
    return [name for name in names("datasets") if name.startswith(incomplete)]


def complete_override(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return overrides that begin with ``incomplete``: a key, and once only one is left, its values too.

    bash takes ``=`` for a word of its own, and then wants the value alone.
    """
    given = next((str(value) for name, value in ctx.params.items() if name in ("preset", "what", "run") and value), "")
    keys = option_keys(modalities_of(given))
    before = [*(ctx.params.get("overrides") or ()), *ctx.args]
    if before[-1:] == ["="] and before[-2:-1]:
        return [value for value in keys.get(before[-2], ()) if value.startswith(incomplete)]
    if incomplete == "=" and before:
        return list(keys.get(before[-1], ()))
    key, equals, value = incomplete.partition("=")
    if equals:
        return [f"{key}={choice}" for choice in keys.get(key, ()) if choice.startswith(value)]
    found = [name for name in keys if name.startswith(incomplete)]
    values = [f"{found[0]}={choice}" for choice in keys[found[0]]] if len(found) == 1 else []
    return [*(f"{name}=" for name in found), *values]


@cache
def presets() -> tuple[str, ...]:
    """Return the names of the package's presets."""
    return tuple(sorted(file.stem for file in (ROOT / "config/presets").glob("*.yaml")))


@cache
def names(kind: str) -> tuple[str, ...]:
    """Return the registered names of one kind."""
    return tuple(sorted(name for file in _files(kind) for name in _registered(file)))


def modalities_of(preset: str) -> tuple[str, ...]:
    """Return the modalities of a preset; rgb and depth if it is none."""
    if preset not in presets():
        return ("rgb", "depth")
    import yaml

    values = yaml.safe_load((ROOT / "config/presets" / f"{preset}.yaml").read_text(encoding="utf-8"))
    return tuple(values["modalities"])


def option_keys(modalities: tuple[str, ...]) -> Keys:
    """Return every key of a configuration with these modalities, with the values that can be listed."""
    keys: dict[str, tuple[str, ...]] = {}
    for section, file in SECTIONS.items():
        keys |= _prefixed(f"{section}.", _fields(ROOT / file, "EdgeConfig"))
    places = [("aggregation", "aggregations"), ("scoring.score", "scores")]
    places += [("graph.filter", "filters"), ("graph.amplifier", "amplifiers")]
    for modality in modalities:
        places += [(f"modalities.{modality}", "modalities"), (f"modalities.{modality}.encoder", "encoders")]
    for place, kind in [("data", "datasets"), *places]:
        for source in _files(kind):
            keys |= _prefixed(f"{place}.", _fields(source))
        keys[f"{place}.name"] = names(kind)
    return dict(sorted(keys.items()))


def _prefixed(prefix: str, fields: Keys) -> dict[str, tuple[str, ...]]:
    return {prefix + name: values for name, values in fields.items()}


@cache
def _files(kind: str) -> tuple[Path, ...]:
    """Return the files that declare the contract of a kind, register a part or declare options that parts share."""
    folders = [ROOT / folder for folder in PARTS[kind]]
    files = [file for folder in folders for file in (folder / "__init__.py", *sorted(folder.glob("[!_]*.py")))]
    return tuple(file for file in files if file.name == "__init__.py" or any(_registered(file)) or _shares(file))


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _registered(file: Path) -> Iterator[str]:
    for node in ast.walk(_tree(file)):
        for decorator in node.decorator_list if isinstance(node, ast.ClassDef) else ():
            call = decorator if isinstance(decorator, ast.Call) else None
            if call and isinstance(call.func, ast.Attribute) and call.func.attr == "register":
                yield str(ast.literal_eval(call.args[0]))


def _shares(file: Path) -> bool:
    return any(isinstance(node, ast.ClassDef) and node.name.endswith("Config") for node in _tree(file).body)


def _fields(file: Path, *without: str) -> dict[str, tuple[str, ...]]:
    """Return the fields of every class in ``file`` whose name ends with Config, with the values of literals."""
    fields: dict[str, tuple[str, ...]] = {}
    literals = {
        target.id: node.value
        for node in _tree(file).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(_tree(file)):
        if not isinstance(node, ast.ClassDef) or not node.name.endswith("Config") or node.name in without:
            continue
        for field in node.body:
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                fields[field.target.id] = _values(field.annotation, literals)
    return fields


def _values(annotation: ast.expr, literals: Mapping[str, ast.expr]) -> tuple[str, ...]:
    if isinstance(annotation, ast.Name):
        known = literals.get(annotation.id)
        return ("true", "false") if annotation.id == "bool" else () if known is None else _values(known, {})
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal":
        chosen = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        return tuple(str(value.value) for value in chosen if isinstance(value, ast.Constant))
    return ()
