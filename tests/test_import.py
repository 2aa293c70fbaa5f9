"""crdkit data import: folders that nobody described are proposed, asked about, and trainable after a yes."""

from __future__ import annotations

import csv
import json
import os
import shlex

import numpy as np
import pytest
import tifffile
from conftest import TINY
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from crdkit._core.progress import set_quiet
from crdkit.cli import main
from crdkit.config import RunConfig
from crdkit.config.build import build_dataset
from crdkit.data import datasets
from crdkit.data.check import check_dataset
from crdkit.data.importing import Answers, propose_import, write_manifest
from crdkit.data.synthetic import write_folder, write_mvtec3d
from crdkit.errors import ConfigError, CrdkitError, DataError
from crdkit.runs.directory import read_metrics

SIDE = 32
SMALL = [text for text in TINY if not text.startswith(("data.category", "modalities", "training.epochs"))]
TEACHER = "encoder={name: timm, model: test_resnet, pretrained: false}"
_seed = iter(range(10**6))


def array(kind, side=SIDE):
    """Return an image that differs from every other."""
    rng = np.random.default_rng(next(_seed))
    return {
        "colour": lambda: rng.integers(0, 256, (side, side, 3), np.uint8),
        "grey": lambda: rng.integers(0, 256, (side, side), np.uint8),
        "heat": lambda: rng.integers(29_000, 31_000, (side, side), np.uint16),
        "millimetres": lambda: scene(rng, side),
        "constant": lambda: np.full((side, side), 7, np.uint8),
        "mask": lambda: (np.mgrid[:side, :side].sum(0) < 9).astype(np.uint8) * 255,
    }[kind]()


def scene(rng, side):
    """Return depths of a part on a table, in millimetres."""
    rows, columns = np.mgrid[:side, :side]
    raised = (rows - side / 2) ** 2 + (columns - side / 2) ** 2 < (side / 3) ** 2
    return (700 + 0.1 * columns - 40 * raised * (1 + 0.1 * rng.random((side, side)))).astype(np.float32)


