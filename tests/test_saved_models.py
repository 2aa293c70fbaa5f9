"""Loading a detector takes the memory of its weights: a configuration that asks for more is refused before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import crdkit
from crdkit.config.build import build_model
from crdkit.detector import Detector
from crdkit.detector._rebuild import rebuild
from crdkit.errors import CrdkitError, DetectorFormatError


def edited(finished, folder, change):
    shutil.copytree(finished / "detector", folder)
    header = json.loads((folder / "config.json").read_text())
    change(header)
    (folder / "config.json").write_text(json.dumps(header))
    return folder


def test_a_huge_student_is_refused_before_memory_is_taken(finished, tmp_path):
    folder = edited(finished, tmp_path / "edited", lambda header: header["config"]["student"].update(min_width=4096))
    with pytest.raises(
        DetectorFormatError, match=r"model\.safetensors: does not fit its config\.json: .*size mismatch"
    ):
        Detector.load(folder, device="cpu")
    config = crdkit.RunConfig.from_dict(json.loads((folder / "config.json").read_text())["config"])
    bytes_needed = sum(p.numel() * 4 for p in build_model(config, load_weights=False, allocate=False).parameters())
    assert bytes_needed > 2**30


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="asks Linux for the peak of memory")
def test_a_huge_teacher_is_refused_before_memory_is_taken(finished, tmp_path):
    def change(header):
        header["config"]["modalities"]["rgb"]["encoder"].update(model="wide_resnet101_2")  # 83 million weights

    def status(key):
        found = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
        return int(found.split()[1]) * 1024

    folder = edited(finished, tmp_path / "edited", change)
    Detector.load(finished / "detector", device="cpu")  # what is loaded once, such as timm, is loaded
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    with pytest.raises(DetectorFormatError, match=r"the teachers that it names have 83,\d{3},\d{3} weights, but the"):
        Detector.load(folder, device="cpu")
    assert status("VmHWM") - before < 64 * 2**20


def test_an_error_of_a_part_names_the_file(finished, tmp_path):
    def change(header):
        header["config"]["modalities"]["rgb"]["encoder"]["model"] = "test_resnot"

    folder = edited(finished, tmp_path / "edited", change)
    with pytest.raises(CrdkitError, match=r"edited/config\.json: unknown timm model 'test_resnot'"):
        Detector.load(folder, device="cpu")


def test_weights_are_those_of_the_file_and_everything_else_is_built(finished):
    detector = Detector.load(finished / "detector", device="cpu")
    state = {name: value.clone() for name, value in detector.model.state_dict().items()}
    model = rebuild(detector.config, specs=detector.model.specs, state=state)
    built = build_model(detector.config, load_weights=False, specs=detector.model.specs)
    built.load_state_dict(state)
    tensors = [dict([*network.named_parameters(), *network.named_buffers()]) for network in (model, built)]
    assert tensors[0].keys() == tensors[1].keys()
    for name, tensor in tensors[0].items():
        assert tensor.device.type == "cpu"
        torch.testing.assert_close(tensor, tensors[1][name], rtol=0, atol=0)
        assert tensor.requires_grad == tensors[1][name].requires_grad


def test_a_network_of_ones_own_that_stores_less_than_it_holds_is_built_whole(finished, monkeypatch):
    """A buffer that is not saved would be left without values."""
    from crdkit.model.layers import ResidualBlock

    first = ResidualBlock.__init__

    def with_buffer(self, *args, **options):
        first(self, *args, **options)
        self.register_buffer("table", torch.full((2,), 7.0), persistent=False)

    monkeypatch.setattr(ResidualBlock, "__init__", with_buffer)
    model = Detector.load(finished / "detector", device="cpu").model
    tables = [buffer for name, buffer in model.named_buffers() if name.endswith(".table")]
    assert tables
    assert all(table.tolist() == [7.0, 7.0] for table in tables)


def test_complex_weights_are_refused_and_not_cut_to_real_ones(finished):
    detector = Detector.load(finished / "detector", device="cpu")
    state = dict(detector.model.state_dict())
    name = next(iter(state))
    state[name] = state[name].to(torch.complex64)
    with pytest.raises(RuntimeError, match=f"{name} is torch.complex64, expected torch.float32"):
        rebuild(detector.config, specs=detector.model.specs, state=state)
