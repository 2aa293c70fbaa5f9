"""Files that hold several sensors: a manifest names a page or channels, and every reader of manifests heeds it."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from conftest import TINY
from PIL import Image

import crdkit
from crdkit.data import datasets
from crdkit.data.arriving import ArrivingFiles
from crdkit.data.check import check_dataset
from crdkit.data.images import read_tiff
from crdkit.data.parts import FilePart, read_part, split_part
from crdkit.detector.files import open_detector, predict_inputs
from crdkit.errors import DataError
from crdkit.runs.fingerprint import Reading
from crdkit.views.single_channel import SingleChannel
from crdkit.views.split import load_split
from crdkit.watch import watch

SIDE = 64
YAML = """sensors:
  rgb: "*.tiff#page=1"
  thermal: "*.tiff#page=2"
train: good
test: {good: fine, hot: hot}
"""
CSV = "split,defect_type,rgb,thermal\n" + "".join(
    f"{split},{kind},{path}.tiff#page=1,{path}.tiff#page=2\n"
    for split, kind, path in [
        *(("train", "good", f"good/{i}") for i in range(4)),
        ("test", "good", "fine/0"),
        ("test", "hot", "hot/0"),
    ]
)


def stack(path, seed, *, heat=29_000):
    """Write a colour page and a thermal one."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path) as file:
        file.write(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8), photometric="rgb")
        file.write(rng.integers(heat, heat + 1000, (SIDE, SIDE), np.uint16))


@pytest.fixture
def folder(tmp_path):
    """Stacks as YAML and CSV describe them; no manifest yet."""
    for seed in range(4):
        stack(tmp_path / f"parts/good/{seed}.tiff", seed)
    stack(tmp_path / "parts/fine/0.tiff", 8)
    stack(tmp_path / "parts/hot/0.tiff", 9, heat=31_000)
    return tmp_path / "parts"


def dataset(folder, text):
    kind = "yaml" if text.startswith("sensors") else "csv"
    for old in folder.glob("manifest.*"):
        old.unlink()
    (folder / f"manifest.{kind}").write_text(text)
    return datasets.build(datasets.build_config({"name": "folder", "root": folder, "image_size": SIDE}))


@pytest.mark.parametrize("text", [YAML, CSV])
def test_each_sensor_is_its_page(folder, text):
    data = dataset(folder, text)
    assert data.sensors == ("rgb", "thermal")
    record = data.records("test")[1]
    assert dict(record.parts) == {"rgb": FilePart(page=1), "thermal": FilePart(page=2)}
    sample = data.read(record)
    for number, sensor in enumerate(("rgb", "thermal")):
        assert (sample.sensors[sensor] == tifffile.imread(folder / "hot/0.tiff", key=number)).all()
    assert sample.sensors["rgb"].shape == (SIDE, SIDE, 3)
    assert not [finding for finding in check_dataset(data).findings if finding.severity == "error"]


@pytest.mark.parametrize("text", [YAML, CSV])
def test_what_is_kept_depends_on_the_part(folder, tmp_path, text):
    data = dataset(folder, text)
    views = {"heat": SingleChannel(SingleChannel.Config(sensor="thermal", range=(28_000, 32_000)))}

    def print_of(data):
        return Reading(data, {"train": data.records("train")}).fingerprint().digests()

    def decode(data):
        config = data.config.model_copy(update={"cache": tmp_path / "cache"})
        return load_split(type(data)(config), "train", views=views).inputs["heat"]

    before, seen = print_of(data), decode(data)
    for seed in range(4):  # one more page, which none of the sensors is
        path = folder / f"good/{seed}.tiff"
        with tifffile.TiffWriter(path, append=True) as file:
            file.write(np.full((SIDE, SIDE), 30_000 + seed, np.uint16))
    added, same = print_of(data), decode(data)
    other = dataset(folder, text.replace("page=2", "page=3"))
    assert (seen == same).all()
    assert not (decode(other) == same).all()
    assert len({str(before), str(added), str(print_of(other))}) == 3


def test_channels_of_any_image_and_planes_of_a_page(tmp_path):
    pixels = np.arange(8 * 9 * 4, dtype=np.uint8).reshape(8, 9, 4)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
    tifffile.imwrite(tmp_path / "planes.tif", np.moveaxis(pixels, -1, 0), photometric="rgb", planarconfig="separate")
    np.save(tmp_path / "a.npy", pixels)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (read_tiff(tmp_path / "planes.tif") == pixels).all()
    for name in ("a.tif", "planes.tif", "a.npy", "a.png"):
        assert (read_part(tmp_path / name, FilePart(channels=(1, 3))) == pixels[..., :3]).all()
        assert (read_part(tmp_path / name, FilePart(channels=(4, 4))) == pixels[..., 3]).all()
        with pytest.raises(DataError, match=r"#channels=4-5: there are no such channels in uint8 \(8, 9, 4\)"):
            read_part(tmp_path / name, FilePart(channels=(4, 5)))
    assert (read_part(tmp_path / "a.tif", FilePart(page=1, channels=(2, 2))) == pixels[..., 1]).all()
    with pytest.raises(DataError, match=r"a\.tif: page 2 is named, but it has 1; correct the manifest"):
        read_part(tmp_path / "a.tif", FilePart(page=2))
    with pytest.raises(DataError, match=r"a\.npy: #page=1: only TIFF files have pages"):
        read_part(tmp_path / "a.npy", FilePart(page=1))


