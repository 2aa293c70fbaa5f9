from __future__ import annotations

import pytest
import yaml
from pydantic import ValidationError

from crdkit.config import RunConfig, load_config, preset_names
from crdkit.config.build import build_graph
from crdkit.config.run_config import preset_summary
from crdkit.errors import ConfigError, UnknownNameError


@pytest.fixture(scope="module")
def quick():
    return RunConfig.preset("quick")


@pytest.mark.parametrize("name", preset_names())
def test_presets_round_trip_through_yaml(name, tmp_path):
    run = RunConfig.preset(name)
    (tmp_path / "config.yaml").write_text(run.to_yaml())
    assert RunConfig.from_yaml(tmp_path / "config.yaml") == run
    assert preset_summary(name)


def test_config_is_frozen(quick):
    with pytest.raises(ValidationError, match="frozen"):
        quick.training.epochs = 3


def test_overrides_read_yaml_values_and_leave_the_original(quick):
    changed = quick.with_overrides(
        "training.epochs=3", "data.root=/some/where", "modalities.depth.mode=published", "graph.amplifier=null"
    )
    assert (changed.training.epochs, str(changed.data.root)) == (3, "/some/where")
    assert changed.modalities["depth"].view.mode == "published"
    assert changed.graph.amplifier is None
    assert quick.training.epochs != 3
    assert quick.with_overrides() is quick


def test_naming_another_part_drops_the_options_of_the_old_one_whatever_the_order():
    published = RunConfig.preset("crd-mvtec3d")
    options = ("modalities.rgb.encoder.layers=[2, 3]", "modalities.rgb.encoder.name=efficientnet_lite0")
    for order in (options, options[::-1]):
        encoder = published.with_overrides(*order).modalities["rgb"].encoder
        assert (encoder.name, encoder.layers) == ("efficientnet_lite0", (2, 3))
    kept = published.with_overrides("modalities.depth.encoder.name=timm")
    assert kept.modalities["depth"] == published.modalities["depth"]


def test_a_modality_can_be_taken_out(quick):
    single = quick.with_overrides("modalities.depth=null")
    assert list(single.modalities) == ["rgb"]
    assert build_graph(single).edges == ()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=3", r"training: unknown key 'epoch' - did you mean 'epochs'\? known: .*batch_size"),
        ("data.rot=/x", r"data: unknown key 'rot' - did you mean 'root'\?"),
        ("data.name=mvtec", r"data: unknown dataset 'mvtec' - did you mean 'mvtec3d'\?"),
        ("training.epochs=0", r"training\.epochs \(=0\): input should be greater than or equal to 1"),
        ("training.epochs=many", r"training\.epochs \(='many'\): input should be a valid integer"),
        ("graph.filter.size=0", r"graph\.filter: size \(=0\): input should be greater"),
        ("graph.topology=circle", r"graph\.topology \(='circle'\): input should be 'none', 'full', 'star', 'ring'"),
        ("graph={topology: star, hub: infrared}", r"unknown modality in graph\.hub: 'infrared'"),
        ("graph.edges=[{source: rgb, target: depth}]", r"graph\.topology=full with 1 graph\.edges"),
        ("graph.topology=edges", r"graph\.topology=edges with 0 graph\.edges"),
        ("modalities.rgb.encoder.name=tim", r"modalities\.rgb\.encoder: unknown encoder 'tim' - did you mean 'timm'"),
        (
            "modalities.9x={name: rgb}",
            r"a modality's name may only contain letters, digits and _, and not begin with a digit, got '9x'",
        ),
        ("modalities={}", r"modalities .*at least 1"),
        ("epochs", r"override 'epochs' must look like key\.path=value"),
        ("training.epochs=[", r"is not valid YAML"),
        ("training.epochs.more=1", r"training\.epochs \(=30\) has no keys of its own"),
        ("plugins=[a_module_that_does_not_exist]", r"plugin 'a_module_that_does_not_exist' cannot be imported"),
        ("scoring.sigma=.nan", r"scoring\.sigma"),
    ],
)
def test_bad_overrides_end_in_one_clear_line(quick, override, message):
    with pytest.raises(ConfigError, match=message) as caught:
        quick.with_overrides(override)
    assert "\n" not in str(caught.value)


STAR = {"topology": "star", "hub": "depth"}
EDGES = {
    "topology": "edges",
    "edges": [
        {"source": "rgb", "target": "depth", "amplifier": None},
        {"source": "depth", "target": "rgb", "filter": {"name": "bottleneck", "size": 4}},
    ],
}


