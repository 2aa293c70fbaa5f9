"""At N = 2 with ``merge: concat`` the model is the published CRD, number for number."""

from __future__ import annotations

import gc

import golden
import numpy as np
import pytest
import torch

from crdkit.config import RunConfig
from crdkit.config.build import build_graph, build_scorer
from crdkit.model import CRD, CRDOutput
from crdkit.paper import checkpoints as reference
from crdkit.scoring.maps import GaussianSmoothing, anomaly_map, anomaly_score
from crdkit.training.losses import TERMS, branch_losses, crd_losses
from crdkit.training.step import build_optimizers, train_step

OTHER = {"rgb": "depth", "depth": "rgb"}


@pytest.fixture(scope="module")
def model():
    loaded = reference.load_students({name: golden.student_state(name) for name in golden.MODALITIES})
    yield loaded
    del loaded
    gc.collect()


@pytest.fixture(scope="module")
def features():
    return {name: golden.teacher_features(name) for name in golden.MODALITIES}


@pytest.fixture(scope="module")
def evaluated(model, features):
    with torch.no_grad():
        return model.distill(features)


def parts(out, target):
    return {
        "filter": out.filtered[OTHER[target]],
        "amplifier": out.amplified[OTHER[target]],
        "decoder": out.decoder,
        "output": out.output,
    }


def assert_levels_are_golden(prefix, levels):
    for level, tensor in enumerate(levels):
        name = f"{prefix}/{level}"
        norm = torch.linalg.vector_norm(tensor.detach().double()).item()
        assert norm == pytest.approx(float(golden.values()[f"{name}/norm"]), rel=1e-4), name
        largest = tensor.detach().abs().max().item()
        np.testing.assert_allclose(
            golden.sampled(name, tensor), golden.values()[name], rtol=0, atol=1e-3 * largest, err_msg=name
        )


def test_published_size(model):
    # facts of the published model: 193.4 M parameters per branch
    assert model.count_parameters() == {"student": 386_713_612, "teacher": 0}


@pytest.mark.parametrize("target", golden.MODALITIES)
@pytest.mark.parametrize("part", ["filter", "amplifier", "decoder", "output"])
def test_features_in_eval_mode(evaluated, target, part):
    out = {
        "filter": evaluated.filtered[target].get(OTHER[target]),
        "amplifier": evaluated.amplified[target].get(OTHER[target]),
        "decoder": evaluated.decoder[target],
        "output": evaluated.output[target],
    }
    assert_levels_are_golden(f"eval/{target}/{part}", out[part])


@pytest.mark.parametrize("target", golden.MODALITIES)
def test_branch_maps(evaluated, target):
    maps = anomaly_map(evaluated.teacher[target], evaluated.output[target], size=256)
    stored = golden.values()[f"eval/{target}/anomaly_map"]
    np.testing.assert_allclose(maps[:, ::8, ::8], stored, atol=1e-3 * np.abs(stored).max(), rtol=0)


def test_fused_maps_and_scores(evaluated):
    scorer = build_scorer(RunConfig.preset("crd-mvtec3d"))
    for index, name in enumerate(golden.MODALITIES):
        mean, std = golden.description()["calibration"][name]
        scorer.aggregation.mean[index], scorer.aggregation.std[index] = mean, std
    maps = scorer(scorer.raw_maps(evaluated.teacher, evaluated.output))
    stored = golden.values()["eval/fused/anomaly_map"]
    np.testing.assert_allclose(maps.anomaly_map[:, ::8, ::8], stored, atol=1e-3 * np.abs(stored).max(), rtol=0)
    np.testing.assert_allclose(maps.pred_score, golden.values()["eval/fused/score"], rtol=1e-3)


def test_smoothing_is_that_of_scipy():
    from scipy.ndimage import gaussian_filter

    maps = np.random.default_rng(0).normal(size=(3, 40, 40)).astype(np.float32)
    for sigma in (0.5, 2.0, 4.0, 15.0):  # 15: the kernel is wider than the map and mirrors more than once
        expected = np.stack([gaussian_filter(values, sigma) for values in maps])
        smoothed = GaussianSmoothing(sigma, size=40)(torch.from_numpy(maps))
        np.testing.assert_allclose(smoothed, expected, atol=2e-6)
    unsmoothed = GaussianSmoothing(0, size=40)(torch.from_numpy(maps))
    np.testing.assert_array_equal(unsmoothed, maps)
    np.testing.assert_array_equal(anomaly_score(unsmoothed), maps.max(axis=(1, 2)))


