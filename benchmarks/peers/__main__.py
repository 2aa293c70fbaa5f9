"""Other methods on the same scans, with the same teacher and metrics: accuracy, seconds, memory and size.

    python -m benchmarks.peers --out OUT --peers DIR --data ROOT --category cable_gland

DIR is the environment of anomalib; it is made if it is not there (benchmarks/peers/environment.sh, 7 GB). Without
``--peers`` anomalib's methods are left out, without ``--data`` the real scans. Three synthetic objects are made in OUT.
Every method runs in a process of its own, on the given number of cores, from the same views, and leaves its maps and
one JSON file in OUT: started again, the command goes on where it stopped. It writes peers.json and peers.md to
benchmarks/results or ``--results``, from all that is in OUT.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.latency import BACKBONE, PADIM_FEATURES, PEERS, call, make_environment, peer_versions, write_teacher
from benchmarks.machine import environment
from benchmarks.peers import table
from crdkit._core.files import new_file, write_text
from crdkit.config import RunConfig
from crdkit.config.build import build_dataset, build_views
from crdkit.data.synthetic import write_mvtec3d
from crdkit.views.split import load_split

RESULTS = Path(__file__).parents[1] / "results"
OBJECTS = ("biscuit", "capsule", "gear")
COUNTS = {"train": 40, "validation": 8, "test_good": 20, "test_per_defect": 8}
BANK_SIZE, STFPM_EPOCHS = 4_000, 100
REFERENCE = "quick"


@dataclass(frozen=True)
class Method:
    """What is measured: the program that runs it, its name there, and what it sees."""

    program: str
    name: str
    sees: str


METHODS: Mapping[str, Method] = {
    "quick": Method("ours", "quick", "RGB + depth"),
    "best-mvtec3d": Method("ours", "best-mvtec3d", "RGB + depth + normals"),
    "memory bank, joined": Method("bank", "joined", "RGB + depth"),
    "memory bank, one a view": Method("bank", "separate", "RGB + depth"),
    "PatchCore": Method("anomalib", "PatchCore", "RGB"),
    "PaDiM": Method("anomalib", "PaDiM", "RGB"),
    "STFPM": Method("anomalib", "STFPM", "RGB"),
}
SECONDS = (
    "Seconds are those of all cores together, as other programs ran beside: training is from views in memory to a "
    "calibrated detector, a prediction is one of the test split, from views in memory; for crdkit as in `evaluate`. "
    "Memory is the most that the process held."
)
BANKS = (
    f"Memory banks have at most {BANK_SIZE} patches. crdkit and the banks calibrate on the validation normals; "
    "anomalib's methods do not see them."
)
ANOMALIB = (
    f"anomalib: PatchCore keeps 10 % of the patches, PaDiM {PADIM_FEATURES} channels, STFPM trains {STFPM_EPOCHS} "
    "epochs. PatchCore's coreset is found with the distances of a matrix product, which is quicker."
)
NOTES = (
    "Brackets: 95 % bootstrap interval over the test samples, of the first seed. ±: standard deviation between seeds.",
    "Every method has the EfficientNet-Lite0 teacher with the same weights, and the same views.",
    "The model is everything that a prediction needs, the teacher included.",
    SECONDS,
    BANKS,
    ANOMALIB,
)


def config_of(preset: str, data: Mapping[str, Any]) -> RunConfig:
    return RunConfig.preset(preset).with_overrides(*data["overrides"])


def objects_of(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the overrides of every object, by its name; make the synthetic ones that are not there."""
    found = {}
    shared = ("training.device=cpu", *options.overrides)
    if options.data is not None:
        root = options.data.absolute()
        found[options.category] = {"overrides": [f"data.root={root}", f"data.category={options.category}", *shared]}
    root = options.out / "synthetic"
    if options.objects and not root.exists():
        write_mvtec3d(root, categories=options.objects, **COUNTS, size=options.size)
    for name in options.objects:
        side = f"data.image_size={options.size}"
        found[name] = {"overrides": [f"data.root={root}", f"data.category={name}", side, *shared]}
    return found


def prepare(folder: Path, data: Mapping[str, Any], *, teacher: bool = True) -> dict[str, Any]:
    """Write the views, masks and labels of an object, its configuration and a teacher; return the shared job."""
    folder.mkdir(parents=True, exist_ok=True)
    config = config_of(REFERENCE, data)
    (folder / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    scans = folder / "scans.npz"
    if not scans.exists():
        dataset, views, arrays = build_dataset(config), build_views(config), {}
        for split in ("train", "validation", "test"):
            loaded = load_split(dataset, split, views=views)  # type: ignore[arg-type]
            arrays |= {f"{split}_{name}": values.numpy() for name, values in loaded.inputs.items()}
        assert loaded.masks is not None, "the test split has no masks"
        assert loaded.labels is not None, "the test split has no labels"
        arrays |= {"masks": loaded.masks.numpy(), "labels": loaded.labels}
        with new_file(scans) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **arrays)
    weights = folder / "teacher.pth"
    if teacher and not weights.exists():
        write_teacher(config, weights)
    return {
        "scans": str(scans),
        "config": str(folder / "config.yaml"),
        "teacher": str(weights),
        "backbone": BACKBONE,
        "padim_features": PADIM_FEATURES,
        "overrides": list(data["overrides"]),
    }


