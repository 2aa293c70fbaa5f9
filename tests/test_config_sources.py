"""What stands for a configuration in Python: its name, file or values; and overrides as a mapping."""

from __future__ import annotations

from pathlib import Path

import pytest

import crdkit
from crdkit.config import RunConfig, load_config
from crdkit.errors import ConfigError, UnknownNameError, UntrustedCodeError


@pytest.fixture(scope="module")
def quick():
    return RunConfig.preset("quick")


def test_names_files_values_and_configurations(quick, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(quick.to_yaml())
    unusual = tmp_path / "run.txt"
    unusual.write_text(quick.to_yaml())
    values = quick.model_dump(mode="json")
    for source in ("quick", str(file), file, unusual, values, quick):
        assert load_config(source) == quick


def test_fit_takes_them_too(tiny, tmp_path, monkeypatch):
    file = tmp_path / "run.yaml"
    file.write_text(tiny.to_yaml())
    seen = []

    class StopError(Exception):
        pass

    def stop(config):
        seen.append(config)
        raise StopError

    monkeypatch.setattr("crdkit.runs.fit.Pipeline", stop)
    for source in (file, str(file), tiny.model_dump(), tiny):
        with pytest.raises(StopError):
            crdkit.fit(source)
    assert seen == [tiny] * 4
    with pytest.raises(StopError):
        crdkit.fit("quick")
    assert seen[-1] == RunConfig.preset("quick")


def test_a_preset_without_data_says_what_to_set():
    with pytest.raises(crdkit.CrdkitError, match=r"data\.root"):
        crdkit.fit("quick")


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("quik", UnknownNameError, r"unknown preset 'quik' - did you mean 'quick'\?"),
        ("nowhere.yaml", ConfigError, r"nowhere\.yaml: cannot be read"),
        (Path("nowhere"), ConfigError, r"nowhere: cannot be read"),
        ({}, ConfigError, "data is missing"),
        ({"dat": 1}, ConfigError, "unknown key 'dat' - did you mean 'data'"),
        (None, ConfigError, r"^expected a configuration, .* the name of a preset, e\.g\. 'quick', got NoneType$"),
        (3, ConfigError, "got int$"),
    ],
)
def test_what_is_no_configuration_says_what_one_is(source, error, message):
    with pytest.raises(error, match=message):
        crdkit.fit(source)


def test_code_that_a_file_names_needs_permission_and_code_of_a_dict_does_not(quick, tmp_path):
    (tmp_path / "own_part_of_sources.py").write_text("LOADED = True\n")
    values = {**quick.model_dump(mode="json"), "plugins": [str(tmp_path / "own_part_of_sources.py")]}
    file = tmp_path / "run.yaml"
    file.write_text(quick.to_yaml().replace("plugins: []", f"plugins: [{tmp_path / 'own_part_of_sources.py'}]"))
    with pytest.raises(UntrustedCodeError, match="own_part_of_sources"):
        crdkit.fit(file)
    assert load_config(values).plugins
    assert load_config(file).plugins  # named by the caller before


def test_a_mapping_overrides_as_texts_do(quick):
    expected = quick.with_overrides("training.epochs=3", "data.category=007", "aggregation.name=max", "scoring.sigma=2")
    assert expected == quick.with_overrides(
        {"training.epochs": 3, "data.category": "007", "aggregation.name": "max", "scoring.sigma": 2}
    )
    nested = {"training": {"epochs": 3}, "data": {"category": "007"}, "aggregation": {"name": "max"}}
    assert expected == quick.with_overrides(nested, "scoring.sigma=2")
    assert quick.with_overrides({}) == quick
    assert quick.with_overrides({"data.root": Path("/data")}).data.root == Path("/data")


def test_a_nested_mapping_changes_only_what_it_names(quick):
    changed = quick.with_overrides({"training": {"batch_size": 2}, "modalities": {"depth": {"fill_passes": 1}}})
    assert changed == quick.with_overrides("training.batch_size=2", "modalities.depth.fill_passes=1")
    assert changed.training.loss == quick.training.loss
    with_thermal = {"modalities": {"thermal": {"name": "single_channel", "sensor": "thermal", "range": [0, 100]}}}
    assert list(quick.with_overrides(with_thermal).modalities) == ["rgb", "depth", "thermal"]
    assert list(quick.with_overrides({"modalities": {"depth": None}}).modalities) == ["rgb"]
    encoder = {"modalities": {"rgb": {"encoder": {"name": "timm", "model": "test_resnet", "pretrained": False}}}}
    assert quick.with_overrides(encoder).modalities["rgb"].encoder.model == "test_resnet"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (None, r"an override must be text, .* or a mapping, .* got NoneType"),
        (3, "got int"),
        ({3: 4}, r"the keys of overrides are texts, .* got 3"),
        ({"": 4}, "the keys of overrides are texts"),
        ({"training.epochs": 0}, r"^training\.epochs=0: training\.epochs \(=0\): input should be greater"),
        ({"training": {"epoch": 3}}, r"unknown key 'epoch' - did you mean 'epochs'"),
        ({"training": 3}, r"training"),
    ],
)
def test_wrong_overrides_are_named(quick, override, message):
    with pytest.raises(ConfigError, match=message):
        quick.with_overrides(override)
