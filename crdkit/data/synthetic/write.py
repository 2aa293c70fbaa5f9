"""Write synthetic scenes in the folder layouts of public datasets, and in one for any sensors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from crdkit._core.files import new_folder
from crdkit.data.synthetic.defects import DEFECTS, INFRARED_DEFECTS
from crdkit.data.synthetic.scene import TABLE_SIDE, Camera, scanner_camera
from crdkit.data.synthetic.sensors import (
    LIGHT_SENSORS,
    POLARISERS,
    render_depth,
    render_rgb,
    render_sensors,
    render_xyz,
)
from crdkit.data.synthetic.staging import (
    GOOD,
    Sample,
    known_categories,
    plan_parts,
    plan_samples,
    require_natural,
    run_jobs,
    save_png,
    save_tiff,
)
from crdkit.errors import unknown_name

MASK_VALUES: dict[str, int] = {name: 255 - rank for rank, name in enumerate(DEFECTS)}
"""Pixel value of each defect in the masks of the mvtec3d layout: class ids from 255 down, never 0."""


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
    only: more samples or other categories leave its bytes unchanged. ``out`` is written atomically.

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

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = write_mvtec3d(Path(folder, "scans"), categories=["gear"], train=3, test_per_defect=1, size=32)
        ...     sorted(path.name for path in (root / "gear/train/good/xyz").iterdir())
        ['000.tiff', '001.tiff', '002.tiff']
    """
    names = known_categories(categories)
    require_natural(seed=seed)
    parts = plan_parts(train=train, validation=validation, test_good=test_good, test_per_defect=test_per_defect)
    camera = scanner_camera(size)
    with new_folder(Path(out)) as root:
        samples = plan_samples(
            root, names, parts, lambda split, _: ("rgb", "xyz", *(["gt"] if split == "test" else []))
        )
        run_jobs([partial(_write_mvtec3d_sample, sample, camera, seed) for sample in samples])
    return out