def save(path, *kinds, side=SIDE):
    """Write one image, or several as the pages of a TIFF file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".tif", ".tiff"):
        with tifffile.TiffWriter(path) as file:
            for kind in kinds:
                pixels = array(kind, side)
                file.write(pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack")
    elif path.suffix == ".npy":
        np.save(path, array(*kinds, side))
    else:
        Image.fromarray(array(*kinds, side)).save(path)


def run(capsys, *words):
    code = main(["data", "import", *map(str, words)])
    set_quiet(True)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def rows(folder):
    return list(csv.DictReader((folder / "manifest.csv").read_text(encoding="utf-8").splitlines()))


def about(proposal, name):
    return [question.line for question in proposal.questions if question.about == name]


def part_folders(root):
    """A folder for each part, below German words, with masks, a text and what Windows leaves."""
    for number in range(12):
        save(root / f"gut/Teil_{number:02d}/Farbe.png", "colour")
        save(root / f"gut/Teil_{number:02d}/wärme.tif", "heat")
    for number in range(3):
        save(root / f"n.i.O./Teil_{number + 20}/Farbe.png", "colour")
        save(root / f"n.i.O./Teil_{number + 20}/wärme.tif", "heat")
        save(root / f"n.i.O./Teil_{number + 20}/Maske.png", "mask")
    (root / "README.md").write_text("Line 3, Monday")
    (root / "gut/Thumbs.db").write_bytes(b"x")


def file_names(root):
    """Sensors and labels in the names of files, in one folder, in two orders."""
    for number in range(14):
        label = "ok" if number < 11 else "ng"
        save(root / f"{number}_{label}_rgb.png", "colour")
        save(root / f"{number:03d}-{label}-depth.tiff", "millimetres")
        save(root / f"IR_{label}_{number:03d}.png", "heat")


def stacks(root):
    """Three sensors in each TIFF file."""
    for number in range(10):
        save(root / f"training/{number}.tif", "colour", "heat", "millimetres")
    for number in range(3):
        save(root / f"testing/good/{number}.tif", "colour", "heat", "millimetres")
        save(root / f"testing/dent/{number}.tif", "colour", "heat", "millimetres")


@pytest.mark.usefixtures("without_reports")
@pytest.mark.parametrize(
    ("make", "options", "expected"),
    [
        (part_folders, [], (["farbe", "warme"], [9, 1, 5])),
        (file_names, [], (["rgb", "depth", "ir"], [8, 1, 5])),
        (stacks, ["--sensor-names", "rgb,thermal,depth"], (["rgb", "thermal", "depth"], [9, 1, 6])),
    ],
)
def test_a_folder_is_trainable_by_one_command_and_a_yes(make, options, expected, tmp_path, capsys):
    modalities, counts = expected
    make(tmp_path / "parts")
    code, out, err = run(capsys, tmp_path / "parts", "--yes", *options)
    assert (code, err) == (0, "")
    (line,) = (line for line in out.splitlines() if line.startswith("train: "))
    program, *words = shlex.split(line.removeprefix("train: "))
    assert program == "crdkit"
    assert set(RunConfig.preset("quick").with_overrides(*words[2:-2]).modalities) == set(modalities)
    small = [*SMALL, "training.epochs=1", *(f"modalities.{name}.{TEACHER}" for name in modalities)]
    assert main(["-q", *words[:-1], str(tmp_path / words[-1]), *small]) == 0
    assert list(read_metrics(tmp_path / "runs/parts")["counts"].values()) == counts


def test_the_proposal_says_what_there_is_and_what_is_unsure(tmp_path, capsys):
    part_folders(tmp_path)
    code, out, _ = run(capsys, tmp_path)
    assert code == 0
    for line in (
        f"{tmp_path}: 15 samples",
        "  train: 10 good",
        "  test: 2 good, 3 n.i.O.",
        "  masks: 3",
        "sensor farbe: 15 files, 32 x 32 x 3, uint8, ",
        "sensor warme: 15 files, 32 x 32, uint16, 29",
        "unsure: splits: no folder holds good samples to test on; 2 of 12 are held out for that (--test-share 0.2)",
        "unsure: warme: uint16, 29",
        "its unit is not known, taken for plain values and not for distances (--sensor warme=unit:K, or unit:mm)",
        "not used: README.md: ends in none of .png",
        "not used: gut/Thumbs.db: is hidden, or left behind by a system",
        f"nothing is written; give --yes to write {tmp_path / 'manifest.csv'}",
    ):
        assert line in out
    assert not (tmp_path / "manifest.csv").exists()
    code, out, _ = run(capsys, tmp_path, "--sensor", "warme=unit:K", "--sensor", "farbe=name:rgb", "--yes", "--json")
    document = json.loads(out)
    assert [sensor["name"] for sensor in document["sensors"]] == ["rgb", "warme"]
    assert document["sensors"][1]["unit"] == "K"
    assert [question["about"] for question in document["questions"]] == ["splits"]
    assert document["written"] == str(tmp_path / "manifest.csv")
    assert document["next"].startswith("crdkit train quick data.name=folder")
    assert (tmp_path / "manifest.csv").read_text() == document["manifest"]
    data = datasets.build(datasets.build_config({"name": "folder", "root": tmp_path}))
    assert not check_dataset(data).count("error")


def test_on_a_terminal_it_asks(tmp_path, capsys, monkeypatch):
    file_names(tmp_path)
    monkeypatch.setattr("crdkit.cli.importing._says_yes", lambda _: False)
    assert "nothing is written" in run(capsys, tmp_path)[1]
    monkeypatch.undo()
    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True)
    asked = []
    monkeypatch.setattr("typer.confirm", lambda text: asked.append(text) or True)
    assert f"wrote {tmp_path / 'manifest.csv'}: 14 samples" in run(capsys, tmp_path)[1]
    assert asked == [f"write {tmp_path / 'manifest.csv'}?"]


def test_a_manifest_is_not_replaced_unasked(tmp_path, capsys):
    file_names(tmp_path)
    (tmp_path / "manifest.csv").write_text("mine")
    code, _, err = run(capsys, tmp_path, "--yes")
    assert (code, (tmp_path / "manifest.csv").read_text()) == (2, "mine")
    assert "exists; give --overwrite to replace it, or --out FILE.csv" in err
    assert run(capsys, tmp_path, "--yes", "--overwrite")[0] == 0
    assert len(rows(tmp_path)) == 14
    (tmp_path / "manifest.csv").rename(tmp_path / "manifest.yaml")
    assert "manifest.yaml: describes the folder already; remove it" in run(capsys, tmp_path, "--yes")[2]
    assert (
        "a manifest that lists samples ends in .csv" in run(capsys, tmp_path, "--yes", "--out", tmp_path / "a.txt")[2]
    )
    code, out, _ = run(capsys, tmp_path, "--yes", "--out", tmp_path / "elsewhere.csv")
    assert code == 0
    assert f"data.manifest={tmp_path / 'elsewhere.csv'}" in out


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


WORDS = {
    "rgb": ("rgb", "colour"),
    "thermal": ("IR", "thermal", "Wärme", "lwir2"),
    "depth": ("depth", "Tiefe", "xyz", "laser-depth"),
}
KINDS = {"rgb": ("colour", ".png"), "thermal": ("heat", ".tiff"), "depth": ("millimetres", ".npy")}
PLACES = (
    "{label}/{key}/{sensor}",
    "{label}/{sensor}/{key}",
    "{sensor}/{label}/{key}",
    "{sensor}/{label}_{key}",
    "{label}/{key}_{sensor}",
    "{label}/{sensor}-{key}",
    "x/{label}/batch 1/{key} {sensor}",
    "{key}_{sensor}_{label}",
    "{label}/{key}.{sensor}",
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return the bytes of one small file of each kind and ending."""
    scratch = tmp_path_factory.mktemp("bytes")
    kinds = dict([*KINDS.values(), ("mask", ".png")])
    for kind, ending in kinds.items():
        save(scratch / f"{kind}{ending}", kind, side=4)
    return {kind: (scratch / f"{kind}{ending}").read_bytes() for kind, ending in kinds.items()}


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    layout=st.fixed_dictionaries(
        {
            "place": st.sampled_from(PLACES),
            "words": st.fixed_dictionaries({sensor: st.sampled_from(names) for sensor, names in WORDS.items()}),
            "labels": st.sampled_from(
                [("ok", "nok"), ("Good", "bad"), ("i.O.", "n.i.O."), ("normal", "anomaly"), ("良品", "不良")]
            ),
            "splits": st.sampled_from([("", ""), ("train/", "test/"), ("Training/", "eval/")]),
            "key": st.sampled_from(["{}", "{:03d}", "part{:02d}", "A_{}", "2024-05-01_{:03d}", "teil {}"]),
            "count": st.integers(4, 6),
            "masked": st.sampled_from(["", "mask", "ground_truth", "label"]),
        }
    )
)
@example(
    layout={  # the number belongs to the sensor
        "place": "{label}/{sensor}-{key}",
        "words": {"rgb": "rgb", "thermal": "lwir2", "depth": "depth"},
        "labels": ("ok", "nok"),
        "splits": ("", ""),
        "key": "{}",
        "count": 4,
        "masked": "",
    }
)
def test_every_sample_is_found_once_with_its_sensors(tmp_path_factory, written, layout):
    place, words, labels, splits = (layout[name] for name in ("place", "words", "labels", "splits"))
    key, count, masked = (layout[name] for name in ("key", "count", "masked"))
    root = tmp_path_factory.mktemp("layout")
    expected = {}
    for label, split, which in ((labels[0], splits[0], "good"), (labels[1], splits[1], "bad")):
        for number in range(count):
            name = {"label": label, "key": key.format(number)}
            files = {}
            for sensor, word in words.items():
                files[sensor] = split + place.format(sensor=word, **name) + KINDS[sensor][1]
                write(root / files[sensor], written[KINDS[sensor][0]])
            if masked and which == "bad":
                files["mask"] = split + place.format(sensor=masked, **name) + ".png"
                write(root / files["mask"], written["mask"])
            expected[files["rgb"]] = which, files
    proposal = propose_import(root)
    assert proposal.stops == []
    assert len(proposal.sensors) == 3
    assert not proposal.unused
    write_manifest(proposal)
    found = {row[proposal.sensors[0].name]: row for row in rows(root)}
    by_word = {"rgb": proposal.sensors[0].name} if proposal.sensors[0].channels == 3 else {}
    assert by_word
    assert len(rows(root)) == len(expected) == len(found)
    for path, (which, files) in expected.items():
        row = found[path]
        assert {value for name, value in row.items() if name not in ("split", "defect_type") and value} == set(
            files.values()
        )
        assert (row["defect_type"] == "good") == (which == "good")
        assert row["split"] == "test" or which == "good"


