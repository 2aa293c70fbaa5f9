"""The results of many runs: tables as Markdown, CSV and LaTeX, and one page with pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crdkit._core.files import write_bytes, write_text
from crdkit.errors import CrdkitError
from crdkit.report.gallery import encode
from crdkit.report.grid import PLUS_MINUS, Grid, csv_of
from crdkit.report.page import render
from crdkit.scoring.names import MISSING

WIDTH = 1400  # pixels of a picture on the page; the file beside it keeps its own width
QUALITY = 82


@dataclass(frozen=True, kw_only=True)
class Study:
    """The tables and pictures of many runs."""

    title: str
    subtitle: str
    grids: Sequence[Grid]
    """In reading order; their titles are unique."""
    details: Sequence[Grid] = ()
    """Tables that the page collapses."""
    notes: Sequence[str] = ()
    """Plain warnings for the top, such as runs that were skipped."""
    remarks: Sequence[str] = ()
    """How to read the tables, and where they were measured."""
    pictures: Mapping[str, Path] | None = None
    """PNG file by the name under which it is shown and written, e.g. the category."""


def write_study(study: Study, folder: Path, *, name: str = "comparison") -> Path:
    """Write ``<name>.md``, ``.csv``, ``.tex`` and ``.html`` into ``folder``, and its pictures into ``figures``.

    The page refers to nothing outside itself. Returns its path.

    Raises:
        CrdkitError: a picture cannot be read, or a file cannot be written.
    """
    grids = [*study.grids, *study.details]
    texts = [f"# {study.title}\n", f"{study.subtitle}\n", *(f"{note}\n" for note in study.notes)]
    texts += [*(grid.markdown() for grid in grids), *(f"{remark}\n" for remark in study.remarks)]
    figures = folder / "figures"
    shown = []
    for title, source in (study.pictures or {}).items():
        try:
            content = source.read_bytes()
            figures.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CrdkitError(f"{source}: cannot be copied to {figures}: {error.strerror or error}") from error
        write_bytes(figures / f"{title}.png", content)
        shown.append({"title": title, **_picture(figures / f"{title}.png")})
    write_text(folder / f"{name}.md", "\n".join(texts))
    write_text(folder / f"{name}.csv", csv_of(grids))
    write_text(folder / f"{name}.tex", "\n".join(grid.latex() for grid in grids))
    page = folder / f"{name}.html"
    write_text(page, render("study.html.j2", study=study, pictures=shown, plus_minus=PLUS_MINUS, missing=MISSING))
    return page


def _picture(path: Path) -> dict[str, object]:
    """Return the picture as a JPEG data URL, at most `WIDTH` pixels wide."""
    from PIL import Image

    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    if picture.width > WIDTH:
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    source = encode(np.asarray(picture), quality=QUALITY, sharp=True)
    return {"src": source, "width": picture.width, "height": picture.height}
