"""What a first user typed, mistake by mistake, and what must happen; each test is one of them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import stat
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import crdkit as library
from crdkit.errors import CrdkitError
from journeys.conftest import SMALL, change_scan, start

GEAR = f"train quick data.root=scans data.category=gear {SMALL}"


def metrics(folder):
    return json.loads(Path(folder, "metrics.json").read_text())


def test_a_process_of_its_own_says_what_it_can_do(here):
    done = start("list training --json", here)
    out, err = done.communicate(timeout=120)
    assert (done.returncode, err) == (0, "")
    assert "training.epochs" in {option["key"] for option in json.loads(out)["training"]}


@pytest.mark.skipif(os.name != "posix", reason="sends SIGTERM")
def test_01_and_13_one_writer_per_folder_and_nothing_lost(crdkit, here):
    long = f"{GEAR} training.epochs=8 --out runs/gear"
    first = start(long, here)
    log = here / "runs/gear/log.jsonl"
    while not (log.exists() and log.stat().st_size) and first.poll() is None:
        time.sleep(0.02)
    first.send_signal(signal.SIGSTOP)  # however quick the machine is
    assert "runs/gear: is being written" in crdkit(f"{GEAR} training.seed=1 --out runs/gear --overwrite").error
    first.send_signal(signal.SIGTERM)
    first.send_signal(signal.SIGCONT)
    _, err = first.communicate(timeout=120)
    assert first.returncode == 143, err
    assert "; go on with: crdkit train quick" in err.splitlines()[-1]
    refused = crdkit(long).error
    assert "--resume" in refused
    assert "--overwrite" in refused
    assert crdkit(f"{GEAR} training.epochs=9 --out runs/gear").error
    assert list((here / "runs/gear/checkpoints").iterdir())
    before = len(log.read_text().splitlines())
    assert crdkit(f"{long} --resume").code == 0
    assert len(log.read_text().splitlines()) == 8 >= before > 0


def test_02_and_13_6_names_of_modalities(crdkit, here):
    for name in ("fused", "float", "keys", "training"):
        error = crdkit(f"{GEAR} modalities.{name}.name=rgb --out runs/x").error
        assert f"modality '{name}'" in error
        assert "choose another" in error
    assert not (here / "runs").exists()


def test_03_damaged_weights(crdkit, runs):
    weights = runs / "runs/gear/detector/model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-5] ^= 1
    weights.write_bytes(damaged)
    assert "SHA-256 checksum differs" in crdkit("predict runs/gear scans/gear").error
    assert "SHA-256 checksum differs" in crdkit("evaluate runs/gear").error


def test_04_arrays_and_files_of_one_sample_score_alike(crdkit, here):
    for file in sorted(Path("scans/gear").glob("*/*/xyz/*.tiff")):
        depth = tifffile.imread(file)[..., 2]
        target = Path("mm", *file.parts[2:4], "depth", f"{file.stem}.png")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((depth * 1000).round().astype(np.uint16)).save(target)
        target = target.parent.parent / "rgb" / target.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file.parent.parent / "rgb" / target.name, target)
    options = "data.name=folder data.root=mm data.scale.depth=0.001 modalities.depth.sensor=depth"
    assert crdkit(f"train quick {options} {SMALL} modalities.depth.mode=none --out runs/mm").code == 0
    detector = library.Detector.load("runs/mm/detector", device="cpu")
    files = {"rgb": Path("mm/test/good/rgb/000.png"), "depth": Path("mm/test/good/depth/000.png")}
    stored = {name: np.asarray(Image.open(path)) for name, path in files.items()}
    with pytest.raises(CrdkitError, match=r"data\.scale\.depth=0\.001 was applied .*: let detector\.read"):
        detector.predict(stored)
    assert detector.predict(detector.read(files)).score == detector.predict(files).score
    printed = crdkit("predict runs/mm rgb=mm/test/good/rgb/000.png depth=mm/test/good/depth/000.png --json")
    assert json.loads(printed.out)["samples"][0]["pred_score"] == pytest.approx(detector.predict(files).score)


@pytest.mark.parametrize("factor", [100, 1000, 30])
def test_05_scans_in_another_unit(crdkit, runs, factor):
    for file in Path("scans/gear/test").glob("*/xyz/*.tiff"):
        change_scan(file, lambda scan: scan * factor)
    assert "xyz" in crdkit("predict runs/gear scans/gear").error
    assert crdkit("data check scans").code == 2 or "warning" in crdkit("data check scans").out


def test_06_a_fill_value_is_recognised(crdkit, here):
    for file in Path("scans/gear").glob("*/*/xyz/*.tiff"):
        change_scan(file, lambda scan: np.where(scan[..., 2:] == 0, -9999, scan))
        change_scan(file, lambda scan: np.where(np.arange(scan.shape[0])[:, None, None] < 3, -9999, scan))
    error = crdkit(f"{GEAR} --out runs/fill").error
    assert "-9999" in error
    assert "data.invalid" in error
    assert "millimetres" not in error


def test_07_going_on_with_other_data(crdkit, runs):
    shutil.copy("scans/gear/train/good/rgb/001.png", "scans/gear/train/good/rgb/000.png")
    error = crdkit(f"{GEAR} --out runs/gear --resume").error
    assert "data" in error
    assert "--overwrite" in error or "changed" in error


def test_08_a_sweep_honours_its_overrides(crdkit, here):
    sweep = GEAR.replace("train quick", "sweep quick")
    swept = crdkit(f"{sweep} training.seed=3 --out sweeps/gear --json")
    assert (swept.code, json.loads(swept.out)["seeds"]) == (0, [3])
    assert list(json.loads(swept.out)["categories"]) == ["gear"]
    everywhere = sweep.replace(" data.category=gear", "")
    assert "unknown category 'gaer'" in crdkit(f"{everywhere} --categories gaer --out sweeps/typo").error


def test_09_good_by_another_name(crdkit, here):
    shutil.copytree("castings/new", "castings/test/Good")
    error = crdkit("train castings.yaml --out runs/castings").error
    assert "Good" in error
    assert "good" in error


def test_10_a_repeated_key(crdkit, here):
    with open("castings.yaml", "a") as file:
        file.write("training: {epochs: 2}\n")
    error = crdkit("train castings.yaml --out runs/castings").error
    assert "training" in error
    assert "line" in error


def test_11_16_bit_images_without_a_range(crdkit, here):
    checked = crdkit("data check castings")
    assert "ir2" in checked.out
    assert "range" in checked.out
    text = Path("castings.yaml").read_text().replace(", range: [28000, 32000]", "")
    Path("castings.yaml").write_text(text)
    done = crdkit("train castings.yaml --out runs/flat")
    assert "range" in done.err
    assert "ir2" in done.err or "heat" in done.err


def test_12_a_sensor_that_failed(crdkit, here):
    failed = Path("scans/gear/test/good/xyz/000.tiff")
    change_scan(failed, lambda scan: scan * 0)
    options = "training.modality_dropout=0.3 data.on_blank_sensor=missing"
    assert crdkit(f"{GEAR} {options} --out runs/dropout").code == 0
    assert "depth" in Path("runs/dropout/scores.csv").read_text()


def test_14_code_of_strangers(crdkit, runs):
    Path("evil.py").write_text("open('proof', 'w').write('ran')\n")
    header = Path("runs/gear/detector/config.json")
    content = json.loads(header.read_text())
    content["config"]["plugins"] = [str(Path("evil.py").absolute())]
    header.write_text(json.dumps(content))
    for command in ("predict runs/gear scans/gear", "evaluate runs/gear", "describe runs/gear/detector"):
        done = crdkit(command)
        assert not Path("proof").exists(), command
        if done.code:
            assert "--allow-plugins" in done.error
            assert "evil.py" in done.error
    with pytest.raises(CrdkitError, match="allow_plugins"):
        library.Detector.load("runs/gear/detector", device="cpu")
    assert not Path("proof").exists()


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_15_modes_and_paths_of_what_is_saved(runs):
    mask = os.umask(0)
    os.umask(mask)
    for file in Path("runs/gear").rglob("*.*"):
        if file.is_file():
            assert stat.S_IMODE(file.stat().st_mode) & 0o666 == 0o666 & ~mask, file
    text = Path("runs/gear/detector/config.json").read_text()
    assert "scans" not in text
    assert str(Path.home()) not in text


def test_16_and_17_good_parts_only_of_ones_own_sensors(crdkit, runs, with_reports):
    assert crdkit("train castings.yaml --out runs/again").code == 0
    assert set(metrics("runs/again")["aggregate"].values()) <= {None}
    assert Path("runs/again/report.html").is_file()
    found = crdkit("predict runs/castings castings/new --json")
    (first, second) = json.loads(found.out)["samples"]
    for sample in (first, second):
        assert sample["pred_label"] == int(sample["pred_score"] > sample["threshold"])
        assert 0 < sample["p_value"] <= 1
    assert crdkit("predict runs/castings castings/new --out found").code == 0
    assert len(list(Path("found/overlays").rglob("*.png"))) == 2


def test_18_the_check_says_how_to_train_and_what_a_training_refuses(crdkit, here):
    checked = crdkit("data check scans/gear --json")
    (dataset,) = json.loads(checked.out)["datasets"]
    assert (dataset["layout"], checked.code) == ("mvtec3d", 0)
    assert dataset["not_layouts"]
    words = shlex.split(dataset["train"])
    assert words[:2] == ["crdkit", "train"]
    assert crdkit(f"{shlex.join(words[1:])} {SMALL}").code == 0
    picture = Path("scans/gear/train/good/rgb/000.png")
    Image.open(picture).convert("RGB").save(picture.with_suffix(".jpg"))
    picture.unlink()
    assert ".jpg" in crdkit(f"{GEAR} --out runs/jpeg").error
    checked = crdkit("data check scans/gear --verbose")
    assert "not the layout mvtec3d: " in checked.out
    assert "000.jpg" in checked.out
    assert "train: crdkit train quick data.name=folder" in checked.out


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.betas=[1.5,2]", "less than 1"),
        ("scoring.sigma=1e9", "less than or equal to 1000"),
        ("modalities.rgb.encoder.layers=[1,9]", "it has the layers 0 to 4"),
    ],
)
def test_19_options_that_ended_in_a_traceback(crdkit, here, override, words):
    assert words in crdkit(f"{GEAR} '{override}' --out runs/x").error


def test_19_in_python(runs):
    detector = library.Detector.load("runs/gear/detector", device="cpu")
    with pytest.raises(CrdkitError, match="expected a mapping from sensor names"):
        detector.predict(None)
    run = library.RunConfig.preset("quick").with_overrides({"training.epochs": 3})
    assert run.training.epochs == 3
    files = {"rgb": "scans/gear/test/good/rgb/000.png", "xyz": "scans/gear/test/good/xyz/000.tiff"}
    first, second = detector.predict(files), detector.predict(files)
    assert isinstance(first == second, bool)
    header = Path("runs/gear/detector/config.json")
    content = json.loads(header.read_text())
    content["config"]["data"]["image_size"] = 128
    header.write_text(json.dumps(content))
    with pytest.raises(CrdkitError, match="128 x 128, but the branches were trained on"):
        library.Detector.load("runs/gear/detector", device="cpu").predict(files)
    with pytest.raises(CrdkitError, match=r"data\.root is not set"):
        library.fit("quick")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (f"{GEAR} modalities.rgb.encoder.model=resnet19 --out runs/x", "did you mean 'resnet"),
        ("sweep quick data.root=scans --seeds -1 --out sweeps/x", "--seeds"),
        ("data check empty", "holds no"),
        ("predict runs/gear nothing=a.png", "nothing"),
        ("train quick data.root=empty --out runs/x", "empty"),
    ],
)
def test_20_messages_that_name_the_remedy(crdkit, runs, command, words):
    Path("empty").mkdir()
    error = crdkit(command).error
    assert words in error
    assert "data.category is not set" not in error


def test_20_litter_is_ignored_alike(crdkit, here):
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini"):
        for folder in ("scans/gear/train/good/rgb", "castings/train/laser"):
            Path(folder, name).write_bytes(b"litter")
    assert crdkit("data check scans").code == crdkit("data check castings").code == 0


def test_21_python_says_what_things_are(runs):
    detector = library.Detector.load("runs/gear/detector", device="cpu")
    for word in ("rgb", "depth", "64"):
        assert word in repr(detector)
    files = {"rgb": Path("scans/gear/test/good/rgb/000.png"), "xyz": Path("scans/gear/test/good/xyz/000.tiff")}
    found = detector.predict(files)
    assert f"{found.score:.3g}" in repr(found)
    assert json.loads(json.dumps(found.to_dict()))["pred_score"] == pytest.approx(found.score)


def test_21_the_terminal(crdkit, runs):
    for command in ("list --json", "describe runs/gear --json", "evaluate runs/gear --json", "data check scans --json"):
        done = crdkit(f"{command} -q")
        assert (done.code, done.err) == (0, ""), command
        json.loads(done.out)
    plain = crdkit("-q evaluate runs/gear").out
    assert not set(plain) & set("│┃─━\x1b")
    assert "training.learning_rate" in crdkit("list training").out
    assert "Traceback" in crdkit("describe nothing -v").err


def test_the_installed_program_is_the_same(here):
    installed = Path(sys.executable).parent / "crdkit"
    if not installed.is_file():
        pytest.skip("crdkit is not installed beside this interpreter")
    done = start("--version", here, program=(str(installed),))
    assert done.communicate(timeout=60)[0] == f"crdkit {library.__version__}\n"
