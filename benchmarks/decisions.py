"""How often attributions and regions are right, on synthetic defects of every object.

    python -m benchmarks.decisions --out OUT [--seeds 0 1 2] [--variants two three twice]

For each object, seed and set of modalities, a small `quick` is trained, its thresholds are set from more normal
samples, and new samples are predicted. Of the defects that one sensor alone can see, "attributed" is the share of the
alarms in which that sensor has the largest share: stains and faded patches (only the camera), dents and bumps (only the
scanner; their shading is taken out of the image, which is that of the intact twin) and voids (only the infrared
camera). "as rendered" leaves the shading in. "peak" is the share of the alarms with a region whose highest region's
peak lies in the true mask or within 4 pixels of it, of all defects. "false regions" is the share of other normal
samples that have a region. Last, what an attribution costs. Finished runs in OUT are read, not repeated.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import crdkit
from benchmarks.machine import environment
from benchmarks.runs import row
from crdkit.config import RunConfig
from crdkit.data.synthetic import (
    DEFECTS,
    INFRARED_DEFECTS,
    OBJECT_KINDS,
    make_scene,
    render_sensors,
    sample_key,
    scanner_camera,
    write_folder,
)
from crdkit.detector import Detector, Prediction
from crdkit.detector.files import load_detector

SIZE = 128
SAMPLES = {"train": 48, "validation": 12, "test_good": 2, "test_per_defect": 1}
OVERRIDES = ("data.name=folder", f"data.image_size={SIZE}", "training.epochs=8", "scoring.sigma=2")
TEACHER = "encoder.name=efficientnet_lite0"
VARIANTS = {
    "two": (),
    "three": (f"modalities.infrared.{TEACHER}", "modalities.infrared.range=[28650, 31750]"),
    "twice": (f"modalities.normals.{TEACHER}",),
}
"""RGB and depth; and infrared; or and normals, the scanner's second modality."""
SEEN_BY = {"stain": "rgb", "fade": "rgb", "dent": "xyz", "bump": "xyz", "void": "infrared"}
SENSORS = ("rgb", "xyz", "infrared")
RATE, NORMALS = 0.05, 40
MARGIN = 4


def sensors_of(
    category: str, seed: int, split: str, index: int, defect: str | None = None, *, shaded: bool = True
) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
    """Return one new sample's sensors and mask; without its shading, a defect of shape only is not in the image."""
    camera, key = scanner_camera(SIZE), sample_key(1000 + seed, category, split, defect or "good", index)
    scene = make_scene(category, camera=camera, key=key, defect=defect)
    measured = render_sensors(scene, SENSORS)
    if not shaded:
        measured |= render_sensors(make_scene(category, camera=camera, key=key), ["rgb"])
    return measured, scene.mask


def predicted(detector: Detector, category: str, seed: int, split: str, count: int) -> list[Prediction]:
    """Return predictions of new normal samples."""
    samples = (sensors_of(category, seed, split, index)[0] for index in range(count))
    return list(detector.predict_stream(samples, batch_size=4, workers=1))


def is_near(mask: np.ndarray, place: tuple[int, int]) -> bool:
    """Return whether a pixel lies in the mask or within the margin of it, along rows and columns."""
    top, left = (max(side - MARGIN, 0) for side in place)
    return bool(mask[top : place[0] + MARGIN + 1, left : place[1] + MARGIN + 1].any())


def examine(detector: Detector, category: str, seed: int, per_defect: int) -> Iterator[tuple[str, bool]]:
    """Yield what was asked of every defect or alarm, and whether it is right."""
    for defect in [*DEFECTS, *INFRARED_DEFECTS]:
        sensor = SEEN_BY.get(defect, "several")
        if sensor == "infrared" and "infrared" not in detector.sensors:
            continue
        for index in range(per_defect):
            measured, mask = sensors_of(category, seed, "test", index, defect)
            found = detector.predict(measured)
            yield "detected", bool(found.label)
            if found.label:
                yield "has a region", bool(found.regions)
                yield from (("peak", is_near(mask, region.peak)) for region in found.regions[:1])
            if sensor == "xyz":
                yield from attributed("as rendered", found, sensor)
                found = detector.predict(sensors_of(category, seed, "test", index, defect, shaded=False)[0])
            yield from attributed("attributed", found, sensor)


