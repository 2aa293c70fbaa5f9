"""Samples that arrive while a folder is watched: each good one is decided once, everything else is reported."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from crdkit.data.images import read_file
from crdkit.data.statistics import merge, summarise, to_json
from crdkit.detector import Prediction
from crdkit.errors import ConfigError, CrdkitError, DataError, UnusualDataWarning
from crdkit.scoring.conformal import Normals
from crdkit.scoring.thresholds import Thresholds
from crdkit.watch import Pace, watch

QUICK = Pace(wait=0.25, settle=0.02, every=0.005)
SENSORS = ("depth", "rgb")


class Detector:
    """Has the public interface of a detector, and takes an image's brightest pixel for its score."""

    sensors = SENSORS
    views = dict.fromkeys(SENSORS)
    config = SimpleNamespace(data=SimpleNamespace(follow_links=False))

    def __init__(self, *, spares: bool = False) -> None:
        self._spares = spares
        self.decided: list[str] = []
        self.thresholds = Thresholds(scores={SENSORS: Normals(range(100), rule="split")}, peaks={}, false_alarms=0.05)
        trained = [summarise({name: np.full((8, 8), value, np.uint8) for name in SENSORS}) for value in range(60)]
        self.sensor_statistics = to_json(merge(trained))

    def require_sensors(self, sensors, *, where=""):
        if len(set(sensors)) < (1 if self._spares else len(SENSORS)):
            raise DataError(f"{where}a sensor is missing")

    def read(self, files):
        return {sensor: read_file(Path(path)) for sensor, path in files.items()}

    def register(self, sensors):
        return sensors

    def predict(self, sensors):
        shown = next(iter(sensors.values())).astype(np.float32)
        score = float(shown.max())
        missing = tuple(name for name in SENSORS if name not in sensors)
        threshold = None if missing else 95.0
        return Prediction(
            anomaly_map=shown, score=score, maps={}, scores={}, missing=missing, threshold=threshold,
            p_value=None if missing else self.thresholds.scores[SENSORS].p_value(score),
        )  # fmt: skip


def picture(value: int = 10) -> np.ndarray:
    return np.full((8, 8), value, np.uint8)


def drop(folder: Path, name: str, sensor: str, *, value: int = 10) -> Path:
    """Write a sensor's file as a careful writer does: under another name first."""
    path = folder / sensor / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(value)).save(path.with_suffix(".png.part"), format="PNG")
    path.with_suffix(".png.part").rename(path)
    return path


def drop_all(folder: Path, name: str, *, value: int = 10) -> None:
    for sensor in SENSORS:
        drop(folder, name, sensor, value=value)


def journal(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]


def told(out: Path) -> list[tuple[str, str]]:
    """Return kind and sample of every event but those of the process."""
    events = [event for event in journal(out) if event["event"] not in ("started", "stopped")]
    return [(event["event"], event.get("sample") or event.get("file")) for event in events]


@pytest.fixture
def line(tmp_path):
    (tmp_path / "line").mkdir()
    return tmp_path / "line"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def once(line, out, **options):
    return watch(options.pop("detector", None) or Detector(), line, out, pace=QUICK, once=True, **options)


def live(line, out, steps, *, detector=None, pace=QUICK, **options):
    """Watch, and do the next step as soon as all events that the last one waits for are there."""
    remaining, seen, wanted = list(steps), [], [0]

    def on_look(_record, _waiting):
        if len(seen) >= wanted[0] and remaining:
            wanted[0], step = remaining.pop(0)
            step()

    def on_event(event):
        if event["event"] not in ("started", "stopped"):
            seen.append(event)

    def stop():
        return not remaining and len(seen) >= wanted[0]

    return watch(detector or Detector(), line, out, pace=pace, on_look=on_look, on_event=on_event, stop=stop, **options)


