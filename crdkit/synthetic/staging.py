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

from crdkit.errors import CrdkitError, unknown_name
from crdkit.progress import track
from crdkit.synthetic.objects import OBJECT_KINDS
from crdkit.synthetic.scene import Camera, Scene, make_scene, sample_key

GOOD = "good"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample to write: what randomness it has and which files are its own."""

    category: str
    split: str
    defect: str
    """``"good"`` or the name of a defect."""
    index: int
    """Counts within its split and defect, so that no other count moves its randomness."""
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
        CrdkitError: with the name of the first.
    """
    for name, value in numbers.items():
        if value < 0:
            raise CrdkitError(f"{name} (={value}) must be 0 or more")


def run_jobs(jobs: Sequence[Callable[[], None]]) -> None:
    """Run ``jobs`` on threads: drawing and compressing leave the interpreter's lock most of the time."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            for future in track(futures, description="writing synthetic samples", total=len(futures)):
                future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
