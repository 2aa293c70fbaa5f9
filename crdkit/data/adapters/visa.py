"""VisA: colour images with the published one-class split, as downloaded."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from crdkit.data import GOOD, SampleRecord, Split, datasets
from crdkit.data._folders import category_folder, files_by_stem, require_files, require_root
from crdkit.data._names import is_like_good
from crdkit.data.adapters._colour import ColourImages
from crdkit.data.held_out import HeldOutConfig, describe_share, hold_out
from crdkit.data.inside import path_inside
from crdkit.errors import DataError

_TABLE = PurePosixPath("split_csv/1cls.csv")
_COLUMNS = ("object", "split", "label", "image", "mask")
_NORMAL = "normal"


@datasets.register("visa")
class VisA(ColourImages):
    """Reads the folders of VisA as they were downloaded, split as ``split_csv/1cls.csv`` says.

    ``<root>/<category>/Data/Images/{Normal,Anomaly}/*.JPG`` and ``Data/Masks/Anomaly/*.png``. The table's columns are
    object, split (train or test), label ("normal" or any other word, which names the defect type), image and mask,
    paths below ``root``. The sensor is "rgb", uint8 (H, W, 3). A mask holds ids: any pixel other than 0 is anomalous.
    There is no validation split: a share of the training images is held out, see `crdkit.data.held_out`.
    Source: Zou et al., SPot-the-Difference (arXiv 2207.14315).

    Examples:
        >>> import tempfile
        >>> from crdkit.data.synthetic import LAYOUTS
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     root = LAYOUTS["visa"](
        ...         Path(scratch, "images"), categories=["gear"], train=2, test_per_defect=1, size=32
        ...     )
        ...     dataset = VisA(VisA.Config(root=root, category="gear"))
        ...     dataset.records("test")[-1].sample_id
        'Anomaly/0005'
    """

    class Config(HeldOutConfig):
        """Options of ``visa``."""

        name: str = "visa"

    config: Config

    @classmethod
    def looks_like(cls, folder: Path) -> bool:
        """Whether there are images, and the table of splits beside the category."""
        return (folder / "Data/Images").is_dir() and (folder.parent / _TABLE).is_file()

    @property
    def held_out(self) -> Mapping[str, Any]:
        """The share of the training images that is held out."""
        return describe_share(self.config)

    def records(self, split: Split) -> Sequence[SampleRecord]:
        """List the samples of ``split`` in the order of the table's lines.

        With ``on_bad_sample="skip"`` a sample that lacks a file is listed anyway, and `read` refuses it; so is a mask
        that the table does not name.

        Raises:
            DataError: root, category, table or a file is missing, a line is wrong, or a mask belongs to no line.
        """
        root = require_root(self.config.root)
        folder = category_folder(root, self.config.category, is_category=lambda path: (path / "Data/Images").is_dir())
        name = "test" if split == "test" else "train"
        keep = self.config.on_bad_sample == "skip"
        found, places = list[SampleRecord](), dict[str, str]()
        for where, line in _lines(root / _TABLE, folder.name, name):
            record = _record(root, line, where)
            if (first := places.setdefault(record.sample_id, where)) != where:
                raise DataError(f"{where}: is the same sample as line {first.rpartition(' ')[2]} ({record.sample_id})")
            found.append(record)
        if not keep:
            require_files(record.image_path for record in found)
            require_files(record.mask_file for record in found if record.mask_file)
        if not found:
            raise DataError(f"{root / _TABLE}: lists no {name} images of the object {folder.name!r}")
        if split == "test":
            return [*found, *_orphans(folder / "Data", found, keep_incomplete=keep)]
        return hold_out(found, split, self.config)


def _lines(path: Path, category: str, split: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield the lines of a category and a split, each with what messages call it."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: the table of splits cannot be read: {error}; copy it from the archive") from error
    for number, line in enumerate(lines, start=2):
        if not {*_COLUMNS} <= {*line} or None in line.values():
            raise DataError(f"{path}: line {number}: expected the columns {', '.join(_COLUMNS)}")
        if line["split"] not in ("train", "test"):
            raise DataError(f"{path}: line {number}: the split {line['split']!r} must be train or test")
        if (line["object"], line["split"]) == (category, split):
            yield f"{path}: line {number}", line


def _record(root: Path, line: Mapping[str, str], where: str) -> SampleRecord:
    normal = line["label"] == _NORMAL
    if not normal and (not line["label"] or is_like_good(line["label"])):
        raise DataError(f"{where}: the label {line['label']!r} must be {_NORMAL!r}, or the type of a defect")
    if not normal and line["split"] == "train":
        raise DataError(f"{where}: a training image is {line['label']!r}; only normal ones can be trained on")
    if normal and line["mask"]:
        raise DataError(f"{where}: the image is {_NORMAL}, but has the mask {line['mask']}; one of them is wrong")
    if not normal and not line["mask"]:
        raise DataError(f"{where}: the image is {line['label']!r}, but names no mask; name it")
    image, mask = (_inside(root, line[column], where) for column in ("image", "mask"))
    return SampleRecord(
        sample_id=PurePosixPath(image.parent.name, image.stem).as_posix(),
        split="train" if line["split"] == "train" else "test",
        label=int(not normal),
        defect_type=GOOD if normal else line["label"],
        files={"rgb": image},
        mask_file=None if normal else mask,
    )


def _inside(root: Path, text: str, where: str) -> Path:
    path = path_inside(root, text, folder=root)
    if path is None:
        raise DataError(f"{where}: {text} leads out of the data folder {root}; give a path below it")
    return path


def _orphans(data: Path, found: Sequence[SampleRecord], *, keep_incomplete: bool) -> list[SampleRecord]:
    """Return a sample for each mask that the table does not name, or refuse the first."""
    masks = data / "Masks" / "Anomaly"
    there = files_by_stem(masks, (".png",)) if masks.is_dir() else {}
    unnamed = {stem: path for stem, path in there.items() if path not in {record.mask_file for record in found}}
    if unnamed and not keep_incomplete:
        path = next(iter(unnamed.values()))
        raise DataError(f"{path}: the mask belongs to no line of {_TABLE}; add its image there, or remove the mask")
    return [
        SampleRecord(
            sample_id=f"Masks/{stem}",
            split="test",
            label=1,
            defect_type="unpaired mask",
            files={"rgb": Path(f"{path} (no image of it is listed)")},
            mask_file=path,
        )
        for stem, path in unnamed.items()
    ]
