"""What the published code's masks and image labels change: ``python -m benchmarks.published_masks RUN``.

The published code resizes the class ids of a mask as they are, where crdkit resizes 0 and 255, and labels an image
anomalous if a pixel is left in its resized mask, where crdkit takes the folder. This scores the test split of a
finished run, whose data must still be there, once, and prints the metrics of its maps under both: for
docs/fidelity.md. With ``--enlarge 400`` masks are first enlarged to that size, for scans that are stored at the size
of the maps.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from crdkit.config.build import build_dataset
from crdkit.data import SampleRecord
from crdkit.data.images import resize_image, resize_mask
from crdkit.detector.files import load_detector
from crdkit.scoring.metrics import evaluate
from crdkit.views.split import load_split

SHOWN = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "aupro_0.30", "aupro_0.10", "aupro_0.05", "aupro_0.01")


def published_mask(ids: np.ndarray, size: int) -> np.ndarray:
    """Resize class ids (H, W) uint8 as they are; a pixel is anomalous above one half of 255."""
    return resize_image(ids, size) / np.float32(255) > 0.5


def enlarged(ids: np.ndarray, size: int) -> np.ndarray:
    """Enlarge class ids (H, W), which must hold one beside 0, with a smooth outline."""
    return resize_mask(binary(ids), size) * ids.max()


def binary(ids: np.ndarray) -> np.ndarray:
    """Return class ids (H, W) as crdkit resizes them: 0 and 255."""
    return np.where(ids > 0, np.uint8(255), np.uint8(0))


def read_ids(records: Sequence[SampleRecord], size: int) -> list[np.ndarray]:
    """Return the class ids (H, W) of every sample's mask file; zeros for one without."""
    nothing = np.zeros((size, size), np.uint8)
    return [nothing if r.mask_file is None else np.asarray(Image.open(r.mask_file)) for r in records]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run directory of mvtec3d")
    parser.add_argument("--enlarge", type=int, help="side, in pixels, that masks are enlarged to first")
    arguments = parser.parse_args()
    detector = load_detector(arguments.run)
    size = detector.config.data.image_size
    split = load_split(build_dataset(detector.config), "test", views=detector.views)
    ids = read_ids(split.records, size)
    if arguments.enlarge:
        ids = [enlarged(image, arguments.enlarge) for image in ids]
    ours = np.stack([resize_mask(binary(image), size) for image in ids])
    theirs = np.stack([published_mask(image, size) for image in ids])
    labels = np.array([record.label for record in split.records])
    their_labels = theirs.any(axis=(1, 2)).astype(int)

    print("| class id | images | anomalous pixels here | as published | change |\n|--:|--:|--:|--:|--:|")
    found = [tuple(np.unique(image[image > 0]).tolist()) for image in ids]
    for value in sorted(Counter(found)):
        rows = [index for index, values in enumerate(found) if values == value]
        mine, published = int(ours[rows].sum()), int(theirs[rows].sum())
        change = f"{100 * (published / mine - 1):+.2f} %" if mine else "–"
        print(f"| {', '.join(map(str, value)) or '0'} | {len(rows)} | {mine} | {published} | {change} |")
    gone = [str(split.records[index].sample_id) for index in np.flatnonzero(labels != their_labels)]
    print(f"\nimage labels that differ: {len(gone)} of {len(labels)} {gone}\n")

    maps = detector.score(split).anomaly_map
    print("| masks, labels | " + " | ".join(SHOWN) + " |\n|---" + "|--:" * len(SHOWN) + "|")
    for name, masks, image_labels in (("here", ours, labels), ("published", theirs, their_labels)):
        metrics = evaluate(maps, masks, labels=image_labels)
        print(f"| {name} | " + " | ".join(f"{100 * (metrics[key] or 0):.3f}" for key in SHOWN) + " |")


if __name__ == "__main__":
    main()
