"""Parts of a long measurement: each is guarded, timed and written down before the next one starts."""

from __future__ import annotations

import json
import statistics
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from crdkit._core.progress import say


class Parts:
    """Runs parts one after the other inside a time budget; ``result`` is written to ``file`` after each.

    A part that fails leaves ``{"failed": reason}`` and one that would not fit ``{"skipped": reason}``.

    Args:
        file: JSON file.
        result: what it holds beside the parts.
        budget_s: seconds for all parts; None for no limit.
    """

    def __init__(self, file: Path, result: dict[str, Any], *, budget_s: float | None = None) -> None:
        self.file, self.result, self.budget_s = file, result, budget_s
        self.start = time.perf_counter()

    @property
    def left_s(self) -> float:
        """Seconds left."""
        return float("inf") if self.budget_s is None else self.budget_s - (time.perf_counter() - self.start)

    def run(self, name: str, part: Callable[[], dict[str, Any]], *, needs_s: float = 0.0) -> dict[str, Any] | None:
        """Run one part and return what it found; None if it failed or was skipped."""
        if needs_s > self.left_s:
            reason = f"needs about {needs_s:.0f} s, {max(self.left_s, 0):.0f} s of {self.budget_s:.0f} s are left"
            say(f"{name}: skipped, {reason}")
            return self._write(name, {"skipped": reason}, found=None)
        say(f"{name} ...")
        start = time.perf_counter()
        try:
            found = part()
        except Exception as error:  # whatever it is, the other parts must run
            say(f"{name}: failed: {error}")
            failure = {"failed": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
            return self._write(name, failure, found=None)
        took = round(time.perf_counter() - start, 2)
        say(f"{name}: {took} s")
        return self._write(name, {**found, "took_s": took}, found=found)

    def _write(self, name: str, entry: dict[str, Any], *, found: dict[str, Any] | None) -> dict[str, Any] | None:
        self.result.setdefault("parts", {})[name] = entry
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(self.result, indent=2) + "\n", encoding="utf-8")
        return found


def done(result: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Return what a part found; None if it failed, was skipped or never ran."""
    part: dict[str, Any] | None = result.get("parts", {}).get(name)
    return None if part is None or part.keys() & {"failed", "skipped"} else part


def not_done(result: Mapping[str, Any]) -> list[str]:
    """Return one line for each part that failed or was skipped."""
    return [
        f"- {name}: {reason}: {part[reason]}"
        for name, part in result.get("parts", {}).items()
        for reason in ("failed", "skipped")
        if reason in part
    ]


def clock(call: Callable[[], Any], device: torch.device | None = None) -> float:
    """Time one call, the GPU's part included."""
    wait(device)
    start = time.perf_counter()
    call()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device | None) -> None:
    """Wait until a GPU has done what it was told to."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


def alternate(
    *, ours: Callable[[], Any], baseline: Callable[[], Any], rounds: int, device: torch.device | None = None
) -> dict[str, Any]:
    """Time two calls in turns, so that whatever else the machine does hits both, and return times, medians, ratio."""
    seconds: dict[str, list[float]] = {"ours": [], "baseline": []}
    for _ in range(rounds):
        seconds["baseline"].append(clock(baseline, device))
        seconds["ours"].append(clock(ours, device))
    return compared(seconds)


def compared(seconds: Mapping[str, list[float]]) -> dict[str, Any]:
    """Return the times with their medians and the baseline's over ours."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {"seconds": dict(seconds), "median_seconds": medians, "ratio": medians["baseline"] / medians["ours"]}
