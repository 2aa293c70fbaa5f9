"""A detector whose config.json was edited: what no longer fits its weights is refused in one line."""

from __future__ import annotations

import json
import shutil

import pytest

import crdkit
from crdkit.errors import CrdkitError


def edit(finished, folder, change):
    shutil.copytree(finished / "detector", folder)
    file = folder / "config.json"
    header = json.loads(file.read_text())
    change(header)
    file.write_text(json.dumps(header))
    return folder


@pytest.mark.parametrize("size", [16, 72, 128])
def test_another_image_size(finished, samples, tmp_path, size):
    folder = edit(finished, tmp_path / "edited", lambda header: header["config"]["data"].update(image_size=size))
    with pytest.raises(CrdkitError, match=rf"the teacher of '\w+' gives .* for images of {size} x {size}, but the br"):
        crdkit.Detector.load(folder, device="cpu").predict(samples[0])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("channels", [32, 48, 19], "its teacher gives channels"),
        ("channels", [10**9, 48, 192], r"specs\.rgb\.channels\.0 \(=1000000000\)"),
        ("channels", [-1, 48, 192], r"specs\.rgb\.channels\.0 \(=-1\)"),
        ("sizes", [16, 8], "needs one size per level"),
        ("sizes", [4, 8, 16], "levels must run from fine to coarse"),
        ("sizes", [0, 0, 0], r"specs\.rgb\.sizes\.0 \(=0\)"),
        ("sizes", [10**5, 8, 4], "of images of 64 x 64"),
        ("sizes", [16, 8, 2], "does not fit its config.json"),
    ],
)
def test_shapes_that_the_teachers_do_not_give(finished, tmp_path, key, value, message):
    folder = edit(finished, tmp_path / "edited", lambda header: header["specs"]["rgb"].update({key: value}))
    with pytest.raises(CrdkitError, match=message) as caught:
        crdkit.Detector.load(folder, device="cpu")
    assert str(caught.value).isprintable()


def test_names_that_are_pages_long(finished, tmp_path):
    def rename(header):
        header["specs"] = {"x" * 9000: header["specs"]["rgb"], "depth": header["specs"]["depth"]}

    with pytest.raises(CrdkitError, match=r"specs are for \['x+ \.\.\., but modalities are \['rgb', ") as caught:
        crdkit.Detector.load(edit(finished, tmp_path / "edited", rename), device="cpu")
    assert len(str(caught.value)) < 500