def attributed(kind: str, found: Prediction, sensor: str) -> Iterator[tuple[str, bool]]:
    """Yield whether an alarm's largest share is that of the one sensor that can see the defect."""
    shares = found.attribution_sensors
    if sensor != "several" and found.label and shares is not None:
        yield kind, max(shares, key=lambda name: shares[name]) == sensor


def trained(variant: str, category: str, seed: int, out: Path) -> Detector:
    """Return a detector, trained unless its run is finished, with thresholds from more normal samples."""
    data, run = out / f"data{seed}", out / variant / f"{category}-{seed}"
    if not data.exists():
        write_folder(data, size=SIZE, seed=seed, **SAMPLES)
    if not (run / "metrics.json").exists():
        keys = (f"data.root={data}", f"data.category={category}", f"training.seed={seed}")
        crdkit.fit(RunConfig.preset("quick").with_overrides(*OVERRIDES, *keys, *VARIANTS[variant]), run)
    detector = load_detector(run)
    detector.decide(false_alarms=RATE, normals=predicted(detector, category, seed, "decide", NORMALS))
    return detector


def cost(detector: Detector, category: str, repeats: int = 15) -> dict[str, float]:
    """Return milliseconds of a prediction of a defective sample: without and with attribution; and of a normal one."""
    times: dict[str, Any] = {}
    for name, defect, mode in (
        ("normal", None, "alarms"),
        ("alarm, not attributed", "crack", "never"),
        ("alarm, attributed", "crack", "always"),
    ):
        measured, _ = sensors_of(category, 0, "cost", 0, defect)
        detector.attribution = mode  # type: ignore[assignment]
        spent = []
        for _ in range(repeats):
            begin = time.perf_counter()
            detector.predict(measured)
            spent.append(time.perf_counter() - begin)
        times[name] = 1000 * float(np.median(spent))
    detector.attribution = "alarms"
    return times


def main() -> None:
    """Train what is not there yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--categories", nargs="+", choices=OBJECT_KINDS, default=list(OBJECT_KINDS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--per-defect", type=int, default=8)
    arguments = parser.parse_args()
    columns = ("detected", "attributed", "as rendered", "has a region", "peak", "false regions")
    print(row(["modalities", "object", *columns]))
    print("|---|---" + "|--:" * len(columns) + "|")
    totals: Counter[tuple[str, bool]] = Counter()
    for variant in arguments.variants:
        for category in arguments.categories:
            counts: Counter[tuple[str, bool]] = Counter()
            for seed in arguments.seeds:
                detector = trained(variant, category, seed, arguments.out)
                for kind, right in examine(detector, category, seed, arguments.per_defect):
                    counts[kind, right] += 1
                for found in predicted(detector, category, seed, "held out", NORMALS):
                    counts["false regions", bool(found.regions)] += 1
            totals.update(counts)
            print(row([variant, category, *(share(counts, name) for name in columns)]), flush=True)
    print(row(["**all**", "", *(share(totals, name) for name in columns)]))
    times = cost(detector, category)
    print("\n" + ", ".join(f"{name} {value:.1f} ms" for name, value in times.items()))
    where = ", ".join(f"{key} {value}" for key, value in environment().items() if value is not None)
    print(f"\nseeds {arguments.seeds}; {torch.get_num_threads()} threads; {where}")


def share(counts: Mapping[tuple[str, bool], int], kind: str) -> str:
    """Return a share as text, with its counts."""
    right, wrong = counts.get((kind, True), 0), counts.get((kind, False), 0)
    return f"{100 * right / (right + wrong):.1f} % ({right}/{right + wrong})" if right + wrong else ""


if __name__ == "__main__":
    main()
