"""Maps that are not finite are an error that names the sample and the modality, never a result."""

from __future__ import annotations

import shutil

import pytest
import torch

from crdkit.cli import main
from crdkit.detector import Detector
from crdkit.detector._finite import FUSED, extremes_on_host, require_finite
from crdkit.errors import CrdkitError
from crdkit.runs.evaluate import evaluate_run

NOT_FINITE = r"the map of modality 'depth' is not finite \(nan\); check the values"


@pytest.fixture(scope="module")
def damaged(finished, tmp_path_factory):
    """A run whose detector has one weight that is NaN, saved with a checksum that fits."""
    folder = tmp_path_factory.mktemp("damaged") / "run"
    shutil.copytree(finished, folder)
    detector = Detector.load(folder / "detector", device="cpu")
    with torch.no_grad():
        next(parameter for parameter in detector.model.branch("depth").parameters() if parameter.ndim == 4).fill_(
            float("nan")
        )
    shutil.rmtree(folder / "detector")
    detector.save(folder / "detector")
    return folder


@pytest.fixture
def broken(damaged):
    return Detector.load(damaged / "detector", device="cpu")


def test_a_single_sample_a_batch_and_a_stream(broken, samples):
    with pytest.raises(CrdkitError, match=rf"^{NOT_FINITE}"):
        broken.predict(samples[0])
    with pytest.raises(CrdkitError, match=rf"^sample 0: {NOT_FINITE}"):
        broken.predict_batch(samples[:2])
    with pytest.raises(CrdkitError, match=rf"^sample 0: {NOT_FINITE}"):
        next(broken.predict_stream(samples))
    with pytest.raises(CrdkitError, match=rf"^part 7: {NOT_FINITE}"):
        broken.predict_prepared([broken.prepare(samples[0], name="part 7")])


def test_the_commands_end_with_2_and_write_nothing(damaged, tiny, tmp_path, capsys):
    folder = tiny.data.root / "biscuit"
    assert main(["--quiet", "predict", str(damaged), str(folder), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "rgb/000.png: the map of modality 'depth' is not finite (nan)" in error
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CrdkitError, match=rf"biscuit/test/.*\.png: {NOT_FINITE}"):
        evaluate_run(damaged, f"data.root={tiny.data.root}")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_pixel_of_one_sample_is_found(value):
    maps = {FUSED: torch.zeros(3, 4, 4), "rgb": torch.zeros(3, 4, 4), "depth": torch.zeros(3, 4, 4)}
    require_finite(extremes_on_host(maps), "sample {}".format)
    maps["depth"][1, 2, 3] = value
    maps[FUSED][1, 2, 3] = value
    with pytest.raises(CrdkitError, match=r"^sample 1: the map of modality 'depth' is not finite \((nan|inf|-inf)\)"):
        require_finite(extremes_on_host(maps), "sample {}".format)
    maps["depth"][1, 2, 3] = 0
    with pytest.raises(CrdkitError, match=r"^sample 1: the fused map is not finite"):
        require_finite(extremes_on_host(maps), "sample {}".format)


def test_calibration_refuses_them_too(broken, tiny):
    from crdkit.config.build import build_dataset
    from crdkit.views.split import load_split

    split = load_split(build_dataset(tiny), "validation", views=broken.views)
    with pytest.raises(CrdkitError, match=rf"validation/good/rgb/000\.png: {NOT_FINITE}"):
        broken.calibrate(split)
