"""The API reference: every name on it is public and has an example, and the examples on the pages run."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest
from PIL import Image

from crdkit.config.catalogue import REGISTRIES

FOLDER = Path(__file__).parents[1] / "docs/reference"
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md"))}
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def entries(text: str) -> dict[str, str]:
    """Return what a page says below each directive, up to the next directive or section, by name."""
    _, *parts = re.split(r"^::: (\S+)$", text, flags=re.MULTILINE)
    return {
        name: re.split("^## ", below, flags=re.MULTILINE)[0]
        for name, below in zip(parts[::2], parts[1::2], strict=True)
    }


def resolve(name: str) -> object:
    """Import the longest module that ``name`` begins with, and follow the attributes behind it."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


NAMES = [
    pytest.param(name, below, id=f"{page}:{name}")
    for page, text in TEXTS.items()
    for name, below in entries(text).items()
]


def write_picture(_data, _path, *, figures):
    """Stand in for the report, most of a tiny run's time: only the picture that comparisons show."""
    figures.mkdir()
    Image.new("RGB", (8, 8)).save(figures / "gallery.png")


def test_every_name_stands_on_the_pages_once():
    names = re.findall("^::: *(.*)$", "\n".join(TEXTS.values()), re.MULTILINE)
    assert sorted(names) == sorted(set(names))
    assert len(names) == len(NAMES) > 100


@pytest.mark.parametrize(("name", "below"), NAMES)
def test_a_name_is_public(name, below):
    assert name.startswith("crdkit.")
    assert not [part for part in name.split(".") if part.startswith("_")]
    resolve(name)


@pytest.mark.parametrize(("name", "below"), NAMES)
def test_a_name_has_an_example(name, below):
    found = resolve(name)
    documented = inspect.isclass(found) or inspect.isroutine(found)  # any other object has its class's docstring
    own = found.__doc__ or "" if documented else ""
    assert ("Examples:" in own and ">>> " in own) or BLOCK.search(below)


@pytest.mark.parametrize("page", [page for page, text in TEXTS.items() if BLOCK.search(text)])
def test_the_examples_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("crdkit.runs.directory.write_report", write_picture)
    for registry in REGISTRIES.values():  # what an example registers is forgotten afterwards
        registry.names()
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    namespace = {"__name__": page}
    for block in BLOCK.finditer(TEXTS[page]):
        above = "\n" * TEXTS[page].count("\n", 0, block.start(1))  # a traceback then names the line of the page
        exec(compile(above + block[1], FOLDER / page, "exec"), namespace)
