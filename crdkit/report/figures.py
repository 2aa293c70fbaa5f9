"""Charts of a report: score histogram, ROC, per-region overlap, training loss."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from crdkit.report.data import ReportData

# Okabe-Ito: distinguishable with every common colour blindness. The dark page swaps each for a lighter twin.
INK, MUTED, GRID = "#1b1f24", "#59636f", "#dfe3e8"
NORMAL, ANOMALOUS = "#0072b2", "#d55e00"
SERIES = ("#0072b3", "#d55e01", "#009e73", "#a8518a", "#8a6d00", "#3b6fd6")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
FPR_LIMIT = 0.3
DPI = 200
WIDTH = 4.3  # inches; text is then as large as the page's other small print, and still legible on a phone
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",
}


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A drawn figure with the name of its files and the sentence that describes it."""

    name: str
    title: str
    alt: str
    figure: Figure


@contextmanager
def style(salt: str = "crdkit") -> Iterator[None]:
    """Use Matplotlib's defaults plus ours, whatever the user's own settings; restored on exit."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a name in a script DejaVu lacks
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**STYLE, "svg.hashsalt": salt})
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of that many inches, drawn with Agg and unknown to pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def charts(data: ReportData) -> list[Chart]:
    """Return every chart that ``data`` allows, in reading order."""
    with style():
        drawn = [chart for draw in (_histogram, _roc, _pro, _loss) if (chart := draw(data)) is not None]
        for chart in drawn:
            chart.figure.draw_without_rendering()
            chart.figure.set_layout_engine(None)  # laid out once, not again for every format, nor ("none") drawn again
    return drawn


def to_png(figure: Figure) -> bytes:
    """Return the figure as PNG on white, `DPI` dots per inch."""
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def to_svg(chart: Chart, *, inline: bool) -> str:
    """Return the chart as an SVG file, or as an element for a page whose CSS colours it."""
    buffer = io.StringIO()
    bare = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with style(chart.name):
        chart.figure.savefig(buffer, format="svg", metadata=bare, transparent=inline)
    text = buffer.getvalue()
    return _to_inline(text, chart) if inline else text


def _to_inline(text: str, chart: Chart) -> str:
    """Strip what only a file needs, and turn colours and fonts into CSS variables of the page."""
    box = re.search(r'viewBox="([^"]*)"', text)
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)  # would apply to the whole page
    body = body.replace("xlink:href", "href")
    body = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--font)", body)
    roles = {INK: "ink", MUTED: "muted", GRID: "grid", NORMAL: "normal", ANOMALOUS: "anomalous"}
    roles |= {colour: f"series{index}" for index, colour in enumerate(SERIES)}
    for colour, role in roles.items():
        body = body.replace(f": {colour}", f": var(--{role})")
    head = f'<svg viewBox="{box[1] if box else ""}" role="img" aria-label="{html.escape(chart.alt)}">'
    return head + body


def _histogram(data: ReportData) -> Chart:
    from matplotlib.ticker import MaxNLocator

    rows = _score_rows(data)
    scores = np.asarray(data.scores, dtype=np.float64)
    figure = new_figure(WIDTH, 2.1 + 0.22 * len(rows))
    top, strip = figure.subplots(2, 1, sharex=True, height_ratios=(1.9, 0.3 + 0.22 * len(rows)))
    low, high = float(scores.min()), float(scores.max())
    if not low < high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, int(np.clip(np.sqrt(len(scores)) * 2.5, 10, 50)) + 1)
    groups: list[tuple[str, str, str | None, np.ndarray]] = [("all samples", NORMAL, None, scores)]
    if data.labels is not None:
        flags = np.asarray(data.labels, dtype=bool)
        groups = [("normal", NORMAL, None, scores[~flags]), ("anomalous", ANOMALOUS, "////", scores[flags])]
    for name, colour, hatch, chosen in groups:
        bars = {"histtype": "stepfilled", "edgecolor": colour, "linewidth": 1.2}
        top.hist(chosen, edges, facecolor=(*_rgb(colour), 0.35), hatch=hatch, label=f"{name} ({len(chosen)})", **bars)
    top.set_ylabel("samples")
    top.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    top.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    _draw_strip(strip, rows)
    alt = f"Histogram of {len(scores)} image anomaly scores from {low:.4g} to {high:.4g}, below it every score by type."
    return Chart(name="histogram", title="Anomaly scores", alt=alt, figure=figure)


def _score_rows(data: ReportData, limit: int = 16) -> list[tuple[str, np.ndarray, bool]]:
    """Return defect type, sorted scores and whether anomalous; normal first, the rarest types in the last row."""
    scores = np.asarray(data.scores)
    if data.labels is None:
        return [("all", np.sort(scores), False)]
    groups: dict[tuple[bool, str], list[int]] = {}
    for index, name in enumerate(data.defect_types):
        groups.setdefault((bool(data.labels[index]), name), []).append(index)
    keys = sorted(groups, key=lambda key: (key[0], -len(groups[key]), key[1]))
    rows = [(name, np.sort(scores[groups[flag, name]]), flag) for flag, name in keys]
    if len(rows) > limit:
        others = rows[limit - 1 :]
        rows[limit - 1 :] = [
            (f"{len(others)} more types", np.sort(np.concatenate([row[1] for row in others])), others[0][2])
        ]
    return rows


def _draw_strip(axes: Axes, rows: Sequence[tuple[str, np.ndarray, bool]], limit: int = 400) -> None:
    """Draw one line of marks per defect type; of a long line only evenly spaced ranks."""
    for line, (_, values, anomalous) in enumerate(rows):
        picks = np.unique(np.linspace(0, len(values) - 1, limit).round().astype(int))
        colour, marker = (ANOMALOUS, "^") if anomalous else (NORMAL, "o")
        axes.plot(
            values[picks],
            np.full(len(picks), line),
            linestyle="none",
            marker=marker,
            markersize=4.5,
            markerfacecolor=(*_rgb(colour), 0.25),
            markeredgecolor=colour,
            markeredgewidth=0.8,
        )
    axes.set_yticks(range(len(rows)), [shorten(name) for name, _, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("image anomaly score")


def _roc(data: ReportData) -> Chart | None:
    from crdkit.scoring.metrics import roc_curve

    if data.labels is None or len(np.unique(data.labels)) < 2:
        return None
    fpr, tpr = roc_curve(np.asarray(data.scores), np.asarray(data.labels))
    figure = new_figure(WIDTH, 3.1)
    axes = figure.subplots()
    axes.plot((0, 1), (0, 1), color=MUTED, linewidth=1, linestyle=":")
    axes.plot(fpr, tpr, color=INK, linewidth=1.8, clip_on=False)
    value = _score(data.metrics.get("aggregate"), "image_auroc")
    axes.text(0.96, 0.06, f"fused  I-AUROC {value}", ha="right", transform=axes.transAxes)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="false positive rate", ylabel="true positive rate")
    alt = f"Image-level ROC curve of the fused score, I-AUROC {value}. The dotted diagonal is chance."
    return Chart(name="roc", title="Image-level ROC", alt=alt, figure=figure)


def _pro(data: ReportData) -> Chart | None:
    from crdkit.scoring.metrics import label_regions, pro_curve

    if data.masks is None or not data.masks.any() or data.masks.all():
        return None
    figure = new_figure(WIDTH, 3.1)
    axes = figure.subplots()
    metrics = data.metrics.get("branches") or {}
    lines: list[tuple[str, np.ndarray, Any, dict[str, Any]]] = [
        ("fused", data.maps, data.metrics.get("aggregate"), {"color": INK, "linewidth": 2.0, "zorder": 3})
    ]
    for index, (name, maps) in enumerate(data.branch_maps.items()):
        lines.append((name, maps, metrics.get(name), _line_style(index)))
    values, regions = [], label_regions(data.masks)
    for name, maps, scores, line_style in lines:
        fpr, pro = pro_curve(maps, data.masks, regions=regions)
        shown = (
            np.searchsorted(fpr, FPR_LIMIT, side="right") + 1
        )  # one beyond the edge, where the line leaves the chart
        values.append(f"{name} {_score(scores, 'aupro_0.30')}")
        key = f" {shorten(name)} {_score(scores, 'aupro_0.30')}"  # the space: a leading "_" would hide the entry
        axes.plot(fpr[:shown], pro[:shown], label=key, **line_style)
    axes.set(xlim=(0, FPR_LIMIT), ylim=(0, 1), xlabel="false positive rate of pixels", ylabel="per-region overlap")
    axes.legend(loc="lower right", title="AU-PRO@30%")
    alt = f"Per-region overlap against false positive rate up to {FPR_LIMIT:g}. AU-PRO@30%: {', '.join(values)}."
    return Chart(name="pro", title="Per-region overlap", alt=alt, figure=figure)


def _loss(data: ReportData) -> Chart | None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    history = data.history
    names = sorted({key for entry in history for key in entry if "loss" in key}, key=lambda key: (key != "loss", key))
    lines = {name: np.array([entry.get(name, np.nan) for entry in history], dtype=np.float64) for name in names}
    lines = {name: values for name, values in lines.items() if np.isfinite(values).any()}
    if not lines:
        return None
    figure = new_figure(WIDTH, 3.1)
    axes = figure.subplots()
    epochs = [entry.get("epoch", index) for index, entry in enumerate(history, start=1)]
    for index, (name, values) in enumerate(lines.items()):
        line_style = {"color": INK, "linewidth": 2.0} if name == "loss" else _line_style(index)
        marker = "o" if len(epochs) < 15 else None
        axes.plot(epochs, values, marker=marker, markersize=3.5, label=" " + shorten(name), **line_style)
    finite = np.concatenate([values[np.isfinite(values)] for values in lines.values()])
    logarithmic = bool(finite.min() > 0 and finite.max() > 20 * finite.min())
    axes.set(xlabel="epoch", ylabel="loss", yscale="log" if logarithmic else "linear")
    if logarithmic:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1, steps=(1, 2, 5, 10)))
    if len(lines) > 1:
        axes.legend()
    first = next(iter(lines.values()))
    alt = f"Training loss over {len(epochs)} epochs, from {first[0]:.4g} to {first[-1]:.4g}."
    return Chart(name="loss", title="Training loss", alt=alt, figure=figure)


def _line_style(index: int) -> dict[str, Any]:
    """Return colour and dashes of the n-th line beside the main one."""
    return {"color": SERIES[index % len(SERIES)], "linestyle": DASHES[index % len(DASHES)], "linewidth": 1.5}


def _score(metrics: Mapping[str, Any] | None, key: str) -> str:
    from crdkit.scoring.names import percent

    return percent((metrics or {}).get(key))


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue


def shorten(text: str, limit: int = 20) -> str:
    """Return at most ``limit`` characters of ``text``, with an ellipsis if some are missing."""
    return text if len(text) <= limit else text[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"