def test_masks_are_known_by_their_pixels_too(tmp_path):
    for number in range(8):
        save(tmp_path / f"ok/{number}.png", "colour")
    for number in range(3):
        save(tmp_path / f"nok/{number}.png", "colour")
        save(tmp_path / f"nok/{number}_fehlstelle.png", "mask")
    proposal = propose_import(tmp_path)
    assert [sensor.name for sensor in proposal.sensors] == ["rgb"]
    assert sum(sample.mask is not None for sample in proposal.samples) == 3
    assert "taken for masks: 3 samples have it" in about(proposal, "fehlstelle")[0]
    kept = propose_import(tmp_path, Answers.of(["fehlstelle=keep"]))
    assert not any(sample.mask for sample in kept.samples)
    named = propose_import(tmp_path, Answers(masks=["fehlstelle"]))
    assert sum(sample.mask is not None for sample in named.samples) == 3


def test_labels_come_from_masks_or_from_the_user(tmp_path):
    for number in range(6):
        save(tmp_path / f"{number}_rgb.png", "colour")
        save(tmp_path / f"{number}_mask.png", "mask")
    for number in range(4):
        Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(tmp_path / f"{number}_mask.png")
    proposal = propose_import(tmp_path)
    assert proposal.counts() == {"train": {"good": 3}, "test": {"defective": 2, "good": 1}}
    assert "nothing says which of 6 samples with a mask are good" in about(proposal, "labels")[0]


