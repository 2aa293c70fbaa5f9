"""Files and folders are written atomically, whatever stops the writer."""

from __future__ import annotations

from pathlib import Path

import pytest

from crdkit._core.files import new_folder, write_text
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
