"""The house keeps its plan: rooms, one-way imports of private modules, files of one job, documents that stay public."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from benchmarks import call_order, reading_paths

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "crdkit"
ROOMS = {
    *("_core", "cli", "config", "data", "detector", "model", "paper"),
    *("report", "runs", "scoring", "testing", "training", "views", "watch"),
}
MAX_LINES = 300


def imported(path: Path) -> list[tuple[int, str]]:
    """Return line and dotted name of everything of crdkit that a file imports, in functions too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, name.name) for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [(node.lineno, f"{node.module}.{name.name}") for name in node.names]
    return [(line, name) for line, name in found if name.split(".")[0] == "crdkit"]


def is_private(part: str) -> bool:
    return part.startswith("_") and not part.startswith("__")


def crossings(path: Path, name: str) -> list[str]:
    """Return the private parts of a dotted name that do not belong to a folder in which ``path`` lies."""
    parts, here = name.split("."), ["crdkit", *path.relative_to(PACKAGE).parent.parts]
    return [part for place, part in enumerate(parts) if is_private(part) and here[:place] != parts[:place]]


def test_there_are_thirteen_rooms_and_the_core():
    assert {entry.name for entry in PACKAGE.iterdir() if entry.is_dir() and entry.name != "__pycache__"} == ROOMS
    assert all((PACKAGE / room / "__init__.py").read_text().startswith('"""') for room in ROOMS)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_private_module_is_imported_by_its_own_room_only(path):
    for line, name in imported(path):
        assert not crossings(path, name), f"{path}:{line}: imports {name}, which is private to its room"


def test_the_rule_knows_a_crossing():
    inside, outside = PACKAGE / "views/depth.py", PACKAGE / "runs/fit.py"
    assert crossings(inside, "crdkit.views._background.foreground") == []
    assert crossings(outside, "crdkit.views._background.foreground") == ["_background"]
    assert crossings(outside, "crdkit.training.loop._draw_epoch_presence") == ["_draw_epoch_presence"]
    assert crossings(PACKAGE / "model/encoders/timm.py", "crdkit._core.registry.AbsolutePath") == []


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_files_are_small(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").glob("*.py"))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_example_and_no_document_imports_a_private_module(path):
    for statement in re.findall(r"^\s*(?:from crdkit|import crdkit|::: crdkit).*$", path.read_text(), re.MULTILINE):
        private = [part for part in re.findall(r"[\w]+", statement) if is_private(part)]
        assert not private, f"{path}: {statement.strip()}"


def test_fit_climbs_back_up_a_third_as_often_as_the_flat_package_did():
    order = call_order.entries(call_order.calls(ROOT), call_order.layers(ROOT))
    assert order[0].function == "fit"
    assert sum(entry.climb for entry in order) <= 37 // 3


def test_reading_paths_are_as_long_as_the_page_says_and_no_longer_than_they_may():
    assert reading_paths.problems(reading_paths.PAGE.read_text(encoding="utf-8")) == []