def test_without_any_word_all_are_good_and_that_is_asked(tmp_path):
    for number in range(4):
        save(tmp_path / f"tadellos/{number}_rgb.png", "colour")
        save(tmp_path / f"kratzer/{number}_rgb.png", "colour")
    proposal = propose_import(tmp_path)
    assert proposal.counts() == {"train": {"good": 8}}
    assert "no name says which parts are good; 8 samples" in about(proposal, "labels")[0]
    proposal = propose_import(tmp_path, Answers(good=["tadellos"]))
    assert proposal.counts() == {"train": {"good": 3}, "test": {"good": 1, "kratzer": 4}}
    proposal = propose_import(tmp_path, Answers(defect=["kratzer"], good=["tadellos"], test_share=0.5))
    assert proposal.counts() == {"train": {"good": 2}, "test": {"good": 2, "kratzer": 4}}


def test_defective_samples_are_tested_on_wherever_they_lie(tmp_path):
    for split in ("train", "val", "test"):
        for label in ("ok", "def/scratch"):
            for number in range(4):
                save(tmp_path / f"{split}/{label}/{number}_rgb.png", "colour")
    proposal = propose_import(tmp_path, Answers(defect=["def"]))
    assert proposal.counts() == {"train": {"good": 4}, "validation": {"good": 4}, "test": {"good": 4, "scratch": 12}}
    assert "8 defective samples lie in train or validation" in about(proposal, "splits")[0]


def test_new_samples_are_for_predict(tmp_path, capsys):
    for number in range(3):
        save(tmp_path / f"test/{number}/rgb.png", "colour")
    code, out, _ = run(capsys, tmp_path, "--yes")
    assert code == 0
    assert f"next: crdkit predict RUN {tmp_path}" in out
    assert [row["defect_type"] for row in rows(tmp_path)] == ["", "", ""]
    assert "3 samples have no label, such as test/0/rgb; they can only be scored" in out


def test_samples_without_a_sensor_are_named_and_kept_only_if_asked(tmp_path):
    file_names(tmp_path)
    (tmp_path / "IR_ok_003.png").unlink()
    proposal = propose_import(tmp_path)
    assert len(proposal.samples) == 13
    said = "1 of 14 lack a sensor, such as 3_ok_rgb without ir; they are left out (--keep-incomplete)"
    assert said in about(proposal, "samples")[0]
    assert sorted(proposal.unused) == ["003-ok-depth.tiff", "3_ok_rgb.png"]
    kept = propose_import(tmp_path, Answers(keep_incomplete=True))
    assert len(kept.samples) == 14
    assert "training.modality_dropout" in about(kept, "samples")[0]
    assert ",3_ok_rgb.png,003-ok-depth.tiff,\n" in kept.manifest()


