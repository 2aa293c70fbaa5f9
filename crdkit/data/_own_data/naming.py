"""How the files of a manifest.csv are named: the pattern of each sensor's new files, found from those that it lists."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from crdkit.data._own_data.table import SPLIT, Table
from crdkit.data.parts import FilePart
from crdkit.errors import DataError

_JOINTS = "_-. "


@dataclass(frozen=True, kw_only=True)
class Naming:
    """What names of files say in a folder that a table describes."""

    patterns: Mapping[str, re.Pattern[str]]
    """Of whole paths, by sensor. The groups are those of `sample_of`, and the first that fits counts."""
    parts: Mapping[str, FilePart]
    """What sensors take of files that hold several."""
    known: frozenset[str]
    """Files that are trained on, as the table names them."""


@dataclass(frozen=True)
class _Form:
    """A sensor's paths: ``folder`` at any height, then a name between two constant texts, ``behind`` with folders."""

    folder: str
    before: str
    behind: str

    @property
    def length(self) -> int:
        """How much of a path it says: of two forms that fit, the longer one counts."""
        return len(self.folder + self.before + self.behind)

    @property
    def pattern(self) -> re.Pattern[str]:
        folder = rf"{re.escape(self.folder)}/(?:(?P<below>.+)/)?" if self.folder else ""
        ends = rf"{re.escape(self.before)}(?P<name>[^/]+){re.escape(self.behind)}"
        return re.compile(rf"(?:(?P<part>.+)/)?{folder}{ends}\.[^./]+")


def sample_of(match: re.Match[str]) -> str:
    """Return the name of the sample that a path is of."""
    groups = match.groupdict()
    return "/".join(text for text in (groups.get("part"), groups.get("below"), groups["name"]) if text)


def naming_of(path: Path) -> Naming:
    """Find how the files of a manifest.csv are named; each of its complete lines must fit.

    Raises:
        DataError: the table cannot be read, or its names do not say which sensor and sample a file is of.
    """
    table = Table(path, path.parent)
    cells = list(table.cells())
    rows = [row for row in cells if all(row[name][0] for name in table.sensors)]
    found = {name: {row[name][1] for row in rows} for name in table.sensors}
    paths = {name: [row[name][0] for row in rows] for name in table.sensors}
    groups = dict[str, list[str]]()  # sensors in the same files, by the first of them
    for name in table.sensors:
        first = next((one for one in groups if paths[one] == paths[name]), name)
        groups.setdefault(first, []).append(name)
    forms = _forms([paths[name] for name in groups]) if rows else None
    if forms is None or any(len(parts) > 1 for parts in found.values()):
        raise DataError(
            f"{path}: the names of its files do not say of which sensor and sample a new file is; call new files "
            "<sample>_<sensor>.png or <sensor>/<sample>.png and keep this table elsewhere, or give a manifest.yaml"
        )
    ordered = sorted(zip(groups.values(), forms, strict=True), key=lambda pair: -pair[1].length)
    return Naming(
        patterns={name: form.pattern for names, form in ordered for name in names},
        parts={name: part for name, (part,) in found.items() if part is not None},
        known=frozenset(row[name][0] for row in cells if row[SPLIT][0] != "test" for name in table.sensors),
    )


def _forms(paths: Sequence[Sequence[str]]) -> list[_Form] | None:
    """Return the form of each sensor's paths, which are listed sample by sample; None if there is none."""
    if len(paths) == 1:
        return [_Form("", "", "")]
    split = [[_split(path) for path in listed] for listed in paths]
    if all(len({stem for _, stem in listed}) == 1 for listed in split):  # a folder for each sample
        behind = [_folder_form(listed) for listed in split]
        forms = [form for form in behind if form is not None]
    else:
        affixes = next(_affixes([[stem for _, stem in listed] for listed in split]), None)
        if affixes is None:
            return None
        folders = _sensor_folders([[folders for folders, _ in listed] for listed in split])
        forms = [_Form(folder, *ends) for folder, ends in zip(folders, affixes, strict=True)]
    return forms if len(forms) == len(paths) and _fit(forms, paths) else None


def _split(path: str) -> tuple[tuple[str, ...], str]:
    pure = PurePosixPath(path)
    return pure.parts[:-1], pure.stem


def _folder_form(listed: Sequence[tuple[tuple[str, ...], str]]) -> _Form | None:
    """Return the form of files that are called alike in the folders of all samples."""
    folders = [folders for folders, _ in listed]
    depth = min(map(len, folders))
    behind = next((place for place in range(1, depth + 1) if len({each[-place] for each in folders}) > 1), None)
    if behind is None:
        return None
    constant = folders[0][len(folders[0]) - behind + 1 :]
    return _Form("", "", "/".join(("", *constant, listed[0][1])))


def _affixes(stems: Sequence[Sequence[str]]) -> Iterator[list[tuple[str, str]]]:
    """Yield what stands before and behind the samples' names, of all sensors; first where the names are longest."""
    first, *others = stems
    before, behind = _alike(first), _alike([stem[::-1] for stem in first])
    for cut in range(before + behind + 1):
        for left in range(max(0, cut - behind), min(cut, before) + 1):
            right = cut - left
            names = [stem[left : len(stem) - right] for stem in first]
            if not all(names):
                continue
            while names[0][0] in _JOINTS and all(name[0] == names[0][0] and len(name) > 1 for name in names):
                names, left = [name[1:] for name in names], left + 1  # noqa: PLW2901
            while names[0][-1] in _JOINTS and all(name[-1] == names[0][-1] and len(name) > 1 for name in names):
                names, right = [name[:-1] for name in names], right + 1
            found = [_around(names, listed) for listed in others]
            if None not in found:
                yield [(first[0][:left], first[0][len(first[0]) - right :]), *(ends for ends in found if ends)]


def _alike(texts: Sequence[str]) -> int:
    """Return how many characters all texts begin with."""
    different = (place for place, each in enumerate(zip(*texts, strict=False)) if len(set(each)) > 1)
    return next(different, min(map(len, texts)))


def _around(names: Sequence[str], stems: Sequence[str]) -> tuple[str, str] | None:
    """Return what stands before and behind the names in all stems; None if that differs."""
    for match in re.finditer(f"(?={re.escape(names[0])})", stems[0]):
        before, behind = stems[0][: match.start()], stems[0][match.start() + len(names[0]) :]
        if all(stem == before + name + behind for name, stem in zip(names, stems, strict=True)):
            return before, behind
    return None


def _sensor_folders(folders: Sequence[Sequence[tuple[str, ...]]]) -> list[str]:
    """Return the folder of each sensor that no other one has: the lowest of those that are the same for all samples."""
    always = [set(listed[0]).intersection(*listed) for listed in folders]
    own = [names.difference(*(others for others in always if others is not names)) for names in always]
    lowest = ([name for name in listed[0] if name in names][-1:] for listed, names in zip(folders, own, strict=True))
    return ["".join(names) for names in lowest]


def _fit(forms: Sequence[_Form], paths: Sequence[Sequence[str]]) -> bool:
    """Whether each path is of its own sensor, and the files of each sample are called alike."""
    patterns = [form.pattern for form in forms]
    order = sorted(range(len(forms)), key=lambda place: -forms[place].length)
    for sample in zip(*paths, strict=True):
        named = set()
        for place, path in enumerate(sample):
            fits = next(((one, match) for one in order if (match := patterns[one].fullmatch(path))), None)
            if fits is None or fits[0] != place:
                return False
            named.add(sample_of(fits[1]))
        if len(named) > 1:
            return False
    return True
