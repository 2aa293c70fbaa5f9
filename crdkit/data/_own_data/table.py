"""Samples as a CSV manifest lists them: one line each, with a column for each sensor's file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from crdkit.data import SampleRecord, Split
from crdkit.data._names import GOOD, MASK, SPLITS, UNLABELLED, refuse_like_good
from crdkit.data._own_data.arranged import MASK_SUFFIXES
from crdkit.data.images import SUFFIXES
from crdkit.data.inside import path_inside
from crdkit.data.parts import FilePart, split_part
from crdkit.errors import DataError, MissingSplitError, shorten, unknown_name

TABLE = "manifest.csv"
SPLIT, DEFECT_TYPE, LABEL = "split", "defect_type", "label"
_NO_SENSORS = (SPLIT, DEFECT_TYPE, LABEL, MASK)
_DELIMITERS = ",;\t"  # that of most programs, that of spreadsheets where the comma is decimal, and tabs
_KINDS_BY_LABEL = {"0": GOOD, "1": "anomalous", "": UNLABELLED}


@dataclass(frozen=True, kw_only=True)
class _Line:
    number: int
    cells: Mapping[str, str]
    where: str
    """The file and the line, for messages."""

    def error(self, column: str, message: str) -> DataError:
        return DataError(f"{self.where}, column {shorten(repr(column))}: {shorten(message, limit=500)}")


class Table:
    """The samples that a CSV file lists.

    Args:
        path: the file.
        folder: the data folder, to which its paths are relative and which they do not leave.

    Raises:
        DataError: the file cannot be read, or has no column for the split or none for a sensor.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        self._path, self._folder = path, folder
        self._columns, self._lines = _read(path)
        self.sensors = tuple(name for name in self._columns if name not in _NO_SENSORS)
        if SPLIT not in self._columns or not self.sensors:
            raise DataError(
                f"{path}: line 1: expected the columns {SPLIT}, {DEFECT_TYPE} or {LABEL}, one for each sensor, and "
                f"{MASK} if there are masks; found {', '.join(self._columns)}"
            )

    def cells(self) -> Iterator[dict[str, tuple[str, FilePart | None]]]:
        """Yield what each line says of the split and the sensors: a text, with the part that a file's path names.

        Raises:
            DataError: a part is wrong.
        """
        for line in self._lines:
            try:
                parts = {name: split_part(line.cells[name].replace("\\", "/")) for name in self.sensors}
            except ValueError as error:
                raise DataError(f"{line.where}: {error}") from error
            yield {SPLIT: (line.cells[SPLIT], None), **parts}

    def has(self, split: Split) -> bool:
        """Whether a line has ``split``."""
        return any(line.cells[SPLIT] == split for line in self._lines)

    def records(self, split: Split, *, keep_incomplete: bool) -> list[SampleRecord]:
        """List the samples of ``split`` in the order of the lines; those that lack a file only if ``keep_incomplete``.

        Raises:
            MissingSplitError: no line has that split.
            DataError: a line is wrong; the message names the file, the line and the column.
        """
        records: dict[str, tuple[SampleRecord, _Line]] = {}
        for line in self._lines:
            if line.cells[SPLIT] not in SPLITS:
                raise line.error(SPLIT, str(unknown_name("split", line.cells[SPLIT], SPLITS)))
            if line.cells[SPLIT] != split:
                continue
            record = self._record(line, split, keep_incomplete=keep_incomplete)
            if record.sample_id in records:
                other = records[record.sample_id][1]
                raise DataError(f"{line.where}: is the same sample as line {other.number} ({record.sample_id})")
            records[record.sample_id] = record, line
        if not records:
            raise MissingSplitError(f"{self._path}: there is no split {split!r}: no line has it")
        return [record for record, _ in records.values()]

    def _record(self, line: _Line, split: Split, *, keep_incomplete: bool) -> SampleRecord:
        kind = _kind(line, split)
        named = [name for name in self.sensors if line.cells[name]]
        if not named:
            raise DataError(f"{line.where}: names no file; give one for each sensor, or remove the line")
        if len(named) < len(self.sensors) and not keep_incomplete:
            absent = next(name for name in self.sensors if name not in named)
            raise line.error(absent, "is empty; name the file, or remove the line")
        parts: dict[str, FilePart] = {}
        files = {
            # one that is not named does not exist, and is called by its place in the table
            name: self._file(line, name, SUFFIXES, parts) if name in named else Path(f"{line.where}, column {name!r}")
            for name in self.sensors
        }
        mask = self._file(line, MASK, MASK_SUFFIXES, {}) if line.cells.get(MASK) else None
        for name, path in {**files, **({MASK: mask} if mask else {})}.items():
            if not keep_incomplete and not path.is_file():
                raise line.error(name, f"{path} does not exist, or is no file; correct the path, or remove the line")
        first = files[named[0]].relative_to(self._folder)
        return SampleRecord(
            sample_id=first.with_suffix("").as_posix(),
            split=split,
            label=None if kind == UNLABELLED else int(kind != GOOD),
            defect_type=kind,
            files=files,
            mask_file=mask,
            parts=parts,
        )

    def _file(self, line: _Line, column: str, suffixes: Sequence[str], parts: dict[str, FilePart]) -> Path:
        """Return the file in a cell; the part that is named behind it is added to ``parts``."""
        text = line.cells[column].replace("\\", "/")  # as Windows writes paths
        if column != MASK:
            try:
                text, part = split_part(text)
            except ValueError as error:
                raise line.error(column, str(error)) from error
            parts |= {} if part is None else {column: part}
        path = path_inside(self._folder, PurePosixPath(text), folder=self._folder)
        if path is None:
            raise line.error(column, f"{text} leads out of the data folder {self._folder}; give a path below it")
        if path.suffix.lower() not in suffixes:
            others = ", ".join(_NO_SENSORS)
            raise line.error(
                column,
                f"{text!r} must be a file that ends in {', '.join(suffixes)}"
                + ("" if column == MASK else f"; every column but {others} is a sensor"),
            )
        try:
            path.exists()
        except OSError as error:
            raise line.error(column, f"{text[:60]!r} is no path: {error.strerror}") from error
        return path


