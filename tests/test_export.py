"""An exported detector is the detector: in ONNX Runtime, in OpenVINO, as a program of PyTorch, and loaded again."""

from __future__ import annotations

import json
import shutil
import sys

import exports
import numpy as np
import predictions
import pytest
import torch
from torch import nn

import crdkit
from crdkit.cli import main
from crdkit.config.build import build_model, build_scorer
from crdkit.detector import Detector
from crdkit.detector._onnx import OLDEST_TORCH
from crdkit.detector.view_networks import resize_bytes
from crdkit.errors import ConfigError, CrdkitError, DetectorFormatError
from crdkit.scoring.conformal import Normals
from crdkit.scoring.thresholds import Thresholds
from crdkit.testing import example_sensors

pytestmark = pytest.mark.skipif(torch.__version__ < OLDEST_TORCH, reason=f"exporting asks for torch {OLDEST_TORCH}")

RUNTIMES = [
    exports.onnx_runtime,
    pytest.param(exports.openvino, marks=pytest.mark.filterwarnings("ignore::DeprecationWarning")),
]


@pytest.fixture(params=RUNTIMES, ids=lambda runtime: runtime.__name__)
def runtime(request):
    pytest.importorskip(request.param.__name__.replace("_", "").replace("onnxruntime", "onnxruntime"))
    return request.param


def copied(file, folder):
    """Copy a file and what lies beside it."""
    shutil.copytree(file.parent, folder, dirs_exist_ok=True)
    return folder / file.name


def test_the_self_test_passes_in_every_runtime(exported, runtime):
    inputs, outputs = exports.self_test(exported)
    assert list(inputs) == ["rgb", "depth_view"]
    assert {name: (values.dtype.str, values.shape) for name, values in outputs.items()} == {
        "score": ("<f4", (1,)),
        "anomaly_map": ("<f4", (1, 1, 64, 64)),
        "score_rgb": ("<f4", (1,)),
        "score_depth": ("<f4", (1,)),
        "map_rgb": ("<f4", (1, 1, 64, 64)),
        "map_depth": ("<f4", (1, 1, 64, 64)),
        "label": ("|b1", (1,)),
        "mask": ("|b1", (1, 1, 64, 64)),
    }
    exports.close(runtime(exported)(inputs), outputs)


@pytest.mark.parametrize("size", [(64, 64), (150, 200), (40, 50)])
def test_scores_are_those_of_the_detector_for_any_number_and_size(detector, exported, runtime, size):
    samples = [example_sensors(["rgb", "xyz"], size=size, index=index) for index in range(3)]
    run, expected = runtime(exported), detector.predict_batch(samples)
    for some in (samples, samples[:1]):
        found = run(exports.inputs_of(detector, some))
        for row, one in enumerate(expected[: len(some)]):
            assert found["score"][row] == pytest.approx(one.score, rel=1e-4)
            assert found["label"][row] == one.label
            assert found["score_rgb"][row] == pytest.approx(one.scores["rgb"], rel=1e-4)


def test_thresholds_are_inputs_with_defaults(detector, exported, samples):
    run, inputs = exports.onnx_runtime(exported), exports.inputs_of(detector, samples[:2])
    found = run(inputs)
    complete = detector.thresholds.complete
    limit, pixel = detector.thresholds.images[complete].value, detector.thresholds.pixels[complete].value
    assert (found["label"] == (found["score"] > limit)).all()
    assert (found["mask"] == (found["anomaly_map"] > pixel)).all()
    low = {"threshold": np.float32(found["score"].min()), "pixel_threshold": np.float32(-1)}
    lower = run({**inputs, **{name: np.array(value) for name, value in low.items()}})
    assert (lower["label"] == (found["score"] > found["score"].min())).all()
    assert lower["mask"].all()


