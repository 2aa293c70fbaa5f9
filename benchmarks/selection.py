"""Choose between configurations without test labels: defects pasted into validation normals.

    python -m benchmarks.selection quick data.root=ROOT data.category=NAME --variant "scoring.sigma=2" --variant ...

Each variant is trained on the training normals and calibrated on the validation normals. It is then measured on
the validation normals and on copies of them with one pasted defect each: a stain (colour only), a dent or bump
(geometry only), a scratch and a transplanted patch (both). The test split is never opened. Defects and their
places depend on the sample's name only, so every variant sees the same ones.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from crdkit._core.device import select_device
from crdkit.config import RunConfig, load_config
from crdkit.config.build import build_dataset, build_model, build_scorer, build_views
from crdkit.data.images import resize_mask
from crdkit.detector import Detector
from crdkit.scoring.metrics import evaluate
from crdkit.training import TeacherFeatures
from crdkit.training.loop import train
from crdkit.views._background import foreground
from crdkit.views.split import batches, load_split, view_sample

Pair = tuple[np.ndarray, np.ndarray]
Range = tuple[float, float]
SMALL: Range = (0.02, 0.06)
"""Radii of a defect, share of the side."""
Defect = Callable[[np.random.Generator, np.ndarray, np.ndarray, np.ndarray], Pair]
SHOWN = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro_0.30", "aupro_0.05", "aupro_0.01")


def blob(rng: np.random.Generator, inside: np.ndarray, share: float) -> np.ndarray:
    """Return a soft (H, W) blob in [0, 1] around a random point of ``inside``; ``share`` of the side is its radius."""
    height, width = inside.shape
    rows, columns = np.nonzero(inside)
    pick = rng.integers(len(rows))
    y, x = np.mgrid[:height, :width]
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1, 2.5)
    u = (x - columns[pick]) * np.cos(angle) + (y - rows[pick]) * np.sin(angle)
    v = (y - rows[pick]) * np.cos(angle) - (x - columns[pick]) * np.sin(angle)
    wobble = gaussian_filter(rng.normal(size=inside.shape), 4) * 4
    distance = np.hypot(u / stretch, v) / (share * height) + 0.3 * wobble
    return np.clip(1.5 - distance, 0, 1) * inside


def stain(
    rng: np.random.Generator,
    rgb: np.ndarray,
    xyz: np.ndarray,
    inside: np.ndarray,
    *,
    radius: Range = SMALL,
    darker: Range = (0.5, 0.85),
    lighter: Range = (1.15, 1.5),
) -> Pair:
    """Tint a blob; the geometry stays as it is."""
    soft = blob(rng, inside, rng.uniform(*radius))[..., None]
    tint = rng.uniform(*darker, 3) if rng.random() < 0.5 else rng.uniform(*lighter, 3)
    return np.clip(rgb * (1 + soft * (tint - 1)), 0, 255).astype(np.uint8), xyz


def dent(
    rng: np.random.Generator, rgb: np.ndarray, xyz: np.ndarray, inside: np.ndarray, *, radius: Range = SMALL
) -> Pair:
    """Move a blob by 1 to 3 mm along the line of sight; the colour stays as it is."""
    depth = rng.choice([-1, 1]) * rng.uniform(0.001, 0.003)
    scale = 1 + blob(rng, inside, rng.uniform(*radius)) * depth / np.maximum(xyz[..., 2], 1e-6)
    return rgb, np.where(xyz[..., 2:] != 0, xyz * scale[..., None], 0).astype(np.float32)


def scratch(rng: np.random.Generator, rgb: np.ndarray, xyz: np.ndarray, inside: np.ndarray) -> Pair:
    """Draw a thin line: darker or brighter, and 1 mm deep."""
    soft = blob(rng, inside, 0.05) > 0
    y, x = np.mgrid[: inside.shape[0], : inside.shape[1]]
    angle = rng.uniform(0, np.pi)
    across = (x - x[soft].mean()) * np.sin(angle) - (y - y[soft].mean()) * np.cos(angle)
    line = (soft & (np.abs(across) < rng.uniform(1.0, 2.0)))[..., None]
    scale = 1 + line * 0.001 / np.maximum(xyz[..., 2:], 1e-6)
    factor = rng.choice([0.6, 1.4])
    return np.clip(np.where(line, rgb * factor, rgb), 0, 255).astype(np.uint8), (xyz * scale).astype(np.float32)


def transplant(rng: np.random.Generator, rgb: np.ndarray, xyz: np.ndarray, inside: np.ndarray) -> Pair:
    """Copy a patch of the object over another place of it, colour and height above the plane alike."""
    soft = blob(rng, inside, rng.uniform(0.03, 0.06)) > 0.3
    shift = tuple(rng.integers(15, 60, 2) * rng.choice([-1, 1], 2))
    moved_rgb, moved_xyz = (np.roll(values, shift, axis=(0, 1)) for values in (rgb, xyz))
    measured = soft & (xyz[..., 2] != 0) & (moved_xyz[..., 2] != 0)
    scale = np.where(measured, moved_xyz[..., 2] / np.where(xyz[..., 2] == 0, 1, xyz[..., 2]), 1)
    return np.where(soft[..., None], moved_rgb, rgb), (xyz * scale[..., None]).astype(np.float32)


DEFECTS: dict[str, Defect] = {"stain": stain, "dent": dent, "scratch": scratch, "transplant": transplant}


def pasted(config: RunConfig) -> Iterator[tuple[str, dict[str, torch.Tensor], np.ndarray]]:
    """Yield (defect, views, mask) for every validation normal: itself ("good"), then one copy per defect."""
    dataset, views, size = build_dataset(config), build_views(config), config.data.image_size
    for record in dataset.records("validation"):
        sensors = dataset.read(record).sensors
        rgb, xyz = sensors["rgb"], sensors["xyz"]
        inside = foreground(xyz)
        yield "good", view_sample(views, sensors, image_size=size), np.zeros((size, size), bool)
        for name, paste in DEFECTS.items():
            rng = np.random.default_rng(zlib.crc32(f"{record.sample_id}/{name}".encode()))
            new_rgb, new_xyz = paste(rng, rgb, xyz, inside)
            changed = (np.abs(new_rgb.astype(int) - rgb).max(axis=-1) > 8) | (np.abs(new_xyz - xyz)[..., 2] > 3e-4)
            mask = resize_mask((changed * 255).astype(np.uint8), size) > 0
            if mask.any():
                yield name, view_sample(views, {"rgb": new_rgb, "xyz": new_xyz}, image_size=size), mask


def main() -> None:
    """Train and measure every variant, and print one Markdown row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--variant", action="append", default=[], help="overrides of one variant, separated by spaces")
    parser.add_argument("--sigmas", type=float, nargs="*", default=[4.0], help="smoothing is varied after training")
    arguments = parser.parse_args()
    base = load_config(arguments.preset).with_overrides(*arguments.overrides)
    device = select_device(base.training.device)
    samples = list(pasted(base))
    kinds = np.array([kind for kind, _, _ in samples])
    masks = np.stack([mask for _, _, mask in samples])
    print("| variant | sigma | loss | " + " | ".join(SHOWN) + " | " + " | ".join(DEFECTS) + " |")
    print("|---" * (3 + len(SHOWN) + len(DEFECTS)) + "|")
    for variant in arguments.variant or [""]:
        config = base.with_overrides(*variant.split())
        model = build_model(config).to(device)
        dataset, views = build_dataset(config), build_views(config)
        normals = load_split(dataset, "train", views=views).at("device", device)
        features = TeacherFeatures(model, normals.inputs, batch_size=16)
        losses: list[float] = []
        train(model, features, config.training, samples=len(normals), on_epoch=lambda log: losses.append(log["loss"]))
        scorer = build_scorer(config).to(device)
        validation = load_split(dataset, "validation", views=views).at("device", device)
        Detector(config=config, model=model, scorer=scorer).calibrate(validation)
        for sigma in arguments.sigmas:
            smoothed = build_scorer(config.with_overrides(f"scoring.sigma={sigma}")).to(device)
            smoothed.aggregation.load_state_dict(scorer.aggregation.state_dict())
            parts = []
            for rows in batches(len(samples), 16):
                seen = {name: torch.stack([views[name] for _, views, _ in samples[rows]]) for name in config.modalities}
                with torch.no_grad():
                    out = model({name: view.to(device) for name, view in seen.items()})
                    parts.append(smoothed(smoothed.raw_maps(out.teacher, out.output)).anomaly_map)
            maps = torch.cat(parts)
            values = evaluate(maps, masks)
            each = [
                evaluate(maps[torch.from_numpy(np.isin(kinds, ["good", kind]))], masks[np.isin(kinds, ["good", kind])])
                for kind in DEFECTS
            ]
            cells = [f"{values[key]:.4f}" for key in SHOWN] + [f"{row['image_auroc']:.3f}" for row in each]
            print(f"| {variant} | {sigma} | {losses[-1]:.3f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
