"""The memory bank against brute force, the command that goes on where it stopped, and its tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import bank_branch
from benchmarks.peers import __main__ as peers
from benchmarks.peers import bank, bank_size, ours, table
from crdkit.config import RunConfig


class Pyramid(nn.Module):
    """A teacher of fixed features at strides 2, 4 and 8."""

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [nn.functional.avg_pool2d(torch.cat([images, images**2], 1), stride) for stride in (2, 4, 8)]


def views(count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "rgb": torch.rand(count, 3, 32, 32, generator=generator),
        "depth": torch.rand(count, 1, 32, 32, generator=generator),
    }


def banks(groups: str, size: int) -> bank.MemoryBanks:
    teacher = Pyramid()
    return bank.MemoryBanks({"rgb": teacher, "depth": teacher}, groups=bank.GROUPS[groups], size=size, seed=0)


def test_a_coreset_has_a_patch_of_every_cluster() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = 10 * torch.eye(6)
    patches = (centres[:, None] + 0.1 * torch.randn(6, 50, 6, generator=generator)).flatten(0, 1)
    rows = bank.coreset(patches, 6, generator=generator)
    assert sorted((rows // 50).tolist()) == list(range(6))
    assert bank.coreset(patches[:4], 6, generator=generator).tolist() == [0, 1, 2, 3]


def test_distances_are_those_of_brute_force() -> None:
    generator = torch.Generator().manual_seed(0)
    patches, entries = torch.randn(2000, 5, generator=generator), torch.randn(30, 5, generator=generator)
    expected = torch.cdist(patches, entries).amin(dim=1)
    torch.testing.assert_close(bank.to_nearest(patches, entries), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("groups", "names"), [("joined", ["rgb+depth"]), ("separate", ["rgb", "depth"])])
def test_maps_are_high_where_a_sample_differs_from_all_that_the_bank_holds(groups: str, names: list[str]) -> None:
    normals, found = views(4), banks(groups, size=1000)
    found.fit(normals)
    assert [*found.maps(normals)] == names
    assert all(float(maps.amax()) < 1e-2 for maps in found.maps(normals).values())
    changed = {name: view.clone() for name, view in normals.items()}
    changed["rgb"][0, :, :8, :8] += 2
    maps = found.maps(changed)[names[0]]
    assert maps[0, :8, :8].amin() > 10 * maps[1:].amax()
    assert found.nbytes() == sum(one.nbytes for one in found.banks.values())


def test_a_bank_is_no_larger_than_asked_for() -> None:
    found = banks("separate", size=20)
    found.fit(views(4))
    assert [len(one) for one in found.banks.values()] == [20, 20]


@pytest.fixture
def job(tiny: RunConfig, tmp_path: Path) -> dict[str, Any]:
    """Return the job of a tiny configuration on synthetic scans."""
    overrides = [f"data.root={tiny.data.root}", "data.category=biscuit"]
    shared = peers.prepare(tmp_path / "biscuit", {"overrides": [*overrides, "data.image_size=64"]}, teacher=False)
    (tmp_path / "biscuit/config.yaml").write_text(tiny.to_yaml())
    extra = {"seed": 0, "threads": 1, "bank_size": 50, "maps": str(tmp_path / "maps.npz")}
    return {**shared, **extra, "detector": str(tmp_path / "detector")}


@pytest.mark.parametrize("method", ["joined", "separate"])
def test_a_bank_writes_what_is_scored(job: dict[str, Any], method: str) -> None:
    cost = bank.measure(method, job)
    with np.load(job["scans"]) as scans:
        metrics = table.score(Path(job["maps"]), scans)
    assert set(metrics) == set(table.METRICS)
    assert 0 <= metrics["image_auroc"]["interval"][0] <= metrics["image_auroc"]["value"] <= 1
    assert cost["model_bytes"] > 0


def test_a_bank_of_all_patches_is_the_largest_of_each_choice(
    job: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(Path(job["scans"]).parent)
    monkeypatch.setattr("sys.argv", ["bank_size", folder, "--sizes", "20", "--seeds", "0", "1"])
    bank_size.main()
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header.startswith("| sees | patches | I-AUROC |")
    shown = [line.split(" | ")[:2] for line in rows]
    assert shown == [[sees, way] for sees in ("| rgb", "| rgb + depth") for way in ("20 farthest", "20 random", "all")]
    assert all("±" in line for line in rows if "20" in line)


def test_a_preset_writes_the_maps_of_its_own_evaluation(
    job: dict[str, Any], tiny: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours.RunConfig, "preset", lambda name: tiny)
    cost = ours.measure("quick", job | {"overrides": []})
    maps, scores = table.load(Path(job["maps"]))
    assert maps.shape[1:] == (64, 64)
    np.testing.assert_allclose(maps.max(axis=(1, 2)), scores, rtol=1e-6)
    assert Path(job["detector"], "model.safetensors").stat().st_size <= cost["model_bytes"] + 100_000


class Programs:
    """Stands in for the programs: maps that show the masks, with noise."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def __call__(self, command: Sequence[object]) -> dict[str, Any]:
        *_, method, file = command
        self.called.append(str(method))
        job = json.loads(Path(str(file)).read_text())
        with np.load(job["scans"]) as scans:
            noise = np.random.default_rng(len(self.called)).random(scans["masks"].shape)
            maps = (scans["masks"] * (0.5 if method == "PaDiM" else 2) + noise).astype(np.float32)
        np.savez(job["maps"], maps=maps, scores=maps.max(axis=(1, 2)))
        return {"train_cpu_s": 2.0, "predict_cpu_s": 0.004, "peak_bytes": 2**30, "model_bytes": 2**20}