def test_a_score_at_a_threshold_is_normal_and_the_next_one_is_not():
    from crdkit.detector._export_graph import default_threshold

    for value in (1.0, 1 + 2**-30, 1 - 2**-40):
        thresholds = Thresholds(scores={("a",): Normals([value], rule="split")}, peaks={}, false_alarms=0.5)
        limit = np.float32(default_threshold(thresholds, ("a",)))
        near = [np.nextafter(limit, np.float32(-9)), limit, np.nextafter(limit, np.float32(9))]
        assert [bool(score > limit) for score in near] == [bool(float(score) > value) for score in near]


def test_the_description_says_what_a_program_needs(detector, exported):
    beside = json.loads(exported.with_suffix(".json").read_text(encoding="utf-8"))
    kinds = {entry["name"]: (entry["kind"], entry["dtype"], entry["shape"]) for entry in beside["inputs"]}
    assert kinds == {
        "rgb": ("sensor", "uint8", ["N", "H", "W", 3]),
        "depth_view": ("view", "float32", ["N", 1, 64, 64]),
        "threshold": ("threshold", "float32", []),
        "pixel_threshold": ("threshold", "float32", []),
    }
    view = beside["inputs"][1]
    assert (view["sensors"], view["invalid"], view["options"]["mode"]) == (["xyz"], 0, "robust")
    assert "0.1 nearest, 0.9 farthest, 0 background" in view["meaning"]
    image = detector.thresholds.images[("rgb", "depth")]
    assert beside["thresholds"]["image"][0]["threshold"] == image.value
    assert (beside["thresholds"]["image"][0]["normals"], beside["thresholds"]["image"][0]["rule"]) == (3, "jackknife")
    assert beside["inputs"][2]["default"] == pytest.approx(image.value, rel=1e-6)


def test_the_file_alone_says_the_same_and_is_standard(exported, finished):
    import onnx

    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    inside = json.loads(next(entry.value for entry in model.metadata_props if entry.key == "crdkit"))
    beside = json.loads(exported.with_suffix(".json").read_text(encoding="utf-8"))
    own = ("file", "file_format", "selftest")
    weights = {"weights": beside["sha256"]["weights"]}
    assert inside == {key: value for key, value in beside.items() if key not in own} | {"sha256": weights}
    saved = json.loads((finished / "detector/config.json").read_text(encoding="utf-8"))
    assert inside["detector"] == saved


def test_a_loaded_file_predicts_as_the_detector(detector, exported, samples):
    loaded = Detector.load(exported)
    assert (loaded.sensors, loaded.config) == (detector.sensors, detector.config)
    for found, expected in zip(loaded.predict_batch(samples), detector.predict_batch(samples), strict=True):
        predictions.same(found, expected, atol=1e-5)
        assert (found.label, found.threshold, found.p_value) == (expected.label, expected.threshold, expected.p_value)
        assert [region.box for region in found.regions] == [region.box for region in expected.regions]
        assert [region.modality for region in found.regions] == [region.modality for region in expected.regions]
        assert found.attribution is None
    predictions.same(loaded.predict(samples[0]), detector.predict(samples[0]), atol=1e-5)
    assert loaded.decide(0.5).false_alarms == 0.5


def test_what_a_loaded_file_cannot_do_is_refused(exported, tmp_path):
    loaded = Detector.load(exported)
    assert loaded.to("cpu").compile() is loaded
    loaded.attribution = "alarms"
    assert loaded.attribution == "never"
    with pytest.raises(ConfigError, match=r"takes parts of the networks away: .*use the detector's folder"):
        loaded.attribution = "always"
    with pytest.raises(CrdkitError, match="is its file: copy that"):
        loaded.save(tmp_path / "saved")
    with pytest.raises(CrdkitError, match="was exported already"):
        loaded.export(tmp_path / "again.onnx")
    with pytest.raises(ConfigError, match="calibrated on unsmoothed maps"):
        loaded._engine().raw_maps(lambda _: torch.zeros(1, 1, 64, 64))


