"""No code runs from data or from the files of strangers."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

import crdkit
from crdkit.cli import main
from crdkit.config import RunConfig, load_config, trust
from crdkit.detector import Detector
from crdkit.errors import ConfigError, UntrustedCodeError
from crdkit.model.encoders import encoders
from crdkit.runs.directory import require_same_config

PLUGIN = "from pathlib import Path\nPath({trace!r}).write_text('ran')\n"
TARGET = "\n\ndef build():\n    Path({trace!r}).write_text('called')\n    raise ValueError('a teacher')\n"


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """Nothing is allowed from test to test, and the path and modules stay as they were."""
    monkeypatch.setattr(trust, "_named", set())
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def trace(tmp_path):
    """The file that strangers' code writes."""
    return tmp_path / "trace"


@pytest.fixture
def part(tmp_path, trace):
    """A stranger's file of Python code, which can be a plug-in and a teacher."""
    path = tmp_path / "stranger" / "strange_part.py"
    path.parent.mkdir()
    path.write_text((PLUGIN + TARGET).format(trace=str(trace)))
    return path


def plugin(values, part):
    values["plugins"] = [str(part)]


def plugin_beside(values, part):
    values["plugins"] = [part.stem]


def target(values, part):
    sys.path.append(str(part.parent))  # what they name is importable
    values["modalities"]["rgb"]["encoder"] = {"name": "module", "target": f"{part.stem}:build"}


def loaded_target(values, part):
    values["modalities"]["rgb"]["encoder"] = {"name": "module", "target": "os:abort"}  # os is loaded: a call counts


def target_by_category(values, part):
    sys.path.append(str(part.parent))
    encoder = {"name": "module", "target": f"{part.stem}:build"}
    values["by_category"] = {"modalities.rgb.encoder": {"gear": encoder, "other": {"name": "timm"}}}


def target_of_another_category(values, part):
    sys.path.append(str(part.parent))
    values["modalities"]["rgb"]["encoder"] = {"name": "module"}
    values["by_category"] = {"modalities.rgb.encoder.target": {"rope": f"{part.stem}:build", "other": None}}


def plugins_by_category(values, part):
    values["by_category"] = {"plugins": {"rope": [str(part)], "other": []}}


WAYS = [
    plugin,
    plugin_beside,
    target,
    loaded_target,
    target_by_category,
    target_of_another_category,
    plugins_by_category,
]


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def way(request):
    return request.param


@pytest.fixture
def run(way, finished, part):
    """A run directory as a stranger could send it: its configurations name his code."""
    folder = part.parent / "run"
    shutil.copytree(finished, folder)
    values = yaml.safe_load((folder / "config.yaml").read_text())
    way(values, part)
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    header = json.loads((folder / "detector/config.json").read_text())
    way(header["config"], part)
    (folder / "detector/config.json").write_text(json.dumps(header))
    shutil.copy(part, folder)
    shutil.copy(part, folder / "detector")
    return folder


def test_a_strangers_run_runs_nothing(run, trace, scans, tmp_path, capsys):
    before = list(sys.path)
    with pytest.raises(UntrustedCodeError, match=r"config\.json: would import and run .*--allow-plugins"):
        Detector.load(run / "detector")
    with pytest.raises(UntrustedCodeError, match=r"config\.yaml: would import and run .*allow_plugins=True"):
        load_config(str(run / "config.yaml"))
    with pytest.raises(UntrustedCodeError):
        crdkit.fit(run / "config.yaml", tmp_path / "out")
    with pytest.raises(UntrustedCodeError):
        crdkit.fit(run / "config.yaml", run, resume=True)
    file, out = run / "config.yaml", tmp_path / "out"
    for command in (
        ["describe", run],
        ["describe", run / "detector"],
        ["describe", file],
        ["list", "--config", file],
        ["evaluate", run],
        ["evaluate", file, "--published", tmp_path / "none.pth"],
        ["predict", run, scans],
        ["predict", run / "detector", scans, "--out", out],
        ["train", file, "--out", out],
        ["sweep", file, "--out", out],
    ):
        assert main(["-q", *map(str, command)]) == 2, command
        shown = capsys.readouterr()
        assert "would import and run code that you did not name: " in shown.err, command
        assert ("os:abort" if "os:abort" in file.read_text() else "strange_part") in shown.err
        assert len(shown.err.splitlines()) == 1
    assert not trace.exists()
    assert not out.exists()
    assert sys.path == before


@pytest.mark.parametrize("way", [plugin, plugin_beside], indirect=False)
def test_with_permission_the_plugin_is_imported_and_later_files_may_name_it(run, trace):
    loaded = Detector.load(run / "detector", device="cpu", allow_plugins=True)
    assert trace.read_text() == "ran"
    trace.unlink()
    again = Detector.load(run / "detector", device="cpu")
    assert again.config == loaded.config
    assert again.config.with_overrides("training.epochs=9").plugins == loaded.config.plugins
    assert not trace.exists()


