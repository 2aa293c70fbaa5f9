"""Every preset: what it promises, what it builds, and that it trains and scores on the synthetic twin of its data."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import crdkit
from crdkit.config import RunConfig, preset_names
from crdkit.config.build import build_graph, build_teachers
from crdkit.data import datasets
from crdkit.data.synthetic import LAYOUTS
from crdkit.model import CRD

EYECANDIES = [name for name in preset_names() if "eyecandies" in name]
PUBLISHED = ["crd-eyecandies", "crd-mvtec3d", "trd-mvtec3d"]
LIGHTS = tuple(f"image_{light}" for light in range(6))
THREE = {"rgb": ("rgb",), "depth": ("xyz",), "normals": ("xyz",)}
SENSORS = {  # what each modality of a preset reads
    "best-mvtec3d": THREE,
    "best-mvtec3d-vit": THREE,
    "best-mvtec3d-wide": THREE,
    "crd-eyecandies": {"rgb": ("rgb",), "normals": ("normals",)},
    "crd-mvtec3d": {"rgb": ("rgb",), "depth": ("xyz",)},
    "quick": {"rgb": ("rgb",), "depth": ("xyz",)},
    "quick-eyecandies": {"rgb": ("rgb",), "normals": ("normals",)},
    "quick-eyecandies-lights": {
        **{f"light_{light}": (f"image_{light}",) for light in range(6)}, "depth": ("depth",), "normals": ("normals",)
    },
    "quick-eyecandies-rdn": {"rgb": ("rgb",), "depth": ("depth",), "normals": ("normals",)},
    "quick-eyecandies-stack": {"lights": LIGHTS, "depth": ("depth",), "normals": ("normals",)},
    "quick-normals": THREE,
    "rd-mvtec": {"rgb": ("rgb",)},
    "trd-mvtec3d": {"rgb": ("rgb",), "normals": ("xyz",)},
}  # fmt: skip


@pytest.fixture(scope="module")
def twins(scans, tmp_path_factory):
    """A tiny synthetic twin of each data set, by name of the layout, with its category."""
    out = tmp_path_factory.mktemp("twins") / "eyecandies"
    counts = {"train": 6, "validation": 2, "test_good": 1, "test_per_defect": 1}
    LAYOUTS["eyecandies"](out, categories=["biscuit"], size=64, **counts)
    images = LAYOUTS["mvtec_ad"](out.with_name("mvtec_ad"), categories=["biscuit"], size=64, **counts)
    return {"mvtec3d": (scans, "biscuit"), "eyecandies": (out, "Biscuit"), "mvtec_ad": (images, "biscuit")}


def tiny(name, twins):
    """The preset at 32 x 32 with an untrained small teacher and one epoch."""
    preset = RunConfig.preset(name)
    root, category = twins[preset.data.name]
    teachers = (
        f"modalities.{modality}.encoder={{name: timm, model: test_resnet, pretrained: false}}"
        for modality in preset.modalities
    )
    return preset.with_overrides(
        f"data.root={root}", f"data.category={category}", "data.image_size=32", *teachers, "graph.filter.size=2",
        "student.depths=1", "student.embedding_blocks=1", "training.epochs=1", "training.batch_size=4",
        "training.device=cpu",
    )  # fmt: skip


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_reads_what_its_name_says(name):
    from crdkit.config.build import build_views

    assert {modality: view.sensors for modality, view in build_views(RunConfig.preset(name)).items()} == SENSORS[name]


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_trains_and_scores(name, twins):
    run = tiny(name, twins)
    described = crdkit.describe(run)
    assert {part.modality for part in described.parts} == set(run.modalities)
    detector = crdkit.fit(run)
    dataset = datasets.get(run.data.name)(run.data)
    records = dataset.records("test")
    assert {record.label for record in records} == {0, 1}
    for record in (records[0], records[-1]):
        result = detector.predict(dataset.read(record).sensors)
        assert set(result.maps) == set(run.modalities)
        assert np.isfinite(result.score)
        assert np.isfinite(result.anomaly_map).all()
        assert result.anomaly_map.std() > 0


@pytest.mark.parametrize("name", [name for name in preset_names() if name.startswith("best-")])
def test_our_best_presets_are_built_at_full_size(name):
    described = crdkit.describe(RunConfig.preset(name))  # no weights, no memory for them
    assert {part.modality for part in described.parts} == set(THREE)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_presets_differ_only_where_the_published_code_does(name):
    run = RunConfig.preset(name)
    assert run.training.epochs == (100 if name == "crd-eyecandies" else 200)
    assert (run.training.batch_size, run.training.learning_rate, run.training.betas) == (16, 0.005, (0.5, 0.999))
    assert (run.training.schedule, run.training.gamma) == ("exponential", 0.95)
    assert (run.training.loss, run.training.seed, run.training.precision) == ("flattened", 42, "fp32")
    assert (run.aggregation.name, run.scoring.sigma, run.data.image_size) == ("normalised_sum", 4.0, 256)
    reference = RunConfig.preset("crd-mvtec3d")
    assert (run.graph, run.student, run.scoring) == (reference.graph, reference.student, reference.scoring)
    assert {branch.encoder for branch in run.modalities.values()} == {reference.modalities["rgb"].encoder}
    assert {branch.encoder.model for branch in run.modalities.values()} == {"wide_resnet50_2.tv_in1k"}


def test_reverse_distillation_is_the_paper_s_recipe_on_one_branch():
    run, crd = RunConfig.preset("rd-mvtec"), RunConfig.preset("crd-mvtec3d")
    assert run.modalities["rgb"] == crd.modalities["rgb"]
    assert run.graph.topology == "none"
    assert run.training.schedule == "constant"
    same = {"epochs": 200, "batch_size": 16, "learning_rate": 0.005, "betas": (0.5, 0.999), "loss": "flattened"}
    assert {key: getattr(run.training, key) for key in same} == same
    assert (run.data.name, run.data.image_size, run.scoring, run.student) == (
        "mvtec_ad", 256, crd.scoring, crd.student
    )  # fmt: skip


def test_the_third_modality_of_the_published_presets():
    normals = {name: RunConfig.preset(name).modalities["normals"].view for name in ("crd-eyecandies", "trd-mvtec3d")}
    assert not normals["crd-eyecandies"].decode  # an ordinary colour image
    assert RunConfig.preset("crd-eyecandies").data.test_split == "public"
    assert (normals["trd-mvtec3d"].mode, normals["trd-mvtec3d"].kernel) == ("trd", 5)
    for kernel in (3, 7):
        changed = RunConfig.preset("trd-mvtec3d").with_overrides(f"modalities.normals.kernel={kernel}")
        assert changed.modalities["normals"].view.kernel == kernel


def test_defects_of_the_published_code_come_back_on_request():
    crd = RunConfig.preset("crd-mvtec3d").with_overrides("modalities.depth.mode=published")
    assert crd.modalities["depth"].view.mode == "published"
    trd = RunConfig.preset("trd-mvtec3d").with_overrides("modalities.normals.plane=published")
    assert trd.modalities["normals"].view.plane == "published"


@pytest.mark.parametrize("name", EYECANDIES)
def test_many_modalities_are_joined_at_little_cost(name):
    run = RunConfig.preset(name)
    edges = build_graph(run).edges
    if len(run.modalities) == 2:
        assert len(edges) == 2
    else:
        assert (run.graph.topology, run.graph.merge) == ("star", "mean")
        assert len(edges) == 2 * (len(run.modalities) - 1)
        assert {edge.target for edge in edges} == set(run.modalities)


def test_three_sensors_in_a_star_cost_at_most_three_quarters_more_than_two():
    published = RunConfig.preset("crd-mvtec3d")
    teacher = json.dumps(published.modalities["rgb"].encoder.model_dump(mode="json"))
    spec = build_teachers(published, load_weights=False)["rgb"].spec(published.data.image_size)

    def students(names, *overrides):
        views = ", ".join(f"{name}: {{name: {name}, encoder: {teacher}}}" for name in names)
        run = published.with_overrides(f"modalities={{{views}}}", *overrides)
        specs = dict.fromkeys(names, spec)
        with torch.device("meta"):
            model = CRD(specs=specs, graph=build_graph(run), merge=run.graph.merge, student=run.student)
        return model.count_parameters()["student"]

    two = students(["rgb", "depth"])
    three = ["rgb", "depth", "normals"]
    assert students(three, "graph.topology=star", "graph.merge=mean") <= 1.75 * two
    assert students(three) == pytest.approx(2.23 * two, rel=0.01)  # docs/performance-log.md