def test_commands_take_a_file(exported, finished, scans, tmp_path, capsys):
    assert main(["evaluate", str(exported), f"data.root={scans}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    measured = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))
    assert found["aggregate"] == pytest.approx(measured["aggregate"], abs=1e-4)
    assert found["parameters"] == measured["parameters"]
    assert main(["predict", str(exported), str(scans / "biscuit"), "--out", str(tmp_path / "found")]) == 0
    assert main(["predict", str(finished), str(scans / "biscuit"), "--out", str(tmp_path / "own")]) == 0
    tables = [(tmp_path / name / "scores.csv").read_text().splitlines() for name in ("found", "own")]
    assert [line.split(",")[:2] for line in tables[0]] == [line.split(",")[:2] for line in tables[1]]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:5000]), "SHA-256 checksum differs; copy all files"),
        (lambda file: (cut(file, 5000), file.with_suffix(".json").unlink()), "cannot be read: "),
        (lambda file: (cut(file, 0), file.with_suffix(".json").unlink()), "is no detector that crdkit has exported"),
        (lambda file: file.unlink(), "part.onnx: does not exist"),
    ],
)
def test_a_damaged_file_is_refused(exported, tmp_path, damage, message):
    file = copied(exported, tmp_path)
    damage(file)
    with pytest.raises(DetectorFormatError, match=message):
        Detector.load(file)


def cut(file, length):
    file.write_bytes(file.read_bytes()[:length])


def test_a_file_needs_no_description_beside_it(exported, tmp_path, samples, detector):
    alone = shutil.copy(exported, tmp_path / "alone.onnx")
    assert Detector.load(alone).predict(samples[0]).score == pytest.approx(detector.predict(samples[0]).score, rel=1e-5)


@pytest.fixture(scope="module")
def many(tiny):
    """A detector of three sensors that can do without some: transformers that see larger images, and a score that asks
    where the object is."""
    teacher = "{name: timm, model: test_vit, pretrained: false, image_size: 96, layers: [0, 1]}"
    config = tiny.with_overrides(
        f"modalities.rgb.encoder={teacher}",
        "modalities.infrared={name: infrared, encoder: {name: timm, model: test_resnet, pretrained: false}}",
        "training.modality_dropout=0.3",
        "scoring.score={name: top_mean, over: object}",
        "graph.topology=edges",
        "graph.edges=[{source: depth, target: rgb}, {source: infrared, target: rgb}]",
    )
    kept = {"kinds": ["uint16"], "channels": [1], "low": 100, "high": 60000, "spread": [1, 1e5], "samples": 3}
    kept |= {"measured": 1.0, "magnitude": [1, 6e4], "colour": None, "colour_spread": 0.0}
    parts = {"model": build_model(config), "scorer": build_scorer(config), "sensor_statistics": {"infrared": kept}}
    found = Detector(config=config, **parts)
    whole = example_sensors(["rgb", "xyz", "infrared"], size=(64, 64))
    score = {names: found.predict({key: whole[key] for key in names}).score for names in (tuple(whole), ("rgb", "xyz"))}
    limits = {("rgb", "depth", "infrared"): 0.9 * score[tuple(whole)], ("rgb", "depth"): 1.1 * score["rgb", "xyz"]}
    normals = {names: Normals([limit], rule="split") for names, limit in limits.items()}
    found.thresholds = Thresholds(scores=normals, peaks={}, false_alarms=0.5)
    return found


