"""Model cards, and detectors on the Hugging Face Hub; its server is a folder here, and nothing uses a network."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from crdkit import hub
from crdkit.config import RunConfig
from crdkit.detector import Detector
from crdkit.detector.card import model_card
from crdkit.errors import ConfigError, CrdkitError, DetectorFormatError, UntrustedCodeError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HOSTILE = "<script>alert(1)</script>\n---\n# \u202egear | `x`"


def front_matter(card):
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("---\n")[1])


def test_a_run_writes_the_card_of_its_detector(finished):
    card = (finished / "detector/README.md").read_text()
    front = front_matter(card)
    metrics = json.loads((finished / "metrics.json").read_text())
    assert (front["library_name"], front["tags"][-2:]) == ("crdkit", ["sensor:rgb", "sensor:xyz"])
    (result,) = front["model-index"][0]["results"]
    assert result["dataset"] == {"type": "mvtec3d", "name": "biscuit"}
    found = {entry["type"]: entry["value"] for entry in result["metrics"]}
    expected = metrics["aggregate"]["image_auroc"]
    assert found["image_auroc"] == pytest.approx(expected, abs=1e-6)
    assert f"Trained on 6 good samples, measured on {metrics['counts']['test']} test samples" in card
    assert f"| I-AUROC | {100 * expected:.1f} |" in card
    assert "license" not in front
    assert "# license:" in card


def test_the_card_of_a_detector_that_knows_no_metrics_says_so(detector, tmp_path):
    detector.save(tmp_path / "again")
    card = (tmp_path / "again/README.md").read_text()
    assert "The folder of its run says what was measured." in card
    assert "model-index" not in front_matter(card)


def test_a_training_without_a_test_split_measured_nothing(tiny):
    card = model_card(tiny, metrics={"aggregate": {"image_auroc": None}, "counts": {"train": 6, "test": None}})
    assert "Trained on 6 good samples. Nothing was measured" in card


def test_names_are_escaped_in_front_matter_text_and_examples(tiny):
    config = tiny.model_copy(update={"data": tiny.data.model_copy(update={"category": HOSTILE})})
    card = model_card(config, metrics={"aggregate": {"image_auroc": 0.5}})
    front, body = front_matter(card), card.split("---\n", 2)[2]
    assert list(front) == ["library_name", "tags", "model-index"]
    assert "<script>" not in body
    assert "\u202e" not in card
    assert "&lt;script&gt;" in body
    assert len([line for line in body.splitlines() if line.startswith("# ")]) == 1


def test_a_detector_without_a_card_and_one_with_another_are_loaded(finished, tmp_path, samples):
    folder = shutil.copytree(finished / "detector", tmp_path / "detector")
    expected = Detector.load(folder, device="cpu").predict(samples[0]).score
    (folder / "README.md").write_text("license: mine")
    assert Detector.load(folder, device="cpu").predict(samples[0]).score == expected
    (folder / "README.md").unlink()
    assert Detector.load(folder, device="cpu").predict(samples[0]).score == expected


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Stand in for the hub's server: a repository is a folder in the cache of huggingface_hub, at one commit."""
    import huggingface_hub

    cache = tmp_path / "cache"
    log = SimpleNamespace(cache=cache, created=[], commits=[])

    def folder_of(repository):
        return cache / f"models--{repository.replace('/', '--')}"

    class Api:
        def __init__(self, *, token=None, library_name=None):
            assert library_name == "crdkit"
            self.token = token

        def create_repo(self, repository, *, private, exist_ok):
            log.created.append((repository, private, self.token))
            (folder_of(repository) / "snapshots" / COMMIT).mkdir(parents=True, exist_ok=exist_ok)
            (folder_of(repository) / "refs").mkdir(exist_ok=True)
            (folder_of(repository) / "refs/main").write_text(COMMIT)

        def file_exists(self, repository, name, *, revision):
            return (folder_of(repository) / "snapshots" / COMMIT / name).exists()

        def upload_folder(self, *, repo_id, folder_path, allow_patterns, commit_message, revision):
            for name in allow_patterns:
                shutil.copy(Path(folder_path) / name, folder_of(repo_id) / "snapshots" / COMMIT / name)
            log.commits.append((sorted(allow_patterns), commit_message, revision))
            return SimpleNamespace(commit_url=f"https://hub.example/{repo_id}/commit/{COMMIT}")

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    return log


