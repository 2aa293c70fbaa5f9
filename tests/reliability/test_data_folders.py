"""What a manifest or a link may reach, which test samples were trained on, which YAML is ambiguous: against oracles."""

from __future__ import annotations

import json
import os
import random
import shutil

import pytest
import yaml

from crdkit._core.unique_keys import load_yaml
from crdkit.data import SampleRecord, datasets
from crdkit.data.inside import refuse_links_outside
from crdkit.data.overlap import BLOCK, find_overlap
from crdkit.errors import DataError

PATHS, SETS, TEXTS = 1500, 300, 1000


@pytest.fixture
def disk(tmp_path):
    """A data folder with links to inside and outside, and what must not be read beside it."""
    for place in ("data/a", "data/b", "secret", "data and more"):
        (tmp_path / place).mkdir(parents=True)
        for name in ("x.png", "y.png"):
            (tmp_path / place / name).write_bytes(b"any")
    (tmp_path / "data/inner").symlink_to(tmp_path / "data/a")
    (tmp_path / "data/outer").symlink_to(tmp_path / "secret")
    (tmp_path / "data/b/loop").symlink_to(tmp_path / "data/b")
    (tmp_path / "data/b/z.png").symlink_to(tmp_path / "secret/x.png")
    return tmp_path


def path_texts(rng, disk, count):
    parts = ["a", "b", "..", ".", "", "inner", "outer", "loop", "data", "secret", "data and more", "~", "*", "é"]
    for _ in range(count):
        middle = rng.choices(parts, k=rng.choice((0, 1, 1, 2, 3, 5)))
        start = rng.choice(["", "", "", "", "", "a/", "b/", "/", f"{disk}/data/", f"{disk}/", "//", "\\", "../"])
        yield start + rng.choice("//\\").join([*middle, rng.choice(["x.png", "y.png", "z.png"])])


def files_read(folder):
    """The files that a training would read, or the message of its refusal."""
    dataset = datasets.build(datasets.build_config({"name": "folder", "root": folder}))
    try:
        records = dataset.records("test")
        refuse_links_outside(dataset, records)
    except DataError as error:
        return [], str(error)
    return [path for record in records for path in record.files.values()], ""


@pytest.mark.parametrize("kind", ["csv", "yaml"])
def test_no_path_of_a_manifest_and_no_link_reaches_a_file_outside_the_data_folder(disk, kind):
    rng, folder = random.Random(0), disk / "data"
    home, accepted = os.path.realpath(folder), 0
    for text in path_texts(rng, disk, PATHS // 2):
        if kind == "csv":
            (folder / "manifest.csv").write_text(f'split,s\ntest,"{text}"\n', encoding="utf-8")
        else:
            part, _, name = text.rpartition("/")
            manifest = {"sensors": {"s": name.replace("*", "x").replace(".png", "*")}, "test": part or "."}
            (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest), encoding="utf-8")
        files, refused = files_read(folder)
        for path in files:
            assert os.path.realpath(path).startswith(home + os.sep), text
            accepted += 1
        assert files or refused, text
    assert accepted > PATHS // 40  # the test reads files, and not only messages


def test_overlap_is_what_a_comparison_of_all_bytes_with_all_finds(tmp_path):
    rng = random.Random(0)
    for number in range(SETS):
        folder = tmp_path / str(number)
        folder.mkdir()
        contents = [bytes([value]) * length for value in (0, 1) for length in (0, 3, 4 * BLOCK)]
        contents.append(contents[-1][: 2 * BLOCK - 3] + b"\0" + contents[-1][2 * BLOCK - 2 :])
        records = {split: [] for split in ("train", "validation", "test")}
        for index in range(rng.randint(2, 12)):
            split = rng.choice(list(records))
            files = {}
            for sensor in ("a", "b")[: rng.choice((1, 2, 2))]:
                files[sensor] = folder / f"{index}.{sensor}"
                if rng.random() < 0.95:
                    files[sensor].write_bytes(rng.choice(contents))
            record = SampleRecord(sample_id=str(index), split=split, label=0, defect_type="good", files=files)
            records[split].append(record)

        def content(record):
            if not all(path.exists() for path in record.files.values()):
                return None
            return {sensor: path.read_bytes() for sensor, path in record.files.items()}

        known = [content(record) for record in records["train"] + records["validation"]]
        expected = [r.sample_id for r in records["test"] if content(r) is not None and content(r) in known]
        assert [tested.sample_id for tested, _ in find_overlap(records)] == expected
        for tested, trained in find_overlap(records):
            assert content(tested) == content(trained)
        shutil.rmtree(folder)


def random_mapping(rng, depth=0):
    """Nested mappings, with lists and scalars as values."""
    values = [1, 2.5, None, True, "a", "yes", "", "x: y", "é", [1, {"a": 1}], {"a": 1, "b": {"a": 2}}]
    return {
        f"key{rng.randint(0, 99)}": random_mapping(rng, depth + 1)
        if depth < 3 and rng.random() < 0.4
        else rng.choice(values)
        for _ in range(rng.randint(1, 4))
    }


def lines_of(content, indent=""):
    """The mappings of `random_mapping` one below the other, all else in JSON, which is YAML."""
    for key, value in content.items():
        nested = isinstance(value, dict) and all(name.startswith("key") for name in value)
        yield f"{indent}{key}:" if nested else f"{indent}{key}: {json.dumps(value)}"
        if nested:
            yield from lines_of(value, indent + "  ")


def test_exactly_the_texts_with_a_repeated_key_are_refused():
    rng = random.Random(0)
    for _ in range(TEXTS):
        content = random_mapping(rng)
        lines = list(lines_of(content))
        assert load_yaml("\n".join(lines)) == content
        place = rng.randrange(len(lines))
        key = lines[place].partition(":")[0]
        deeper = key[: len(key) - len(key.lstrip())] + " "
        end = place + 1  # a second time, below what belongs to the first
        while end < len(lines) and lines[end].startswith(deeper):
            end += 1
        text = "\n".join([*lines[:end], f"{key}: again", *lines[end:]])
        message = f"the key {key.strip()!r} is given twice, in line {place + 1} and in line {end + 1}"
        with pytest.raises(yaml.YAMLError, match=message):
            load_yaml(text)