def _write_mvtec3d_sample(sample: Sample, camera: Camera, seed: int) -> None:
    scene = sample.scene(camera, seed=seed)
    save_png(render_rgb(scene), sample.folder / "rgb" / f"{sample.name}.png")
    save_tiff(render_xyz(scene), sample.folder / "xyz" / f"{sample.name}.tiff")
    if sample.split == "test":
        mask = scene.mask.astype(np.uint8) * np.uint8(MASK_VALUES.get(sample.defect, 0))
        save_png(mask, sample.folder / "gt" / f"{sample.name}.png")


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

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = write_eyecandies(Path(folder, "scans"), categories=["gear"], train=1, test_per_defect=0, size=32)
        ...     sorted(path.name for path in (root / "Gear/train/data").glob("*_image_*.png"))[:2]
        ['000_image_0.png', '000_image_1.png']
    """
    names = known_categories(categories)
    require_natural(seed=seed, train=train, validation=validation, test_good=test_good, test_per_defect=test_per_defect)
    focal_length = EYECANDIES_FOCAL_LENGTH_AT_512 * scanner_camera(size).width / 512
    camera = Camera(height=size, width=size, focal_length=focal_length, distance=TABLE_SIDE * focal_length / size)
    parts = [("train", [(GOOD, train)], 3), ("val", [(GOOD, validation)], 2)]
    parts += [("test_public", [(GOOD, test_good), *((defect, test_per_defect) for defect in DEFECTS)], 2)]
    with new_folder(Path(out)) as root:
        samples: list[Sample] = []
        for category in names:
            for split, counts, digits in parts:
                folder = root / category.title().replace("_", "") / split / "data"
                folder.mkdir(parents=True)
                members = [(defect, index) for defect, count in counts for index in range(count)]
                samples += [
                    Sample(
                        category=category, split=split, defect=defect, index=i, folder=folder, name=f"{n:0{digits}d}"
                    )
                    for n, (defect, i) in enumerate(members)
                ]
        run_jobs([partial(_write_eyecandies_sample, sample, camera, seed) for sample in samples])
    return out


def _write_eyecandies_sample(sample: Sample, camera: Camera, seed: int) -> None:
    scene = sample.scene(camera, seed=seed)
    pictures = render_sensors(scene, [*LIGHT_SENSORS, "normals"])
    pictures["depth"], nearest, farthest = render_depth(scene)
    mask = scene.mask.astype(np.uint8) * np.uint8(255)
    pictures["mask"] = mask
    for group, defects in _EYECANDIES_MASKS.items():
        pictures[f"{group}_mask"] = mask if sample.defect in defects else np.zeros_like(mask)
    for picture, pixels in pictures.items():
        save_png(pixels, sample.folder / f"{sample.name}_{picture}.png")
    flags = {"anomalous": int(mask.any())}
    flags |= {group: int(sample.defect in defects) for group, defects in _EYECANDIES_MASKS.items()}
    texts = {
        "metadata.yaml": "".join(f"{flag}: {value}\n" for flag, value in flags.items()),
        "info_depth.yaml": f"normalization:\n  min: {nearest!r}\n  max: {farthest!r}\n",
        "pose.txt": f"1 0 0 0\n0 -1 0 0\n0 0 -1 {camera.distance!r}\n0 0 0 1\n",
    }
    for ending, text in texts.items():
        (sample.folder / f"{sample.name}_{ending}").write_text(text, encoding="utf-8", newline="\n")


FOLDER_SENSORS: dict[str, str] = {
    **{name: name for name in ("rgb", "xyz", "depth", "normals", "infrared")},
    **{f"light_{number}": name for number, name in enumerate(LIGHT_SENSORS)},
    **{name: name for name in POLARISERS},
}
"""Every sensor that `write_folder` can write, by the name of its folder."""


def write_folder(
    out: Path,
    *,
    categories: Sequence[str] | None = None,
    train: int = 40,
    validation: int = 8,
    test_good: int = 10,
    test_per_defect: int = 8,
    size: int | tuple[int, int] = 256,
    seed: int = 0,
    sensors: Sequence[str] = ("rgb", "xyz", "infrared"),
) -> Path:
    """Write synthetic categories as one folder per sensor and return ``out``.

    Folders: ``<out>/<category>/{train,validation,test}/{good,<defect>}/<sensor>``, and ``test/<defect>/mask``, whose
    8-bit PNGs are 255 where anomalous. xyz and depth are float32 TIFF in metres, infrared and polarisation_* 16-bit
    PNG, the others 8-bit PNG. With infrared among the sensors there are defects that only it can see. The other
    arguments are those of `write_mvtec3d`, which draws the same samples; ``validation=0`` writes no such folder.

    Raises:
        UnknownNameError: a category that is not in `OBJECT_KINDS`, or a sensor that is not in `FOLDER_SENSORS`.
        CrdkitError: ``out`` is not empty, a count or the seed is negative, or the images are too small.

    Examples:
        >>> import tempfile
        >>> counts = {"train": 1, "validation": 0, "test_good": 1, "test_per_defect": 1}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = write_folder(Path(folder, "scans"), categories=["gear"], size=32, sensors=["infrared"], **counts)
        ...     sorted(path.name for path in (root / "gear/test/void").iterdir())
        ['infrared', 'mask']
    """
    names = known_categories(categories)
    for sensor in sensors:
        if sensor not in FOLDER_SENSORS:
            raise unknown_name("synthetic sensor", sensor, FOLDER_SENSORS)
    require_natural(seed=seed)
    parts = plan_parts(train=train, validation=validation, test_good=test_good, test_per_defect=test_per_defect)
    camera = scanner_camera(size)
    if not validation:
        parts = [part for part in parts if part[0] != "validation"]
    if "infrared" in sensors:
        parts += [("test", defect, test_per_defect) for defect in INFRARED_DEFECTS]
    with new_folder(Path(out)) as root:
        samples = plan_samples(root, names, parts, lambda _, defect: (*sensors, *([] if defect == GOOD else ["mask"])))
        run_jobs([partial(_write_folder_sample, sample, camera, seed, sensors) for sample in samples])
    return out


def _write_folder_sample(sample: Sample, camera: Camera, seed: int, sensors: Sequence[str]) -> None:
    scene = sample.scene(camera, seed=seed)
    measured = render_sensors(scene, [FOLDER_SENSORS[sensor] for sensor in sensors])
    for sensor in sensors:
        pixels = measured[FOLDER_SENSORS[sensor]]
        save, ending = (save_tiff, "tiff") if pixels.dtype == np.float32 else (save_png, "png")
        save(pixels, sample.folder / sensor / f"{sample.name}.{ending}")
    if sample.defect != GOOD:
        save_png(scene.mask.astype(np.uint8) * np.uint8(255), sample.folder / "mask" / f"{sample.name}.png")