def test_samples_without_a_sensor_and_thresholds_of_theirs(many, runtime, many_exported):
    inputs, outputs = exports.self_test(many_exported)
    assert list(inputs) == ["rgb", "infrared", "depth_view", "present"]
    assert (inputs["infrared"].dtype, inputs["infrared"].shape) == (np.uint16, (1, 128, 64))
    run = runtime(many_exported)
    exports.close(run(inputs), outputs)
    whole = example_sensors(["rgb", "xyz", "infrared"], size=(64, 64))
    some = [whole, {key: whole[key] for key in ("rgb", "xyz")}, {key: whole[key] for key in ("xyz", "infrared")}]
    expected = many.predict_batch(some)
    present = [[name in sample for name in many.sensors] for sample in some]
    arrays = {
        "rgb": np.stack([whole["rgb"]] * 3),
        "infrared": np.stack([whole["infrared"]] * 3),
        "depth_view": np.stack([many.prepare(whole).views["depth"].numpy()] * 3),
        "present": np.array(present),
    }
    arrays["infrared"][1] = 77  # whatever stands for a missing one
    found = run(arrays)
    assert found["score"].tolist() == pytest.approx([one.score for one in expected], rel=1e-4)
    assert [one.label for one in expected] == [True, False, None]
    assert found["label"].tolist() == [True, False, False]
    assert not found["mask"].any()


def test_a_loaded_file_does_without_sensors_too(many, many_exported):
    whole = example_sensors(["rgb", "xyz", "infrared"], size=(64, 80))
    some = [whole, {"rgb": whole["rgb"]}, {key: whole[key] for key in ("xyz", "infrared")}]
    many.attribution = "never"
    for found, expected in zip(Detector.load(many_exported).predict_batch(some), many.predict_batch(some), strict=True):
        predictions.same(found, expected, atol=1e-5)


@pytest.fixture(scope="module")
def many_exported(many, tmp_path_factory):
    return many.export(tmp_path_factory.mktemp("many") / "part.onnx")


def test_weights_that_do_not_fit_lie_beside_the_file(rgb_only, tmp_path, monkeypatch):
    monkeypatch.setattr("crdkit.detector._export_onnx.MOST_BYTES", 1000)
    file = rgb_only.export(tmp_path / "part.onnx")
    assert file.stat().st_size < (tmp_path / "part.onnx.data").stat().st_size
    exports.close(exports.onnx_runtime(file)(exports.self_test(file)[0]), exports.self_test(file)[1])
    sample = example_sensors(["rgb"], size=(70, 64))
    loaded = Detector.load(file)
    predictions.same(loaded.predict(sample), rgb_only.predict(sample), atol=1e-5)
    assert loaded.predict(sample).label is None
    cut(tmp_path / "part.onnx.data", 1000)
    with pytest.raises(DetectorFormatError, match=r"part.onnx.data: is not the file that was exported with part.json"):
        Detector.load(file)


@pytest.fixture(scope="module")
def rgb_only(tiny):
    """A detector of one sensor, without thresholds."""
    config = tiny.with_overrides("modalities.depth=null")
    return Detector(config=config, model=build_model(config), scorer=build_scorer(config))


def test_a_program_of_pytorch(rgb_only, tmp_path):
    file = rgb_only.export(tmp_path / "part.pt2", "torch")
    inputs, outputs = exports.self_test(file)
    assert list(inputs) == ["rgb", "threshold", "pixel_threshold"]
    assert np.isinf(inputs["threshold"])
    kept = {"crdkit.json": ""}
    program = torch.export.load(file, extra_files=kept).module()
    assert json.loads(kept["crdkit.json"])["thresholds"] is None
    found = program([torch.from_numpy(np.array(values)) for values in inputs.values()])
    exports.close({name: values.numpy() for name, values in zip(outputs, found, strict=True)}, outputs)
    assert not found[list(outputs).index("label")].any()
    with pytest.raises(DetectorFormatError, match=r"part.pt2: expected the folder of a detector, or a file that ends"):
        Detector.load(file)


class Reads(nn.Module):
    """A network that decides by what it sees."""

    def forward(self, images):
        return [images[..., ::4, ::4] * (2 if images.mean() > 0.5 else 1)]


