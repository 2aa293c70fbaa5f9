"""The page of changes is CHANGELOG.md, with links as the documentation needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Put CHANGELOG.md in place of the page's own text, which only says what comes here."""
    if page.file.src_uri != "changelog.md":
        return markdown
    text = (Path(config.config_file_path).parent / "CHANGELOG.md").read_text(encoding="utf-8")
    return text.replace("](docs/", "](")
