"""Files and folders are written atomically, whatever stops the writer."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from crdkit._core.files import new_folder, read_tensors, require_checksum, write_tensors, write_text
from crdkit.errors import CrdkitError


def stop(error):
    def raise_it(*_args, **_kwargs):
        raise error

    return raise_it


def test_a_file_is_replaced_in_one_step(tmp_path):
    file = tmp_path / "a.txt"
    write_text(file, "älter")
    write_text(file, "neu")
    assert file.read_text(encoding="utf-8") == "neu"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("raised", "reported"),
    [(OSError(28, "No space left on device"), CrdkitError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
@pytest.mark.parametrize("step", ["write_bytes", "replace"])
def test_a_file_keeps_its_content_when_stopped(tmp_path, monkeypatch, step, raised, reported):
    file = tmp_path / "a.txt"
    file.write_text("old")
    monkeypatch.setattr(Path, step, stop(raised))
    with pytest.raises(reported) as caught:
        write_text(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
    if reported is CrdkitError:
        assert str(caught.value) == f"{file}: cannot be written: No space left on device"


def test_a_folder_appears_at_the_end(tmp_path):
    folder = tmp_path / "missing" / "folder"
    with new_folder(folder) as partial:
        (partial / "file").touch()
        assert not folder.exists()
    assert [entry.name for entry in folder.iterdir()] == ["file"]
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("raised", "reported"),
    [(OSError(28, "No space left on device"), CrdkitError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_a_stopped_folder_leaves_nothing(tmp_path, raised, reported):
    def write_half():
        with new_folder(tmp_path / "folder") as partial:
            (partial / "file").touch()
            raise raised

    with pytest.raises(reported):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_only_an_empty_folder_is_replaced(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with new_folder(empty) as partial:
        (partial / "file").touch()
    with pytest.raises(CrdkitError, match="empty exists and is not an empty folder"), new_folder(empty):
        pytest.fail("a folder in use was opened")
    assert [entry.name for entry in empty.iterdir()] == ["file"]


@pytest.fixture(params=[0o022, 0o027, 0o002])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.skipif(os.name == "nt", reason="there is no umask")
def test_files_of_tensors_have_the_mode_that_other_files_have(tmp_path, umask):
    write_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(2)})
    write_text(tmp_path / "a.txt", "a")
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == dict.fromkeys(modes, 0o666 & ~umask)


def test_a_full_disk_names_the_file_that_was_to_be_written(tmp_path, monkeypatch):
    full = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    monkeypatch.setattr("safetensors.torch.save_file", stop(full))

    def save(write):
        with pytest.raises(CrdkitError) as caught, new_folder(tmp_path / "runs/detector") as partial:
            write(partial / "model.safetensors")
        assert list((tmp_path / "runs").iterdir()) == []
        return str(caught.value)

    target = tmp_path / "runs/detector/model.safetensors"
    reason = "cannot be written: No space left on device"
    assert save(lambda file: write_tensors(file, {"a": torch.zeros(2)})) == f"{target}: {reason} (os error 28)"
    monkeypatch.setattr(Path, "write_bytes", stop(OSError(28, "No space left on device")))
    assert save(lambda file: write_text(file, "text")) == f"{target}: {reason}"


def test_tensors_come_back_with_their_header_and_checksum(tmp_path):
    tensors = {
        "float": torch.rand(3, 2),
        "half": torch.rand(4).bfloat16(),
        "number": torch.tensor(3),
        "none": torch.zeros(0, 2),
        "flag": torch.tensor([True, False]),
        "strided": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
    }
    header = {"b": {2: 0.1, 10: [1, 2]}, "a": "ä"}
    write_tensors(tmp_path / "a", tensors, header=header, checksum=True)
    found, about = read_tensors(tmp_path / "a")
    require_checksum(found, about)
    assert {name: about[name] for name in header} == {"b": {"2": 0.1, "10": [1, 2]}, "a": "ä"}
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor), name
