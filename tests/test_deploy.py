"""examples/deploy: programs without crdkit and PyTorch run an exported detector, and notice one that is run wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crdkit.data.images import read_file
from crdkit.detector._onnx import OLDEST_TORCH
from tests.blocked import run_without

pytestmark = pytest.mark.skipif(torch.__version__ < OLDEST_TORCH, reason=f"exporting asks for torch {OLDEST_TORCH}")

PROGRAMS = Path(__file__).parent.parent / "examples" / "deploy"
HEAVY = ("torch", "torchvision", "timm", "einops", "safetensors", "onnx", "typer", "rich", "jinja2", "matplotlib")
NO_CRDKIT = (*HEAVY, "crdkit", "scipy", "sklearn", "pydantic", "yaml")
DECIDED = re.compile(r"score (\S+): (normal|anomalous)")


def predict(*arguments):
    return run_without(NO_CRDKIT, PROGRAMS / "predict_onnx.py", *arguments)


def prepare(*arguments):
    return run_without((*HEAVY, "onnxruntime"), PROGRAMS / "prepare_views.py", *arguments)


@pytest.fixture(scope="module")
def sample(scans):
    """The files of one sample."""
    folder = scans / "biscuit" / "test" / "good"
    return {"rgb": folder / "rgb" / "000.png", "xyz": folder / "xyz" / "000.tiff"}


@pytest.fixture(scope="module")
def depth(exported, sample, tmp_path_factory):
    """The prepared view of that sample."""
    folder = tmp_path_factory.mktemp("views")
    done = prepare(exported, f"xyz={sample['xyz']}", "--out", folder)
    assert (done.returncode, done.stdout.strip()) == (0, str(folder / "depth_view.npy")), done.stderr
    return folder / "depth_view.npy"


@pytest.fixture(scope="module")
def wrong(exported, tmp_path_factory):
    """The same export, whose self-test expects another map."""
    file = Path(shutil.copytree(exported.parent, tmp_path_factory.mktemp("wrong") / "export")) / exported.name
    expected = file.with_suffix(".selftest") / "map_depth.npy"
    np.save(expected, np.load(expected) * np.float32(1.001))
    return file


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The C++ program, built with the headers and libraries of OpenVINO's wheel."""
    openvino = pytest.importorskip("openvino")
    for tool in ("cmake", "c++"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    build = tmp_path_factory.mktemp("build")
    found = f"-DOpenVINO_DIR={Path(openvino.__file__).parent / 'cmake'}"
    for command in (["cmake", "-S", PROGRAMS, "-B", build, found], ["cmake", "--build", build]):
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in done.stderr
    return lambda *arguments: subprocess.run(
        [build / "predict_openvino", *arguments], check=False, capture_output=True, text=True, timeout=120
    )


def test_views_are_prepared_without_torch(detector, sample, depth):
    expected = detector.prepare({name: read_file(file) for name, file in sample.items()}).views["depth"].numpy()
    assert np.load(depth).tobytes() == expected.tobytes()


def test_the_python_program_passes_the_self_test(exported, wrong):
    done = predict(exported, "--selftest")
    assert (done.returncode, done.stderr) == (0, "")
    assert {line.split(":")[0] for line in done.stdout.splitlines()} >= {"score", "anomaly_map", "map_depth", "mask"}
    done = predict(wrong, "--selftest")
    assert (done.returncode, done.stderr) == (1, "")
    assert "map_depth: differs by 1.0e-03" in done.stdout


def test_the_python_program_predicts_as_the_detector(detector, exported, sample, depth, tmp_path):
    inputs = [f"rgb={sample['rgb']}", f"depth_view={depth}"]
    done = predict(exported, *inputs, "--mask", tmp_path / "mask.png")
    assert done.returncode == 0, done.stderr
    expected = detector.predict(sample)
    score, decision = DECIDED.match(done.stdout).groups()
    assert float(score) == pytest.approx(expected.score, rel=1e-4)
    assert decision == ("anomalous" if expected.label else "normal")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "mask.png")) > 0, expected.mask)
    assert DECIDED.match(predict(exported, *inputs, "--threshold=-1e9").stdout).group(2) == "anomalous"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], r"give rgb=FILE depth_view=FILE; prepare_views\.py makes views"),
        (["rgb={rgb}"], r"give rgb=FILE depth_view=FILE"),
        (["rgb={rgb}", "xyz={xyz}"], r"give rgb=FILE depth_view=FILE"),
        (["rgb={xyz}", "depth_view={depth}"], r"rgb is uint8 \['H', 'W', 3\], found float32 \(64, 64, 3\); as it is"),
        (["rgb={rgb}", "depth_view={xyz}"], r"depth_view is float32 \[1, 64, 64\], found float32 \(64, 64, 3\)"),
    ],
)
def test_the_python_program_says_what_it_needs(exported, sample, depth, inputs, message):
    done = predict(exported, *(text.format(depth=depth, **sample) for text in inputs))
    assert done.returncode != 0
    assert re.search(message, done.stderr)
    assert "Traceback" not in done.stderr