@pytest.mark.parametrize(
    "text", ["a.tiff#", "a.tif#page=0", "*#page=1-2", "a.png#channels=3-1", "a.npy#page=1&page=2", "a.TIF#frame=1"]
)
def test_what_is_no_part_is_refused(text):
    with pytest.raises(ValueError, match=r"is no part of a file: write file\.tiff#page=2, file\.tiff#channels=1-3, or"):
        split_part(text)


@pytest.mark.parametrize("text", ["a#1/b.tif", "a.png#1/b.tif", "a.tif#2.tif", "a.txt#page=1", "#.png", "a.tif"])
def test_other_names_with_the_mark_are_names(text):
    assert split_part(text) == (text, None)


def test_manifests_with_wrong_parts_are_refused_by_line_and_key(folder):
    with pytest.raises(DataError, match=r"manifest\.csv: line 3, column 'thermal': '#seite=2' is no part of a file"):
        dataset(folder, CSV.replace("good/1.tiff#page=2", "good/1.tiff#seite=2")).records("train")
    with pytest.raises(DataError, match=r"manifest\.yaml: sensors\.thermal.*'#page=x' is no part of a file"):
        dataset(folder, YAML.replace("page=2", "page=x")).records("train")
    with pytest.raises(DataError, match=r"manifest\.yaml: masks.*a mask is a whole file; leave out what follows"):
        dataset(folder, YAML + "masks: '*.png#channels=1'\n").records("train")
    for old, new, message in (
        ("page=2", "page=7", r"\d\.tiff: page 7 is named, but it has 2"),
        ("#page=2", "", r"one page, found 2 pages; .* manifest: file\.tiff#page=1"),
    ):
        data = dataset(folder, CSV.replace(old, new))
        record = data.records("train")[0]
        with pytest.raises(DataError, match=message):
            data.read(record)


def test_pages_of_different_sizes_are_told_apart(folder):
    with tifffile.TiffWriter(folder / "good/0.tiff") as file:
        file.write(np.zeros((SIDE, SIDE, 3), np.uint8), photometric="rgb")
        file.write(np.zeros((SIDE // 2, SIDE), np.uint16))
    data = dataset(folder, CSV)
    with pytest.raises(DataError, match=r"0\.tiff#page=1 64 x 64, .*0\.tiff#page=2 32 x 64; resample"):
        data.read(next(r for s in ("train", "validation") for r in data.records(s) if r.sample_id == "good/0"))


def test_files_that_arrive_are_of_all_their_sensors(folder):
    dataset(folder, YAML)
    found = ArrivingFiles(folder, ["rgb", "thermal"]).look().samples["hot/0"]
    assert found["rgb"] == found["thermal"]
    (folder / "manifest.yaml").write_text(YAML.replace("*.tiff#page=1", "*.png"))
    (folder / "hot/0.png").write_bytes(b"any")
    found = ArrivingFiles(folder, ["rgb", "thermal"]).look().samples["hot/0"]
    assert [file.path for file in (found["rgb"], found["thermal"])] == ["hot/0.png", "hot/0.tiff"]


@pytest.mark.usefixtures("without_reports")
def test_a_detector_predicts_and_watches_stacks(folder, tmp_path):
    teacher = "encoder: {name: timm, model: test_resnet, pretrained: false}"
    dataset(folder, YAML)
    run = crdkit.RunConfig.preset("quick").with_overrides(
        *(text for text in TINY if not text.startswith(("data.category", "modalities", "training.epochs"))),
        "data.name=folder",
        f"data.root={folder}",
        "training.epochs=1",
        "modalities.depth=null",
        f"modalities.rgb={{name: rgb, {teacher}}}",
        f"modalities.heat={{name: single_channel, sensor: thermal, range: [28000, 32000], {teacher}}}",
    )
    detector = crdkit.fit(run, tmp_path / "run")
    file = folder / "hot/0.tiff"
    one = detector.predict({"rgb": f"{file}#page=1", "thermal": f"{file}#page=2"})
    assert one.image_path == str(file)
    arguments = [f"rgb={file}#page=1", f"thermal={file}#page=2"]
    for given in (arguments, [str(folder)]):
        found = [p for _, _, p in predict_inputs(*open_detector(tmp_path / "run", given))]
        assert found[-1].score == pytest.approx(one.score, rel=1e-4)
    with pytest.raises(DataError, match="sensor 'rgb': '#side=1' is no part of a file"):
        detector.read({"rgb": f"{file}#side=1"})
    events = []
    moved = tmp_path / "moved"
    watched = watch(detector, folder, tmp_path / "watched", once=True, move=moved, on_event=events.append)
    (decided,) = [event for event in events if event.get("sample") == "hot/0"]
    assert watched.decided == 6
    assert decided["pred_score"] == pytest.approx(one.score, rel=1e-4)
    assert (moved / "hot/0.tiff").is_file()
    assert not file.exists()
    assert "unmoved" not in {event["event"] for event in events}