def test_names_that_agree_in_one_part_only(tmp_path):
    for number in range(6):
        save(tmp_path / f"s{number}_t{number + 100}_rgb.png", "colour")
        save(tmp_path / f"s{number}_t{number + 200}_ir.png", "heat")
    proposal = propose_import(tmp_path)
    assert len(proposal.samples) == 6
    assert (
        "one candidate key: part 1 ('s0') of s0_t100_rgb.png; part 1 is taken (--key 1)" in about(proposal, "names")[0]
    )
    for path in tmp_path.iterdir():
        path.rename(path.with_stem(path.stem.replace("s", "s1_", 1)))
    assert len(propose_import(tmp_path, Answers(key=2)).samples) == 6
    for number in range(6):
        (tmp_path / f"s1_{number}_t{number + 200}_ir.png").rename(tmp_path / f"{number}_t{number}_ir.png")
        (tmp_path / f"s1_{number}_t{number + 100}_rgb.png").rename(tmp_path / f"{number}_t{number}_{number}_rgb.png")
    assert "two candidate keys: part 1 ('0') or part 2 ('t0')" in about(propose_import(tmp_path), "names")[0]


def test_sensors_that_no_word_names(tmp_path):
    for number in range(5):
        save(tmp_path / f"a/good/{number}/alpha.png", "colour")
        save(tmp_path / f"a/good/{number}/beta.png", "heat")
        save(tmp_path / f"b/good/north/{number}.png", "grey")
        save(tmp_path / f"b/good/south/{number}.png", "grey")
        save(tmp_path / f"c/good/rgb/{number}.png", "colour")
        save(tmp_path / f"c/good/quux/{number}.png", "heat")
        save(tmp_path / f"d/{number}.png", "colour")
        save(tmp_path / f"d/{number}_ir.png", "heat")
    proposal = propose_import(tmp_path / "a")
    assert [sensor.name for sensor in proposal.sensors] == ["alpha", "beta"]
    assert "files of the same names are of different types" in about(proposal, "alpha, beta")[0]
    proposal = propose_import(tmp_path / "b")
    assert (len(proposal.samples), [sensor.name for sensor in proposal.sensors]) == (10, ["image"])
    assert (
        "taken for different parts, not for sensors (--sensor-names north,south)" in about(proposal, "north, south")[0]
    )
    proposal = propose_import(tmp_path / "b", Answers(sensor_names=["north", "south"]))
    assert (len(proposal.samples), [sensor.name for sensor in proposal.sensors]) == (5, ["north", "south"])
    proposal = propose_import(tmp_path / "c")
    assert [sensor.name for sensor in proposal.sensors] == ["rgb", "quux"]
    assert "is no known word, but its files have the names of other sensors' files" in about(proposal, "quux")[0]
    proposal = propose_import(tmp_path / "d")
    assert [sensor.name for sensor in proposal.sensors] == ["rgb", "ir"]
    assert "no word names the sensor of 5 files" in about(proposal, "rgb")[0]


def test_what_stops_an_import(tmp_path, capsys):
    for number in range(5):
        save(tmp_path / f"{number}_rgb.png", "colour")
        save(tmp_path / f"{number}_ir.png", "heat", side=16)
    code, out, err = run(capsys, tmp_path, "--yes")
    assert code == 2
    assert "settle: ir: is 16 x 16, but rgb is 32 x 32 in 0_rgb; all sensors of a sample must have one size" in out
    assert "nothing is written: 1 of the above must be settled first" in out
    assert "(--sensor ir=drop, or =keep)" in err
    assert not (tmp_path / "manifest.csv").exists()
    with pytest.raises(DataError, match="settle this first: ir: is 16 x 16"):
        write_manifest(propose_import(tmp_path))
    code, _, err = run(capsys, tmp_path, "--yes", "--sensor", "ir=keep")
    assert code == 2
    assert "manifest.csv: is written, but a training would refuse it: " in err
    assert "data.registration" in err
    (tmp_path / "manifest.csv").unlink()
    proposal = propose_import(tmp_path, Answers.of(["ir=drop"]))
    assert not proposal.stops
    assert proposal.unused["0_ir.png"] == "is left out by --sensor ir=drop"
    save(tmp_path / "3_rgb.png", "grey")
    assert "its files differ in type: 0_rgb.png is uint8, 3 channels" in about(propose_import(tmp_path), "rgb")[0]


