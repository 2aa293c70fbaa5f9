"""How surely `crdkit data check` notices that two sensors lie apart: shifts of one of them, over whole splits.

    python -m benchmarks.registration [--scans 12] [--seeds 0 1 2] [--category gear] [--real FOLDER]

Synthetic categories are rendered at 256 x 256, every sensor with every other. FOLDER holds cable_gland/ of MVTec 3D-AD.
Shifts are cut out of the images, so that no border tells of them: 4, 2 and 0 pixels in eight directions.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np

from crdkit.data.adapters.mvtec3d import MVTec3D
from crdkit.data.agreement import Agreement, measure_shift
from crdkit.data.agreement._edges import correlation, edge_map, spectrum
from crdkit.data.synthetic import OBJECT_KINDS, make_scene, render_sensors, sample_key, scanner_camera

SENSORS = ("rgb", "xyz", "infrared", "depth", "normals", "image_0", "image_3")
MARGIN = 8
DIRECTIONS = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0)]
Scan = dict[str, np.ndarray]


def cut(array: np.ndarray, down: int, right: int) -> np.ndarray:
    """Return the middle of an image whose content lies ``down`` and ``right`` of where it was."""
    height, width = array.shape[:2]
    return array[MARGIN - down : height - MARGIN - down, MARGIN - right : width - MARGIN - right]


def agreements(scans: list[Scan], shifts: list[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], Agreement]]:
    """Yield how every pair of sensors lies on each other if the second is shifted."""
    first, *_ = scans
    edges = [{name: edge_map(cut(array, 0, 0)) for name, array in scan.items()} for scan in scans]
    straight = [{name: spectrum(found) for name, found in scan.items() if found is not None} for scan in edges]
    for shift in shifts:
        moved = [{name: spectrum(edge_map(cut(array, *shift))) for name, array in scan.items()} for scan in scans]
        for pair in combinations(first, 2):
            surfaces = []
            for one, other in zip(straight, moved, strict=True):
                shape = cut(first[pair[0]], 0, 0).shape[:2]
                surfaces.append((correlation(one[pair[0]], other[pair[1]], shape=shape), shape))
            yield shift, measure_shift(pair, surfaces)


def synthetic(kind: str, *, scans: int, seed: int) -> list[Scan]:
    camera = scanner_camera(256 + 2 * MARGIN)
    keys = [sample_key(seed, kind, "train", "good", number) for number in range(scans)]
    return [render_sensors(make_scene(kind, camera=camera, key=key), SENSORS) for key in keys]


def real(root: Path) -> list[Scan]:
    data = MVTec3D(MVTec3D.Config(root=root, category="cable_gland"))
    return [dict(data.read(record).sensors) for record in data.records("train")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--category", nargs="*", default=list(OBJECT_KINDS))
    parser.add_argument("--real", type=Path)
    given = parser.parse_args()
    shifts = [(0, 0), *((n * down, n * right) for n in (2, 4) for down, right in DIRECTIONS)]
    sources = [(f"{kind}, seed {seed}", lambda k=kind, s=seed: synthetic(k, scans=given.scans, seed=s))
               for kind in given.category for seed in given.seeds]  # fmt: skip
    if given.real:
        sources.append(("cable_gland (real)", lambda: real(given.real)))
    print("| category | pairs | scans | warns at 0 | at 2 | at 4 | shift found at 4 | correlation unmoved |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    for name, load in sources:
        scans = load()
        found = list(agreements(scans, shifts))
        row = []
        for pixels in (0, 2, 4):
            here = [a for shift, a in found if max(map(abs, shift)) == pixels]
            row.append(f"{sum(a.is_shifted for a in here)} of {len(here)}")
            for a in here:
                if pixels != 2 and a.is_shifted != (pixels == 4):
                    print(f"<!-- {name}: {a} -->")
        exact = [np.abs(np.subtract(a.shift, shift)).max() <= 1 for shift, a in found if max(map(abs, shift)) == 4]
        least = min(a.unmoved for shift, a in found if shift == (0, 0))
        pairs = len({(a.first, a.second) for _, a in found})
        cells = [name, str(pairs), str(len(scans)), *row, f"{100 * np.mean(exact):.0f} %", f">= {least:.2f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