def test_what_is_there_is_decided_and_journalled(line, out):
    drop_all(line, "a")
    drop_all(line, "b", value=200)
    found = once(line, out)
    assert (found.decided, found.anomalous, found.reported) == (2, 1, 0)
    events = journal(out)
    assert [event["event"] for event in events] == ["started", "decided", "decided", "stopped"]
    good, bad = events[1:3]
    assert (good["sample"], good["pred_label"], good["image_path"], good["number"]) == ("a", False, "depth/a.png", 0)
    assert (bad["sample"], bad["pred_label"], bad["pred_score"], bad["threshold"]) == ("b", True, 200.0, 95.0)
    assert set(good["files"]) == set(SENSORS)
    assert good["sensors"]["rgb"] == {"measured": 1.0, "low": 10.0, "high": 10.0, "magnitude": 10.0}
    assert (out / "watch.html").is_file()


def test_what_was_decided_is_not_decided_again(line, out):
    drop_all(line, "a")
    once(line, out)
    drop_all(line, "b")
    assert once(line, out).decided == 1
    assert told(out) == [("decided", "a"), ("decided", "b")]


def test_samples_arrive_while_it_watches_and_in_both_forms(line, out):
    def in_one_folder():
        for sensor in SENSORS:
            Image.fromarray(picture()).save(line / f"c_{sensor}.png")

    live(line, out, [(1, lambda: drop_all(line, "a")), (2, lambda: drop_all(line / "belt", "b")), (3, in_one_folder)])
    assert told(out) == [("decided", "a"), ("decided", "belt/b"), ("decided", "c")]


def test_of_a_data_set_only_the_test_split_is_looked_at(line, out):
    for split in ("train", "validation", "test"):
        drop_all(line / "gear" / split / "good", "a")
        drop_all(line / "gear" / split / "hole" / "gt", "b")
    once(line, out)
    assert told(out) == [("decided", "gear/test/good/a")]


def test_a_manifest_says_how_files_are_named(line, out):
    (line / "manifest.yaml").write_text("sensors: {rgb: '*/colour.png', depth: '*/range.png'}\ntest: .\n")
    (line / "part7").mkdir()
    for name in ("colour", "range"):
        Image.fromarray(picture()).save(line / "part7" / f"{name}.png")
    once(line, out)
    assert told(out) == [("decided", "part7")]


@pytest.mark.parametrize(
    ("content", "message"),
    [("sensors: {rgb: '*/colour.png'}", "sensors lacks depth"), ("rgb: 1", "rgb")],
    ids=["a sensor is missing", "no manifest"],
)
def test_a_manifest_that_does_not_fit_is_refused(line, out, content, message):
    (line / "manifest.yaml").write_text(content)
    with pytest.raises(DataError, match=re.escape(message)):
        once(line, out)


def test_a_table_says_how_new_files_are_named(line, out):
    (line / "manifest.csv").write_text("split,rgb,depth\ntrain,c_1.png,d_1.png\ntrain,c_2.png,d_2.png\n")
    for name in ("c_1", "d_1", "c_7", "d_7"):
        Image.fromarray(picture()).save(line / f"{name}.png")
    once(line, out)
    assert told(out) == [("decided", "7")]


def test_a_file_that_is_still_written_is_waited_for(line, out):
    whole = drop(line, "a", "rgb").read_bytes()
    path = drop(line, "a", "depth")
    path.write_bytes(b"")
    looks = []

    def write_on(_record, waiting):
        if len(looks) < 12:  # a byte more at each look: the size never rests
            path.write_bytes(whole[: 1 + len(looks)])
        elif len(looks) == 12:
            path.write_bytes(whole)
        looks.append(waiting)

    watch(Detector(), line, out, pace=replace(QUICK, settle=0.2), once=True, on_look=write_on)
    assert told(out) == [("decided", "a")]
    assert looks[:12] == [1] * 12