def test_constant_rare_and_unreadable_sensors_are_left_out(tmp_path):
    for number in range(6):
        save(tmp_path / f"{number}_rgb.png", "colour")
        save(tmp_path / f"{number}_uv.png", "constant")
        tifffile.imwrite(tmp_path / f"{number}_tof.tiff", np.arange(SIDE * SIDE, dtype=np.int32).reshape(SIDE, SIDE))
    save(tmp_path / "0_nir.png", "grey")
    proposal = propose_import(tmp_path)
    assert [sensor.name for sensor in proposal.sensors] == ["rgb"]
    assert (
        "is constant in all 6 files that were looked at; it is left out (--sensor uv=keep)" in about(proposal, "uv")[0]
    )
    assert "only 1 of 6 samples have it; it is left out (--sensor nir=keep)" in about(proposal, "nir")[0]
    assert (
        "int32 is not read without a unit of length; it is left out (--sensor tof=unit:mm)" in about(proposal, "tof")[0]
    )
    proposal = propose_import(tmp_path, Answers.of(["uv=keep", "tof=unit:0.1mm"]))
    assert [sensor.name for sensor in proposal.sensors] == ["rgb", "tof", "uv"]
    assert proposal.options == ("data.scale.tof=0.0001",)


def test_the_value_for_not_measured_does_not_decide_the_unit_of_a_scan(tmp_path):
    for number in range(4):
        scan = np.stack([array("millimetres") / 1000] * 3, axis=-1)
        scan[:4] = -9999
        tifffile.imwrite(tmp_path / f"{number}_xyz.tiff", scan, photometric="rgb")
    proposal = propose_import(tmp_path)
    assert proposal.options == ("data.invalid.xyz=-9999",)
    (sensor,) = proposal.sensors
    assert sensor.unit == "m?"
    assert 0 < sensor.values[0] < sensor.values[1] < 2


def test_integers_in_three_channels_are_a_scan_if_a_unit_is_said(tmp_path):
    for number in range(4):
        scan = np.stack([array("millimetres")] * 3, axis=-1).astype(np.int16)
        tifffile.imwrite(tmp_path / f"{number}_xyz.tiff", scan, photometric="rgb")
    proposal = propose_import(tmp_path)
    assert not proposal.sensors
    assert "int16, 3 channels" in about(proposal, "xyz")[0]
    assert "X, Y and Z if a unit is said, else three sensors (--sensor xyz=unit:mm)" in about(proposal, "xyz")[0]
    proposal = propose_import(tmp_path, Answers.of(["xyz=unit:mm"]))
    (sensor,) = proposal.sensors
    assert (sensor.name, sensor.channels, sensor.part, sensor.unit) == ("xyz", 3, "", "mm")
    write_manifest(proposal)
    read = datasets.build(datasets.build_config({"name": "folder", "root": tmp_path, "scale": {"xyz": 0.001}}))
    assert read.read(read.records("train")[0]).sensors["xyz"].shape == (SIDE, SIDE, 3)


def test_units_and_fill_values(tmp_path):
    for number in range(4):
        depth = array("millimetres")
        depth[:4] = -9999
        save(tmp_path / f"{number}_rgb.png", "colour")
        tifffile.imwrite(tmp_path / f"{number}_depth.tiff", depth)
        np.save(tmp_path / f"{number}_range.npy", array("millimetres") / 1000)
    proposal = propose_import(tmp_path)
    assert proposal.options == ("data.invalid.depth=-9999", "data.scale.depth=0.001")
    assert [sensor.unit for sensor in proposal.sensors] == ["", "mm?", "m?"]
    assert "holds -9999 in many pixels, far from the rest; taken for 'not measured'" in about(proposal, "depth")[0]
    said = propose_import(tmp_path, Answers.of(["depth=unit:mm", "range=unit:none"]))
    assert said.options == proposal.options
    assert said.plain == ("range",)


