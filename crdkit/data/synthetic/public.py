"""Write synthetic scenes in the folder layouts of more public data sets, as far as they are known to us."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crdkit._core.files import new_folder
from crdkit.data.synthetic.defects import DEFECTS
from crdkit.data.synthetic.scene import Camera, Scene, scanner_camera
from crdkit.data.synthetic.sensors import SIX_LIGHTS, encode_normals, render_lights, render_rgb, render_xyz
from crdkit.data.synthetic.staging import (
    GOOD,
    Sample,
    known_categories,
    plan_parts,
    require_natural,
    run_jobs,
    save_png,
    save_tiff,
)
from crdkit.errors import unknown_name

M2AD_VIEWS, M2AD_LIGHTS = 2, 4
"""Of a synthetic specimen; one of M2AD has 12 and 10."""


@dataclass(frozen=True, kw_only=True)
class _Style:
    """How one layout arranges files; places are relative to the folder that is written."""

    group: Callable[[Sample], str]
    """What is numbered together, below the category."""
    save: Callable[[Sample, Scene], None]
    """Writes a sample's files into ``sample.folder``, under ``sample.name``."""
    name: Callable[[int], str] = "{:03d}".format
    home: Callable[[str], str] = str
    """Folder of a category."""
    finish: Callable[[Path, Sequence[Sample]], None] = lambda _root, _samples: None
    """Writes what is about all samples."""
    views: int = 1


