"""At the terminal: plain tables when piped, --json, -q and -v anywhere, lists of every key, and the Tab key."""

from __future__ import annotations

import ast
import json
import logging
import os
import re
import subprocess
import sys
from functools import partial

import pytest
from conftest import TINY
from pydantic import BaseModel
from rich.console import Console

from crdkit._core.progress import set_quiet
from crdkit.cli import completion, main
from crdkit.cli.output import print_json, show
from crdkit.cli.tables import results_table
from crdkit.config import RunConfig
from crdkit.config.catalogue import REGISTRIES, SECTIONS, catalogue, section_options
from crdkit.model.graph import EdgeConfig


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    set_quiet(True)
    return code, captured.out, captured.err


def document(capsys, *arguments, code=0):
    returned, out, err = run(capsys, "-q", *arguments, "--json")
    assert (returned, err == "") == (code, code == 0), err
    return json.loads(out)


WIDE = {"a rather long name of a category": dict.fromkeys(("image_auroc", "pixel_auroc"), 0.5), "b": {}}


def test_piped_tables_are_plain_and_complete(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    show(results_table({**WIDE, "[bold]c": {}}))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "percent"
    assert lines[1].split() == ["a", "rather", "long", "name", "of", "a", "category", "50.0", "50.0", *"––––"]
    assert lines[3].startswith("[bold]c  ")
    assert len({len(line) for line in lines}) == 1
    assert not set("".join(lines)) & set("│┃─━┏╇\x1b")


def test_a_terminal_gets_frames_and_its_own_width(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("crdkit.cli.output.Console", partial(Console, width=100))
    show(results_table(WIDE))
    out = capsys.readouterr().out
    assert "┃" in out
    assert max(len(re.sub("\x1b.*?m", "", line)) for line in out.splitlines()) <= 100


def test_numbers_that_are_not_finite_are_null_in_json(capsys):
    print_json({"a": float("nan"), "b": [float("inf"), 1.5], 3: ("x", None)})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "3": ["x", None]}


def test_list_as_json(capsys):
    listed = document(capsys, "list")
    assert list(listed) == [*REGISTRIES, "presets", *SECTIONS]
    for kind, registry in REGISTRIES.items():
        assert [entry["name"] for entry in listed[kind]] == registry.names()
    (bottleneck,) = [entry for entry in listed["filters"] if entry["name"] == "bottleneck"]
    assert bottleneck["options"] == [
        {"key": "size", "default": "8", "choices": [], "range": ">= 1, <= 256",
         "description": "side of the compressed map, in positions"}
    ]  # fmt: skip
    assert document(capsys, "list", "scoring") == {"scoring": listed["scoring"]}
    assert list(document(capsys, "list", "presets")) == ["presets"]


@pytest.mark.parametrize("section", SECTIONS)
def test_list_shows_every_key_of_a_section(capsys, section):
    code, out, err = run(capsys, "-q", "list", section)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    keys = [line.split("  ")[0] for line in lines]
    for option in section_options(section)[section]:
        (line,) = [line for line in lines if line.startswith(f"{option.key}  ") and option.description in line]
        assert option.default in line
        assert all(choice in line for choice in option.choices)
    assert {f"{section}.{key}" for key in SECTIONS[section].model_fields if key != "name"} <= set(keys)


def test_defaults_that_are_listed_can_be_given_as_overrides():
    quick = RunConfig.preset("quick")
    for section, options in section_options().items():
        if section in ("training", "student", "scoring"):
            written = [f"{option.key}={option.default}" for option in options]
            assert getattr(quick.with_overrides(*written), section) == SECTIONS[section]()


def test_every_key_says_what_it_is():
    parts = {f"{kind} {name}": registry.get(name).Config for kind, registry in REGISTRIES.items() for name in registry}
    configs: dict[str, type[BaseModel]] = {"run": RunConfig, "edge": EdgeConfig, **SECTIONS, **parts}
    bare = [
        f"{name}.{key}"
        for name, config in configs.items()
        for key, field in config.model_fields.items()
        if key != "name" and not (field.description or "").strip()
    ]
    assert not bare


def test_describe_as_json(capsys, finished):
    described = document(capsys, "describe", finished)
    assert set(described["modalities"]) == {"rgb", "depth"}
    assert described["modalities"]["rgb"]["sizes"] == [16, 8, 4]
    assert {(edge["source"], edge["target"]) for edge in described["edges"]} == {("rgb", "depth"), ("depth", "rgb")}
    assert described["total"]["parameters"] == sum(part["parameters"] for part in described["parts"])
    assert RunConfig.from_dict(described["configuration"]).modalities.keys() == {"rgb", "depth"}
    assert described["provenance"]["seed"] == "0"


def test_evaluate_and_predict_as_json(capsys, finished, scans):
    metrics = document(capsys, "evaluate", finished)
    stored = json.loads((finished / "metrics.json").read_text())
    assert metrics["aggregate"] == stored["aggregate"]
    found = document(capsys, "predict", finished, scans / "biscuit")
    assert len(found["samples"]) == metrics["counts"]["test"]
    first = found["samples"][0]
    assert first["missing"] == []
    assert {"image_path", "pred_score", "pred_label", "threshold", "p_value", "pred_scores", "missing"} < set(first)
    assert {"pixel_threshold", "regions", "attribution", "attribution_paths", "attribution_sensors"} < set(first)
    assert set(first["pred_scores"]) == {"rgb", "depth"}


def test_data_check_as_json(capsys, scans, tmp_path):
    (dataset,) = document(capsys, "data", "check", scans)["datasets"]
    assert (dataset["layout"], dataset["counts"]["train"]) == ("mvtec3d", {"good": 6})
    damaged = tmp_path / "scans/biscuit/train/good/rgb/000.png"
    damaged.parent.mkdir(parents=True)
    for file in (scans / "biscuit").rglob("*.*"):
        target = tmp_path / "scans" / file.relative_to(scans)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    damaged.write_bytes(damaged.read_bytes()[:100])
    (dataset,) = document(capsys, "data", "check", tmp_path / "scans", code=2)["datasets"]
    assert [finding["path"] for finding in dataset["findings"] if finding["severity"] == "error"] == [str(damaged)]


@pytest.mark.usefixtures("without_reports")
def test_sweep_and_train_as_json(capsys, scans, tmp_path):
    few = (*TINY, "training.epochs=1", f"data.root={scans}")
    swept = document(capsys, "sweep", "quick", *few, "--seeds", "0", "--out", tmp_path / "sweep")
    assert swept == json.loads((tmp_path / "sweep/results.json").read_text())
    trained = document(capsys, "train", "quick", *few, "--out", tmp_path / "run")
    assert trained == json.loads((tmp_path / "run/metrics.json").read_text())


@pytest.mark.parametrize("place", [0, 1, 2, 3])
@pytest.mark.parametrize("flag", ["-q", "--quiet"])
def test_quiet_anywhere(capsys, scans, place, flag):
    arguments = ["data", "check", str(scans)]
    arguments.insert(place, flag)
    seen = []
    set_quiet(False)
    logging.getLogger("crdkit").addFilter(seen.append)
    code, _, err = run(capsys, *arguments)
    logging.getLogger("crdkit").removeFilter(seen.append)
    assert (code, err) == (0, "")


def test_verbose_shows_where_an_error_arose(capsys):
    level = logging.getLogger("crdkit").level
    for arguments in (["-v", "describe", "quik"], ["describe", "quik", "--verbose"]):
        code, _, err = run(capsys, *arguments)
        assert code == 2
        assert "Traceback" in err
        assert err.splitlines()[-1].startswith("error: unknown preset 'quik'")
    assert "Traceback" not in run(capsys, "describe", "quik")[2]
    assert logging.getLogger("crdkit").level == level


def test_a_plug_in_that_configures_logging_doubles_no_message(tmp_path):
    (tmp_path / "noisy.py").write_text(
        "import logging\nlogging.basicConfig(level=logging.DEBUG)\n"
        "logging.getLogger('crdkit.x').info('only once')\nlogging.getLogger('crdkit.x').warning('twice is too much')\n"
    )
    (tmp_path / "run.yaml").write_text(
        f"plugins: [noisy.py]\n{RunConfig.preset('quick').to_yaml().split('plugins: []')[1]}"
    )
    command = [sys.executable, "-m", "crdkit", "describe", "run.yaml", "--allow-plugins", "--mermaid"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    for flags, expected in ([], ["only once", "warning: twice is too much"]), (["-q"], ["warning: twice is too much"]):
        done = subprocess.run(
            [*command, *flags], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        assert [line for line in done.stderr.splitlines() if "once" in line or "twice" in line] == expected


class Context:
    def __init__(self, **params):
        self.params, self.args = params, []


def complete(incomplete, *before, preset="quick"):
    return completion.complete_override(Context(preset=preset, overrides=list(before)), incomplete)


def test_tab_completes_keys_and_values():
    assert "training.epochs=" in complete("training.")
    assert complete("training.sched") == [
        "training.schedule=", "training.schedule=exponential", "training.schedule=cosine", "training.schedule=constant",
    ]  # fmt: skip
    assert complete("training.schedule=co") == ["training.schedule=cosine", "training.schedule=constant"]
    assert complete("co", "training.schedule", "=") == ["cosine", "constant"]  # as bash splits it
    assert complete("=", "training.schedule")[0] == "exponential"
    assert "aggregation.name=tail_norm" in complete("aggregation.name=")
    assert "modalities.normals.kernel=" in complete("modalities.n", preset="trd-mvtec3d")
    assert completion.complete_preset("quick-n") == ["quick-normals"]
    assert completion.complete_kind("tr") == ["training"]


def test_what_tab_completes_is_what_there_is():
    assert list(completion.presets()) == [entry.name for entry in catalogue("presets")["presets"]]
    for kind, registry in REGISTRIES.items():
        assert list(completion.names(kind)) == registry.names()
    keys = completion.option_keys(("rgb",))
    for section in ("training", "student", "scoring", "graph", "data"):
        options = [option for option in section_options(section)[section] if "[]" not in option.key]
        assert {option.key for option in options} <= set(keys)
        for option in options:
            if option.choices and "." not in option.key.partition(".")[2] and keys[option.key]:
                assert keys[option.key] == option.choices
    places = {"modalities": "modalities.rgb", "encoders": "modalities.rgb.encoder", "aggregations": "aggregation"}
    for kind, place in places.items():
        fields = {
            f"{place}.{key}" for name in REGISTRIES[kind] for key in REGISTRIES[kind].get(name).Config.model_fields
        }
        offered = {key for key in keys if key.rpartition(".")[0] == place}
        assert fields <= offered
        assert offered - fields <= {"modalities.rgb.encoder"}


def test_tab_needs_no_torch():
    code = (
        "import sys; from crdkit.cli import completion, app; completion.option_keys(('rgb',)); completion.presets();"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "pydantic", "timm"} & set(ast.literal_eval(done.stdout))


def test_the_shell_completes_through_the_program():
    environment = {
        **os.environ,
        "_CRDKIT_COMPLETE": "complete_bash",
        "COMP_WORDS": "crdkit train qui",
        "COMP_CWORD": "2",
    }
    code = "import sys; sys.argv[0] = 'crdkit'; from crdkit.cli import entry_point; entry_point()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split()[:2] == ["quick", "quick-eyecandies"]
