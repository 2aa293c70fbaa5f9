"""Pages: every command is understood, with its options, keys and values; examples that need nothing are run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from crdkit.cli.app import app
from crdkit.config import RunConfig, preset_names

ROOT = Path(__file__).parents[1]
RECORDS = ("research-log.md", "performance-log.md")
PAGES = [
    page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if page.name != "research-log.md"
]
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAM = get_command(app)
STANDALONE = {
    "docs/certainty.md": 1,
    "docs/configure.md": 1,
    "docs/conventions.md": 1,
    "docs/deploy.md": 1,
    "docs/views.md": 1,
}
"""Pages, and how many of their first Python blocks need no run and no data."""


def commands(page):
    """Yield the words of every crdkit command in the page's shell blocks; not of those with a part left out."""
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        for line in text.replace("\\\n", " ").splitlines() if language == "sh" else ():
            for part in re.split(r" && | \| ", line):
                found = re.search(r"(?:^|[\w./]*bin/|-m )crdkit (.+)", part)
                words = shlex.split(found[1], comments=True) if found else []
                if words and not words[0].startswith("-") and not any("..." in word for word in words):
                    yield words


COMMANDS = [
    pytest.param(words, id=f"{page.relative_to(ROOT)}: {' '.join(words)[:50]}")
    for page in PAGES
    for words in commands(page)
]


def test_there_are_commands():
    assert len(COMMANDS) > 100


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_is_understood(words):
    command = PROGRAM.commands[words[0]]
    while hasattr(command, "commands"):
        command, words = command.commands[words[1]], words[1:]
    command.make_context(words[0], words[1:])
    own_parts = any(word.startswith("plugins=") for word in words)
    if words[0] in ("train", "sweep", "describe") and words[1] in preset_names() and not own_parts:
        RunConfig.preset(words[1]).with_overrides(*(word for word in words[2:] if re.match(r"[a-z]\w*[.=]", word)))


@pytest.mark.parametrize(("page", "count"), STANDALONE.items())
def test_the_examples_of_a_page_run(page, count):
    namespace = {}
    blocks = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    examples = [text for language, text in blocks if language == "python"][:count]
    assert len(examples) == count
    for block in examples:
        exec(compile(block, page, "exec"), namespace)
