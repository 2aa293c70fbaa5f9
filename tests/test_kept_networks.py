"""A compiled network is exported once; whatever happens to the kept one, predictions are right."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from crdkit.data import DatasetConfig
from crdkit.detector import _onnx
from crdkit.detector._kept import NETWORK, KeptNetworks
from crdkit.detector._onnx import OLDEST_TORCH, CompiledTeacher

pytestmark = pytest.mark.skipif(torch.__version__ < OLDEST_TORCH, reason=f"compile asks for torch {OLDEST_TORCH}")


class Scaled(nn.Module):
    """As little as can be exported."""

    def __init__(self, by):
        super().__init__()
        self.by = nn.Parameter(torch.tensor(float(by)))

    def forward(self, images):
        return [images * self.by]


@pytest.fixture
def exported(monkeypatch):
    """Every export from now on."""
    done, export = [], _onnx.export_network
    monkeypatch.setattr(_onnx, "export_network", lambda *given: (done.append(given), export(*given))[1])
    return done


@pytest.fixture
def kept(tmp_path):
    return KeptNetworks(folder=tmp_path / "kept", limit=2**20)


@torch.no_grad()
def compiled(kept, by=2):
    images, network = torch.rand(2, 3, 4, 4), Scaled(by)
    found = CompiledTeacher(network, images, threads=1, name="it", kept=kept)
    torch.testing.assert_close(found(images), network(images))


def test_the_second_process_exports_nothing(kept, exported):
    compiled(kept)
    compiled(kept)
    assert len(exported) == 1
    compiled(kept, by=3)
    assert len(exported) == 2
    assert len(list(kept.folder.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "other", "empty"])
def test_a_damaged_or_exchanged_network_is_exported_again(kept, exported, damage):
    compiled(kept)
    (first,) = kept.folder.iterdir()
    if damage == "other":
        compiled(kept, by=3)
        (second,) = (place for place in kept.folder.iterdir() if place != first)
        for file in second.iterdir():
            (first / file.name).write_bytes(file.read_bytes())
    else:
        content = (first / NETWORK).read_bytes()
        (first / NETWORK).write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    before = len(exported)
    compiled(kept)
    assert len(exported) == before + 1
    compiled(kept)
    assert len(exported) == before + 1


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path, exported):
    (tmp_path / "file").write_text("")
    compiled(KeptNetworks(folder=tmp_path / "file/kept", limit=2**20))
    assert len(exported) == 1


def test_only_what_fits_is_kept_and_the_least_used_goes_first(tmp_path):
    compiled(KeptNetworks(folder=tmp_path / "small", limit=10))
    assert not (tmp_path / "small").exists()
    kept = KeptNetworks(folder=tmp_path / "kept", limit=2**20)
    compiled(kept, by=2)
    (first,) = kept.folder.iterdir()
    os.utime(first, (1, 1))
    size = sum(file.stat().st_size for file in first.iterdir())
    compiled(KeptNetworks(folder=kept.folder, limit=1.5 * size), by=3)
    assert first not in list(kept.folder.iterdir())
    assert len(list(kept.folder.iterdir())) == 1


def test_where_networks_are_kept(tmp_path, monkeypatch):
    own = DatasetConfig(name="mvtec3d", cache=tmp_path / "own", cache_gib=2)
    assert KeptNetworks.of(own) == KeptNetworks(folder=tmp_path / "own/compiled", limit=2 * 2**30)
    none = DatasetConfig(name="mvtec3d")
    assert KeptNetworks.of(none) is None  # in tests the variable is empty
    monkeypatch.setenv("CRDKIT_CACHE", str(tmp_path / "shared"))
    assert KeptNetworks.of(none).folder == tmp_path / "shared/compiled"
    monkeypatch.delenv("CRDKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sys.platform", "linux")
    assert KeptNetworks.of(none).folder == tmp_path / "home/crdkit/compiled"