def test_stacks_by_page_and_by_channel(tmp_path):
    stacks(tmp_path / "pages")
    proposal = propose_import(tmp_path / "pages")
    assert [(sensor.name, sensor.part) for sensor in proposal.sensors] == [
        *(("rgb", "#page=1"), ("image_2", "#page=2"), ("image_3", "#page=3"))
    ]
    assert "each file holds 3 sensors; their names are a guess: rgb: #page=1, uint8" in about(proposal, "image")[0]
    wrong = propose_import(tmp_path / "pages", Answers(sensor_names=["rgb", "ir"]))
    assert "its files hold 3 sensors, but 2 names are given" in wrong.stops[0].line
    for number in range(4):
        pixels = np.dstack([array("colour"), array("grey")])
        (tmp_path / "channels").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"channels/{number}.png")
        with tifffile.TiffWriter(tmp_path / f"channels/{number}_multi.tif") as file:
            tag = (285, 2, 0, "near infrared", True)
            file.write(array("heat"), extratags=[tag])
            file.write(np.dstack([array("heat")] * 2), planarconfig="contig", photometric="minisblack")
            file.write(array("grey", 8), subfiletype=1)
    proposal = propose_import(tmp_path / "channels")
    assert [(sensor.name, sensor.part) for sensor in proposal.sensors] == [
        ("rgb", "#channels=1-3"),
        ("image_2", "#channels=4"),
        ("near_infrared", "#page=1"),
        ("multi_2", "#page=2&channels=1"),
        ("multi_3", "#page=2&channels=2"),
    ]
    write_manifest(proposal)
    data = build_dataset(
        RunConfig.preset("quick").with_overrides("data.name=folder", f"data.root={tmp_path / 'channels'}")
    )
    assert {name: found.shape for name, found in data.read(data.records("train")[0]).sensors.items()} == {
        "rgb": (SIDE, SIDE, 3),
        **dict.fromkeys(("image_2", "near_infrared", "multi_2", "multi_3"), (SIDE, SIDE)),
    }


def test_masks_that_cannot_be_read_are_left_out(tmp_path):
    for kind, name in (("colour", "rgb"), ("small", "size"), ("mask", "tif")):
        root = tmp_path / name
        for number in range(3):
            save(root / f"ok/{number}_rgb.png", "colour")
            save(root / f"nok/{number}_rgb.png", "colour")
            ending = ".tif" if name == "tif" else ".png"
            save(
                root / f"nok/{number}_mask{ending}",
                "mask" if kind == "small" else kind,
                side=16 if kind == "small" else SIDE,
            )
        proposal = propose_import(root)
        assert not any(sample.mask for sample in proposal.samples)
        assert "3 files are left out: nok/0_mask" in about(proposal, "masks")[0]
        assert "nok/0_mask" + ending in proposal.unused
    (tmp_path / "rgb/nok/0_mask.png").write_bytes(b"\x89PNG no")
    assert "cannot be read" in about(propose_import(tmp_path / "rgb"), "masks")[0]


def test_odd_files_are_named_and_left_out(tmp_path):
    root = tmp_path / "parts"
    file_names(root)
    secret = tmp_path / "secret.png"
    save(secret, "colour")
    (root / "20_ok_rgb.png").symlink_to(secret)
    (root / "more").symlink_to(tmp_path)
    (root / "21_ok_rgb.png").write_bytes(b"")
    (root / "5_ok_rgb.jpg").write_bytes((root / "5_ok_rgb.png").read_bytes())
    (root / "22\\ok_rgb.png").write_bytes(b"any")
    (root / "99_mask.png").write_bytes((root / "5_ok_rgb.png").read_bytes())
    proposal = propose_import(root)
    assert len(proposal.samples) == 14
    assert {path: reason.partition(",")[0].partition(";")[0] for path, reason in proposal.unused.items()} == {
        "20_ok_rgb.png": "is a symbolic link",
        "more": "is a symbolic link",
        "21_ok_rgb.png": "is empty (0 bytes)",
        "22\\ok_rgb.png": "its name cannot stand in a manifest",
        "5_ok_rgb.png": "is the same sensor of the same sample as 5_ok_rgb.jpg",
        "99_mask.png": "is a mask of no sample",
    }
    assert "secret" not in proposal.manifest()