def test_the_python_program_registers_nothing(exported, sample, depth, tmp_path):
    file = Path(shutil.copytree(exported.parent, tmp_path / "export")) / exported.name
    about = json.loads(file.with_suffix(".json").read_text())
    for entry in about["inputs"]:
        entry["registration"] = {"reference": "xyz"} if entry["name"] == "rgb" else None
    file.with_suffix(".json").write_text(json.dumps(about))
    done = predict(file, f"rgb={sample['rgb']}", f"depth_view={depth}")
    assert done.returncode != 0
    assert "rgb must be registered first" in done.stderr


def test_a_scan_that_no_view_can_be_made_of_is_one_line(exported, tmp_path):
    np.save(tmp_path / "scan.npy", np.ones((64, 64), np.uint8))
    done = prepare(exported, f"xyz={tmp_path / 'scan.npy'}", "--out", tmp_path / "views")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert str(tmp_path / "scan.npy") in done.stderr


def test_the_cpp_program_passes_the_self_test(program, exported, wrong):
    done = program(exported, "--selftest")
    assert (done.returncode, done.stderr) == (0, "")
    outputs = json.loads(exported.with_suffix(".json").read_text())["selftest"]["outputs"]
    assert {line.split(":")[0] for line in done.stdout.splitlines()[1:]} == set(outputs)
    done = program(wrong, "--selftest")
    assert done.returncode == 1
    assert re.search(r"map_depth: differs by 0\.000999", done.stdout)


def test_the_cpp_program_predicts_as_the_detector(program, detector, exported, sample, depth):
    np.save(depth.with_name("rgb.npy"), read_file(sample["rgb"]))
    done = program(exported, f"rgb={depth.with_name('rgb.npy')}", f"depth_view={depth}")
    assert done.returncode == 0, done.stderr
    score, decision = DECIDED.match(done.stdout).groups()
    expected = detector.predict(sample)
    assert float(score) == pytest.approx(expected.score, rel=1e-4)
    assert decision == ("anomalous" if expected.label else "normal")


def test_the_cpp_program_says_what_it_needs(program, exported, sample, depth, tmp_path):
    assert program(exported).returncode == 2
    (tmp_path / "short.npy").write_bytes(depth.read_bytes()[:-1])
    np.save(tmp_path / "rgb.npy", read_file(sample["rgb"]))
    for depth_view, message in (
        ("", "expected depth_view=FILE.npy"),
        (f"depth_view={tmp_path / 'short.npy'}", "short.npy: ends early"),
        (f"depth_view={sample['rgb']}", "cannot be read as a .npy file"),
    ):
        done = program(exported, f"rgb={tmp_path / 'rgb.npy'}", depth_view)
        assert done.returncode == 2
        assert message in done.stderr
