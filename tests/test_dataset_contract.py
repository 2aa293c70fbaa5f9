"""Every registered dataset on the tiny folder that its own synthetic writer makes: what it lists, and what damage does.

The contract itself is `crdkit.testing.check_dataset`, called in test_contracts.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crdkit.data import SPLITS, Dataset, RawSample, Split, datasets
from crdkit.data.decode import decode
from crdkit.data.synthetic import DEFECTS, LAYOUTS, category_folders
from crdkit.errors import BadSampleWarning, DataError

NORMALS: dict[Split, int] = {"train": 3, "validation": 2, "test": 2}
NORMALS_OF: dict[str, dict[Split, int]] = {
    **{
        name: {"train": 4, "validation": 1, "test": 2} for name in ("3d_adam", "mvtec_ad", "visa")
    },  # a share is held out
    "m2ad": {"train": 6, "validation": 2, "test": 6},  # of 7 specimens with two views
}
Build = Callable[..., Dataset]


@pytest.fixture(scope="module", params=list(LAYOUTS))
def layout(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The name of a dataset and a folder in its layout with one category."""
    name = request.param
    out = tmp_path_factory.mktemp(name) / "data"
    LAYOUTS[name](out, categories=["biscuit"], train=3, validation=2, test_good=2, test_per_defect=1, size=32)
    return name, out


@pytest.fixture
def build(layout: tuple[str, Path], tmp_path: Path) -> Build:
    """Build the dataset on a copy of its folder, which a test may damage."""
    name, written = layout
    root = shutil.copytree(written, tmp_path / "data")
    (category,) = category_folders(root)

    def build(**options: Any) -> Dataset:
        config = {"name": name, "root": category.parent, "category": category.name, "image_size": 32, "workers": 2}
        return datasets.get(name)(datasets.build_config(config | options))

    return build


def contents(sample: RawSample) -> dict[str, bytes]:
    mask = {} if sample.mask is None else {"mask": sample.mask.tobytes()}
    return mask | {name: array.tobytes() for name, array in sample.sensors.items()}


@pytest.mark.parametrize("split", SPLITS)
def test_every_sample_that_was_written_is_read_with_its_mask(build: Build, split: Split) -> None:
    dataset = build()
    records = dataset.records(split)
    assert [record.label for record in records].count(0) == NORMALS_OF.get(dataset.config.name, NORMALS)[split]
    defective = sum(record.label or 0 for record in records)
    assert defective >= len(DEFECTS) if split == "test" else defective == 0
    for record in records:
        sample = dataset.read(record)
        assert {array.shape[:2] for array in sample.sensors.values()} == {(32, 32)}
        assert sample.mask is not None
        assert sample.mask.any() == bool(record.label)


def test_only_the_sensors_asked_for_are_decoded(build: Build) -> None:
    dataset = build()
    record = dataset.records("train")[0]
    wanted = dataset.sensors[0]
    for path in record.files.values():
        if path != record.files[wanted]:  # one file may serve several sensors
            path.write_bytes(b"damaged")
    assert tuple(dataset.read(record, [wanted]).sensors) == (wanted,)
    if len(dataset.sensors) == 1:
        record.files[wanted].write_bytes(b"damaged")
    with pytest.raises(DataError, match="damaged"):
        dataset.read(record)


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_bad_file_stops_or_is_skipped_and_counted(build: Build, damage: str) -> None:
    dataset = build()
    # that an image is missing is told by the other files of its sample
    split: Split = "test" if dataset.sensors == ("rgb",) else "train"
    records = dataset.records(split)
    index = next(index for index, record in enumerate(records) if index and (record.mask_file or split == "train"))
    path = records[index].image_path
    path.write_bytes(path.read_bytes()[:40]) if damage == "truncated" else path.unlink()
    with pytest.raises(DataError, match=path.name):
        list(decode(dataset, dataset.records(split), contents))
    skipping = build(on_bad_sample="skip")
    with pytest.warns(BadSampleWarning, match=f"skipped 1 of {len(records)} samples .*{path.name}") as caught:
        decoded = list(decode(skipping, skipping.records(split), contents))
    assert len(caught) == 1
    assert [record.sample_id for record, _ in decoded] == [r.sample_id for r in records if r is not records[index]]


def test_a_missing_mask_stops_or_is_skipped_and_counted(build: Build) -> None:
    records = build().records("test")
    mask = next(record.mask_file for record in records if record.label and record.mask_file)
    mask.unlink()
    with pytest.raises(DataError, match=f"{mask.name}: the file does not exist"):
        list(decode(build(), build().records("test"), contents))
    skipping = build(on_bad_sample="skip")
    with pytest.warns(BadSampleWarning, match=f"skipped 1 of {len(records)} samples .*{mask.name}: the file does not"):
        assert len(list(decode(skipping, skipping.records("test"), contents))) == len(records) - 1


@pytest.mark.parametrize("on_bad_sample", ["error", "skip"])
def test_missing_root_and_category_are_errors(build: Build, tmp_path: Path, on_bad_sample: str) -> None:
    with pytest.raises(DataError, match=r"nowhere: data\.root does not exist"):
        build(root=tmp_path / "nowhere", on_bad_sample=on_bad_sample).records("train")
    with pytest.raises(DataError, match="unknown category 'no_such_part'"):
        build(category="no_such_part", on_bad_sample=on_bad_sample).records("train")
