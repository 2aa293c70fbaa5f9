"""Draws docs/images/method.svg, the figure of the method: ``python docs/figures/method.py``.

Boxes carry white text, lines and labels are of a middle grey, and there is no background: it reads on light and dark.
"""

from __future__ import annotations

from pathlib import Path

OUT = Path(__file__).parents[1] / "images/method.svg"
GREY, SHARED = "#80868f", "#546e7a"
COLOURS = {"rgb": "#00796b", "depth": "#b65c0b"}
ROWS = {"rgb": 70, "depth": 366}
"""Top of a branch's boxes."""
EDGES = {"rgb": 158, "depth": 278}
"""Top of the filter and the amplifier that reach a branch."""
HEIGHT = 56


def box(
    x: float,
    y: float,
    width: float,
    title: str,
    note: str = "",
    *,
    colour: str,
    height: float = HEIGHT,
) -> str:
    """Return a box with a title and a smaller note below it."""
    middle, line = x + width / 2, y + height / 2 + (-3 if note else 5)
    text = f'<text class="title" x="{middle}" y="{line}">{title}</text>'
    text += (
        f'<text class="note" x="{middle}" y="{line + 17}">{note}</text>'
        if note
        else ""
    )
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{colour}"/>{text}'


def line(
    *points: tuple[float, float], colour: str = GREY, dashed: bool = False
) -> str:
    """Return an arrow through points."""
    path = "M" + " L".join(f"{x} {y}" for x, y in points)
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<path d="{path}" fill="none" stroke="{colour}" marker-end="url(#{colour[1:]})"{dash}/>'


def label(x: float, y: float, text: str, *, anchor: str = "middle") -> str:
    """Return grey text."""
    return f'<text class="label" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>'


def levels(x: float, y: float, colour: str) -> str:
    """Return three levels of features, fine to coarse."""
    sizes = ((0, HEIGHT), (16, 40), (32, 26))
    return "".join(
        f'<rect x="{x + left}" y="{y + (HEIGHT - size) / 2}" width="11" height="{size}" rx="2" fill="{colour}"/>'
        for left, size in sizes
    )


def branch(name: str, other: str) -> list[str]:
    """Return the branch of a modality, with what it gets from the other."""
    top, edges, colour, source = (
        ROWS[name],
        EDGES[name],
        COLOURS[name],
        COLOURS[other],
    )
    middle, is_upper = top + HEIGHT / 2, name == "rgb"
    inner = (
        top + HEIGHT if is_upper else top
    )  # the side that faces the other branch
    outer, beyond = (
        (top, top - 26) if is_upper else (top + HEIGHT, top + HEIGHT + 26)
    )
    start, end = (edges, inner) if is_upper else (edges + HEIGHT, inner)
    lane, turn, channel = (
        (388, 604, 232) if is_upper else (364, 592, 260)
    )  # of what comes from the other branch
    leaves = ROWS[other] if is_upper else ROWS[other] + HEIGHT
    return [
        box(12, top, 90, name, "view", colour=colour),
        line((102, middle), (134, middle)),
        box(136, top, 112, "teacher", "frozen", colour=SHARED),
        line((248, middle), (280, middle)),
        levels(284, top, colour),
        line((330, middle), (430, middle), colour=colour),
        box(432, top, 120, "bottleneck", "student", colour=colour),
        line((552, middle), (640, middle), colour=colour),
        box(642, top, 120, "decoder", "student", colour=colour),
        line((762, middle), (828, middle), colour=colour),
        box(830, top, 84, "map", "of " + name, colour=colour),
        line(
            (306, outer),
            (306, beyond),
            (872, beyond),
            (872, outer),
            dashed=True,
        ),
        label(
            590,
            beyond - 7 if is_upper else beyond + 17,
            "where student and teacher disagree: 1 - cosine",
        ),
        line(
            (lane, leaves),
            (lane, edges + HEIGHT / 2),
            (430, edges + HEIGHT / 2),
            colour=source,
        ),
        line(
            (lane, channel),
            (turn, channel),
            (turn, edges + HEIGHT / 2),
            (640, edges + HEIGHT / 2),
            colour=source,
        ),
        box(432, edges, 120, "filter", "drops anomalies", colour=source),
        box(642, edges, 120, "amplifier", "keeps anomalies", colour=source),
        line((492, start), (492, end), colour=source),
        line((702, start), (702, end), colour=source),
        line(
            (914, middle),
            (1000, middle),
            (1000, 196 if is_upper else 294),
            colour=colour,
        ),
    ]


def features_lead_in(name: str) -> str:
    """Return the short line from a branch's features to the lane that leads to the other branch."""
    lane = 364 if name == "rgb" else 388
    middle = ROWS[name] + HEIGHT / 2
    edge = ROWS[name] + HEIGHT if name == "rgb" else ROWS[name]
    return f'<path d="M{lane} {middle} L{lane} {edge}" fill="none" stroke="{COLOURS[name]}"/>'


def figure() -> str:
    """Return the figure as SVG."""
    markers = "".join(
        f'<marker id="{colour[1:]}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 z" fill="{colour}"/></marker>'
        for colour in (GREY, *COLOURS.values())
    )
    parts = [
        *branch("rgb", "depth"),
        *branch("depth", "rgb"),
        *map(features_lead_in, ROWS),
    ]
    parts += [
        box(
            940,
            198,
            120,
            "aggregation",
            "of all maps",
            colour=SHARED,
            height=94,
        ),
        line((1060, 245), (1098, 245)),
        label(1104, 241, "fused map,", anchor="start"),
        label(1104, 257, "score, decision", anchor="start"),
    ]
    style = (
        "text{font-family:system-ui,sans-serif} .title{fill:#fff;font-size:16px;font-weight:600;text-anchor:middle} "
        ".note{fill:#fff;font-size:11px;text-anchor:middle} "
        f".label{{fill:{GREY};font-size:13px}} path{{stroke-width:2}}"
    )
    body = "\n".join(parts)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1210 496" role="img">\n'
        f"<style>{style}</style>\n<defs>{markers}</defs>\n{body}\n</svg>\n"
    )


if __name__ == "__main__":
    OUT.write_text(figure(), encoding="utf-8")
