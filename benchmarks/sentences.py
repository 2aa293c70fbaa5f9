"""Words per sentence of every page of the documentation: ``python -m benchmarks.sentences``.

Code, tables, headings and pictures do not count. A list item without a full stop is a sentence. The pages should stay
at 18 words on average; the two logs are left out, because they are records and no pages to read. It reports, and fails
nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).parents[1]
GOAL = 18
LEFT_OUT = {"research-log.md", "performance-log.md"}
_FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_CODE = re.compile(r"`[^`]*`")
_NO_PROSE = re.compile(r"^\s*(#|\||!!!|\?\?\?|:::|<|---|\S+: )")
_ITEM = re.compile(r"^\s*([-*]|\d+\.) ")
_END = re.compile(r"(?<=[.!?])[)*\"”]*\s+(?=[A-Z`*\"“(\[])|(?<=:)\s*$", re.MULTILINE)


def sentences(text: str) -> list[str]:
    """Return the sentences of a Markdown page's prose.

    Examples:
        >>> sentences("# Title\\n\\nOne part. Two `a b` parts!\\n\\n- an item\\n- another\\n\\n```\\ncode\\n```\\n")
        ['One part.', 'Two code parts!', 'an item', 'another']
    """
    text = _COMMENT.sub("", _FENCE.sub("", text))
    text = _CODE.sub("code", _LINK.sub(r"\1", text))
    paragraphs, current = [], []
    for line in [*text.splitlines(), ""]:
        starts_anew = not line.strip() or _NO_PROSE.match(line) or _ITEM.match(line)
        if starts_anew and current:
            paragraphs.append(" ".join(current))
            current = []
        if line.strip() and not _NO_PROSE.match(line):
            current.append(_ITEM.sub("", line).strip())
    return [part.strip() for paragraph in paragraphs for part in _END.split(paragraph) if part and part.strip()]


def words_per_sentence(text: str) -> float | None:
    """Return the mean number of words of a page's sentences; None if it has none."""
    lengths = [len(sentence.split()) for sentence in sentences(text)]
    return mean(lengths) if lengths else None


def prose_of(page: Path) -> str:
    """Return the Markdown of a page, or of the text cells of a notebook."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        return text
    cells = [cell for cell in re.split(r"^# %%", text, flags=re.MULTILINE) if cell.startswith(" [markdown]")]
    return "\n\n".join(re.sub(r"^# ?", "", cell.partition("\n")[2], flags=re.MULTILINE) for cell in cells)


def main() -> None:
    """Print a table of all pages, the longest sentences' pages first, and the mean over all sentences."""
    pages = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
    pages += [page for page in sorted(ROOT.glob("docs/**/*.py")) if page.read_text(encoding="utf-8").startswith("# %%")]
    found = {page: sentences(prose_of(page)) for page in pages if page.name not in LEFT_OUT}
    means = {page: mean(len(one.split()) for one in own) for page, own in found.items() if own}
    print("| page | sentences | words per sentence |\n|---|--:|--:|")
    for page, value in sorted(means.items(), key=lambda item: -item[1]):
        print(f"| {page.relative_to(ROOT)} | {len(found[page])} | {value:.1f}{' (long)' if value > GOAL else ''} |")
    total = mean(len(one.split()) for own in found.values() for one in own)
    print(f"| all | {sum(map(len, found.values()))} | {total:.1f} |")


if __name__ == "__main__":
    main()
