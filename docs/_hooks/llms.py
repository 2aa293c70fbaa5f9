"""llms.txt: what the pages are, in order, for programs that read documentation; llms-full.txt is their text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_pages: list[tuple[str, Any]] = []  # of the last navigation: the section, and the page in it


def on_nav(nav: Any, *, config: Any, files: Any) -> Any:
    """Keep the order of the pages."""
    _pages.clear()
    for page in nav.pages:
        sections = [ancestor.title for ancestor in reversed(page.ancestors)]
        _pages.append((": ".join(sections), page))
    return nav


def on_post_build(*, config: Any) -> None:
    """Write both files beside the pages."""
    index, full, last = [f"# {config.site_name}", "", f"> {config.site_description}", ""], [], ""
    for section, page in _pages:
        if section != last:
            index += ["", f"## {section}", ""]
            last = section
        text = page.markdown or ""
        summary = _first_sentence(text)
        index.append(f"- [{page.title}]({page.url or './'})" + (f": {summary}" if summary else ""))
        full.append(f"<!-- {page.file.src_uri} -->\n\n{text.strip()}\n")
    site = Path(config.site_dir)
    (site / "llms.txt").write_text("\n".join(index) + "\n", encoding="utf-8")
    (site / "llms-full.txt").write_text("\n".join(full), encoding="utf-8")


def _first_sentence(text: str) -> str:
    for paragraph in re.split(r"\n\s*\n", text):
        if not re.match(r"\s*([#|!<>+-]|```|:::|\d+\.)", paragraph) and paragraph.strip():
            plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)|[*`]", r"\1", " ".join(paragraph.split()))
            return re.split(r"(?<=[.!?]) (?=[A-Z])", plain)[0]
    return ""
