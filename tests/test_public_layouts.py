"""The layouts of more public data sets on their synthetic twins: recognised, checked, trained and scored."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import tifffile
from PIL import Image

import crdkit
from crdkit.config.suggest import suggest_training
from crdkit.data import datasets
from crdkit.data.check import check_dataset
from crdkit.data.discover import open_datasets
from crdkit.data.synthetic import LAYOUTS, category_folders
from crdkit.data.synthetic.public import STYLES, write_public
from crdkit.errors import UnknownNameError

COUNTS = {"train": 6, "validation": 2, "test_good": 1, "test_per_defect": 1}
TEACHER = "encoder={name: timm, model: test_resnet, pretrained: false}"
SMALL = ["data.image_size=32", "student.depths=1", "student.embedding_blocks=1", "graph.filter.size=2"]
SMALL += ["training.epochs=1", "training.device=cpu"]
SENSORS = {
    "3d_adam": ("rgb", "xyz"),
    "m2ad": ("light_01", "light_02", "light_03", "light_04"),
    "real_iad_d3": ("rgb", "ps", "xyz"),
}


@pytest.fixture(scope="module", params=list(STYLES))
def twin(request, tmp_path_factory):
    """A synthetic twin of each layout, with one category."""
    return LAYOUTS[request.param](
        tmp_path_factory.mktemp("twins") / request.param, categories=["gear"], size=64, **COUNTS
    )


@pytest.fixture
def opened(twin, tmp_path):
    """The dataset of a copy that a test may damage."""
    (dataset,) = open_datasets(shutil.copytree(twin, tmp_path / "data"))
    assert dataset.config.name == twin.name
    assert dataset.sensors == SENSORS.get(twin.name, ("rgb",))
    return dataset


def halve(path):
    """Store an image or a scan with half of its rows."""
    if path.suffix == ".tiff":
        tifffile.imwrite(path, tifffile.imread(path)[::2].copy(), photometric="rgb")
    else:
        with Image.open(path) as image:
            image.resize((64, 32)).save(path)


def test_a_check_finds_a_missing_file_a_wrong_size_and_an_unpaired_mask(opened):
    assert check_dataset(opened).count("error") == 0
    first, second, third = [record for record in opened.records("test") if record.label][:3]
    missing = first.mask_file if len(first.files) == 1 else list(first.files.values())[-1]
    missing.unlink()
    resized = list(second.files.values())[-1]
    halve(resized)
    mask = third.mask_file
    unpaired = mask.with_name(f"{mask.name[0]}999{mask.name[4:]}")
    shutil.copy(mask, unpaired)
    found = [finding for finding in check_dataset(opened).findings if finding.severity == "error"]
    assert sorted(finding.path.name for finding in found if finding.path == missing) == [missing.name]
    (size,) = [finding for finding in found if "all files must have the same height x width" in finding.message]
    assert str(resized) in size.message
    assert any(unpaired.name in finding.message or unpaired.stem[1:4] in finding.message for finding in found)
    assert len(found) == 3


@pytest.mark.usefixtures("without_reports")
def test_a_suggested_training_runs_and_scores(opened, tmp_path):
    suggested = suggest_training(opened)
    run = suggested.config()
    teachers = [f"modalities.{name}.{TEACHER}" for name in run.modalities]
    detector = crdkit.fit(run.with_overrides(*SMALL, *teachers), tmp_path / "run")
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    records = {split: opened.records(split) for split in ("train", "validation", "test")}
    assert metrics["counts"] == {split: len(found) for split, found in records.items()}
    assert 0 <= metrics["aggregate"]["image_auroc"] <= 1
    assert 0 <= metrics["aggregate"]["aupro_0.30"] <= 1
    assert set(detector.sensors) == set(opened.sensors)
    if opened.held_out is None:
        assert "held_out" not in metrics
    else:
        assert metrics["held_out"] == {"samples": len(records["validation"]), **opened.held_out}
        assert metrics["held_out"]["seed"] == 0


def test_the_scenes_are_those_of_the_other_layouts(tmp_path):
    counts = {"train": 1, "validation": 0, "test_good": 0, "test_per_defect": 1, "size": 32, "categories": ["gear"]}
    twin = LAYOUTS["3d_adam"](tmp_path / "adam", **counts)
    other = LAYOUTS["mvtec3d"](tmp_path / "mvtec3d", **counts)
    for here, there in (
        ("train/good/rgb/000_C.png", "train/good/rgb/000.png"),
        ("test/dent/xyz/000_C.tiff", "test/dent/xyz/000.tiff"),
    ):
        assert (twin / "gear" / here).read_bytes() == (other / "gear" / there).read_bytes()
    assert [folder.name for folder in category_folders(other)] == ["gear"]


def test_an_unknown_layout_is_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="unknown synthetic layout 'mvtec' - did you mean 'mvtec_ad"):
        write_public("mvtec", tmp_path / "out")


PAGE = Path(__file__).parents[1] / "docs/datasets.md"


@pytest.mark.skipif(not PAGE.exists(), reason="needs the docs beside the tests")
def test_the_page_names_every_layout():
    own = {name for name in datasets if datasets.get(name).__module__.startswith("crdkit.")}
    assert set(re.findall(r"^\| `(\w+)` \| ", PAGE.read_text(encoding="utf-8"), re.MULTILINE)) == own
