"""The user's own parts: modules and files, from the command line, from Python, and when a detector is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import TINY

from crdkit.cli import main
from crdkit.config import RunConfig
from crdkit.config.plugins import import_plugin, resolve_plugin
from crdkit.errors import ConfigError, DuplicateNameError
from crdkit.scoring.aggregations import aggregations

PART = '''
from typing import Literal

import torch
from {name}_sibling import POWER

from crdkit.scoring.aggregations import Aggregation, AggregationConfig, aggregations


class OwnConfig(AggregationConfig):
    name: Literal["{name}"] = "{name}"


@aggregations.register("{name}")
class Own(Aggregation):
    """Largest normalised map."""

    Config = OwnConfig

    def forward(self, maps):
        return torch.stack(list(self.normalised(maps).values())).amax(dim=0) ** POWER
'''


WITHOUT_REPORTS = "import crdkit.runs.directory as d; d.write_report = lambda *_args, **_options: None; "
"""The figures take most of the time of a tiny run."""


@pytest.fixture
def forget(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", list(sys.path))
    aggregations.names()  # found once; what is registered from here on is forgotten
    monkeypatch.setattr(aggregations, "_entries", dict(aggregations._entries))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def write_part(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}_sibling.py").write_text("POWER = 1\n")
    (folder / f"{name}.py").write_text(PART.format(name=name))
    return folder / f"{name}.py"


def crdkit_in(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    # as the console script does it: the working directory is not on sys.path
    code = "import sys; sys.path.remove(''); from crdkit.cli import entry_point; entry_point()"
    return python(WITHOUT_REPORTS + code, *arguments, path=[], cwd=folder)


def python(code: str, *arguments: object, path: list[Path], cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*path, Path(__file__).parent.parent]))}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("forget", "without_reports")
def test_a_part_of_ones_own_through_the_command_line(scans, tmp_path, monkeypatch, capsys):
    def crdkit_here(*arguments):
        code = main(list(map(str, arguments)))
        return code, capsys.readouterr().err

    part = write_part(tmp_path / "work", "own_cli")
    work, elsewhere = part.parent, tmp_path / "elsewhere"
    elsewhere.mkdir()
    options = (f"data.root={scans}", *TINY, "training.epochs=1", "aggregation.name=own_cli")
    trained = crdkit_in(work, "-q", "train", "quick", "plugins=[own_cli]", *options, "--out", "run")
    assert trained.returncode == 0, trained.stderr
    monkeypatch.chdir(elsewhere)  # this process has not imported the part yet
    code, err = crdkit_here("-q", "evaluate", work / "run")
    assert code == 2
    assert f"config.json: would import and run code that you did not name: plugins '{part}'; " in err
    again = crdkit_in(elsewhere, "-q", "evaluate", work / "run", "--allow-plugins")
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[:4] == trained.stdout.splitlines()[:4]
    part.rename(elsewhere / part.name)
    monkeypatch.chdir(work)
    code, err = crdkit_here("-q", "evaluate", "run", "--allow-plugins")
    assert code == 2
    assert f"config.json: plugin '{part}' cannot be imported: the file does not exist; put it there" in err
    (work / "own_cli_sibling.py").rename(elsewhere / "own_cli_sibling.py")
    monkeypatch.chdir(elsewhere)
    assert crdkit_here("-q", "evaluate", work / "run", "--allow-plugins") == (0, "")


@pytest.mark.parametrize("written", ["own_{}", "own_{}.py", "../yaml_{}/own_{}.py"])
def test_a_file_beside_the_configuration(tiny, tmp_path, monkeypatch, forget, written):
    number = str(len(written))
    part = write_part(tmp_path / f"yaml_{number}", f"own_{number}")
    values = {**tiny.model_dump(mode="json"), "plugins": [written.format(number, number)]}
    values["aggregation"] = {"name": f"own_{number}"}
    (part.parent / "run.yaml").write_text(yaml.safe_dump(values))
    first, second = (RunConfig.from_yaml(part.parent / "run.yaml", allow_plugins=allow) for allow in (True, False))
    assert first == second
    assert Path(first.plugins[0]).samefile(part)
    assert RunConfig.from_dict(yaml.safe_load(first.to_yaml())) == first
    assert first.with_overrides("training.epochs=3").aggregation.name == f"own_{number}"


def test_list_shows_the_parts_of_a_configuration(tmp_path, capsys, forget):
    write_part(tmp_path, "own_listed")
    (tmp_path / "run.yaml").write_text("plugins: [own_listed]\ndata: mvtec3d\nmodalities: {rgb: }\n")
    assert main(["list", "aggregations"]) == 0
    assert "own_listed" not in capsys.readouterr().out
    assert main(["list", "aggregations", "--config", str(tmp_path / "run.yaml"), "--allow-plugins"]) == 0
    assert "own_listed" in capsys.readouterr().out


def test_an_installed_module_keeps_its_name(quick_values):
    run = RunConfig.from_dict({**quick_values, "plugins": ["json.tool"]})
    assert run.plugins == ("json.tool",)


@pytest.fixture
def quick_values():
    return RunConfig.preset("quick").model_dump(mode="json")


def test_equal_file_names_are_told_apart(tmp_path, forget):
    first, second = (tmp_path / folder / "same_name.py" for folder in ("a", "b"))
    for path in (first, second):
        path.parent.mkdir()
        path.write_text(f"WHERE = {path.parent.name!r}\n")
    modules = [import_plugin(str(path)) for path in (first, second, first)]
    assert [module.WHERE for module in modules] == ["a", "b", "a"]
    assert modules[0] is modules[2]
    assert modules[0].__name__ != modules[1].__name__


def test_files_are_found_in_order(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    (tmp_path / "b/parts.py").touch()
    assert resolve_plugin("parts", folders=folders) == str(tmp_path / "b/parts.py")
    assert resolve_plugin("/gone/parts.py", folders=folders) == str(tmp_path / "b/parts.py")
    (tmp_path / "a/parts.py").touch()
    assert resolve_plugin("parts.py", folders=folders) == str(tmp_path / "a/parts.py")
    assert resolve_plugin("other", folders=folders) == "other"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("import a_package_that_is_not_installed", "No module named 'a_package_that_is_not_installed'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def", "SyntaxError: invalid syntax"),
    ],
)
def test_a_broken_file_is_named(quick_values, tmp_path, forget, content, reason):
    (tmp_path / "broken_part.py").write_text(content)
    for _ in range(2):  # a failed import leaves nothing behind
        with pytest.raises(ConfigError, match=rf"plugin '.*broken_part\.py' cannot be imported: {reason}"):
            RunConfig.from_dict({**quick_values, "plugins": [str(tmp_path / "broken_part.py")]})


def test_a_conflict_of_names_is_no_import_error(tmp_path, forget):
    part = write_part(tmp_path, "normalised_sum")
    with pytest.raises(DuplicateNameError, match=r"'normalised_sum' is registered twice"):
        import_plugin(str(part))


def installed(folder: Path, **entry_points: str) -> None:
    distribution = folder / "own_parts-1.0.dist-info"
    distribution.mkdir(parents=True)
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: own-parts\nVersion: 1.0\n")
    lines = [f"{name} = {module}" for name, module in entry_points.items()]
    (distribution / "entry_points.txt").write_text("\n".join(["[crdkit.plugins]", *lines, ""]))


def test_installed_packages_register_their_parts_and_a_broken_one_hides_none(tmp_path):
    site = tmp_path / "site"
    write_part(site, "own_installed")
    (site / "crashes.py").write_text("1 / 0\n")
    installed(site, absent="a_module_that_is_not_there", crashes="crashes", sound="own_installed")
    code = (
        "from crdkit.scoring.aggregations import aggregations\nfrom crdkit.model.encoders import encoders\n"
        "print('own_installed' in aggregations, 'normalised_sum' in aggregations, 'timm' in encoders)\n"
        "try:\n    encoders.get('crash')\nexcept ValueError as error:\n    print(error)\n"
    )
    done = python(code, path=[site], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found, error = done.stdout.splitlines()
    assert found == "True True True"
    reason = "could not be imported: ZeroDivisionError: division by zero"
    assert f"plug-in 'crashes' (crashes) of own-parts {reason}" in error
    for name in ("crashes", "absent"):
        assert done.stderr.count(f"PluginWarning: plug-in '{name}'") == 1


@pytest.mark.parametrize("plugins", ["parts", [3], {"a": 1}])
def test_plugins_are_a_list_of_names(quick_values, plugins):
    with pytest.raises(ConfigError, match="plugins"):
        RunConfig.from_dict({**quick_values, "plugins": plugins})
