"""Draw docs/images/scaling.svg from results/scaling.json: ``python -m benchmarks.scaling_figure``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "scaling.json"
FIGURE = Path(__file__).parents[1] / "docs" / "images" / "scaling.svg"


def draw(result: dict[str, Any], file: Path) -> None:
    """Draw three panels: a step over resolution, a step over sensors, an epoch over samples."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "crdkit", "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(10, 3.2), layout="constrained")
        panels = figure.subplots(1, 3)
        _resolution(panels[0], result)
        _sensors(panels[1], result)
        _samples(panels[2], result)
        for panel in panels:
            panel.set_ylim(bottom=0)
            panel.grid(alpha=0.3)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, metadata={"Date": None})


def _resolution(panel: Any, result: dict[str, Any]) -> None:
    sizes = [row["image_size"] for row in result["resolution"]]
    panel.plot([size**2 for size in sizes], [_step_ms(row) for row in result["resolution"]], "o-", color="tab:blue")
    panel.set_xticks([size**2 for size in sizes], [f"{size}²" for size in sizes])
    panel.set(title="resolution, 2 sensors", xlabel="pixels", ylabel="CPU ms per step")


def _sensors(panel: Any, result: dict[str, Any]) -> None:
    styles = (("full", "o-", "tab:red"), ("star", "s--", "tab:green"))
    for topology, style, colour in styles:
        rows = [row for row in result["sensors"] if row["topology"] == topology]
        label = f"{topology}, {rows[0]['merge']}"
        panel.plot([row["sensors"] for row in rows], [_step_ms(row) for row in rows], style, color=colour, label=label)
        panel.set_xticks([row["sensors"] for row in rows])
    size = result["image_size"]
    panel.set(title=f"sensors, {size} x {size}", xlabel="sensors", ylabel="CPU ms per step")
    panel.legend(frameon=False)


def _samples(panel: Any, result: dict[str, Any]) -> None:
    counts = [row["samples"] for row in result["data"]]
    panel.plot(counts, [min(row["epoch_seconds"]) for row in result["data"]], "o-", color="tab:purple")
    panel.set_xticks(counts)
    panel.set_xlim(left=0)
    size = result["image_size"]
    panel.set(title=f"data, 2 sensors, {size} x {size}", xlabel="training samples", ylabel="CPU s per epoch")


def _step_ms(row: dict[str, Any]) -> float:
    return 1e3 * float(min(row["step_seconds"]))


def main() -> None:
    draw(json.loads(RESULT.read_text(encoding="utf-8")), FIGURE)
    print(FIGURE)


if __name__ == "__main__":
    main()
