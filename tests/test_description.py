"""What a configuration builds and costs: against the published numbers, a hand count, and the model itself."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest
import torch
from torch import nn

import crdkit
from crdkit.cli import main
from crdkit.cli.tables import show_description
from crdkit.config import RunConfig
from crdkit.config.build import build_model
from crdkit.errors import ConfigError, DetectorFormatError
from crdkit.runs.describe import describe_run
from crdkit.runs.directory import read_metrics

TEACHERS = {
    "rgb": "{name: timm, model: test_resnet, pretrained: false}",
    "depth": "{name: timm, model: test_resnet, pretrained: false}",
    "infrared": "{name: timm, model: test_efficientnet, pretrained: false}",
    "normals": "{name: timm, model: test_resnet, pretrained: false, layers: [2, 3]}",
}


def config(count: int, *overrides: str) -> RunConfig:
    names = list(TEACHERS)[:count]
    modalities = ", ".join(f"{name}: {{encoder: {TEACHERS[name]}}}" for name in names)
    small = ("data.image_size=64", "graph.filter.size=2", "student.depths=1", f"modalities={{{modalities}}}")
    return RunConfig.preset("quick").with_overrides(*small, *overrides)


def by_part(described):
    return {(part.modality, part.part): part for part in described.parts}


def test_the_published_model_costs_what_was_published(monkeypatch):
    for name in ("socket.socket.connect", "socket.getaddrinfo"):
        monkeypatch.setattr(name, lambda *_args, **_options: pytest.fail("weights were asked for"))
    described = crdkit.describe(RunConfig.preset("crd-mvtec3d"))
    parts = by_part(described)
    millions = {part: round(parts["rgb", part].parameters / 1e6, 1) for _, part in parts if ("rgb", part) in parts}
    assert millions == {
        "teacher": 24.9, "filter <- depth": 59.8, "amplifier <- depth": 17.9, "bottleneck": 90.7, "decoder": 24.9,
    }  # fmt: skip
    branch = [part for (name, part), _ in parts.items() if name == "rgb" and part != "teacher"]
    assert sum(parts["rgb", part].parameters for part in branch) == 386_713_612 // 2
    assert parts["rgb", "teacher"].gflop == pytest.approx(24.0, abs=0.05)
    assert sum(parts["rgb", part].gflop for part in branch) == pytest.approx(92.5, abs=0.05)
    assert described.training_gflop == {name: pytest.approx(259.7, abs=0.05) for name in ("rgb", "depth")}
    assert parts["depth", "teacher"].parameters == 0  # the same module
    assert parts["depth", "teacher"].gflop == parts["rgb", "teacher"].gflop


@pytest.mark.parametrize("topology", ["none", "full", "star", "ring"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_any_graph_is_counted_as_it_is_built(count, topology):
    run = config(count, f"graph.topology={topology}")
    described = crdkit.describe(run)
    model = build_model(run)
    assert described.graph == model.graph
    assert {name: spec.sizes for name, spec in described.specs.items()} == {n: s.sizes for n, s in model.specs.items()}
    counted = model.count_parameters()
    teachers = sum(part.parameters for part in described.parts if part.part == "teacher")
    assert (teachers, described.table()[-1]["parameters"]) == (counted["teacher"], sum(counted.values()))
    assert len(described.table()) == 3 * count + 2 * len(model.graph.edges) + 1
    edges = re.findall(
        r"(m\d) -- \"filter bottleneck<br>amplifier inverted_bottleneck\" --> (m\d)", described.mermaid()
    )
    names = {name: f"m{index}" for index, name in enumerate(run.modalities)}
    assert edges == [(names[edge.source], names[edge.target]) for edge in model.graph.edges]
    for name, node in names.items():
        assert f'  {node}["{name}<br>timm"]' in described.mermaid()


def test_operations_agree_with_a_count_by_hand():
    run = config(3)
    model = build_model(run).eval()
    counted: dict[str, float] = defaultdict(float)

    def count(name):
        def hook(module, inputs, output):
            positions = (inputs[0] if isinstance(module, nn.ConvTranspose2d) else output).shape[-2:].numel()
            counted[name] += 2 * module.weight.numel() * positions

        return hook

    for name, branch in model.branches.items():
        groups = {"bottleneck": branch.student.bottleneck, "decoder": branch.student.decoder}
        groups |= {f"filter <- {source}": part for source, part in branch.filters.items()}
        groups |= {f"amplifier <- {source}": part for source, part in branch.amplifiers.items()}
        for part, group in groups.items():
            for module in group.modules():
                if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                    module.register_forward_hook(count((name, part)))
    model({name: torch.rand(1, 3, 64, 64) for name in model.modalities})
    costs = {key: cost.gflop for key, cost in by_part(crdkit.describe(run)).items() if key[1] != "teacher"}
    assert costs == {key: pytest.approx(value / 1e9) for key, value in counted.items()}


def test_edges_without_a_part_and_names_that_mermaid_would_read(monkeypatch):
    described = crdkit.describe(config(2, "graph.amplifier=null"))
    assert '-- "filter bottleneck" -->' in described.mermaid()
    assert not [row for row in described.table() if row["part"].startswith("amplifier")]
    odd = described.config.aggregation.model_copy(update={"name": 'a"]; <b>'})
    monkeypatch.setitem(vars(described.config), "aggregation", odd)
    assert '(["a#34;]#59; #60;b#62;"])' in described.mermaid()


def test_describing_touches_neither_weights_nor_random_state(tmp_path):
    run = config(1, f"modalities.rgb.encoder.weights={tmp_path}/missing.pth", "modalities.rgb.encoder.pretrained=true")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert crdkit.describe(run).parts
    assert torch.equal(torch.get_rng_state(), before)


def test_a_run_tells_where_it_comes_from(finished, tiny, tmp_path):
    described = describe_run(finished)
    metrics = read_metrics(finished)
    assert described.config == tiny
    counted = {key: sum(p.parameters for p in described.parts if (p.part == "teacher") == (key == "teacher"))
               for key in ("student", "teacher")}  # fmt: skip
    assert counted == metrics["parameters"]
    provenance = described.provenance
    assert provenance["data"] == f"mvtec3d {tiny.data.root} biscuit"
    assert provenance["seed"] == str(tiny.training.seed)
    assert provenance["samples"] == "6 train, 3 validation, 15 test"
    assert provenance.items() >= metrics["environment"].items()
    of_detector = describe_run(finished / "detector")
    anywhere = tiny.model_copy(update={"data": tiny.data.model_copy(update={"root": None})})
    assert (of_detector.parts, of_detector.config) == (described.parts, anywhere)
    assert set(of_detector.provenance) == {"data", "seed", "false alarms", "threshold"}
    (tmp_path / "config.yaml").write_text(tiny.to_yaml())
    assert describe_run(tmp_path).provenance["finished"] == "no"
    with pytest.raises(DetectorFormatError, match="holds no detector"):
        describe_run(tmp_path / "nothing")


def test_the_command_line(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["describe", str(finished)]) == 0
    printed = capsys.readouterr().out
    for text in ("seed", "model=test_resnet", "depth -> rgb", "filter <- depth", "shared", "MACs x 2", "M parameters"):
        assert text in printed
    assert main(["describe", "quick", "modalities.depth=null"]) == 0
    assert "graph: no edges" in capsys.readouterr().out
    assert main(["describe", "quick", "--mermaid"]) == 0
    assert capsys.readouterr().out == crdkit.describe(RunConfig.preset("quick")).mermaid()
    assert main(["describe", str(finished), "training.epochs=3"]) == 2
    assert "a run takes no overrides" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick").mkdir()  # a preset's name stays a preset's
    assert main(["describe", "quick", "--mermaid"]) == 0


class Bank(nn.Module):
    """A fixed filter bank: no parameters."""

    def forward(self, images):
        return [images[:, :, ::8, ::8], images[:, :, ::16, ::16]]


def test_a_teacher_without_parameters_is_not_called_shared(capsys):
    teacher = "{name: module, target: 'test_description:Bank'}"
    for overrides, shared in ((["modalities.depth=null"], 0), ([f"modalities.depth.encoder={teacher}"], 1)):
        run = config(2, f"modalities.rgb.encoder={teacher}", *overrides)
        show_description(crdkit.describe(run))
        assert capsys.readouterr().out.count("shared") == shared


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ConfigError, match=r"student\.depths"):
        crdkit.describe(config(1, "student.depths=[1]"))


def test_list_shows_what_a_configuration_is_made_of(capsys):
    assert main(["list", "--config", "quick"]) == 0
    printed = capsys.readouterr().out
    assert "aggregations" in printed
    assert "depth -> rgb" in printed
    assert "GFLOP" in printed
    assert main(["list", "filters", "--config", "quick"]) == 0
    assert "GFLOP" not in capsys.readouterr().out
