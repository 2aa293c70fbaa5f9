"""What is fuzzed: every reader, with valid seeds, the damage done to them, and what may come of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from PIL import Image

import tests.reliability.mutations as m
from crdkit.config import RunConfig
from crdkit.data.adapters.eyecandies import Eyecandies
from crdkit.data.adapters.folder import Folder
from crdkit.data.adapters.mvtec3d import MVTec3D
from crdkit.data.images import read_file, read_image, read_mask
from crdkit.data.synthetic import write_eyecandies, write_mvtec3d
from crdkit.detector import Detector
from crdkit.errors import CacheWarning
from crdkit.paper.checkpoints import read_checkpoint
from crdkit.runs.directory import read_metrics
from crdkit.views._cache import find_entry
from crdkit.views.split import list_split

EIGHT = ("data.image_size=32", "training.device=cpu", "training.epochs=1", "student.depths=1")
TINY = (
    *("data.category=gear", *EIGHT, "student.embedding_blocks=1", "graph.filter.size=2", "modalities.depth=null"),
    "modalities.rgb.encoder={name: timm, model: test_resnet, pretrained: false}",
)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One reader under test."""

    file: str
    """Name of the damaged file."""
    seeds: Sequence[bytes]
    mutations: Sequence[m.Mutation]
    read: Callable[[Path], Any]
    """Returns arrays, tensors or objects; what it returns is checked by `nbytes` and ``check``."""
    check: Callable[[Any], str | None] = lambda _: None
    """Says what is wrong with a result, if anything is."""
    exact: Sequence[m.Mutation] = ()
    """Damage after which the result must be that of the seed: the format has checksums."""
    allowed_warnings: tuple[type[Warning], ...] = ()
    share: int = 1
    """Of the cases, relative to the others."""
    names: bool = True
    """Whether an error must name the file; texts given as arguments have none."""
    also_named: str = ""
    """What it may name instead."""
    originals: dict[int, Any] = field(default_factory=dict)


def nbytes(result: Any) -> int:
    if isinstance(result, (np.ndarray, torch.Tensor)):
        return int(result.nbytes)
    if isinstance(result, dict):
        return sum(nbytes(value) for value in result.values())
    if isinstance(result, (list, tuple)):
        return sum(nbytes(value) for value in result)
    return 0


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, torch.Tensor):
        one, other = one.numpy(), other.numpy()
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return bool(one == other)