def test_a_damaged_file_is_told(tmp_path):
    file_names(tmp_path)
    (tmp_path / "5_ok_rgb.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    (tmp_path / "005-ok-depth.tiff").write_bytes(b"II*\0damaged")
    proposal = propose_import(tmp_path)
    assert "1 of the files that were looked at cannot be read, the first: " in about(proposal, "rgb")[0]
    assert "its header cannot be read" in about(proposal, "depth")[0]


def test_what_is_no_folder_to_import(tmp_path, capsys, monkeypatch):
    for words, message in (
        ([tmp_path / "nowhere"], "nowhere: does not exist; give the folder that holds the files"),
        ([tmp_path], f"{tmp_path}: holds no image; expected files that end in .png"),
    ):
        code, _, err = run(capsys, *words)
        assert (code, message in err) == (2, True)
    (tmp_path / "notes.txt").write_text("x")
    assert (
        "holds no image; expected files that end in .png, .tiff, ...; notes.txt ends in none"
        in run(capsys, tmp_path)[2]
    )
    assert "notes.txt: is not a folder" in run(capsys, tmp_path / "notes.txt")[2]
    file_names(tmp_path)
    monkeypatch.setattr("crdkit.data.importing._listing.MAX_FILES", 5)
    assert "holds more than 5 files" in run(capsys, tmp_path)[2]
    monkeypatch.undo()
    scandir = os.scandir
    monkeypatch.setattr(
        "os.scandir",
        lambda path: (
            scandir(path)
            if "closed" not in str(path)
            else (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
        ),
    )
    (tmp_path / "closed").mkdir()
    assert propose_import(tmp_path).unused["closed"] == "the folder cannot be opened: Permission denied"
    with pytest.raises(DataError, match="closed: the folder cannot be opened: Permission denied"):
        propose_import(tmp_path / "closed")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--sensor", "rgb"],
            "--sensor 'rgb': expected NAME=SETTING, a setting of drop, keep, mask, name:NEW, unit:mm",
        ),
        (["--sensor", "rgb=unit"], "expected NAME=SETTING"),
        (["--sensor", "rgb=dorp"], "unknown setting 'dorp' - did you mean 'drop'?"),
        (["--sensor", "rgb=name:a b"], "a sensor's name consists of letters, digits, _ and -"),
        (["--sensor", "rbg=drop"], "unknown sensor 'rbg' - did you mean 'rgb'?"),
        (["--good", "fein"], "no folder or file name has the word 'fein'"),
    ],
)
def test_answers_that_fit_nothing_are_refused(words, message, tmp_path, capsys):
    file_names(tmp_path)
    code, _, err = run(capsys, tmp_path, *words)
    assert (code, message in err) == (2, True), err


def test_a_known_layout_needs_no_manifest(tmp_path, capsys):
    write_mvtec3d(tmp_path / "scans", categories=["gear"], train=2, test_per_defect=1, size=32)
    write_folder(tmp_path / "own", categories=["gear"], train=2, test_per_defect=1, size=32)
    for folder, layout in (("scans/gear", "mvtec3d"), ("scans", "mvtec3d"), ("own/gear", "folder")):
        code, _, err = run(capsys, tmp_path / folder, "--yes")
        assert code == 2
        assert (
            f"is in the layout {layout!r}, which needs no manifest; type `crdkit data check {tmp_path / folder}`" in err
        )


def test_a_training_that_is_refused_is_told(tmp_path, capsys):
    save(tmp_path / "7_rgb.png", "colour")
    code, _, err = run(capsys, tmp_path, "--yes")
    assert code == 2
    assert "manifest.csv: is written, but a training would refuse it: " in err
    with pytest.raises(CrdkitError, match="exists"):
        write_manifest(propose_import(tmp_path))


def test_ten_thousand_files_are_named_but_not_opened(tmp_path, monkeypatch):
    save(tmp_path / "rgb/0.png", "colour", side=4)
    save(tmp_path / "ir/0.png", "heat", side=4)
    for sensor in ("rgb", "ir"):
        for number in range(1, 2500):
            os.link(tmp_path / sensor / "0.png", tmp_path / sensor / f"{number}.png")
    opened = []
    from crdkit.data.importing import _columns

    read = _columns.read_header
    monkeypatch.setattr(_columns, "read_header", lambda path: opened.append(path) or read(path))
    proposal = propose_import(tmp_path)
    assert len(proposal.samples) == 2500
    assert len(opened) < 200
    with pytest.raises(ConfigError, match="unknown sensor"):
        propose_import(tmp_path, Answers.of(["uv=drop"]))
