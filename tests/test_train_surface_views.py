"""A detector of curvature, roughness, photometric normals, albedo and polarisation, from files to a prediction."""

from __future__ import annotations

from pathlib import Path

import pytest

import crdkit
from crdkit.data.images import read_file
from crdkit.data.synthetic import POLARISERS, write_folder

LIGHTS = [f"light_{number}" for number in range(1, 5)]
OVERRIDES = (
    "data.category=capsule",
    "data.image_size=32",
    "graph.topology=none",
    "student.depths=1",
    "student.embedding_blocks=1",
    "student.min_width=8",
    "training.epochs=1",
    "training.batch_size=4",
    "training.device=cpu",
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight sensors of a few parts, in a folder per sensor."""
    root = tmp_path_factory.mktemp("parts") / "data"
    counts = {"train": 4, "validation": 2, "test_good": 1, "test_per_defect": 1}
    return write_folder(root, categories=["capsule"], size=48, sensors=["xyz", *LIGHTS, *POLARISERS], **counts)


@pytest.mark.usefixtures("without_reports")
def test_five_views_of_nine_sensors_are_trained_and_predict(parts: Path, tmp_path: Path) -> None:
    directions = [[0, -0.785, 0.62], [0.785, 0, 0.62], [0, 0.785, 0.62], [-0.785, 0, 0.62]]
    teacher = {"name": "timm", "model": "test_resnet", "pretrained": False}
    options: dict[str, dict[str, object]] = {
        "curvature": {},
        "roughness": {},
        "photometric_normals": {"sensors": LIGHTS, "directions": directions},
        "albedo": {"sensors": LIGHTS, "directions": directions},
        "polarisation": {"largest": 0.3},
    }
    run = crdkit.RunConfig.model_validate(
        {
            "data": {"name": "folder", "root": str(parts), "category": "capsule"},
            "modalities": {name: {**given, "encoder": teacher} for name, given in options.items()},
        }
    ).with_overrides(*OVERRIDES)
    trained = crdkit.fit(run, tmp_path / "run")
    folder = parts / "capsule/test/dent"
    sensors = {file.parent.name: read_file(file) for file in folder.glob("[!m]*/000.*")}
    result = trained.predict(sensors)
    assert set(result.maps) == set(options)
    loaded = crdkit.Detector.load(tmp_path / "run/detector", device="cpu")
    assert loaded.config.modalities["albedo"].model_dump()["sensors"] == tuple(LIGHTS)
    assert loaded.predict(sensors).score == result.score