def test_what_was_pushed_is_loaded_and_predicts_the_same(server, finished, samples):
    address = hub.push(finished, "me/biscuit", private=True, token="secret")
    assert address == f"https://hub.example/me/biscuit/commit/{COMMIT}"
    assert server.created == [("me/biscuit", True, "secret")]
    assert server.commits[0][0] == ["README.md", "config.json", "model.safetensors"]
    loaded = hub.load("me/biscuit", cache=server.cache, offline=True, device="cpu")
    expected = Detector.load(finished / "detector", device="cpu")
    assert loaded.predict(samples[0]) == expected.predict(samples[0])
    assert loaded.thresholds.images == expected.thresholds.images


def test_a_detector_in_memory_is_pushed_and_the_card_of_the_repository_kept(server, detector):
    hub.push(detector, "me/gear", revision="next", message="Again")
    card = server.cache / f"models--me--gear/snapshots/{COMMIT}/README.md"
    card.write_text("license: mit")
    hub.push(detector, "me/gear")
    assert card.read_text() == "license: mit"
    hub.push(detector, "me/gear", replace_card=True)
    assert card.read_text().startswith("---\nlibrary_name: crdkit")
    assert [entry[1:] for entry in server.commits] == [
        ("Again", "next"), ("A detector of crdkit", None), ("A detector of crdkit", None),
    ]  # fmt: skip


def test_code_that_a_detector_names_is_imported_only_if_it_is_allowed(server, finished, tmp_path, monkeypatch):
    folder = shutil.copytree(finished / "detector", tmp_path / "hostile")
    header = json.loads((folder / "config.json").read_text())
    header["config"]["plugins"] = ["parts_from_the_hub"]
    (folder / "config.json").write_text(json.dumps(header))
    (tmp_path / "parts_from_the_hub.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()")
    monkeypatch.syspath_prepend(tmp_path)
    hub.push(folder, "they/parts")
    with pytest.raises(UntrustedCodeError, match="parts_from_the_hub"):
        hub.load("they/parts", cache=server.cache, offline=True, device="cpu")
    assert not (tmp_path / "ran").exists()
    hub.load("they/parts", cache=server.cache, offline=True, device="cpu", allow_plugins=True)
    assert (tmp_path / "ran").exists()


def test_a_folder_without_a_detector_is_not_pushed(server, tmp_path):
    with pytest.raises(DetectorFormatError, match="holds no detector"):
        hub.push(tmp_path, "me/nothing")
    assert not server.created


def test_what_cannot_be_downloaded_is_one_clear_error(tmp_path):
    with pytest.raises(CrdkitError, match="repository 'me/nothing': "):
        hub.load("me/nothing", cache=tmp_path, offline=True)
    with pytest.raises(CrdkitError, match="repository 'no name at all': HFValidationError"):
        hub.load("no name at all", cache=tmp_path, offline=True)


def test_a_repository_of_another_kind_is_no_detector(server, tmp_path):
    snapshot = server.cache / f"models--me--words/snapshots/{COMMIT}"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(DetectorFormatError, match="is not a detector's config"):
        hub.load("me/words", cache=server.cache, revision=COMMIT, offline=True)


def test_a_missing_package_is_one_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"pip install 'crdkit\[hub\]'"):
        hub.load("me/gear")


def test_the_same_run_has_the_same_card():
    config = RunConfig.preset("quick").with_overrides("data.category=gear")
    assert model_card(config) == model_card(config)