def test_a_part_that_cannot_be_exported_is_named_and_nothing_is_written(tiny, tmp_path):
    config = tiny.with_overrides(
        "modalities.depth=null", "modalities.rgb.encoder={name: module, target: 'test_export:Reads'}"
    )
    mine = Detector(config=config, model=build_model(config), scorer=build_scorer(config))
    for name in ("part.onnx", "part.pt2"):
        with pytest.raises(ConfigError, match=r"the teacher of 'rgb' cannot be exported: .*; use a teacher of timm"):
            mine.export(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        ("part.onnx", "tensorrt", r"format \(='tensorrt'\) must be one of onnx, torch"),
        ("part.bin", None, r"part.bin: its suffix does not say the format; the name must end in .onnx for onnx"),
        ("part.pt2", "onnx", "part.pt2: its suffix does not say onnx"),
    ],
)
def test_another_format_is_refused(rgb_only, tmp_path, name, format, message):  # noqa: A002
    with pytest.raises(ConfigError, match=message):
        rgb_only.export(tmp_path / name, format)


def test_an_export_that_is_there_stays(rgb_only, tmp_path):
    (tmp_path / "part.json").write_text("mine")
    with pytest.raises(CrdkitError, match=r"part.json exists; choose another name, or replace .* --overwrite"):
        rgb_only.export(tmp_path / "part.onnx")
    (tmp_path / "other.onnx").mkdir()
    with pytest.raises(CrdkitError, match=r"other.onnx is a folder; choose another name"):
        rgb_only.export(tmp_path / "other.onnx", overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(CrdkitError, match="cannot be written"):
        rgb_only.export(tmp_path / "file/part.onnx")
    assert (tmp_path / "part.json").read_text() == "mine"


def test_a_missing_package_is_named(rgb_only, exported, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match=r"exporting needs the package 'onnxscript'.*pip install 'crdkit\[onnx\]'"):
        rgb_only.export(tmp_path / "part.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"needs the package 'onnxruntime'; pip install 'crdkit\[onnx\]'"):
        Detector.load(exported)


def test_the_command_exports(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("crdkit.detector.export.write_export", _stand_in)
    assert main(["export", str(finished), "--out", str(tmp_path / "part.onnx")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "input rgb: uint8 N x H x W x 3",
        "input threshold: float32 one number",
        "output score: float32 N",
        f"{tmp_path / 'part.onnx'}, part.json, part.selftest/",
    ]
    assert main(["export", str(finished), "--out", str(tmp_path / "part.onnx")]) == 2
    assert "exists; choose another name" in capsys.readouterr().err
    assert main(["export", str(finished), "--out", str(tmp_path / "part.onnx"), "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == "crdkit-export"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part.json", "part.onnx", "part.selftest"]
    assert main(["export", str(finished), "--format", "torch", "--out", str(tmp_path / "part.onnx")]) == 2


def _stand_in(_detector, file, _chosen):
    file.write_bytes(b"")
    file.with_suffix(".selftest").mkdir()
    inputs = [{"name": "rgb", "dtype": "uint8", "shape": ["N", "H", "W", 3]}]
    inputs += [{"name": "threshold", "dtype": "float32", "shape": []}]
    outputs = [{"name": "score", "dtype": "float32", "shape": ["N"]}]
    found = {"format": "crdkit-export", "inputs": inputs, "outputs": outputs, "selftest": {"folder": "part.selftest"}}
    file.with_suffix(".json").write_text(json.dumps(found))
    yield from range(3)


def test_bytes_are_resized_as_pillow_does():
    image = example_sensors(["rgb"], size=(90, 130))["rgb"]
    from crdkit.data.images import resize_image

    for size in (17, 64, 90, 200):
        expected = resize_image(image, size).astype(np.float32).transpose(2, 0, 1)
        found = resize_bytes(torch.from_numpy(image.copy()).permute(2, 0, 1).float(), size).numpy()
        assert (found == expected).all()


def test_crdkit_exports_its_public_name():
    assert crdkit.Detector.export.__doc__