def write_public(
    layout: str,
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
    """Write synthetic categories in the layout of a public data set and return ``out``.

    ``layout`` is 3d_adam, m2ad, mvtec_ad, mvtec_ad_2, real_iad_d3 or visa. The scenes and the other arguments are those
    of `write_mvtec3d`. Where a layout has no validation split, the samples of ``validation`` are training samples;
    M2AD, whose split is drawn, gets all good ones as specimens, with two views and four lights each. Images of VisA
    and Real-IAD D3 are JPEG.

    Raises:
        UnknownNameError: a layout that is none of these, or a category that is not in `OBJECT_KINDS`.
        CrdkitError: ``out`` is not empty, a count or the seed is negative, or the images are too small.

    Examples:
        >>> import tempfile
        >>> counts = {"train": 1, "validation": 1, "test_good": 1, "test_per_defect": 0}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = write_public("mvtec_ad", Path(folder, "images"), categories=["gear"], size=32, **counts)
        ...     sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
        ['gear/test/good/000.png', 'gear/train/good/000.png', 'gear/train/good/001.png']
    """
    if layout not in STYLES:
        raise unknown_name("synthetic layout", layout, STYLES)
    style, names = STYLES[layout], known_categories(categories)
    require_natural(seed=seed)
    parts = plan_parts(train=train, validation=validation, test_good=test_good, test_per_defect=test_per_defect)
    camera = scanner_camera(size)
    with new_folder(Path(out)) as root:
        samples = [sample for name in names for sample in _plan(root, style, name, parts)]
        run_jobs([partial(_write_sample, style, sample, camera, seed) for sample in samples])
        style.finish(root, samples)
    return out


def _plan(root: Path, style: _Style, category: str, parts: Sequence[tuple[str, str, int]]) -> list[Sample]:
    """Return a category's samples; each has the folder of its group, and a number within it."""
    samples, numbers = [], Counter[str]()
    for split, defect, count in parts:
        for index in range(count):
            bare = Sample(category=category, split=split, defect=defect, index=index, folder=root, name="")
            group = style.group(bare)
            for view in range(style.views):
                name = style.name(numbers[group]) + (f"/V{view + 1:03d}" if style.views > 1 else "")
                folder = root / style.home(category) / group
                number = index * style.views + view  # another pose of the object
                samples.append(
                    Sample(category=category, split=split, defect=defect, index=number, folder=folder, name=name)
                )
            numbers[group] += 1
    return samples


def _write_sample(style: _Style, sample: Sample, camera: Camera, seed: int) -> None:
    style.save(sample, sample.scene(camera, seed=seed))


def _mask(scene: Scene, value: int = 255) -> NDArray[np.uint8]:
    return scene.mask.astype(np.uint8) * np.uint8(value)


def _png(pixels: NDArray[np.uint8], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(pixels, path)


def _jpeg(pixels: NDArray[np.uint8], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format="JPEG", quality=95)


def _tiff(pixels: NDArray[np.float32], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tiff(pixels, path)


def _train_or_test(sample: Sample) -> str:
    return f"test/{sample.defect}" if sample.split == "test" else "train/good"


def _save_3d_adam(sample: Sample, scene: Scene) -> None:
    _png(render_rgb(scene), sample.folder / "rgb" / f"{sample.name}.png")
    _tiff(render_xyz(scene), sample.folder / "xyz" / f"{sample.name}.tiff")
    if sample.defect != GOOD:
        _png(_mask(scene), sample.folder / "ground_truth" / f"{sample.name}.png")


def _save_mvtec_ad(sample: Sample, scene: Scene) -> None:
    _png(render_rgb(scene), sample.folder / f"{sample.name}.png")
    if sample.defect != GOOD:
        masks = sample.folder.parents[1] / "ground_truth" / sample.defect
        _png(_mask(scene), masks / f"{sample.name}_mask.png")


def _group_mvtec_ad_2(sample: Sample) -> str:
    split = "test_public" if sample.split == "test" else sample.split
    return f"{split}/{'good' if sample.defect == GOOD else 'bad'}"


def _save_mvtec_ad_2(sample: Sample, scene: Scene) -> None:
    _png(render_rgb(scene), sample.folder / f"{sample.name}.png")
    if sample.defect != GOOD:
        _png(_mask(scene), sample.folder.with_name("ground_truth") / "bad" / f"{sample.name}_mask.png")


def _save_visa(sample: Sample, scene: Scene) -> None:
    _jpeg(render_rgb(scene), sample.folder / f"{sample.name}.JPG")
    if sample.defect != GOOD:
        masks = sample.folder.parents[1] / "Masks" / "Anomaly"
        _png(_mask(scene, 1 + [*DEFECTS].index(sample.defect)), masks / f"{sample.name}.png")


def _finish_visa(root: Path, samples: Sequence[Sample]) -> None:
    lines = ["object,split,label,image,mask"]
    for sample in samples:
        split, label = ("test" if sample.split == "test" else "train"), "normal" if sample.defect == GOOD else "anomaly"
        image = f"{sample.category}/Data/Images/{sample.folder.name}/{sample.name}.JPG"
        mask = "" if sample.defect == GOOD else f"{sample.category}/Data/Masks/Anomaly/{sample.name}.png"
        lines.append(f"{sample.category},{split},{label},{image},{mask}")
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text("\n".join([*lines, ""]), encoding="utf-8", newline="\n")


def _save_real_iad_d3(sample: Sample, scene: Scene) -> None:
    start = f"{sample.folder / sample.name / sample.category}_{sample.name}"
    _jpeg(render_rgb(scene), Path(f"{start}_RGB.jpg"))
    _jpeg(encode_normals(scene), Path(f"{start}_PS.jpg"))
    _tiff(render_xyz(scene), Path(f"{start}_3D.tiff"))
    if sample.defect != GOOD:
        _png(_mask(scene), Path(f"{start}_mask.png"))


def _finish_real_iad_d3(root: Path, samples: Sequence[Sample]) -> None:
    """Write the list of each category; one more defect is in the validation split, where it is not to be used."""
    (root / "realiad_d3_jsons").mkdir()
    for category in dict.fromkeys(sample.category for sample in samples):
        own = [sample for sample in samples if sample.category == category]
        lists = {split: [_entry(s) for s in own if s.split == split] for split in ("train", "validation", "test")}
        lists["validation"] += lists["test"][-1:]
        content = {"meta": {"prefix": f"{category}/"}, **lists}
        path = root / "realiad_d3_jsons" / f"{category}.json"
        path.write_text(json.dumps(content, indent=1), encoding="utf-8", newline="\n")


def _entry(sample: Sample) -> Mapping[str, str | None]:
    good = sample.defect == GOOD
    start = f"{'OK' if good else 'NG/' + sample.defect}/{sample.name}/{sample.category}_{sample.name}"
    return {
        "anomaly_class": "OK" if good else sample.defect,
        "image_path": f"{start}_RGB.jpg",
        "ps_path": f"{start}_PS.jpg",
        "xyz_path": f"{start}_3D.tiff",
        "mask_path": None if good else f"{start}_mask.png",
    }


def _save_m2ad(sample: Sample, scene: Scene) -> None:
    names = [f"light_{light + 1:02d}" for light in range(M2AD_LIGHTS)]
    images = render_lights(scene, SIX_LIGHTS[:M2AD_LIGHTS], names=names)
    for name, pixels in zip(names, images, strict=True):
        _png(pixels, sample.folder / f"{sample.name}_I{name[-2:]}.png")
    if sample.defect != GOOD:
        _png(_mask(scene), sample.folder.with_name("GT") / f"{sample.name}_mask.png")


STYLES: Mapping[str, _Style] = {
    "3d_adam": _Style(group=_train_or_test, save=_save_3d_adam, name="{:03d}_C".format),
    "m2ad": _Style(
        group=lambda sample: "Good" if sample.defect == GOOD else "NG",
        save=_save_m2ad,
        home=lambda category: category.title().replace("_", ""),
        views=M2AD_VIEWS,
    ),
    "mvtec_ad": _Style(group=_train_or_test, save=_save_mvtec_ad),
    "mvtec_ad_2": _Style(group=_group_mvtec_ad_2, save=_save_mvtec_ad_2, name="{:03d}_regular".format),
    "real_iad_d3": _Style(
        group=lambda sample: "OK" if sample.defect == GOOD else f"NG/{sample.defect}",
        save=_save_real_iad_d3,
        name="S{:04d}".format,
        home=lambda category: f"realiad_d3_raw/{category}",
        finish=_finish_real_iad_d3,
    ),
    "visa": _Style(
        group=lambda sample: f"Data/Images/{'Normal' if sample.defect == GOOD else 'Anomaly'}",
        save=_save_visa,
        name="{:04d}".format,
        finish=_finish_visa,
    ),
}
"""By the name of the layout."""


def category_folders(out: Path) -> list[Path]:
    """Return the category folders of what a writer wrote, sorted; lists that lie beside them are none.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     root = write_public("visa", Path(scratch, "images"), categories=["gear"], train=2, size=32)
        ...     [folder.name for folder in category_folders(root)]
        ['gear']
    """
    home = out / "realiad_d3_raw" if (out / "realiad_d3_raw").is_dir() else out
    return sorted(folder for folder in home.iterdir() if folder.is_dir() and folder.name != "split_csv")