def test_the_command_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = Programs()
    monkeypatch.setattr(peers, "call", programs)
    monkeypatch.setattr(peers, "write_teacher", lambda config, file: file.write_bytes(b""))
    monkeypatch.setattr(peers, "COUNTS", {"train": 2, "validation": 2, "test_good": 2, "test_per_defect": 1})
    shared = ["--out", str(tmp_path / "out"), "--results", str(tmp_path), "--objects", "gear"]
    methods = ["--size", "32", "--methods", "quick", "memory bank, joined"]
    peers.main([*shared, *methods, "--seeds", "0"])
    assert programs.called == ["quick", "joined"]
    peers.main([*shared, *methods, "--seeds", "0", "1"])
    assert programs.called == ["quick", "joined", "quick", "joined"]
    result = json.loads((tmp_path / "peers.json").read_text())
    assert [(one["method"], one["seed"]) for one in result["results"]] == [
        ("quick", 0),
        ("quick", 1),
        ("memory bank, joined", 0),
        ("memory bank, joined", 1),
    ]
    (tmp_path / "peers.md").unlink()
    peers.main([*shared, "--seeds", "0", "--table"])
    assert len(programs.called) == 4
    text = (tmp_path / "peers.md").read_text()
    assert "| quick | RGB + depth | 0, 1 | 100.0 ± 0.0 [100.0, 100.0] |" in text
    assert "| gear | memory bank, joined | +0.0 [+0.0, +0.0], p 1.000 |" in text


def test_anomalib_runs_in_its_own_environment(tmp_path: Path) -> None:
    options = peers.parse(["--out", str(tmp_path), "--seeds", "0", "1"])
    known = {method for _, method, _ in peers.measurements(options, ["gear"])}
    assert not known & {"PatchCore", "PaDiM", "STFPM"}
    options.peers = tmp_path / "peers"
    wanted = list(peers.measurements(options, ["gear"]))
    assert ("gear", "PatchCore", 0) in wanted
    assert ("gear", "PatchCore", 1) in wanted
    first, file, method, _ = peers.command(peers.METHODS["PatchCore"], tmp_path / "job", options.peers)
    assert (first, Path(str(file)).name, method) == (tmp_path / "peers/bin/python", "anomalib_maps.py", "PatchCore")


def test_banks_and_students_are_fused_by_the_detectors_own_aggregation(tiny: RunConfig) -> None:
    generator = torch.Generator().manual_seed(0)
    names = dict.fromkeys(name for variant in bank_branch.VARIANTS.values() for name in variant)
    normals, samples = ({name: torch.rand(n, 64, 64, generator=generator) for name in names} for n in (3, 4))
    masks = np.zeros((4, 64, 64), dtype=bool)
    masks[2:, 20:40, 20:40] = True
    for name in bank_branch.SEPARATE:
        samples[name] += 5 * torch.from_numpy(masks)
    found = dict(bank_branch.measure(SimpleNamespace(config=tiny), normals, samples, masks, None))
    assert list(found) == list(bank_branch.VARIANTS)
    assert found["banks"][:2] == found["students and banks"][:2] == ["100.0", "100.0"]
    assert float(found["students"][1]) < 95
