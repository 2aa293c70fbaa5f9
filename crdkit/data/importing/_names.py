"""What the path of each file says of it, and the key that is left: what the files of one sample share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from crdkit.data._names import GOOD, UNLABELLED, Split
from crdkit.data.importing._words import BAD, UNJUDGED, Role, Vocabulary, is_place

SEVERAL = 2  # samples in a folder, from which on it is one of a type of defect and not of one part


@dataclass(frozen=True, kw_only=True)
class Named:
    """One file, by its name."""

    path: str
    sensor: str = ""
    """"" if no word names one."""
    split: str = ""
    label: str = ""
    """"good", "bad", "unlabelled" where a folder such as ``new`` leaves it open, or ""."""
    defect: str = ""
    """The type of the defect, or what leaves the label open, if a folder is called after it."""
    mask: bool = False
    folders: tuple[str, ...] = ()
    """Those that say nothing of the above."""
    words: tuple[str, ...] = ()
    """Of the file's name, likewise."""
    label_folders: tuple[str, ...] = ()
    """Those that say a label and nothing else."""

    @property
    def key(self) -> tuple[str, ...]:
        """What is left of the path; numbers are without zeros in front."""
        return tuple(_number(word) for word in (*self.folders, *self.words))


@dataclass(kw_only=True)
class _Tree:
    """Folders by what they say."""

    children: dict[tuple[str, ...], set[str]] = field(default_factory=dict)
    """Names of the folders in each folder."""
    roles: dict[tuple[str, ...], list[Role]] = field(default_factory=dict)
    """Of each folder; empty if it says nothing."""
    files: dict[tuple[str, ...], int] = field(default_factory=dict)
    """Number of files below each folder, divided by that of sensors' folders in it."""


def read_names(paths: Sequence[str], vocabulary: Vocabulary) -> list[Named]:
    """Return what the path of each file says."""
    split_paths = [PurePosixPath(path).parts for path in paths]
    tree = _tree_of(split_paths, vocabulary)
    defects = _defect_folders(tree)
    named = [_read(path, parts, tree, defects, vocabulary) for path, parts in zip(paths, split_paths, strict=True)]
    return _without_lone_words(named, split_paths, vocabulary)


def _tree_of(paths: Sequence[Sequence[str]], vocabulary: Vocabulary) -> _Tree:
    tree = _Tree()
    for *folders, _ in paths:
        for depth, name in enumerate(folders):
            place = tuple(folders[: depth + 1])
            tree.children.setdefault(place[:-1], set()).add(name)
            tree.files[place] = tree.files.get(place, 0) + 1
            if place not in tree.roles:
                tree.roles[place] = vocabulary.of_folder(name)
    for place, roles in tree.roles.items():
        if [role.value for role in roles] == [GOOD] and place[-1].casefold() == "normal":
            beside = [_kinds(tree, (*place[:-1], name)) for name in tree.children[place[:-1]] - {place[-1]}]
            if {"sensor"} in beside and {"label"} not in beside:
                tree.roles[place] = [Role("sensor", "normal")]  # of the surface
        if place[-1].casefold() == "normals":
            beside = [_kinds(tree, (*place[:-1], name)) for name in tree.children[place[:-1]] - {place[-1]}]
            if {"label"} in beside and {"sensor"} not in beside:
                tree.roles[place] = [Role("label", GOOD)]  # and not the surface's directions
    return tree


def _kinds(tree: _Tree, place: tuple[str, ...]) -> set[str]:
    return {role.kind for role in tree.roles[place]}


def _defect_folders(tree: _Tree) -> set[str]:
    """Return the names of folders that are called after types of defects: beside a good one, or below a bad one."""
    found = set()
    for place, names in tree.children.items():
        labels = {name: [r.value for r in tree.roles[*place, name] if r.kind == "label"] for name in names}
        unknown = [name for name in names if not tree.roles[*place, name]]
        unjudged = [name for name in names if tree.roles[*place, name] == [UNJUDGED]]
        in_bad = bool(place) and any(role == Role("label", BAD) for role in tree.roles[place])
        if any(GOOD in values for values in labels.values()):
            found |= {name for name in unknown if not name.isdecimal()}
        elif in_bad:
            found |= {
                name
                for name in unknown + unjudged
                if not any(map(str.isdigit, name))
                and tree.files[*place, name] >= SEVERAL * _sensors_in(tree, (*place, name))
            }
    return found


