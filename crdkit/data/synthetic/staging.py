"""What every writer of synthetic datasets shares: samples and their randomness, image files, threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crdkit._core.progress import track
from crdkit.data.synthetic.defects import DEFECTS
from crdkit.data.synthetic.objects import OBJECT_KINDS
from crdkit.data.synthetic.scene import Camera, Scene, make_scene, sample_key
from crdkit.errors import CrdkitError, unknown_name

GOOD = "good"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample to write: what seeds its randomness and where its files go."""

    category: str
    split: str
    defect: str
    """``"good"`` or the name of a defect."""
    index: int
    """Counts within its split and defect, so that other counts do not change its randomness."""
    folder: Path
    name: str
    """The start of its file names."""

    def scene(self, camera: Camera, *, seed: int) -> Scene:
        """Draw this sample's scene."""
        key = sample_key(seed, self.category, self.split, self.defect, self.index)
        return make_scene(self.category, camera=camera, key=key, defect=None if self.defect == GOOD else self.defect)


def save_png(pixels: NDArray[np.uint8] | NDArray[np.uint16], path: Path) -> None:
    """Write (H, W) uint8 or uint16, or (H, W, 3) uint8."""
    Image.fromarray(pixels).save(path, compress_level=1)


def save_tiff(pixels: NDArray[np.float32], path: Path) -> None:
    """Write (H, W) or (H, W, 3) float32."""
    import tifffile

    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(path, pixels, photometric=photometric, metadata=None, software=False)


def known_categories(categories: Sequence[str] | None) -> list[str]:
    """Return ``categories`` without repeats, or all if None.

    Raises:
        UnknownNameError: one is not in `OBJECT_KINDS`.
    """
    names = list(OBJECT_KINDS) if categories is None else list(dict.fromkeys(categories))
    for name in names:
        if name not in OBJECT_KINDS:
            raise unknown_name("synthetic category", name, OBJECT_KINDS)
    return names


def require_natural(**numbers: int) -> None:
    """Refuse numbers below 0.

    Raises:
        CrdkitError: one is negative; the message names the first.
    """
    for name, value in numbers.items():
        if value < 0:
            raise CrdkitError(f"{name} (={value}) must be 0 or more")


def plan_parts(*, train: int, validation: int, test_good: int, test_per_defect: int) -> list[tuple[str, str, int]]:
    """Return split, defect and number of samples of all that each category has: the normal ones, then each defect.

    Raises:
        CrdkitError: a number is negative.
    """
    require_natural(train=train, validation=validation, test_good=test_good, test_per_defect=test_per_defect)
    normal = [("train", GOOD, train), ("validation", GOOD, validation), ("test", GOOD, test_good)]
    return normal + [("test", defect, test_per_defect) for defect in DEFECTS]


def plan_samples(
    root: Path,
    categories: Sequence[str],
    parts: Sequence[tuple[str, str, int]],
    kinds: Callable[[str, str], Sequence[str]],
) -> list[Sample]:
    """Make the folders ``<root>/<category>/<split>/<defect>/<kind>`` and return the samples to write into them.

    Args:
        root: exists already.
        categories: of the objects.
        parts: split, defect and number of samples.
        kinds: which files a sample of a split and defect has.
    """
    samples: list[Sample] = []
    for category in categories:
        for split, defect, count in parts:
            folder = root / category / split / defect
            for kind in kinds(split, defect):
                (folder / kind).mkdir(parents=True)
            samples += [
                Sample(category=category, split=split, defect=defect, index=i, folder=folder, name=f"{i:03d}")
                for i in range(count)
            ]
    return samples


def run_jobs(jobs: Sequence[Callable[[], None]]) -> None:
    """Run ``jobs`` on threads: drawing and compressing release the interpreter's lock most of the time."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            for future in track(futures, description="writing synthetic samples", total=len(futures)):
                future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