def _kind(line: _Line, split: Split) -> str:
    """Return the defect type of a line: "good", that of a defect, or "unlabelled"."""
    label, named = line.cells.get(LABEL, ""), line.cells.get(DEFECT_TYPE, "")
    if label not in _KINDS_BY_LABEL:
        raise line.error(LABEL, f"{label!r} must be 0 (normal), 1 (anomalous) or empty (unknown)")
    kind = named or _KINDS_BY_LABEL[label]
    if named and label and (label == "1") == (named == GOOD):
        raise line.error(LABEL, f"{label} does not fit the {DEFECT_TYPE} {named!r}")
    refuse_like_good([kind], where=f"{line.where}, column {DEFECT_TYPE!r}")
    if split == "test":
        return kind
    if kind not in (GOOD, UNLABELLED):
        raise line.error(SPLIT, f"{split!r} may only hold normal samples, but this one is {kind!r}; test on it")
    return GOOD


def _read(path: Path) -> tuple[list[str], list[_Line]]:
    """Return the columns, and the lines that are not empty."""
    rows = _rows(path)
    if not rows:
        raise DataError(f"{path}: is empty; expected a first line with the names of the columns")
    (first, header), *others = rows
    for name in header:
        if not name or header.count(name) > 1:
            problem = f"the column {name!r} is named twice" if name else "a column has no name"
            raise DataError(f"{path}: line {first}: {problem}")
    for number, cells in others:
        if len(cells) != len(header):
            raise DataError(f"{path}: line {number}: holds {len(cells)} cells, but there are {len(header)} columns")
    return header, [
        _Line(number=number, cells=dict(zip(header, cells, strict=True)), where=f"{path}: line {number}")
        for number, cells in others
    ]


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return the number and the cells of each line, but of those that are empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets write the mark of byte order
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8; save it as 'CSV UTF-8'") from error
    except OSError as error:
        raise DataError(f"{path}: the manifest cannot be read: {error}; check data.manifest") from error
    delimiter = max(_DELIMITERS, key=text.lstrip().partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, number = [], 1
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                rows.append((number, stripped))
            number = reader.line_num + 1  # a cell in quotes may hold line breaks
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: is not valid CSV: {error}") from error
    return rows
