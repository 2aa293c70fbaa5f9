"""YAML and JSON of strangers: each text is what it holds, or one error of ours."""

from __future__ import annotations

import json

import pytest

from crdkit._core.documents import parse_json, parse_yaml
from crdkit.config import RunConfig
from crdkit.data.adapters.eyecandies import Eyecandies
from crdkit.data.synthetic import write_eyecandies
from crdkit.errors import ConfigError, CrdkitError, DataError, DetectorFormatError, explain, shorten

BAD_YAML = {
    "date": "2020-13-45",
    "float": "!!float x",
    "tag": "!!timestamp x",
    "bool tag": "!!bool perhaps",
    "digits": "1" * 5000,
    "depth": "[" * 5000,
    "nested": "[" * 70 + "]" * 70,
    "itself": "&a [*a]",
    "laughs": "\n".join(["- &a0 [x, x]", *(f"- &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12))]),
    "echo": "- &a " + "x" * 100_000 + "\n- [" + ", ".join(["*a"] * 1000) + "]",
    "unclosed": "{a: [",
}


@pytest.mark.parametrize("text", BAD_YAML.values(), ids=BAD_YAML)
def test_every_yaml_that_cannot_be_used_is_one_short_error(tmp_path, text):
    with pytest.raises(ValueError, match=r"^not valid YAML: .") as caught:
        parse_yaml(text)
    assert len(str(caught.value)) < 400
    (tmp_path / "run.yaml").write_text(f"data: {text}" if "\n" not in text else text)
    with pytest.raises(ConfigError, match=r"run\.yaml: is not valid YAML: ") as caught:
        RunConfig.from_yaml(tmp_path / "run.yaml")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="the value is not valid YAML: "):
        RunConfig.preset("quick").with_overrides(f"training.epochs={text}")


@pytest.mark.parametrize("text", ["[" * 5000, '{"a": NaN}', "[-Infinity]", "1" * 5000, "{", "[" * 70 + "]" * 70])
def test_every_json_that_cannot_be_used_is_one_short_error(text):
    with pytest.raises(ValueError, match=r"^not valid JSON: .") as caught:
        parse_json(text)
    assert len(str(caught.value)) < 400


def test_what_is_valid_comes_back():
    content = {"a": [1, 2.5, None, True, "x"], "b": {"c": []}}
    assert parse_json(json.dumps(content)) == content == parse_yaml(json.dumps(content))
    assert parse_yaml("a: &x [1]\nb: *x") == {"a": [1], "b": [1]}


@pytest.mark.parametrize("text", BAD_YAML.values(), ids=BAD_YAML)
def test_a_damaged_range_file_is_named(tmp_path, text):
    root = write_eyecandies(tmp_path / "scans", categories=["gear"], train=2, test_per_defect=0, size=32)
    dataset = Eyecandies(Eyecandies.Config(root=root, category="Gear"))
    record = dataset.records("train")[0]
    file = next(record.image_path.parent.glob("*_info_depth.yaml"))
    file.write_text(text)
    with pytest.raises(DataError, match=f"{file.name}: expected 'normalization'"):
        dataset.read(record)


def test_a_detector_whose_config_is_nested_too_deeply_is_named(tmp_path):
    from crdkit.detector import Detector

    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(
        DetectorFormatError, match=r"config\.json: cannot be read: not valid JSON: it is nested too deeply"
    ):
        Detector.load(tmp_path)


def test_messages_do_not_repeat_a_long_value():
    assert shorten("[1]") == "[1]"
    with pytest.raises(CrdkitError) as caught:
        RunConfig.preset("quick").with_overrides("training.epochs=" + "x" * 10_000)
    assert len(str(caught.value).removeprefix("training.epochs=" + "x" * 10_000)) < 300
    with pytest.raises(CrdkitError) as caught:
        RunConfig.from_dict({"k" * 10_000: 1})
    assert len(str(caught.value)) < 400
    assert callable(explain)


@pytest.mark.parametrize("limits", ["min: 1, max: 1.0e+300", f"min: 0, max: {'9' * 400}", "min: 2, max: 1"])
def test_a_range_that_no_camera_has_is_named(tmp_path, limits):
    root = write_eyecandies(tmp_path / "scans", categories=["gear"], train=2, test_per_defect=0, size=32)
    dataset = Eyecandies(Eyecandies.Config(root=root, category="Gear"))
    record = dataset.records("train")[0]
    file = next(record.image_path.parent.glob("*_info_depth.yaml"))
    file.write_text(f"normalization: {{{limits}}}")
    with pytest.raises(DataError, match=f"{file.name}: expected"):
        dataset.read(record)


@pytest.mark.parametrize("key", ["train", "sensors"])
def test_a_manifest_with_a_name_longer_than_files_can_have_is_named(tmp_path, key):
    from crdkit.data.adapters.folder import Folder

    long = "x" * 5000
    texts = {"sensors": {"rgb": "rgb/*.png"}, "train": ["a"]} | (
        {"train": [long]} if key == "train" else {"sensors": {"rgb": f"{long}/*.png"}}
    )
    (tmp_path / "manifest.yaml").write_text(json.dumps(texts))
    with pytest.raises(DataError, match=r"manifest\.yaml: .*is longer than a name of a file can be") as caught:
        Folder(Folder.Config(root=tmp_path)).records("train")
    assert len(str(caught.value)) < 500