def test_an_edge_takes_the_graphs_part_unless_it_names_its_own_or_null(quick):
    values = {**quick.model_dump(mode="json"), "graph": EDGES}
    run = RunConfig.from_dict(values)
    for config in (run, RunConfig.from_dict(yaml.safe_load(run.to_yaml()))):
        to_depth, to_rgb = build_graph(config).edges
        assert to_depth.amplifier is None
        assert to_depth.filter.size == 8
        assert to_rgb.filter.size == 4
        assert to_rgb.amplifier.expansion == 2


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([{"source": "rgb", "target": "rgb"}], "starts where it ends"),
        ([{"source": "rgb", "target": "depth"}] * 2, "is given twice"),
        (
            [{"source": "rgb", "target": "detph"}],
            "unknown modality in edge 'rgb -> detph': 'detph' - did you mean 'depth'",
        ),
        ([{"source": "rgb", "target": "depth", "filter": None, "amplifier": None}], "has neither filter nor amplifier"),
    ],
)
def test_bad_edges(quick, edges, message):
    values = {**quick.model_dump(mode="json"), "graph": {"topology": "edges", "edges": edges}}
    with pytest.raises(ConfigError, match=message):
        RunConfig.from_dict(values)


def test_files(tmp_path, quick):
    with pytest.raises(UnknownNameError, match="unknown preset 'quik' - did you mean 'quick'"):
        load_config("quik")
    with pytest.raises(ConfigError, match=r"missing\.yaml: cannot be read"):
        load_config(str(tmp_path / "missing.yaml"))
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="expected a mapping of config keys, got list"):
        load_config(str(tmp_path / "list.yaml"))
    (tmp_path / "broken.yaml").write_text("a: [\n")
    with pytest.raises(ConfigError, match=r"broken\.yaml: is not valid YAML"):
        load_config(str(tmp_path / "broken.yaml"))
    (tmp_path / "empty_branches.yml").write_text("data: mvtec3d\nmodalities:\n  rgb:\n  depth:\n")
    assert list(load_config(str(tmp_path / "empty_branches.yml")).modalities) == ["rgb", "depth"]


@pytest.mark.parametrize("text", ["007", "on", "1e3", "a #1", "x: y", "[b]", "2024-01-01", "null values", "it's"])
def test_names_and_paths_are_taken_as_typed(quick, text, tmp_path):
    run = quick.with_overrides(f"data.category={text}", f"data.root={tmp_path}/{text}", f"modalities.rgb.sensor={text}")
    assert (run.data.category, run.data.root) == (text, tmp_path / text)
    assert run.modalities["rgb"].view.sensor == text
    (tmp_path / "run.yaml").write_text(run.to_yaml(), encoding="utf-8")
    assert RunConfig.from_yaml(tmp_path / "run.yaml") == run


def test_null_and_quotes_are_yaml_for_names_too(quick):
    run = quick.with_overrides("data.category=rope", "data.root=/data")
    assert run.with_overrides("data.category=null", "data.root=null").data.category is None
    assert run.with_overrides("data.category='null'").data.category == "null"


def test_options_of_a_part_named_beside_them_are_taken_as_typed_too(quick, tmp_path):
    overrides = (f"data.manifest={tmp_path}/a #1.yaml", "data.name=folder", "modalities.heat.sensor=007")
    run = quick.with_overrides(*overrides, "modalities.heat.name=single_channel")
    assert (run.data.name, run.data.manifest) == ("folder", tmp_path / "a #1.yaml")
    assert run.modalities["heat"].view.sensor == "007"


def kernel(run):
    return run.modalities["normals"].view.kernel


def test_a_recipe_chooses_options_by_category(tmp_path):
    preset = RunConfig.preset("trd-mvtec3d")
    published = {"cookie": 3, "dowel": 7, "foam": 7, "tire": 7}
    for category in ("bagel", "cable_gland", "carrot", "peach", "potato", "rope", *published):
        run = preset.with_overrides(f"data.category={category}")
        assert kernel(run) == published.get(category, 5)
        (tmp_path / "config.yaml").write_text(run.to_yaml())
        assert RunConfig.from_yaml(tmp_path / "config.yaml") == run
        written = yaml.safe_load(run.to_yaml())
        assert written["modalities"]["normals"]["kernel"] == kernel(run)  # the value that was used
        assert kernel(run.with_overrides("data.category=bagel")) == 5  # nothing is left of the category before
    assert kernel(preset) == 5


@pytest.mark.parametrize("other", ["modalities.rgb=null", "training.epochs=3"])
def test_what_is_said_beats_what_a_recipe_chooses(other):
    preset = RunConfig.preset("trd-mvtec3d")
    said = ("modalities.normals.kernel=5", "data.category=cookie", other)
    for order in (said, said[::-1]):
        assert kernel(preset.with_overrides(*order)) == 5
    assert kernel(preset.with_overrides("data.category=cookie", other)) == 3
    without = preset.with_overrides("modalities.normals=null", "data.category=cookie")
    assert list(without.modalities) == ["rgb"]
    depth = preset.with_overrides("modalities.normals.name=depth", "data.category=cookie")
    assert depth.by_category == {}


def test_choices_by_category_are_checked(quick):
    with pytest.raises(
        ConfigError, match=r"by_category: scoring\.sigma .* needs a value for each category and one for"
    ):
        quick.with_overrides("by_category={scoring.sigma: {tire: 2}}")
    chosen = quick.with_overrides("by_category={scoring.sigme: {tire: 2, other: 4}}")
    with pytest.raises(ConfigError, match="unknown key 'sigme'"):
        chosen.with_overrides("data.category=tire")
    assert chosen.with_overrides("by_category=null", "data.category=tire").scoring == quick.scoring
