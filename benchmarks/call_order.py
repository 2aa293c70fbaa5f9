"""The rooms that `crdkit.fit` enters, in order, and how often it climbs back up to a higher one.

    python -m benchmarks.call_order                  # this checkout
    python -m benchmarks.call_order --root OTHER     # another checkout of crdkit, with its own layers

A tiny detector is trained on synthetic scans. A room is a folder of crdkit, or a module beside the folders; `_core` and
what it is made of stand below all rooms and are not counted. Every function that is called from another room counts
once, when that first happens. It is a *climb* if its room stands on a higher layer of imports than the room entered
before it, as the checkout's own ``pyproject.toml`` orders them. A pipeline that went through its layers from the top
down, once, would have none.

Prints one line for each function, ``^`` before a climb, and the numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HELPERS = {"_core", "errors", "files", "placement", "progress", "ranks", "registry", "threads"}
"""`_core`, and the modules that became it."""

_TRACED = """
import json, pathlib, sys, threading
import torch

torch.set_num_threads(1)
import crdkit

package, folder, out = str(pathlib.Path(crdkit.__file__).parent), *map(pathlib.Path, sys.argv[1:])
try:
    from crdkit.data.synthetic import write_mvtec3d
except ImportError:  # before the rooms
    from crdkit.synthetic import write_mvtec3d
write_mvtec3d(folder / "data", categories=["gear"], train=4, validation=2, test_good=2, test_per_defect=1, size=64)
teacher = "{name: timm, model: test_resnet, pretrained: false}"
config = crdkit.RunConfig.preset("quick").with_overrides(
    f"data.root={folder / 'data'}", "data.category=gear", "data.image_size=64", "data.workers=1",
    "training.epochs=2", "training.batch_size=4", "training.device=cpu",
    "student.depths=1", "student.min_width=16", "student.embedding_blocks=1",
    *(f"modalities.{name}.encoder={teacher}" for name in ("rgb", "depth")),
)
from matplotlib.figure import Figure

# Matplotlib's own calls are not counted, and counting them would take most of the time
Figure.draw_without_rendering = lambda self: None
Figure.savefig = lambda self, file, *, format, **_: file.write(b"png" if format == "png" else "<svg></svg>")
crdkit.fit(config, folder / "imports")  # every module is loaded before calls are counted
calls, seen = [], set()

def within(frame):
    while frame is not None and not frame.f_code.co_filename.startswith(package):
        frame = frame.f_back
    return frame

def name_of(code):
    return pathlib.Path(code.co_filename).relative_to(package).with_suffix("").as_posix(), code.co_qualname

def note(frame, event, _):
    if event == "call" and frame.f_code.co_filename.startswith(package):
        caller = within(frame.f_back)
        key = frame.f_code, caller.f_code if caller else None
        if key not in seen:
            seen.add(key)
            calls.append([*name_of(frame.f_code), *(name_of(caller.f_code) if caller else (None, None))])

threading.setprofile(note)
sys.setprofile(note)
crdkit.fit(config, folder / "traced")
sys.setprofile(None)
out.write_text(json.dumps(calls))
"""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A function, when it is first called from another room."""

    room: str
    function: str
    height: int
    climb: bool


def layers(root: Path) -> dict[str, int]:
    """Return how high each room of the checkout at ``root`` stands; 0 is the lowest."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    stated = next(contract["layers"] for contract in contracts if contract.get("containers") == ["crdkit"])
    return {
        name.strip(): height
        for height, layer in enumerate(reversed(stated))
        for name in layer.replace(":", "|").split("|")
    }


def calls(root: Path) -> list[list[str | None]]:
    """Return (module, function, calling module, calling function) of a training, in order."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "calls.json"
        environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", _TRACED, scratch, str(out)]
        subprocess.run(command, cwd=scratch, env=environment, check=True)
        found: list[list[str | None]] = json.loads(out.read_text(encoding="utf-8"))
    return found


def entries(found: list[list[str | None]], heights: dict[str, int]) -> list[Entry]:
    """Return the calls that enter a room from another one, each function once.

    Examples:
        >>> found = [["runs/fit", "fit", None, None], ["data/images", "read", "runs/fit", "fit"]]
        >>> found += [["data/images", "open", "data/images", "read"], ["views/rgb", "view", "data/images", "read"]]
        >>> [(entry.function, entry.climb) for entry in entries(found, {"runs": 2, "views": 1, "data": 0})]
        [('fit', False), ('read', False), ('view', True)]
    """
    result: list[Entry] = []
    known: set[tuple[str, str]] = set()
    for module, function, caller, _ in found:
        room, before = str(module).partition("/")[0], (caller or "").partition("/")[0]
        key = str(module), str(function)
        if room == before or {room, before} & HELPERS or room not in heights or key in known:
            continue
        known.add(key)
        climb = bool(result) and heights[room] > result[-1].height
        result.append(Entry(room=room, function=str(function), height=heights[room], climb=climb))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout to trace")
    parser.add_argument("--quiet", action="store_true", help="the numbers only")
    options = parser.parse_args()
    root = options.root.resolve()
    order = entries(calls(root), layers(root))
    for entry in () if options.quiet else order:
        print(f"{'^' if entry.climb else ' '} {entry.height:2} {entry.room}: {entry.function}")
    visits = [entry.room for place, entry in enumerate(order) if place == 0 or order[place - 1].room != entry.room]
    often = ", ".join(f"{room} {count}" for room, count in Counter(visits).most_common(5))
    print(
        f"{sum(entry.climb for entry in order)} climbs, {len(visits)} visits of {len(set(visits))} rooms: {often}, ..."
    )


if __name__ == "__main__":
    main()
