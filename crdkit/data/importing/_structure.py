"""Sensors that no known word names: found by which files have the same names, and what differs in their types."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from crdkit.data.importing._names import Named
from crdkit.data.importing.questions import Question

FormOf = Callable[[str], tuple[object, ...]]
"""Dtypes and channels in a file, by its path; empty if its header cannot be read."""
_MOST_SENSORS = 12
_COMPLETE = 0.8  # share of samples and sensors that have a file
_FITS = 0.5  # share of the files with a word that have the name of a known sample without it
_LOOKED_AT = 3  # files of each value
BARE = "image"


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """One place in the paths, where sensors may be named."""

    values: Mapping[str, list[tuple[Named, tuple[str, ...]]]]
    """Files by what stands there, with the key that is left."""
    complete: float
    apart: bool
    """Whether the files are of different types, each value of one."""


def find_sensors(named: Sequence[Named], form_of: FormOf) -> tuple[list[Named], list[Question]]:
    """Give every file the name of its sensor; "" where nothing says which."""
    unknown = [one for one in named if not one.sensor and not one.mask]
    known = [one for one in named if one.sensor and not one.mask]
    if not unknown:
        return list(named), []
    found, questions = _beside(unknown, known, form_of) if known else _alone(unknown, form_of)
    return [found.get(one.path, one) for one in named], questions


def _beside(
    unknown: Sequence[Named], known: Sequence[Named], form_of: FormOf
) -> tuple[dict[str, Named], list[Question]]:
    """Look which words are left if the files shall have the names of known sensors' files."""
    keys = {one.key for one in known}
    options = {one.path: list(_without_one(one)) for one in unknown}
    totals, fits = Counter[str](), Counter[str]()
    for listed in options.values():
        for word, reduced in listed:
            totals[word] += 1
            fits[word] += reduced.key in keys
    words = sorted((word for word in fits if fits[word] >= _FITS * totals[word]), key=lambda word: -fits[word])
    found: dict[str, Named] = {}
    for one in unknown:
        fitting = {word: reduced for word, reduced in options[one.path] if reduced.key in keys}
        chosen = next((word for word in words if word in fitting), None)
        if chosen is not None and one.key not in keys:
            found[one.path] = replace(fitting[chosen], sensor=chosen.casefold())
    questions = [
        Question(
            about=word,
            message="is no known word, but its files have the names of other sensors' files; taken for a sensor",
            option=f"--sensor {word.casefold()}=drop",
        )
        for word in words
        if word.casefold() in {one.sensor for one in found.values()}
    ]
    bare = [one for one in unknown if one.path not in found]
    if any(one.key in keys for one in bare):
        named, more = _bare(bare, form_of, taken={one.sensor for one in (*known, *found.values())})
        return found | named, questions + more
    return found, questions


def _bare(unknown: Sequence[Named], form_of: FormOf, *, taken: set[str]) -> tuple[dict[str, Named], list[Question]]:
    forms = Counter(form_of(one.path) for one in _spread(unknown))
    colour = forms.most_common(1)[0][0] == (("uint8", 3),)
    name = next(name for name in (("rgb",) if colour else ()) + (BARE, f"{BARE}_2") if name not in taken)
    question = Question(
        about=name,
        message=f"no word names the sensor of {len(unknown)} files, such as {unknown[0].path}; they are called {name}",
        option=f"--sensor {name}=name:OTHER",
    )
    return {one.path: replace(one, sensor=name) for one in unknown}, [question]


def _alone(unknown: Sequence[Named], form_of: FormOf) -> tuple[dict[str, Named], list[Question]]:
    """Look for the place in the paths that tells sensors apart; without one, all files are of one sensor."""
    keys = {one.key for one in unknown}
    longer = [one for one in unknown if any(reduced.key in keys for _, reduced in _without_one(one))]
    if longer:  # 07.png and 07_other.png
        paths = {one.path for one in longer}
        base, questions = _bare([one for one in unknown if one.path not in paths], form_of, taken=set())
        found, more = _beside(longer, list(base.values()), form_of)
        return base | found, questions + more
    axes = [axis for cut in _CUTS if (axis := _axis(unknown, cut, form_of)) is not None]
    apart = [axis for axis in axes if axis.apart]
    if apart:
        best = max(apart, key=lambda axis: (axis.complete, -len(axis.values)))
        found = {
            one.path: replace(one, sensor=value.casefold(), folders=left, words=())
            for value, files in best.values.items()
            for one, left in files
        }
        names = ", ".join(best.values)
        message = f"{names} are no known words; taken for sensors, since files of the same names are of different types"
        return found, [Question(about=names, message=message, option="--sensor-names WORD,WORD")]
    found, questions = _bare(unknown, form_of, taken=set())
    if axes:
        names = ", ".join(axes[0].values)
        message = f"{names} hold files of the same names and of one type; taken for different parts, not for sensors"
        questions.append(Question(about=names, message=message, option=f"--sensor-names {names.replace(', ', ',')}"))
    return found, questions


def _without_one(one: Named) -> Iterator[tuple[str, Named]]:
    """Yield each word of a path that may name a sensor, and the file without it."""
    for place, folder in enumerate(one.folders):
        yield folder, replace(one, folders=one.folders[:place] + one.folders[place + 1 :])
    for place, word in enumerate(one.words):
        if not word.isdecimal():
            yield word, replace(one, words=one.words[:place] + one.words[place + 1 :])


Cut = Callable[[Named], tuple[str, tuple[str, ...]] | None]


def _cut_folder(place: int) -> Cut:
    def cut(one: Named) -> tuple[str, tuple[str, ...]] | None:
        if len(one.folders) <= (place if place >= 0 else -place - 1):
            return None
        rest = [*one.folders]
        return rest.pop(place), (*rest, *one.words)

    return cut


def _cut_word(place: int) -> Cut:
    def cut(one: Named) -> tuple[str, tuple[str, ...]] | None:
        rest = [*one.words]
        return (rest.pop(place), (*one.folders, *rest)) if len(rest) > 1 else None

    return cut


def _cut_name(one: Named) -> tuple[str, tuple[str, ...]] | None:
    return ("_".join(one.words), one.folders) if one.folders and one.words else None


_CUTS: tuple[Cut, ...] = (_cut_folder(0), _cut_folder(-1), _cut_word(-1), _cut_word(0), _cut_name)


def _axis(files: Sequence[Named], cut: Cut, form_of: FormOf) -> _Axis | None:
    """Return the place in the paths that ``cut`` takes, if it may tell sensors apart."""
    values: dict[str, list[tuple[Named, tuple[str, ...]]]] = defaultdict(list)
    samples: set[object] = set()
    for one in files:
        taken = cut(one)
        if taken is None:
            return None
        values[taken[0]].append((one, taken[1]))
        samples.add((one.split, one.label, one.defect, taken[1]))
        if len(values) > _MOST_SENSORS:
            return None
    complete = len(files) / (len(values) * len(samples))
    if len(values) < 2 or len(samples) < 2 or not _COMPLETE <= complete <= 1 or any(map(str.isdecimal, values)):
        return None
    forms = [{form_of(one.path) for one, _ in files[:_LOOKED_AT]} for files in values.values()]
    apart = all(len(form) == 1 for form in forms) and len(set().union(*forms)) > 1
    return _Axis(values=values, complete=complete, apart=apart)


def _spread(files: Sequence[Named]) -> Sequence[Named]:
    return files[:: max(1, len(files) // _LOOKED_AT)]
