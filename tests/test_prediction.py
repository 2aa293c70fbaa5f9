"""What a prediction and a detector say of themselves: compared, printed, as JSON and in a notebook."""

from __future__ import annotations

import base64
import copy
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from crdkit.config.build import build_model, build_scorer
from crdkit.detector import Detector, Prediction
from crdkit.runs.directory import read_metrics
from crdkit.runs.fit import fit


@pytest.fixture
def found():
    rng = np.random.default_rng(0)
    maps = {name: rng.random((30, 40), np.float32) for name in ("rgb", "depth")}
    return Prediction(
        anomaly_map=maps["rgb"] + maps["depth"],
        score=np.float32(1.25),
        maps=maps,
        scores={"rgb": 0.5, "depth": np.float32(0.75)},
        missing=("thermal",),
        image_path="<b>a.png</b>",
    )


def test_equal_if_all_values_are(found):
    assert found == found  # noqa: PLR0124  this raised an error
    assert found == copy.deepcopy(found)
    changed = found.anomaly_map.copy()
    changed[3, 4] += 1
    others = [
        replace(found, anomaly_map=changed),
        replace(found, anomaly_map=changed[:3]),
        replace(found, score=2.0),
        replace(found, maps={"rgb": found.maps["rgb"]}),
        replace(found, maps={**found.maps, "rgb": found.maps["depth"]}),
        replace(found, scores={}),
        replace(found, missing=()),
        replace(found, image_path=None),
        replace(found, threshold=1.0, p_value=0.25),
        replace(found, pixel_threshold=1.0),
        "a prediction",
        None,
    ]
    assert not any(found == other for other in others)
    assert all(found != other for other in others)
    with pytest.raises(TypeError, match="unhashable"):
        hash(found)


def test_the_mask_is_where_the_fused_map_is_above_the_pixel_threshold(found):
    assert found.mask is None
    middle = float(np.sort(found.anomaly_map, axis=None)[600])  # of 1200 pixels
    marked = replace(found, pixel_threshold=middle).mask
    assert (marked.shape, marked.dtype, marked.sum()) == ((30, 40), bool, 599)
    assert np.array_equal(marked, found.anomaly_map > middle)


def test_two_prepared_samples_can_be_compared(detector, samples):
    one = detector.prepare(samples[0])
    assert one == one  # noqa: PLR0124
    assert one != detector.prepare(samples[0])


def test_it_is_json_under_the_names_of_scores_csv(found):
    read = json.loads(json.dumps(found.to_dict()))
    assert list(read) == [
        *(
            "image_path",
            "pred_score",
            "pred_label",
            "threshold",
            "p_value",
            "pred_scores",
            "missing",
            "pixel_threshold",
        ),
        *("regions", "attribution", "attribution_paths", "attribution_sensors", "anomaly_map", "maps"),
    ]
    assert (read["pred_score"], read["pred_scores"]) == (1.25, {"rgb": 0.5, "depth": 0.75})
    assert (read["missing"], read["pred_label"]) == (["thermal"], None)
    judged = json.loads(json.dumps(replace(found, threshold=1.0, p_value=0.25).to_dict(maps=False)))
    assert (judged["pred_label"], judged["threshold"], judged["p_value"]) == (True, 1.0, 0.25)
    np.testing.assert_array_equal(np.array(read["anomaly_map"], np.float32), found.anomaly_map)
    for name, values in found.maps.items():
        np.testing.assert_array_equal(np.array(read["maps"][name], np.float32), values)
    small = json.dumps(found.to_dict(maps=False))
    assert len(small) < 400
    assert json.loads(small).keys() == read.keys() - {"anomaly_map", "maps"}


def test_what_a_real_prediction_prints(detector, samples):
    result = detector.predict(samples[0])
    assert repr(result) == (
        f"Prediction(score={result.score:.6g}, label={result.label}, scores={{'rgb': {result.scores['rgb']:.6g}, "
        f"'depth': {result.scores['depth']:.6g}}}, size=(64, 64))"
    )
    json.dumps(result.to_dict())
    assert repr(detector) == (
        "Detector(category='biscuit', sensors=('rgb', 'xyz'), modalities=('rgb', 'depth'), image_size=64, device='cpu')"
    )


def test_a_notebook_shows_the_map_and_escapes_names(found):
    html = found._repr_html_()
    assert "<b>" not in html
    assert "&lt;b&gt;a.png&lt;/b&gt;" in html
    for text in ("1.25", "0.75", "thermal", "30 x 40"):
        assert text in html
    (source,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    with Image.open(io.BytesIO(base64.b64decode(source))) as image:
        assert image.size == (40, 30)
    assert "missing" in repr(found)
    judged = replace(found, threshold=1.0, p_value=0.25)
    assert "anomalous (p 0.25)" in judged._repr_html_()
    assert "label=True" in repr(judged)


def test_a_large_map_is_shown_small():
    large = np.random.default_rng(0).random((1500, 2000), np.float32)
    html = Prediction(anomaly_map=large, score=1.0, maps={})._repr_html_()
    assert len(html) < 100_000
    flat = Prediction(anomaly_map=np.zeros((5, 5), np.float32), score=0.0, maps={})
    assert "<img" in flat._repr_html_()


def test_a_notebook_shows_what_a_detector_is_made_of(tiny):
    config = tiny.model_copy(update={"data": tiny.data.model_copy(update={"category": "<script>"})})
    detector = Detector(config=config, model=build_model(config), scorer=build_scorer(config))
    html = detector._repr_html_()
    assert "<script>" not in html
    for text in ("&lt;script&gt;", "rgb, xyz", "depth, seen by timm", "64 x 64", "cpu"):
        assert text in html
    detector.history = [{"epoch": 1, "loss": 0.5, "losses": {}, "seconds": 1.0}]
    assert "1, last loss 0.5" in detector._repr_html_()


@pytest.mark.usefixtures("without_reports")
def test_metrics_and_history_of_a_fit_can_be_reached(tiny, tmp_path):
    detector = fit(tiny.with_overrides("training.epochs=1"), tmp_path / "run")
    assert [log["epoch"] for log in detector.history] == [1]
    assert detector.metrics == read_metrics(tmp_path / "run")
    again = fit(tiny.with_overrides("training.epochs=1"), tmp_path / "run", resume=True)
    assert (list(again.history), again.metrics) == (list(detector.history), detector.metrics)
    loaded = Detector.load(tmp_path / "run/detector", device="cpu")
    assert (list(loaded.history), loaded.metrics) == ([], None)