def saved(array: np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    if kind == "TIFF":
        tifffile.imwrite(file, array, metadata=None, **options)
    elif kind == "NPY":
        np.save(file, array)
    elif kind in ("P", "1"):
        Image.fromarray(array).convert(kind).save(file, "PNG")
    else:
        Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def is_image(array: np.ndarray) -> str | None:
    fits = array.ndim in (2, 3) and array.size > 0 and array.dtype in (np.uint8, np.uint16, np.int32)
    return None if fits else f"{array.dtype} {array.shape}"


def is_mask(array: np.ndarray) -> str | None:
    fits = array.ndim == 2 and array.dtype == np.uint8 and np.isin(array, (0, 255)).all()
    return None if fits else f"{array.dtype} {array.shape}, {np.unique(array)[:5]}"


def is_array(array: np.ndarray) -> str | None:
    return None if array.dtype.isnative and array.flags.c_contiguous else f"{array.dtype} {array.flags}"


def is_sample(sensors: dict[str, np.ndarray]) -> str | None:
    for name, array in sensors.items():
        if name == "mask":
            continue
        if array.dtype.kind == "f" and not np.isfinite(array[~np.isnan(array)]).all():
            return f"{name} is not finite"
        if array.dtype.kind == "f" and np.abs(array).max(initial=0, where=~np.isnan(array)) > 100:
            return f"{name} is not in metres"
    return None


def is_own(sensors: dict[str, np.ndarray]) -> str | None:
    """Only scans are in metres; an array of one channel may hold kelvin, and its view judges it."""
    wrong = is_sample(sensors)
    one_channel = all(array.ndim == 2 for array in sensors.values())
    return None if wrong and one_channel and wrong.endswith("is not in metres") else wrong


def images(rng: np.random.Generator) -> dict[str, Reader]:
    smooth = np.add.outer(np.arange(60), np.arange(50)).astype(np.uint8)
    rgb = np.stack([smooth, smooth[::-1], smooth * 3], axis=-1)
    noise = rng.integers(0, 256, (150, 200, 3)).astype(np.uint8)  # several IDAT chunks
    deep = smooth.astype(np.uint16) * 257
    scan = np.stack([smooth, smooth, smooth + 1], axis=-1).astype(np.float32) / 300
    pngs = [saved(rgb, "PNG"), saved(noise, "PNG"), saved(smooth, "PNG"), saved(np.dstack([rgb, smooth]), "PNG")]
    text = m.join_png([*m.png_chunks(pngs[0])[:1], (b"tEXt", b"a\0b"), *m.png_chunks(pngs[0])[1:]])
    masks = [saved(np.uint8(smooth > 40) * 255, "PNG"), saved(smooth // 20 * 20, "P"), saved(smooth, "1")]
    tiffs = [
        saved(scan, "TIFF", photometric="rgb"),
        saved(scan, "TIFF", photometric="rgb", byteorder=">"),
        saved(scan, "TIFF", photometric="rgb", compression="zlib", rowsperstrip=16),
        saved(scan[..., 0], "TIFF", tile=(16, 32), compression="zlib"),
        saved(deep, "TIFF", bigtiff=True),
        saved(scan, "TIFF", photometric="rgb", planarconfig="separate"),
    ]
    png_edits = (m.move_chunks, m.edit_chunk)
    bitmaps = [saved(array, "BMP") for array in (rgb, smooth, np.repeat(smooth, 3, axis=1))]
    jpegs = [saved(rgb, "JPEG"), saved(noise, "JPEG", quality=60), saved(rgb, "JPEG", progressive=True)]
    arrays = [saved(array, "NPY") for array in (scan, deep, rgb, np.asfortranarray(scan), scan.astype(">f4"))]
    png = {"mutations": (*m.ANY_BINARY, *png_edits), "exact": (*m.BINARY, m.set_word)}
    return {
        "png": Reader(file="a.png", seeds=[*pngs, text], read=read_image, check=is_image, share=4, **png),
        "png-16": Reader(file="a.png", seeds=[saved(deep, "PNG")], read=read_image, check=is_image, share=2, **png),
        "mask": Reader(file="a.png", seeds=masks, read=read_mask, check=is_mask, share=2, **png),
        "jpeg": Reader(
            file="a.jpg",
            seeds=jpegs,
            mutations=(*m.ANY_BINARY, m.move_segments, m.move_segments),
            read=read_image,
            check=is_image,
            share=2,
        ),
        "bmp": Reader(
            file="a.bmp",
            seeds=bitmaps,
            mutations=(*m.ANY_BINARY, m.set_word, m.set_word),
            read=read_image,
            check=is_image,
            share=2,
        ),
        "tiff": Reader(
            file="a.tiff",
            seeds=tiffs,
            mutations=(*m.ANY_BINARY, *[m.edit_tag] * 6),
            read=read_file,
            check=is_array,
            share=5,
        ),
        "npy": Reader(
            file="a.npy",
            seeds=arrays,
            mutations=(*m.ANY_BINARY, *[m.edit_npy_header] * 5),
            read=read_file,
            check=is_array,
            share=2,
        ),
    }


def datasets(folder: Path) -> dict[str, Reader]:
    """Samples read as training reads them: what decodes must also be what the dataset promises."""
    root = write_mvtec3d(folder / "mvtec3d", categories=["gear"], train=2, test_per_defect=1, size=32)
    mvtec = MVTec3D(MVTec3D.Config(root=root, category="gear"))
    sample = next(record for record in mvtec.records("test") if record.label)
    own = Folder(Folder.Config(root=folder / "unused"))
    candies = write_eyecandies(folder / "candies", categories=["gear"], train=1, test_per_defect=0, size=32)
    eyecandies = Eyecandies(Eyecandies.Config(root=candies, category="Gear"))
    sweet = eyecandies.records("train")[0]
    info = next(sweet.image_path.parent.glob("*_info_depth.yaml"))

    def read_mvtec(kind: str) -> Callable[[Path], Any]:
        def read(path: Path) -> Any:
            changed = {"mask_file": path} if kind == "gt" else {"files": {**sample.files, kind: path}}
            found = mvtec.read(type(sample)(**{**vars(sample), **changed}))
            return {**found.sensors, "mask": found.mask}

        return read

    def read_candy(path: Path) -> Any:
        info.write_bytes(path.read_bytes())
        try:
            return dict(eyecandies.read(sweet, ["depth", "xyz"]).sensors)
        except Exception as error:
            if str(info) in str(error):
                raise type(error)(str(error).replace(str(info), str(path))) from error
            raise

    parts = {kind: path.read_bytes() for kind, path in (*sample.files.items(), ("gt", sample.mask_file))}
    scan = tifffile.imread(io.BytesIO(parts["xyz"]))
    png = (*m.ANY_BINARY, m.move_chunks, m.edit_chunk)
    return {
        "sample-rgb": Reader(
            file="r.png", seeds=[parts["rgb"]], mutations=png, read=read_mvtec("rgb"), check=is_sample, exact=m.BINARY
        ),
        "sample-xyz": Reader(
            file="x.tiff",
            seeds=[parts["xyz"], saved(scan, "TIFF", photometric="rgb", compression="zlib")],
            mutations=(*m.ANY_BINARY, *[m.edit_tag] * 4),
            read=read_mvtec("xyz"),
            check=is_sample,
            share=2,
        ),
        "sample-mask": Reader(
            file="g.png", seeds=[parts["gt"]], mutations=png, read=read_mvtec("gt"), check=is_sample, exact=m.BINARY
        ),
        "sample-own": Reader(
            file="s.npy",
            seeds=[saved(scan, "NPY"), saved(scan[..., 2], "NPY"), saved(np.uint16(scan[..., 2] * 1000), "NPY")],
            mutations=(*m.ANY_BINARY, *[m.edit_npy_header] * 4),
            read=lambda path: {"s": own._read("s", path, None)},
            check=is_own,
        ),
        "depth-range": Reader(
            file="info.yaml",
            seeds=[info.read_bytes()],
            mutations=[m.edit_text],
            read=read_candy,
            check=is_sample,
            also_named=str(sweet.files["depth"]),  # whose values are in millimetres, by a range that can be read
        ),
    }


MANIFESTS = (
    """sensors:
  rgb: "*/colour.png"
  heat: "*/heat.npy"
masks: "*/label.png"
train: [monday, tuesday]
validation: wednesday
test:
  good: thursday/fine
  scratch: thursday/scratched
""",
    """sensors: {rgb: "rgb/*.png"}
train: plain
test: plain
""",
)


TABLE = """split,defect_type,rgb,heat,mask
train,good,monday/1/colour.png,monday/1/heat.npy,
train,good,monday/2/colour.png,monday/2/heat.npy,
validation,good,wednesday/1/colour.png,wednesday/1/heat.npy,
test,good,thursday/fine/1/colour.png,thursday/fine/1/heat.npy,
test,scratch,thursday/scratched/1/colour.png,thursday/scratched/1/heat.npy,thursday/scratched/1/label.png
test,,tuesday/1/colour.png,tuesday/1/heat.npy,
"""


def manifests(folder: Path) -> dict[str, Reader]:
    """A manifest, and the files that it names: none of them may lie outside the data folder."""
    data, outside = folder / "manifests" / "data", folder / "manifests" / "outside"
    image, array = saved(np.zeros((4, 4), np.uint8), "PNG"), saved(np.zeros((4, 4), np.float32), "NPY")
    for part in ("monday", "tuesday", "wednesday", "thursday/fine", "thursday/scratched"):
        for above in (data, outside):
            for name in ("1", "2"):
                (above / part / name).mkdir(parents=True)
                (above / part / name / "colour.png").write_bytes(image)
                (above / part / name / "heat.npy").write_bytes(array)
                (above / part / name / "label.png").write_bytes(image)
    for above in (data / "plain" / "rgb", outside / "rgb"):
        above.mkdir(parents=True)
        for name in "abc":
            (above / f"{name}.png").write_bytes(image)
    (data / "link").symlink_to(outside)
    (data / "monday" / "link.png").symlink_to(outside / "rgb" / "a.png")

    def read(path: Path) -> Any:
        dataset = Folder(Folder.Config(root=data, manifest=path))
        found = [list_split(dataset, split, views={}) for split in ("train", "validation", "test")]
        return [file for records in found for record in records for file in dataset.files(record)]

    def check(files: list[Path]) -> str | None:
        away = [file for file in files if not file.resolve().is_relative_to(data.resolve())]
        return f"leaves the data folder: {away[0]}" if away else None

    seeds = [text.encode() for text in MANIFESTS]
    table = {"read": read, "check": check, "also_named": str(data), "mutations": [m.edit_text], "share": 2}
    return {
        "manifest.csv": Reader(
            file="manifest.csv", seeds=[TABLE.encode(), TABLE.replace("heat", "#x").encode()], **table
        ),
        "manifest": Reader(
            file="manifest.yaml",
            seeds=seeds,
            mutations=[m.edit_text],
            read=read,
            check=check,
            share=3,
            also_named=str(data),  # a folder that is missing is named, not the manifest
        ),
    }


def configurations() -> dict[str, Reader]:
    texts = [RunConfig.preset(name).to_yaml().encode() for name in ("quick", "best-mvtec3d", "trd-mvtec3d")]
    short = b"data: {name: mvtec3d, category: gear}\nmodalities:\n  rgb: {encoder: {name: timm}}\n  depth: {}\n"
    small = RunConfig.preset("quick").with_overrides(*TINY)
    overrides = (
        *("training.epochs=3", "data.category=gear", "modalities.rgb.encoder={name: timm, model: a}", "data.root=/a b"),
        *("modalities.depth=null", "graph.edges=[[rgb, depth]]", "aggregation.name=max", "scoring.sigma=4.0"),
        *("training.seed=1", "student.depths=[1, 1, 1]", "graph.topology=ring", "data.cache_gib=3.5"),
    )

    def read_override(path: Path) -> Any:
        text = path.read_bytes().decode("utf-8", "replace")
        return small.with_overrides(text).to_yaml()

    def round_trip(config: RunConfig) -> str | None:
        return (
            None
            if RunConfig.from_dict(config.model_dump(mode="json")).to_yaml() == config.to_yaml()
            else "not read back"
        )

    return {
        "config": Reader(
            file="run.yaml",
            seeds=[short, small.to_yaml().encode(), *texts],
            mutations=[m.edit_text],
            read=RunConfig.from_yaml,
            check=round_trip,
            share=4,
        ),
        "override": Reader(
            file="override.txt",
            seeds=[text.encode() for text in overrides],
            mutations=[m.edit_text],
            read=read_override,
            share=2,
            names=False,
        ),
    }


def detectors(folder: Path) -> dict[str, Reader]:
    """Files that a run writes: detector, checkpoint, cache, metrics; and the published code's checkpoints."""
    import crdkit
    from crdkit._core.progress import set_quiet
    from crdkit.training._checkpoint import _read

    set_quiet(True)
    root = write_mvtec3d(folder / "scans", categories=["gear"], train=3, validation=1, test_per_defect=1, size=32)
    run = folder / "run"
    crdkit.fit(RunConfig.preset("quick").with_overrides(f"data.root={root}", *TINY), run)
    saved_detector = run / "detector"
    weights, header = saved_detector / "model.safetensors", saved_detector / "config.json"
    checkpoint = next((run / "checkpoints").glob("*.safetensors"))
    cached = MVTec3D(MVTec3D.Config(root=root, category="gear", cache=folder / "cache"))
    entry = find_entry(cached, cached.records("train"), views={})
    assert entry is not None
    entry.write({"rgb": torch.arange(48.0).reshape(4, 3, 2, 2), "rows": torch.arange(4)}, {2: "bad"}, [])

    def beside(path: Path, other: Path) -> Path:
        """Return a detector's folder with the damaged file and the other one, which is whole."""
        place = path.parent / "detector"
        place.mkdir(exist_ok=True)
        for name, source in ((path.name, path), (other.name, other)):
            (place / name).unlink(missing_ok=True)
            (place / name).hardlink_to(source)
        return place

    def load(other: Path) -> Callable[[Path], Any]:
        def read(path: Path) -> Any:
            detector = Detector.load(beside(path, other), device="cpu")
            smoothing = detector._predictor._scorer.smoothing.matrix  # not saved, but made to the size of the images
            return {name: value.detach() for name, value in detector.model.state_dict().items()} | {"": smoothing}

        return read

    whole = entry.path.read_bytes()

    def read_cache(path: Path) -> Any:
        entry.path = path
        return entry.read()

    published = {
        "student_rgb": {"decoder.w_a": torch.ones(2), "bn.conv1.weight": torch.arange(72.0).reshape(2, 4, 3, 3)},
        "student_depth": {"decoder.w_a": torch.ones(2)},
    }
    packed, legacy = io.BytesIO(), io.BytesIO()
    torch.save(published, packed)
    torch.save(published, legacy, _use_new_zipfile_serialization=False)
    stored = {"mutations": (*m.ANY_BINARY, *[m.edit_safetensors_header] * 4), "exact": m.BINARY}
    return {
        "weights": Reader(file="model.safetensors", seeds=[weights.read_bytes()], read=load(header), share=2, **stored),
        "config.json": Reader(
            file="config.json",
            seeds=[header.read_bytes()],
            mutations=[m.edit_text],
            read=load(weights),
            share=2,
        ),
        "checkpoint": Reader(
            file="epoch-000001.safetensors", seeds=[checkpoint.read_bytes()], read=_read, share=2, **stored
        ),
        "cache": Reader(
            file="test.safetensors",
            seeds=[whole],
            read=read_cache,
            allowed_warnings=(CacheWarning,),
            share=2,
            **stored,
        ),
        "published": Reader(
            file="crd.pth",
            seeds=[packed.getvalue()],
            mutations=(*m.ANY_BINARY, *[m.edit_zip] * 6),
            exact=m.BINARY,
            read=read_checkpoint,
            share=3,
        ),
        "published-old": Reader(
            file="crd.pth", seeds=[legacy.getvalue()], mutations=m.ANY_BINARY, read=read_checkpoint, share=2
        ),
        "metrics.json": Reader(
            file="metrics.json",
            seeds=[(run / "metrics.json").read_bytes()],
            mutations=[m.edit_text],
            read=lambda path: read_metrics(path.parent),
        ),
    }


def all_readers(folder: Path) -> dict[str, Reader]:
    """Build every reader; valid files that they need are written to ``folder``."""
    return {
        **images(np.random.default_rng(0)),
        **datasets(folder),
        **manifests(folder),
        **configurations(),
        **detectors(folder),
    }
