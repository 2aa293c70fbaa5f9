"""The page on views: each of crdkit's has a row, and its configurations are understood."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from crdkit.views import views

PAGE = (Path(__file__).parents[1] / "docs/views.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_each_view_has_a_row_and_a_time() -> None:
    rows = re.findall(r"^\| (`[^|]*) \|.*\| ([\d.]+) \|$", PAGE, re.MULTILINE)
    named = [name for names, _ in rows for name in re.findall("`([a-z_]+)`", names)]
    ours = [name for name in views.names() if views.get(name).__module__.startswith("crdkit.views.")]
    assert sorted(named) == sorted(ours)


@pytest.mark.parametrize("block", BLOCKS)
def test_its_configurations_are_understood(block: str) -> None:
    for name, options in yaml.safe_load(block)["modalities"].items():
        assert views.build(views.build_config({"name": name, **options})).sensors
