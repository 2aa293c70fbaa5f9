"""Write synthetic scenes in the folder layouts of public datasets."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crdkit.errors import CrdkitError, unknown_name
from crdkit.progress import track
from crdkit.synthetic.defects import DEFECTS
from crdkit.synthetic.objects import OBJECT_KINDS
from crdkit.synthetic.scene import TABLE_SIDE, Camera, Scene, make_scene, sample_key, scanner_camera
from crdkit.synthetic.sensors import (
    SIX_LIGHTS,
    render_depth,
    render_lights,
    render_normals,
    render_rgb,
    render_xyz,
)

MASK_VALUES: dict[str, int] = {name: 255 - rank for rank, name in enumerate(DEFECTS)}
"""Pixel value of each defect in the masks of the mvtec3d layout: class ids from 255 down, never 0."""

GOOD = "good"


@dataclass(frozen=True, kw_only=True)
class _Sample:
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
        key = sample_key(seed, self.category, self.split, self.defect, self.index)
        return make_scene(self.category, camera=camera, key=key, defect=None if self.defect == GOOD else self.defect)


def write_mvtec3d(
    out: Path,
    *,
    categories: Sequence[str] | None = None,
    train: int = 40,
    validation: int = 8,
    test_good: int = 10,
    test_per_defect: int = 8,
    size: int | tuple[int, int] = 256,
    seed: int = 0,
) -> Path:
    """Write synthetic categories in the layout of MVTec 3D-AD and return ``out``.

    Folders: ``<out>/<category>/{train/good,validation/good,test/{good,<defect>}}/{rgb,xyz,gt}``. rgb is 8-bit
    PNG; xyz float32 TIFF (H, W, 3), metres, 0 where missing; gt, in test only, 8-bit PNG whose non-zero
    pixels are anomalous and hold a class id (`MASK_VALUES`). A sample depends on ``seed`` and its own name
    only: more samples or other categories leave its bytes as they are. Nothing half-written remains.

    Args:
        out: a folder that does not exist yet, or is empty.
        categories: names in `OBJECT_KINDS`; None for all.
        train: samples in ``train/good`` of each category.
        validation: samples in ``validation/good`` of each category.
        test_good: samples in ``test/good`` of each category.
        test_per_defect: samples in ``test/<defect>`` of each category and defect.
        size: pixels, a side or (H, W).
        seed: 0 or more.

    Raises:
        UnknownNameError: a category that is not in `OBJECT_KINDS`.
        CrdkitError: ``out`` is not empty, a count or the seed is negative, or the images are too small.
    """
    names = _known(categories)
    _require_natural(
        seed=seed, train=train, validation=validation, test_good=test_good, test_per_defect=test_per_defect
    )
    camera = scanner_camera(size)
    parts = [("train", GOOD, train), ("validation", GOOD, validation), ("test", GOOD, test_good)]
    parts += [("test", defect, test_per_defect) for defect in DEFECTS]
    with _staging(out) as root:
        samples = []
        for category in names:
            for split, defect, count in parts:
                folder = root / category / split / defect
                for sensor in ("rgb", "xyz", "gt") if split == "test" else ("rgb", "xyz"):
                    (folder / sensor).mkdir(parents=True)
                samples += [
                    _Sample(category=category, split=split, defect=defect, index=i, folder=folder, name=f"{i:03d}")
                    for i in range(count)
                ]
        _run([partial(_write_mvtec3d_sample, sample, camera, seed) for sample in samples])
    return out


def _write_mvtec3d_sample(sample: _Sample, camera: Camera, seed: int) -> None:
    import tifffile

    scene = sample.scene(camera, seed=seed)
    _save_png(render_rgb(scene), sample.folder / "rgb" / f"{sample.name}.png")
    tifffile.imwrite(
        sample.folder / "xyz" / f"{sample.name}.tiff",
        render_xyz(scene),
        photometric="rgb",
        metadata=None,
        software=False,
    )
    if sample.split == "test":
        mask = scene.mask.astype(np.uint8) * np.uint8(MASK_VALUES.get(sample.defect, 0))
        _save_png(mask, sample.folder / "gt" / f"{sample.name}.png")


EYECANDIES_FOCAL_LENGTH_AT_512 = 711.11
_EYECANDIES_MASKS = {
    "bumps": ("bump",),
    "dents": ("dent", "crack", "broken"),
    "colors": ("stain", "fade", "crack"),
    "normals": (),
}


def write_eyecandies(
    out: Path,
    *,
    categories: Sequence[str] | None = None,
    train: int = 40,
    validation: int = 8,
    test_good: int = 10,
    test_per_defect: int = 8,
    size: int = 512,
    seed: int = 0,
) -> Path:
    """Write synthetic categories in the layout of Eyecandies and return ``out``.

    Folders: ``<out>/<Category>/{train,val,test_public}/data``. Each sample has six lightings, noise-free 16-bit
    depth with its range in metres, 8-bit normals (right, up, towards the camera) and masks per kind of defect.
    The arguments are those of `write_mvtec3d`; ``test_public`` lists good samples first, then each defect.

    Raises:
        UnknownNameError: a category that is not in `OBJECT_KINDS`.
        CrdkitError: ``out`` is not empty, a count or the seed is negative, or the images are too small.
    """
    names = _known(categories)
    _require_natural(
        seed=seed, train=train, validation=validation, test_good=test_good, test_per_defect=test_per_defect
    )
    focal_length = EYECANDIES_FOCAL_LENGTH_AT_512 * scanner_camera(size).width / 512
    camera = Camera(height=size, width=size, focal_length=focal_length, distance=TABLE_SIDE * focal_length / size)
    parts = [("train", [(GOOD, train)], 3), ("val", [(GOOD, validation)], 2)]
    parts += [("test_public", [(GOOD, test_good), *((defect, test_per_defect) for defect in DEFECTS)], 2)]
    with _staging(out) as root:
        samples: list[_Sample] = []
        for category in names:
            for split, counts, digits in parts:
                folder = root / category.title().replace("_", "") / split / "data"
                folder.mkdir(parents=True)
                members = [(defect, index) for defect, count in counts for index in range(count)]
                samples += [
                    _Sample(
                        category=category, split=split, defect=defect, index=i, folder=folder, name=f"{n:0{digits}d}"
                    )
                    for n, (defect, i) in enumerate(members)
                ]
        _run([partial(_write_eyecandies_sample, sample, camera, seed) for sample in samples])
    return out


def _write_eyecandies_sample(sample: _Sample, camera: Camera, seed: int) -> None:
    scene = sample.scene(camera, seed=seed)
    names = [f"image_{number}" for number in range(len(SIX_LIGHTS))]
    pictures: dict[str, NDArray[np.uint8] | NDArray[np.uint16]] = {}
    pictures.update(zip(names, render_lights(scene, SIX_LIGHTS, names=names), strict=True))
    pictures["depth"], nearest, farthest = render_depth(scene)
    pictures["normals"] = np.rint((render_normals(scene) + 1.0) * 127.5).astype(np.uint8)
    mask = scene.mask.astype(np.uint8) * np.uint8(255)
    pictures["mask"] = mask
    for group, defects in _EYECANDIES_MASKS.items():
        pictures[f"{group}_mask"] = mask if sample.defect in defects else np.zeros_like(mask)
    for picture, pixels in pictures.items():
        _save_png(pixels, sample.folder / f"{sample.name}_{picture}.png")
    flags = {"anomalous": int(mask.any())}
    flags |= {group: int(sample.defect in defects) for group, defects in _EYECANDIES_MASKS.items()}
    texts = {
        "metadata.yaml": "".join(f"{flag}: {value}\n" for flag, value in flags.items()),
        "info_depth.yaml": f"normalization:\n  min: {nearest!r}\n  max: {farthest!r}\n",
        "pose.txt": f"1 0 0 0\n0 -1 0 0\n0 0 -1 {camera.distance!r}\n0 0 0 1\n",
    }
    for ending, text in texts.items():
        (sample.folder / f"{sample.name}_{ending}").write_text(text, encoding="utf-8", newline="\n")


def _save_png(pixels: NDArray[np.uint8] | NDArray[np.uint16], path: Path) -> None:
    Image.fromarray(pixels).save(path, compress_level=1)


def _known(categories: Sequence[str] | None) -> list[str]:
    names = list(OBJECT_KINDS) if categories is None else list(dict.fromkeys(categories))
    for name in names:
        if name not in OBJECT_KINDS:
            raise unknown_name("synthetic category", name, OBJECT_KINDS)
    return names


def _require_natural(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 0:
            raise CrdkitError(f"{name} (={value}) must be 0 or more")


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """Give a hidden sibling of ``out`` that becomes ``out`` at the end, or goes away on any failure."""
    target = Path(out).expanduser().resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CrdkitError(f"{out} exists and is not an empty folder; choose another one or delete it first")
    staging = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    staging.mkdir(parents=True)
    try:
        yield staging
        if target.exists():
            target.rmdir()
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _run(jobs: Sequence[Callable[[], None]]) -> None:
    """Run ``jobs`` on threads: drawing and compressing leave the interpreter's lock most of the time."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            for future in track(futures, description="writing synthetic samples", total=len(futures)):
                future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
