"""A key that is given twice is refused, with its lines, wherever YAML is read: the last one used to win silently."""

from __future__ import annotations

import pytest
import yaml

from crdkit._core.unique_keys import load_yaml
from crdkit.config import RunConfig
from crdkit.data import datasets
from crdkit.data.synthetic import write_eyecandies
from crdkit.errors import ConfigError, DataError


def test_equal_keys_of_one_mapping_are_refused_at_any_depth():
    with pytest.raises(yaml.YAMLError, match=r"^the key 'epochs' is given twice, in line 2 and in line 5$"):
        load_yaml("training:\n  epochs: 3\n  seed: 1\n\n  'epochs': 30\n")
    with pytest.raises(yaml.YAMLError, match="the key 'a' is given twice, in line 1 and in line 1"):
        load_yaml("- [{a: 1, b: {c: 2}, a: 1}]")
    with pytest.raises(yaml.YAMLError, match="the key '1' is given twice"):
        load_yaml("{1: a, 1: b}")


@pytest.mark.parametrize(
    "text",
    [
        "a: {x: 1}\nb: {x: 1}\n",
        "1: a\n'1': b\n",
        "base: &base {x: 1, y: 2}\nown: {<<: *base, x: 3}\nother: {x: 3, <<: *base}\n",
        "[]",
        "",
        "d: 2024-01-01\nf: [1, 2.5, yes, null]\n",
    ],
)
def test_other_documents_are_read_as_ever(text):
    assert load_yaml(text) == yaml.safe_load(text)


def test_configurations(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(RunConfig.preset("quick").to_yaml() + "training:\n  epochs: 3\n")
    with pytest.raises(
        ConfigError, match=r"run\.yaml: .*the key 'training' is given twice, in line \d+ and in line \d+$"
    ):
        RunConfig.from_yaml(file)
    with pytest.raises(ConfigError, match=r"modalities\.rgb=.*the key 'name' is given twice, in line 1 and in line 1"):
        RunConfig.preset("quick").with_overrides("modalities.rgb={name: rgb, name: xyz}")


def test_manifests(tmp_path):
    file = tmp_path / "manifest.yaml"
    file.write_text("sensors:\n  rgb: 'a/*.png'\n  rgb: 'b/*.png'\ntrain: x\n")
    data = datasets.build(datasets.build_config({"name": "folder", "root": tmp_path}))
    with pytest.raises(DataError, match=r"manifest\.yaml: .*the key 'rgb' is given twice, in line 2 and in line 3"):
        data.records("train")


def test_ranges_of_depth(tmp_path):
    options = {"categories": ["gear"], "train": 1, "validation": 1, "test_good": 1, "test_per_defect": 0, "size": 32}
    root = write_eyecandies(tmp_path / "candies", **options)
    data = datasets.build(datasets.build_config({"name": "eyecandies", "root": root, "category": "Gear"}))
    (record,) = data.records("train")
    (file,) = root.glob("Gear/train/data/*_info_depth.yaml")
    file.write_text(file.read_text() + file.read_text())
    with pytest.raises(DataError, match=r"info_depth\.yaml: .*the key 'normalization' is given twice"):
        data.read(record)