@pytest.mark.parametrize("way", [target], indirect=False)
def test_with_permission_the_target_is_called(run, trace):
    with pytest.raises(ConfigError, match=r"strange_part:build\) failed when called .*a teacher"):
        Detector.load(run / "detector", device="cpu", allow_plugins=True)
    assert trace.read_text() == "called"


@pytest.mark.parametrize("allow", [False, True])
def test_reading_a_file_calls_no_target(tiny, part, trace, allow):
    values = tiny.model_dump(mode="json")
    target(values, part)
    file = part.parent / "run.yaml"
    file.write_text(yaml.safe_dump(values))
    if allow:
        assert load_config(str(file), allow_plugins=True).with_overrides("training.epochs=1").training.epochs == 1
    else:
        with pytest.raises(UntrustedCodeError, match=r"modalities\.rgb\.encoder\.target 'strange_part:build'"):
            load_config(str(file))
    assert not trace.exists()


def test_names_of_the_caller_need_no_permission(tiny, part, trace):
    run = tiny.with_overrides(f"plugins=[{part}]")
    assert trace.read_text() == "ran"
    file = part.parent / "config.yaml"
    file.write_text(run.to_yaml())
    assert RunConfig.from_yaml(file) == run
    encoder = "modalities.rgb.encoder={name: module, target: 'strange_part:build'}"
    named = tiny.with_overrides(encoder)
    file.write_text(named.to_yaml())
    assert RunConfig.from_yaml(file) == named  # resumed, or loaded after training
    values = yaml.safe_load(file.read_text())
    values["modalities"]["rgb"]["encoder"]["target"] = "os:abort"
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(UntrustedCodeError, match=r"did not name: modalities\.rgb\.encoder\.target 'os:abort';"):
        RunConfig.from_yaml(file)


def test_an_override_of_a_strangers_file_allows_only_what_it_names(tiny, part, trace, capsys):
    file = part.parent / "config.yaml"
    file.write_text(tiny.with_overrides("data.root=null").to_yaml() + f"# {part}\n")
    (part.parent / "mine.py").write_text("")
    assert main(["describe", str(file), f"plugins=[{part.parent / 'mine.py'}]"]) == 0
    assert not trace.exists()
    values = {**tiny.model_dump(mode="json"), "plugins": [str(part)]}
    file.write_text(yaml.safe_dump(values))
    assert main(["describe", str(file), f"plugins=[{part.parent / 'mine.py'}]"]) == 2
    assert not trace.exists()


def test_a_file_in_the_working_directory_takes_no_modules_place(tiny, tmp_path, trace, monkeypatch):
    import json.tool

    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({**tiny.model_dump(mode="json"), "plugins": [json.tool.__name__]}))
    run = RunConfig.from_yaml(file)  # loaded already: nothing new runs
    assert run.plugins == ("json.tool",)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "json.tool.py").write_text(PLUGIN.format(trace=str(trace)))
    monkeypatch.chdir(elsewhere)
    assert run.with_overrides("training.epochs=7").plugins == ("json.tool",)
    with pytest.raises(UntrustedCodeError, match=r"plugins '.*elsewhere/json\.tool\.py'"):
        RunConfig.from_yaml(file)
    assert not trace.exists()


def test_installed_packages_need_no_permission(tiny, part, trace, tmp_path, monkeypatch):
    site, file = part.parent, tmp_path / "config.yaml"
    (site / "strange-1.0.dist-info").mkdir()
    (site / "strange-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1.0\n")
    (site / "strange-1.0.dist-info/entry_points.txt").write_text(f"[crdkit.plugins]\nit = {part.stem}\n")
    file.write_text(yaml.safe_dump({**tiny.model_dump(mode="json"), "plugins": [part.stem]}))
    with pytest.raises(UntrustedCodeError):
        RunConfig.from_yaml(file)
    encoders.names()
    monkeypatch.syspath_prepend(site)
    assert RunConfig.from_yaml(file).plugins == (part.stem,)
    assert trace.read_text() == "ran"


@pytest.mark.parametrize("text", ["!!binary b3M6YWJvcnQ=", "[os:abort]", "{a: os:abort}"])
def test_a_name_in_disguise_is_a_name(tiny, tmp_path, text):
    values = tiny.model_dump(mode="json")
    values["modalities"]["rgb"]["encoder"] = {"name": "module", "target": "HERE"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values).replace("HERE", text))
    with pytest.raises(UntrustedCodeError, match=r"target.* 'os:abort'"):
        RunConfig.from_yaml(tmp_path / "config.yaml")


def test_resuming_in_a_folder_that_names_other_code_is_refused(tiny, part, trace):
    (part.parent / "config.yaml").write_text(yaml.safe_dump({**tiny.model_dump(mode="json"), "plugins": [str(part)]}))
    with pytest.raises(ConfigError, match="holds a run with another configuration, which names other code; resume"):
        require_same_config(Path(part.parent), tiny)
    assert not trace.exists()