def _sensors_in(tree: _Tree, place: tuple[str, ...]) -> int:
    """Return how many files one sample may have in a folder: one for each sensor's folder in it, or two."""
    return sum("sensor" in _kinds(tree, (*place, name)) for name in tree.children.get(place, ())) or SEVERAL


def _read(path: str, parts: Sequence[str], tree: _Tree, defects: set[str], vocabulary: Vocabulary) -> Named:
    *folders, name = parts
    roles: list[Role] = []
    left: list[str] = []
    defect = ""
    every = [tree.roles[tuple(folders[: depth + 1])] for depth in range(len(folders))]
    if any(role.kind == "label" and role != UNJUDGED for said in every for role in said):
        every = [[role for role in said if role != UNJUDGED] for said in every]
    for folder, said in zip(folders, every, strict=True):
        if not said and folder in defects and Role("label", GOOD) not in roles:
            defect = folder
        elif not said:
            left.append(folder)
        elif any(role == Role("label", BAD) for role in said):
            defect = defect or folder
        roles += said
    labels = tuple(folder for folder, said in zip(folders, every, strict=True) if [r.kind for r in said] == ["label"])
    named = _with(Named(path=path, folders=tuple(left), defect=defect, label_folders=labels), roles)
    if defect:
        named = replace(named, label=BAD)
    words = vocabulary.split_stem(PurePosixPath(name).stem)
    said_of_words = [vocabulary.of_word(word) for word in words]
    used = [role for role in said_of_words if role is not None and not _known(named, role)]
    kept = [
        word
        for place, (word, role) in enumerate(zip(words, said_of_words, strict=True))
        if role is None and not _beside(words, said_of_words, place)
    ]
    places = [
        Role("sensor", word.casefold())
        for place, (word, role) in enumerate(zip(words, said_of_words, strict=True))
        if role is None and _beside(words, said_of_words, place)
    ]
    named = replace(_with(named, [*places, *used]), words=tuple(kept))
    if named.label != UNLABELLED:
        return named
    return replace(named, defect=next(folder for folder, said in zip(folders, every, strict=True) if UNJUDGED in said))


def _beside(words: Sequence[str], roles: Sequence[Role | None], place: int) -> bool:
    """Whether the word at ``place`` says where the sensor is that the word before or behind it names."""
    near = [roles[other] for other in (place - 1, place + 1) if 0 <= other < len(roles)]
    return is_place(words[place]) and any(role is not None and role.kind == "sensor" for role in near)


def _known(named: Named, role: Role) -> bool:
    """Whether folders have said already what a word of the file's name says."""
    label = "" if named.label == UNLABELLED else named.label
    return bool({"split": named.split, "label": label}.get(role.kind))


def _with(named: Named, roles: Sequence[Role]) -> Named:
    sensors = [named.sensor] if named.sensor else []
    sensors += [role.value for role in roles if role.kind == "sensor" and role.value not in sensors]
    values: Mapping[str, str] = {role.kind: role.value for role in roles}
    label = values.get("label", named.label)
    return replace(
        named,
        sensor="_".join(dict.fromkeys(sensors)),
        split=values.get("split", named.split),
        label=label,
        mask=named.mask or "mask" in values,
    )


def _without_lone_words(named: list[Named], paths: Sequence[Sequence[str]], vocabulary: Vocabulary) -> list[Named]:
    """Take back what file names say of splits if all say the same: it is then part of their name."""
    folder_splits = [
        any(role.kind == "split" for folder in parts[:-1] for role in vocabulary.of_folder(folder)) for parts in paths
    ]
    in_names = {one.split for one, known in zip(named, folder_splits, strict=True) if one.split and not known}
    if len(in_names) != 1:
        return named
    return [
        one if known or not one.split else replace(one, split="")
        for one, known in zip(named, folder_splits, strict=True)
    ]


def _number(word: str) -> str:
    return word.lstrip("0") or "0" if word.isdecimal() else word


SplitName = Split | str
