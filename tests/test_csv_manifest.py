"""Manifests in CSV: what they list, the files that spreadsheets write, and errors that name file, line and column."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from crdkit.data import datasets
from crdkit.data.check import check_dataset
from crdkit.data.discover import open_datasets, open_samples
from crdkit.errors import DataError, MissingSplitError
from crdkit.views.rgb import RGB
from crdkit.views.single_channel import SingleChannel
from crdkit.views.split import list_split, load_split

LINES = """split,defect_type,camera,heat,mask
train,good,mon/a.png,mon/a_heat.png,
train,good,mon/b.png,mon/b_heat.png,
validation,,tue/a.png,tue/a_heat.png,
test,good,wed/a.png,wed/a_heat.png,
test,scratch,wed/b.png,wed/b_heat.png,wed/b_mask.png
test,,wed/c.png,wed/c_heat.png,
"""


@pytest.fixture
def folder(tmp_path):
    """The files of LINES and their manifest.csv."""
    folder = tmp_path / "parts"
    rng = np.random.default_rng(0)
    for sample in ("mon/a", "mon/b", "tue/a", "wed/a", "wed/b", "wed/c"):
        (folder / sample).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{sample}.png")
        Image.fromarray(rng.integers(0, 65536, (16, 16), np.uint16)).save(folder / f"{sample}_heat.png")
    mask = np.zeros((16, 16), np.uint8)
    mask[2:5, 2:5] = 3
    Image.fromarray(mask).save(folder / "wed/b_mask.png")
    (folder / "manifest.csv").write_text(LINES)
    return folder


def dataset(folder, **options):
    return datasets.build(datasets.build_config({"name": "folder", "root": folder, "image_size": 16} | options))


def known(folder, split, **options):
    return [(r.sample_id, r.label, r.defect_type) for r in dataset(folder, **options).records(split)]


def test_each_line_is_a_sample(folder):
    data = dataset(folder)
    assert data.sensors == ("camera", "heat")
    assert known(folder, "train") == [("mon/a", 0, "good"), ("mon/b", 0, "good")]
    assert known(folder, "validation") == [("tue/a", 0, "good")]
    assert known(folder, "test") == [("wed/a", 0, "good"), ("wed/b", 1, "scratch"), ("wed/c", None, "unlabelled")]
    record = data.records("test")[1]
    assert record.files == {"camera": folder / "wed/b.png", "heat": folder / "wed/b_heat.png"}
    sample = data.read(record)
    assert sample.mask.sum() == 9 * 255
    assert sample.sensors["heat"].dtype == np.uint16
    views = {"rgb": RGB(RGB.Config(sensor="camera")), "heat": SingleChannel(SingleChannel.Config(sensor="heat"))}
    assert tuple(load_split(data, "train", views=views).inputs["heat"].shape) == (2, 1, 16, 16)


def test_it_is_found_by_itself_or_by_name_and_recognised(folder, tmp_path):
    (found,) = open_datasets(folder)
    assert (found.config.name, len(found.records("train"))) == ("folder", 2)
    assert not [finding for finding in check_dataset(found).findings if finding.severity == "error"]
    elsewhere = (folder / "manifest.csv").rename(tmp_path / "mine.csv")
    assert len(known(folder, "train", manifest=elsewhere)) == 2
    assert len(known(folder.parent, "train", manifest=elsewhere, category="parts")) == 2
    (folder / "manifest.csv").write_text(LINES)
    (folder / "manifest.yaml").write_text("sensors: {camera: '*.png'}\ntrain: mon\n")
    with pytest.raises(DataError, match=r"manifest\.yaml: manifest\.csv lies beside it; keep one of them, or name one"):
        known(folder, "train")


def test_new_samples_are_found_although_the_training_had_a_manifest_of_its_own(folder, tmp_path):
    elsewhere = (folder / "manifest.csv").rename(tmp_path / "mine.csv")
    trained_on = dataset(folder, manifest=elsewhere).config
    for sensor, file in {"camera": "wed/a.png", "heat": "wed/a_heat.png"}.items():
        (tmp_path / "new" / sensor).mkdir(parents=True)
        (folder / file).rename(tmp_path / "new" / sensor / "7.png")
    (record,) = open_samples(tmp_path / "new", trained_on).records("test")
    assert (record.sample_id, list(record.files)) == ("7", ["camera", "heat"])


@pytest.mark.parametrize(
    "text",
    [
        LINES.replace(",", ";"),
        LINES.replace(",", "\t"),
        "\ufeff" + LINES.replace("\n", "\r\n"),
        LINES.replace("mon/a", "mon\\a").replace("wed/b.png", '" ./wed/../wed/b.png"'),
        "\n" + LINES.replace("\n", "\n\n").replace(",", " , "),
    ],
    ids=["semicolons", "tabs", "excel", "windows paths", "spaces"],
)
def test_files_of_spreadsheets_are_read(folder, text):
    (folder / "manifest.csv").write_bytes(text.encode())
    assert known(folder, "train") == [("mon/a", 0, "good"), ("mon/b", 0, "good")]
    assert known(folder, "test")[1:] == [("wed/b", 1, "scratch"), ("wed/c", None, "unlabelled")]


def test_a_label_is_enough(folder):
    text = LINES.replace("defect_type", "label").replace("good", "0").replace("scratch", "1")
    (folder / "manifest.csv").write_text(text)
    assert known(folder, "test") == [("wed/a", 0, "good"), ("wed/b", 1, "anomalous"), ("wed/c", None, "unlabelled")]
    (folder / "manifest.csv").write_text("split,camera\ntrain,mon/a.png\ntrain,mon/b.png\ntest,wed/a.png\n")
    assert known(folder, "test") == [("wed/a", None, "unlabelled")]
    assert len(known(folder, "train")) == len(known(folder, "validation")) == 1  # held out as from folders


def test_absolute_paths_below_the_folder_are_taken(folder):
    (folder / "manifest.csv").write_text(LINES.replace("wed/a.png", str(folder / "wed/a.png")))
    assert known(folder, "test")[0] == ("wed/a", 0, "good")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tue/a.png", "tue/z.png", r"line 4, column 'camera': .*tue/z\.png does not exist, or is no file; correct"),
        ("tue/a.png", "", r"line 4, column 'camera': is empty; name the file, or remove the line"),
        ("tue/a.png,tue/a_heat.png", ",", r"line 4: names no file"),
        ("tue/a.png", "../x.png", r"line 4, column 'camera': \.\./x\.png leads out of the data folder .*parts; give"),
        ("tue/a.png", "/etc/x.png", r"line 4, column 'camera': /etc/x\.png leads out of the data folder"),
        ("tue/a.png", "tue/a.gif", r"line 4, column 'camera': 'tue/a\.gif' must be a file that ends in \.png"),
        ("tue/a.png", "n" * 300 + ".png", r"line 4, column 'camera': 'nnn.*' is no path: File name too long"),
        (
            "wed/b_mask.png",
            "wed/b.jpg",
            r"line 6, column 'mask': 'wed/b\.jpg' must be a file that ends in \.png, \.b",
        ),
        ("validation,,", "val,,", r"line 4, column 'split': unknown split 'val' - known: test, train"),
        ("validation,,", "validation,dent,", r"line 4, column 'split': 'validation' may only hold normal samples, but"),
        ("test,good", "test,OK", r"line 5, column 'defect_type': 'OK' would be a defect type; if its samples are"),
        ("tue/a.png,", "", r"line 4: holds 4 cells, but there are 5 columns"),
        ("camera,heat", "camera,camera", r"line 1: the column 'camera' is named twice"),
        ("camera,heat", "camera,", r"line 1: a column has no name"),
        (
            "split,",
            "spilt,",
            r"line 1: expected the columns split, defect_type or label, one for each sensor, and m",
        ),
        ("mon/b.png", "mon/a.png", r"line 3: is the same sample as line 2 \(mon/a\)"),
        ("wed/c.png", '"wed/c.png', r"line 7: is not valid CSV: unexpected end of data"),
        ("camera,heat", "camera,notes", r"line 2, column 'notes': .*; every column but split, .* is a sensor"),
    ],
)
def test_errors_name_file_line_and_column(folder, old, new, message):
    text = LINES.replace(old, new, 1)
    if "notes" in new:
        text = text.replace("mon/a_heat.png", "shift 2")
    (folder / "manifest.csv").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        [dataset(folder).records(split) for split in ("train", "validation", "test")]
    assert str(caught.value).startswith(f"{folder / 'manifest.csv'}: line ")
    assert "\n" not in str(caught.value)


def test_contradictions_and_other_files_are_refused(folder, tmp_path):
    both = LINES.replace("defect_type,", "defect_type,label,").replace("good,", "good,1,", 1)
    (folder / "manifest.csv").write_text("\n".join(both.splitlines()[:2]))
    with pytest.raises(DataError, match=r"line 2, column 'label': 1 does not fit the defect_type 'good'"):
        known(folder, "train")
    (folder / "manifest.csv").write_text("split,label,camera\ntest,yes,wed/a.png\n")
    with pytest.raises(DataError, match=r"line 2, column 'label': 'yes' must be 0 \(normal\), 1"):
        known(folder, "test")
    (folder / "manifest.csv").write_bytes(LINES.replace("scratch", "Grat").encode("utf-16"))
    with pytest.raises(DataError, match="is not UTF-8; save it as 'CSV UTF-8'"):
        known(folder, "test")
    (folder / "manifest.csv").write_text("\n")
    with pytest.raises(DataError, match="is empty; expected a first line"):
        known(folder, "test")
    with pytest.raises(DataError, match=r"nowhere\.csv: the manifest cannot be read"):
        known(folder, "test", manifest=tmp_path / "nowhere.csv")
    (folder / "manifest.csv").write_text("split,camera\ntrain,mon/a.png\n")
    with pytest.raises(MissingSplitError, match="there is no split 'test': no line has it"):
        known(folder, "test")


def test_a_sample_without_a_file_is_skipped_or_seen_without_it(folder):
    (folder / "wed/a.png").unlink()
    (folder / "manifest.csv").write_text(LINES.replace("wed/c_heat.png", ""))
    data = dataset(folder, on_bad_sample="skip")
    records = data.records("test")
    assert len(records) == 3
    for record in (records[0], records[2]):
        with pytest.raises(
            DataError, match=r"a\.png: the file does not exist|line 7, column 'heat': the file does not"
        ):
            data.read(record)
    views = {"rgb": RGB(RGB.Config(sensor="camera")), "heat": SingleChannel(SingleChannel.Config(sensor="heat"))}
    listed = list_split(dataset(folder), "test", views=views, incomplete=True)
    assert [list(record.files) for record in listed] == [["heat"], ["camera", "heat"], ["camera"]]


@pytest.mark.parametrize(
    "text",
    [
        "sensors: {camera: '*.png'}\ntrain: ../elsewhere",
        "sensors: {camera: '../../*.png'}\ntrain: mon",
        "sensors: {camera: '*.png'}\ntrain: /tmp",
        "sensors: {camera: '/tmp/*.png'}\ntrain: mon",
        "sensors: {camera: '*.png'}\nmasks: '../../../*.png'\ntrain: mon",
    ],
)
def test_a_yaml_manifest_does_not_leave_the_data_folder_either(folder, text):
    (folder / "manifest.csv").unlink()
    (folder / "manifest.yaml").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.yaml: '.*' leads out of the data folder; give paths"):
        known(folder, "train")


def test_paths_that_come_back_are_fine(folder):
    (folder / "manifest.csv").unlink()
    (folder / "manifest.yaml").write_text(
        "sensors: {camera: '../wed/?.png'}\ntest: mon/../tue\n".replace("?", "*_mask")
    )
    (record,) = dataset(folder).records("test")
    assert record.files["camera"].resolve() == (folder / "wed/b_mask.png").resolve()
