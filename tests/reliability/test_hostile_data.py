"""Data, weights and names of strangers: read, refused in one line, or shown as text; never run."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY

import crdkit
from crdkit.cli import main
from crdkit.config import RunConfig
from crdkit.data.images import read_file
from crdkit.errors import ConfigError, DataError, DetectorFormatError
from crdkit.model.encoders.timm import TimmConfig, TimmEncoder
from crdkit.paper.checkpoints import read_checkpoint
from crdkit.report.grid import Cell, Column, Grid
from crdkit.report.study import Study, write_study


class Hostile:
    """What a pickle can do to whoever loads it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def saved(content, path):
    torch.save(content, path)


def saved_in_the_old_format(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def pickled(content, path):
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("write", [saved, saved_in_the_old_format, pickled])
def test_a_checkpoint_or_weights_that_would_run_code_are_refused(tmp_path, write):
    trace = tmp_path / "trace"
    for number, content in enumerate((Hostile(trace), {"student_rgb": {"w": Hostile(trace)}, "student_depth": {}})):
        file = tmp_path / f"{number}.pth"
        write(content, file)
        with pytest.raises(DetectorFormatError, match=rf"{file}: (holds more than tensors|is damaged)") as refused:
            read_checkpoint(file)
        assert "\n" not in str(refused.value)
        with pytest.raises(DataError, match=f"{file}: not a readable weight file") as refused:
            TimmEncoder(TimmConfig(model="test_resnet", weights=file))
        assert "\n" not in str(refused.value)
    assert not trace.exists()


def test_python_objects_in_an_array_file_are_refused(tmp_path):
    trace, file = tmp_path / "trace", tmp_path / "a.npy"
    np.save(file, np.array([Hostile(trace)], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=rf"{file}: .*(?i:object)") as refused:
        read_file(file)
    assert "\n" not in str(refused.value)
    assert not trace.exists()


TAG = "!!python/object/apply:os.mkdir"


def test_yaml_that_would_run_code_is_refused_everywhere(tmp_path, capsys, scans):
    trace = tmp_path / "trace"
    evil = f"{TAG} ['{trace}']"
    config, folder = tmp_path / "run.yaml", tmp_path / "parts"
    (folder / "rgb").mkdir(parents=True)
    (folder / "manifest.yaml").write_text(f"sensors: {evil}\ntest: [rgb]\n")
    for text in (evil, f"data: {evil}\n", f"plugins: [{evil}]\n", "data: !!python/name:os.system\n"):
        config.write_text(text)
        for allow in (False, True):
            with pytest.raises(ConfigError, match=rf"{config}: is not valid YAML: .*python/") as refused:
                RunConfig.from_yaml(config, allow_plugins=allow)
            assert "\n" not in str(refused.value)
    with pytest.raises(ConfigError, match="not valid YAML"):
        RunConfig.preset("quick").with_overrides(f"by_category={evil}")
    for command in (["data", "check", folder], ["describe", config], ["train", "quick", f"graph={evil}", "--out", "x"]):
        assert main([str(part) for part in command]) == 2
        assert "python/" in capsys.readouterr().err
    assert not trace.exists()


class Tags(HTMLParser):
    """Collects the tags of a page, and the attributes that run or load something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.active: list[tuple[str, str | None]] = []
        self.words = ""
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        links = ("src", "href", "action", "formaction", "data", "xlink:href")
        self.active += [
            (name, value)
            for name, value in attrs
            if name.startswith("on") or (name in links and not (value or "").startswith(("data:image/", "#")))
        ]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_data(self, data):
        if self.lasttag == "script" and data.strip():
            self.scripts.append(data)
        else:
            self.words += data


CATEGORY, DEFECT, SAMPLE = "<img src=x onerror=alert(1)>", "<script>alert(2)<b>", "'\"><svg onload=alert(3)>${{7*7}}"


def test_names_of_data_are_text_in_the_report(scans, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(scans / "biscuit", root / CATEGORY)
    defect = next(folder for folder in sorted((root / CATEGORY / "test").iterdir()) if folder.name != "good")
    defect = defect.rename(defect.with_name(DEFECT))
    for file in defect.glob("*/000.*"):
        file.rename(file.with_name(f"{SAMPLE}{file.suffix}"))
    run = RunConfig.preset("quick").with_overrides(f"data.root={root}", *TINY, "training.epochs=1")
    crdkit.fit(run.with_overrides(f"data.category={CATEGORY}"), tmp_path / "run")
    page = Tags((tmp_path / "run/report.html").read_text(encoding="utf-8"))
    document, *pictures, _program = page.scripts
    samples = json.loads(document)["samples"]
    assert any(sample["id"].endswith(SAMPLE) and sample["type"] == DEFECT for sample in samples)
    assert not re.search("[<>&]", "".join([document, *pictures]))  # nothing that could end a script
    assert len(pictures) == len(samples)
    assert all(name in page.words for name in (CATEGORY, DEFECT))
    assert not page.tags & {"iframe", "object", "embed", "link", "form", "b"}
    assert page.active == []


def test_names_of_runs_are_text_in_a_study(tmp_path):
    grid = Grid(title=DEFECT, name=SAMPLE, columns=[Column(DEFECT, "measured")], rows={CATEGORY: [Cell(1.0)]})
    study = Study(title=CATEGORY, subtitle=SAMPLE, grids=[grid], notes=[DEFECT], remarks=[SAMPLE])
    page = Tags(write_study(study, tmp_path).read_text(encoding="utf-8"))
    assert all(name in page.words for name in (CATEGORY, DEFECT, SAMPLE))
    assert not page.tags & {"script", "img", "svg", "b"}
    assert page.active == []


@pytest.mark.parametrize(
    ("pattern", "folder"), [("../../secret/*.png", "good"), ("*.png", "../secret"), ("*.png", "{}")]
)
def test_a_manifest_does_not_lead_out_of_the_data(tmp_path, pattern, folder, capsys):
    parts, secret = tmp_path / "parts", tmp_path / "secret"
    (parts / "good").mkdir(parents=True)
    secret.mkdir()
    shutil.copy(Path(__file__).parents[2] / "docs/images/demo.png", secret / "0.png")
    (parts / "manifest.yaml").write_text(f"sensors: {{rgb: '{pattern}'}}\ntrain: {folder.format(secret)}\n")
    assert main(["data", "check", str(parts)]) == 2
    shown = capsys.readouterr()
    assert f"{parts / 'manifest.yaml'}: " in shown.err
    assert "leads out of the data folder" in shown.err
    assert "train" not in shown.out
