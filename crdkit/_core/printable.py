"""Text for a terminal: names of files may hold anything, escape sequences that move the cursor or recolour it too."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Return ``text`` in one line, with everything that a terminal would not show as a character escaped.

    Examples:
        >>> print(printable("a\x1b[2J\nb\udcff.png"))
        a\x1b[2J\nb\udcff.png
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