def command(method: Method, job: Path, peers: Path | None) -> list[object]:
    """Return the command of a method."""
    if method.program == "anomalib":
        assert peers is not None
        return [peers / "bin/python", PEERS / "anomalib_maps.py", method.name, job]
    return [sys.executable, "-m", f"benchmarks.peers.{method.program}", method.name, job]


def measurements(options: argparse.Namespace, objects: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    """Yield object, method and seed of all that is wanted: first seeds of every method first."""
    methods = [name for name in options.methods if METHODS[name].program != "anomalib" or options.peers is not None]
    yield from ((name, method, seed) for seed in options.seeds for name in objects for method in methods)


def stem(method: str, seed: int) -> str:
    return f"{method.replace(', ', '-').replace(' ', '-')}-{seed}"


def measure_one(options: argparse.Namespace, shared: Mapping[str, Any], name: str, method: str, seed: int) -> None:
    """Run a method on an object and write its JSON file."""
    print(f"{name}, {method}, seed {seed}", flush=True)
    result = options.out / name / f"{stem(method, seed)}.json"
    own = {"seed": seed, "threads": options.threads, "bank_size": BANK_SIZE, "stfpm_epochs": STFPM_EPOCHS}
    maps = result.with_suffix(".npz")
    files = {"maps": str(maps), "detector": str(result.with_name(f"detector-{stem(method, seed)}"))}
    job = result.with_suffix(".job")
    job.write_text(json.dumps({**shared, **own, **files}), encoding="utf-8")
    cost = call(command(METHODS[method], job, options.peers))
    with np.load(shared["scans"]) as scans:
        metrics = table.score(maps, scans)
    about = {"object": name, "method": method, "seed": seed, "sees": METHODS[method].sees}
    found = {**about, **cost, "metrics": metrics, "environment": environment() | {"threads": options.threads}}
    write_text(result, json.dumps(found, indent=1) + "\n")
    shown = ", ".join(f"{label} {100 * metrics[key]['value']:.1f}" for key, label in table.METRICS.items())
    print(f"{name}, {method}, seed {seed}: {shown}", flush=True)


def measure(options: argparse.Namespace, data: Mapping[str, dict[str, Any]]) -> None:
    """Run what was not run before, ``options.jobs`` at once."""
    wanted = list(measurements(options, list(data)))
    todo = [one for one in wanted if not (options.out / one[0] / f"{stem(*one[1:])}.json").exists()]
    print(f"{len(wanted) - len(todo)} of {len(wanted)} measurements are there", flush=True)
    jobs = {name: prepare(options.out / name, data[name]) for name in dict.fromkeys(name for name, _, _ in todo)}
    with ThreadPoolExecutor(options.jobs) as pool:
        for done in [pool.submit(measure_one, options, jobs[one[0]], *one) for one in todo]:
            done.result()


def collect(options: argparse.Namespace, objects: Sequence[str]) -> dict[str, Any]:
    """Return what is written: all results that are there, and the differences to the reference."""
    results, about = [], {}
    for name in objects:
        folder = options.out / name
        found = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")]
        if not found:
            continue
        with np.load(folder / "scans.npz") as stored:
            scans = {key: stored[key] for key in ("masks", "labels")}
            counts = {split: len(stored[f"{split}_rgb"]) for split in ("train", "validation", "test")}
        counts["good in test"] = int(np.count_nonzero(scans["labels"] == 0))
        about[name] = {"counts": counts, "size": scans["masks"].shape[-1]}
        reference = folder / f"{stem(REFERENCE, 0)}.npz"
        order = list(METHODS)
        for one in sorted(found, key=lambda result: (order.index(result["method"]), result["seed"])):
            if one["seed"] == 0 and one["method"] != REFERENCE and reference.with_suffix(".json").exists():
                maps = folder / f"{stem(one['method'], 0)}.npz"
                one["difference"] = table.difference(reference, maps, scans)
            results.append(one)
    return {
        "reference": REFERENCE,
        "objects": about,
        "results": results,
        "notes": NOTES,
        "environment": environment(),
        "peers": peer_versions(options.peers),
    }


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of crdkit's presets")
    parser.add_argument("--out", type=Path, required=True, help="maps, detectors and one JSON file each")
    parser.add_argument("--peers", type=Path, help="environment of anomalib, made if it is not there")
    parser.add_argument("--data", type=Path, help="folder of real scans in the layout of MVTec 3D-AD")
    parser.add_argument("--category", default="cable_gland", help="of the real scans")
    parser.add_argument("--objects", nargs="*", default=list(OBJECTS), help="synthetic objects")
    parser.add_argument("--size", type=int, default=128, help="side of the synthetic scans")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="METHOD")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="of each process")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="only write the tables of what is in --out")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    options.out = options.out.absolute()
    if options.peers is not None:
        options.peers = make_environment(options.peers)
    data = objects_of(options)
    if not options.table:
        measure(options, data)
    result = collect(options, list(data))
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "peers.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (options.results / "peers.md").write_text(table.as_markdown(result), encoding="utf-8")
    print(table.as_markdown(result))


if __name__ == "__main__":
    main()
