"""What a manifest.csv says of files that it does not list: of which sensor and sample a new one is."""

from __future__ import annotations

import pytest

from crdkit.data._own_data.naming import naming_of, sample_of
from crdkit.data.arriving import ArrivingFiles
from crdkit.errors import DataError

FITTING = {
    "words before": ("rgb,ir", "ok/rgb_{}.png,ok/ir_{}.tif", {"rgb_9.png": "9", "x/ir_9.tiff": "x/9"}),
    "words behind": ("rgb,ir", "{}_ok-rgb.png,{}_ok-ir.tif", {"9-rgb.png": "9", "9_ok-ir.tif": "9_ok"}),
    "one of two": ("rgb,ir", "{}.png,{}-heat.png", {"9.png": "9", "9-heat.png": "9"}),
    "folders": ("cam,ir", "line/rgb/{}.png,line/thermal/{}.tif", {"rgb/9.png": "9", "b/thermal/9.tif": "b/9"}),
    "folders above labels": ("cam,ir", "rgb/ok/{}.png,ir/ok/{}.tif", {"rgb/9.png": "9", "ir/new/9.tif": "new/9"}),
    "folders and words": ("a,b", "A/L{}x.png,B/R{}x.png", {"A/L9x.png": "9x", "B/R9.png": "9"}),
    "a folder for each sample": ("rgb,ir", "ok/p{}/farbe.png,ok/p{}/w.tif", {"p9/farbe.png": "p9", "p9/w.tif": "p9"}),
    "folders below samples": ("rgb,ir", "p{}/cam/a.png,p{}/cam/b.png", {"p9/cam/a.png": "p9", "p9/cam/b.png": "p9"}),
    "one sensor": ("rgb", "ok/IMG_{}.png", {"IMG_9.jpg": "IMG_9", "any.png": "any"}),
    "the longer word first": ("depth,left", "{}_d.png,{}_left_d.png", {"9_d.png": "9", "9_left_d.png": "9"}),
}


def write(folder, header, line, numbers=(100, 101, 112)):
    lines = [f"train,{line.replace('{}', str(number))}" for number in numbers]
    (folder / "manifest.csv").write_text("\n".join([f"split,{header}", *lines]) + "\n")
    return folder / "manifest.csv"


@pytest.mark.parametrize("case", FITTING)
def test_new_files_are_called_as_those_that_are_listed(tmp_path, case):
    header, line, new = FITTING[case]
    naming = naming_of(write(tmp_path, header, line))
    for (path, sample), sensor in zip(new.items(), header.split(",") * 2, strict=False):
        fits = [(name, match) for name, pattern in naming.patterns.items() if (match := pattern.fullmatch(path))]
        assert (fits[0][0], sample_of(fits[0][1])) == (sensor, sample)
    assert len(naming.known) == 3 * len(header.split(","))


@pytest.mark.parametrize(
    ("header", "lines"),
    [
        ("rgb,ir", "train,a/1.png,b/2.png\ntrain,a/3.png,b/4.png\n"),  # no name in common
        ("rgb,ir", "train,1_rgb.png,1_ir.png\ntrain,rgb_2.png,ir_2.png\n"),  # two forms
        ("rgb,ir", "train,a_ok/1.png,b_ok/1.png\ntrain,a_nok/1.png,b_nok/1.png\n"),  # folders that say two things
        ("rgb,ir", "train,x/a.png,x/b.png\n"),  # one sample: its name is not known
        ("rgb,ir", "train,a1.png,\n"),  # none is complete
        ("rgb,ir", "train,1.tif#page=1,1.tif#page=2\ntrain,2.tif#page=2,2.tif#page=1\n"),
    ],
)
def test_names_that_say_nothing_are_refused_where_they_would_count(tmp_path, header, lines):
    (tmp_path / "manifest.csv").write_text(f"split,{header}\n{lines}")
    with pytest.raises(DataError, match=r"manifest\.csv: the names of its files do not say .* give a manifest\.yaml"):
        ArrivingFiles(tmp_path, header.split(","))
    (tmp_path / "line").mkdir()
    found = ArrivingFiles(tmp_path / "line", header.split(","), manifest=tmp_path / "manifest.csv")
    (tmp_path / "line/7_rgb.png").touch()
    assert list(found.look().samples) == ["7"]


def test_a_stack_is_of_all_its_sensors(tmp_path):
    write(tmp_path, "rgb,ir", "ok/{}.tif#page=1,ok/{}.tif#page=2")
    (tmp_path / "9.tif").touch()
    found = ArrivingFiles(tmp_path, ["rgb", "ir"])
    assert {name: sorted(files) for name, files in found.look().samples.items()} == {"9": ["ir", "rgb"]}
    assert sorted(map(str, found.parts.values())) == ["#page=1", "#page=2"]


def test_a_file_of_a_sensor_that_is_not_read_is_of_no_other(tmp_path):
    write(tmp_path, "rgb,ir", "{}.png,{}-heat.png")
    for name in ("9.png", "9-heat.png"):
        (tmp_path / name).touch()
    assert list(ArrivingFiles(tmp_path, ["rgb"]).look().samples) == ["9"]


def test_what_is_trained_on_and_the_table_are_passed_over(tmp_path):
    manifest = write(tmp_path, "rgb,ir", "rgb_{}.png,ir_{}.png")
    manifest.write_text(manifest.read_text() + "test,rgb_7.png,ir_7.png\n")
    for number in (100, 7, 8):
        for name in ("rgb", "ir"):
            (tmp_path / f"{name}_{number}.png").touch()
    found = ArrivingFiles(tmp_path, ["rgb"]).look()
    assert sorted(found.samples) == ["7", "8"]
    assert {why for path, why in found.others.items()} == {"names none of the sensors rgb"}


def test_a_sensor_without_a_column_and_a_wrong_part_are_named(tmp_path):
    manifest = write(tmp_path, "rgb,ir", "rgb_{}.png,ir_{}.png")
    with pytest.raises(DataError, match=r"manifest\.csv: has no column xyz, which the detector reads"):
        ArrivingFiles(tmp_path, ["rgb", "xyz"])
    (tmp_path / "line").mkdir()
    assert not ArrivingFiles(tmp_path / "line", ["rgb", "xyz"], manifest=manifest).look().samples
    write(tmp_path, "rgb,ir", "{}.tif#page=1,{}.tif#page=x")
    with pytest.raises(DataError, match=r"manifest\.csv: line 2: '#page=x' is no part of a file"):
        naming_of(manifest)