def test_a_half_written_file_is_reported_and_decided_once_it_is_whole(line, out):
    whole = drop(line, "a", "rgb").read_bytes()
    path = drop(line, "a", "depth")

    def halve():
        path.write_bytes(whole[: len(whole) // 2])

    live(line, out, [(1, halve), (2, lambda: path.write_bytes(whole))])
    assert told(out) == [("unreadable", "a"), ("decided", "a")]
    assert journal(out)[2]["after_report"] is True


def test_a_corrupt_file_is_reported_once_also_after_a_restart(line, out):
    drop_all(line, "a")
    (line / "rgb/a.png").write_bytes(b"no picture at all")
    for _ in range(3):
        once(line, out)
    assert told(out) == [("unreadable", "a")]
    assert "rgb/a.png" in journal(out)[1]["detail"]


def test_an_empty_file_is_waited_for_and_then_reported(line, out):
    drop_all(line, "a")
    (line / "rgb/a.png").write_bytes(b"")
    live(line, out, [(1, lambda: None)])
    assert told(out) == [("unreadable", "a")]


def test_a_missing_sensor_is_reported_and_decided_when_it_comes_late(line, out):
    live(line, out, [(1, lambda: drop(line, "a", "rgb")), (2, lambda: drop(line, "a", "depth"))])
    assert told(out) == [("incomplete", "a"), ("decided", "a")]
    assert "sensor 'depth' is missing" in journal(out)[1]["detail"]
    once(line, out)
    assert len(told(out)) == 2


def test_a_detector_that_does_without_a_sensor_decides_once_and_journals_what_comes_late(line, out):
    steps = [(1, lambda: drop(line, "a", "rgb")), (2, lambda: drop(line, "a", "depth"))]
    live(line, out, steps, detector=Detector(spares=True))
    once(line, out, detector=Detector(spares=True))
    assert told(out) == [("decided", "a"), ("late", "a")]
    decided, late = journal(out)[1:3]
    assert (decided["missing_sensors"], decided["missing"]) == (["depth"], ["depth"])
    assert list(late["files"]) == ["depth"]


def test_a_name_that_comes_again_is_reported_once_and_not_decided(line, out):
    drop_all(line, "a")
    once(line, out)
    drop_all(line, "a", value=222)
    for _ in range(2):
        once(line, out)
    assert told(out) == [("decided", "a"), ("repeated", "a")]


def test_files_that_belong_to_no_sample_are_reported_once(line, out):
    drop_all(line, "a")
    (line / "notes.txt").write_text("any")
    (line / "heat_007.png").write_bytes((line / "rgb/a.png").read_bytes())
    (line / "link_rgb.png").symlink_to(line / "rgb/a.png")
    (line / ".hidden.png").write_bytes(b"any")
    for _ in range(2):
        once(line, out)
    assert told(out) == [
        ("decided", "a"), ("ignored", "heat_007.png"), ("ignored", "link_rgb.png"), ("ignored", "notes.txt"),
    ]  # fmt: skip


def test_a_sample_that_vanishes_is_reported(line, out):
    live(
        line, out, [(0, lambda: drop(line, "a", "rgb")), (1, lambda: shutil.rmtree(line / "rgb"))],
        pace=replace(QUICK, wait=60.0),
    )  # fmt: skip
    assert told(out) == [("gone", "a")]


def test_a_folder_that_cannot_be_reached_for_a_while_is_waited_for(line, out):
    away = line.with_name("away")
    steps = [
        (1, lambda: line.rename(away)),
        (2, lambda: (away.rename(line), drop_all(line, "a"))),
    ]
    live(line, out, steps)
    assert told(out) == [("unreachable", None), ("decided", "a")]


def test_decided_files_are_moved_and_no_others(line, out, tmp_path):
    drop_all(line / "belt", "a")
    drop(line, "b", "rgb")
    done = tmp_path / "done"
    once(line, out, move=done)
    assert sorted(path.relative_to(done).as_posix() for path in done.rglob("*.png")) == [
        "belt/depth/a.png", "belt/rgb/a.png",
    ]  # fmt: skip
    assert [path.name for path in line.rglob("*.png")] == ["b.png"]


def test_what_a_killed_process_decided_but_did_not_move_is_moved(line, out, tmp_path):
    drop_all(line, "a")
    drop_all(line, "b")
    once(line, out)
    done = tmp_path / "done"
    done.mkdir()
    (done / "rgb").mkdir()
    shutil.move(line / "rgb/b.png", done / "rgb/b.png")  # it was killed in between; the first sensor goes last
    shutil.copy2(line / "rgb/a.png", done / "a.png")
    once(line, out, move=done)
    assert not list(line.rglob("*.png"))
    assert len(list(done.rglob("*.png"))) == 5
    assert len(told(out)) == 2


def test_a_moved_file_overwrites_none(line, out, tmp_path):
    done = tmp_path / "done"
    drop_all(line, "a")
    drop_all(done, "a", value=99)
    once(line, out, move=done)
    assert sorted(path.name for path in done.rglob("*.png")) == ["a.png", "a.png", "a~2.png", "a~2.png"]


def test_a_file_that_cannot_be_moved_is_reported_and_stays(line, out, tmp_path):
    drop_all(line, "a")
    (tmp_path / "done").write_text("no folder")
    once(line, out, move=tmp_path / "done")
    assert told(out) == [("decided", "a"), ("unmoved", "a")]
    assert len(list(line.rglob("*.png"))) == 2


def test_a_torn_last_line_is_told_and_what_it_said_is_done_again(line, out):
    drop_all(line, "a")
    drop_all(line, "b")
    once(line, out)
    file = out / "journal.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2]) + lines[2][:40])  # killed while it wrote the decision of b
    assert once(line, out).decided == 1
    assert once(line, out).decided == 0
    kinds = [json.loads(line)["event"] for line in file.read_text().splitlines() if line.endswith("}")]
    assert kinds == ["started", "decided", "torn", "started", "decided", "stopped", "started", "stopped"]


def test_a_journal_that_is_damaged_otherwise_is_refused(line, out):
    drop_all(line, "a")
    once(line, out)
    file = out / "journal.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + lines[1][:40] + b"\n" + lines[2])
    with pytest.raises(CrdkitError, match=r"journal\.jsonl: line 2 is damaged"):
        once(line, out)


def test_a_second_watch_with_the_same_folder_is_refused(line, out):
    def second():
        with pytest.raises(CrdkitError, match="is being written by another run"):
            once(line, out)
        drop_all(line, "a")

    live(line, out, [(1, second)])
    assert told(out) == [("decided", "a")]


def test_a_folder_with_other_things_is_refused(line, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").write_text("any")
    with pytest.raises(CrdkitError, match=r"is not empty, and holds no journal\.jsonl"):
        once(line, tmp_path / "other")
    assert (tmp_path / "other/thesis.txt").read_text() == "any"


@pytest.mark.parametrize("option", ["out", "move"])
def test_results_within_the_watched_folder_are_refused(line, out, option):
    places = {"out": out, "move": None, option: line / "within"}
    with pytest.raises(CrdkitError, match="lies in the watched folder"):
        once(line, places["out"], move=places["move"])


def test_a_folder_that_does_not_exist_is_refused(line, out):
    with pytest.raises(DataError, match="nowhere: does not exist"):
        once(line / "nowhere", out)
    assert not out.exists()


def test_the_journal_of_a_detector_with_other_sensors_is_refused(line, out):
    once(line, out)
    other = Detector()
    other.sensors = ("heat", "rgb")
    with pytest.raises(CrdkitError, match="is of a detector with the sensors"):
        once(line, out, detector=other)


def test_negative_seconds_are_refused():
    with pytest.raises(ConfigError, match=r"settle \(=-1\) must be a number of seconds"):
        Pace(settle=-1)


def test_what_is_odd_about_a_sample_is_journalled(line, out):
    class Odd(Detector):
        def predict(self, sensors):
            import warnings

            warnings.warn("a: sensor 'rgb': the channels look reversed", UnusualDataWarning, stacklevel=1)
            return super().predict(sensors)

    drop_all(line, "a")
    once(line, out, detector=Odd())
    assert journal(out)[1]["odd"] == ["a: sensor 'rgb': the channels look reversed"]


def test_a_sample_that_changes_while_it_is_read_is_looked_at_again(line, out):
    class Slow(Detector):
        def read(self, files):
            found = super().read(files)
            if not self.decided:
                self.decided.append("a")
                drop(line, "a", "rgb", value=77)
            return found

    drop_all(line, "a")
    once(line, out, detector=Slow())
    assert told(out) == [("decided", "a")]
    assert journal(out)[1]["sensors"]["rgb"]["high"] == 77.0


def test_drift_of_a_sensor_and_of_the_scores_is_journalled_and_shown(line, out):
    for number in range(40):
        drop_all(line, f"{number:03d}", value=90)
    once(line, out)
    drifts = [event for event in journal(out) if event["event"] == "drift"]
    assert drifts[-1]["moved"] == ["scores", "sensor depth", "sensor rgb"]
    page = (out / "watch.html").read_text()
    assert "Something has moved" in page
    assert "Sensor &#39;rgb&#39; has moved" in page


def test_the_page_is_self_contained_and_knows_the_pictures_after_a_restart(line, out):
    for number in range(30):
        drop_all(line, f"<b>{number:03d}", value=number)
    once(line, out)
    page = (out / "watch.html").read_text()
    pictures = re.findall('src="(data:image/jpeg;base64,[^"]+)"', page)
    assert len(pictures) == 24
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert "<b>0" not in page
    assert "watching has ended" in page
    assert 'http-equiv="refresh"' not in page
    once(line, out)
    again = (out / "watch.html").read_text()
    assert re.findall('src="(data:image/jpeg;base64,[^"]+)"', again) == pictures
    assert len(list((out / "recent").iterdir())) == 24


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such names")
def test_a_name_that_is_no_text_is_a_name_like_any_other(line, out):
    drop_all(line, "a")
    for sensor in SENSORS:
        (line / sensor / "a.png").rename(line / sensor / os.fsdecode(b"\xff\x1b[2J.png"))
    for _ in range(2):
        once(line, out)
    assert told(out) == [("decided", "\udcff\x1b[2J")]
    assert r"\udcff\x1b[2J" in (out / "watch.html").read_text()


def test_a_small_map_of_a_large_one_keeps_its_peaks():
    from crdkit.watch._pictures import SIDE, _coarse

    values = np.zeros((4 * SIDE + 3, 6 * SIDE + 1), np.float32)
    values[-1, -1], values[0, 5], values[401, 700] = 3.0, 2.0, 1.0
    found = _coarse(values)
    assert found.shape == (-(-values.shape[0] // 3), -(-values.shape[1] // 3))
    assert (found[-1, -1], found[0, 1], found[401 // 3, 700 // 3]) == (3.0, 2.0, 1.0)
    assert np.count_nonzero(found) == 3
    assert _coarse(values[:9, :9]).shape == (9, 9)


def test_a_journal_replayed_says_the_same_as_one_that_was_followed(line, out):
    from crdkit.watch._deciding import calibration_of
    from crdkit.watch.record import Record

    for number in range(40):
        drop_all(line, f"{number:03d}", value=90)
    once(line, out)
    records = [Record(calibration_of(Detector())) for _ in range(2)]
    for record, old in zip(records, (False, True), strict=True):
        for event in journal(out):
            record.follow(event, old=old)
    records[1].drift.test()
    assert records[0].drift.warnings() == records[1].drift.warnings()
    assert records[0].counts == records[1].counts


def test_the_page_of_a_watch_that_goes_on_refreshes_itself(line, out):
    pages = []
    live(line, out, [(0, lambda: None), (0, lambda: pages.append((out / "watch.html").read_text()))])
    assert 'http-equiv="refresh" content="5"' in pages[0]
    assert "No sample has been decided yet" in pages[0]


def test_what_is_kept_of_a_sample_is_small():
    import tracemalloc

    from crdkit.watch._ledger import Ledger

    ledger = Ledger(SENSORS)
    names = [f"part_{number:07d}" for number in range(20_000)]
    tracemalloc.start()
    for number, name in enumerate(names):
        files = {sensor: (f"{sensor}/{name}.png", 1000 + number, 10**18 + number) for sensor in SENSORS}
        ledger.follow({"event": "decided", "sample": f"{name}", "files": files})
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used / len(names) < 250