def test_losses_of_all_branches_are_those_of_each(evaluated):
    together = crd_losses(evaluated)
    for target in golden.MODALITIES:
        alone = branch_losses(evaluated.teacher[target], evaluated.branches[target])
        assert list(together[target]) == list(TERMS)
        for term in TERMS:
            assert together[target][term] == alone[term]
    assert isinstance(evaluated, CRDOutput)


def test_the_preset_builds_the_published_model(model):
    preset = RunConfig.preset("crd-mvtec3d")
    with torch.device("meta"):
        built = CRD(
            specs=dict.fromkeys(golden.MODALITIES, reference.PUBLISHED_SPEC),
            graph=build_graph(preset),
            merge=preset.graph.merge,
            student=preset.student,
        )
    shapes = {name: tensor.shape for name, tensor in built.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert tuple(preset.modalities) == built.modalities


@pytest.mark.slow
@pytest.mark.parametrize("target", golden.MODALITIES)
def test_training_trajectory_of_the_preset(model, features, target):
    """First-step features, losses and gradients, and the total loss over three steps, as crd-mvtec3d trains."""
    values, options = golden.values(), RunConfig.preset("crd-mvtec3d").training
    branch = model.branch(target)
    initial = {name: value.clone() for name, value in branch.state_dict().items()}

    def this_branch(train_branch, _names):  # the other one would take as much memory and time again
        return [train_branch(target)]

    try:
        model.train()
        with torch.no_grad():
            for part, levels in parts(branch(features), target).items():
                assert_levels_are_golden(f"train/{target}/{part}", levels)
        optimizers = build_optimizers(model, options)
        assert len(optimizers) == len(golden.MODALITIES)
        for step, tolerance in enumerate((1e-4, 1e-3, 5e-3)):
            losses = train_step(model, features, optimizers, options, each_branch=this_branch)[0]
            if step == 0:
                for term, loss in zip(TERMS, losses, strict=True):
                    assert loss.item() == pytest.approx(float(values[f"train/{target}/loss/{term}"]), rel=1e-4), term
                assert_gradients_are_golden(branch, target)
            stored = float(values[f"train/{target}/loss_per_step"][step])
            assert losses.sum().item() == pytest.approx(stored, rel=tolerance)
    finally:
        branch.load_state_dict(initial)
        branch.zero_grad(set_to_none=True)
        model.eval()


def assert_gradients_are_golden(branch, target):
    own = dict(branch.named_parameters())
    names = golden.description()["parameters"]
    translated = [reference.own_name(name, source=OTHER[target]) for name in names]
    assert sorted(translated) == sorted(own)
    norms = np.array([torch.linalg.vector_norm(own[name].grad.double()).item() for name in translated])
    stored = golden.values()[f"train/{target}/grad_norms"]
    errors = np.abs(norms - stored) / stored
    assert np.median(errors) <= 2e-3
    assert errors.max() <= 2e-2, names[int(errors.argmax())]


def test_other_checkpoints_are_refused():
    state = {name: torch.empty(shape) for name, shape in golden.description()["state"]}
    refuse = reference._translate
    own = {reference.own_name(name, source="depth"): value for name, value in state.items()}
    assert len(refuse(state, own, target="rgb", source="depth")) == len(state)
    cases = {
        "unknown tensor 'teacher.conv1'": {**state, "teacher.conv1": torch.empty(1)},
        "tensors are missing": {k: v for k, v in state.items() if k != "decoder.w_a"},
        "has shape \\(3,\\), expected \\(2,\\)": {**state, "decoder.w_b": torch.empty(3)},
    }
    for message, broken in cases.items():
        with pytest.raises(reference.DetectorFormatError, match=message):
            refuse(broken, own, target="rgb", source="depth")
    with pytest.raises(reference.DetectorFormatError, match="two state dicts"):
        reference.load_students({"rgb": state})
    with pytest.raises(reference.DetectorFormatError, match="two state dicts"):
        reference.load_students(state)


def test_without_teachers_the_model_says_what_is_missing(model):
    with pytest.raises(ValueError, match="no teachers"):
        model({"rgb": torch.zeros(1, 3, 256, 256), "depth": torch.zeros(1, 1, 256, 256)})
    with pytest.raises(ValueError, match="'depth' are missing"):
        model.distill({"rgb": []})
