"""Files of one sample brought together by the key that is left of their names, and the split that each sample gets."""

from __future__ import annotations

import hashlib
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from crdkit.data._names import GOOD, UNLABELLED
from crdkit.data.importing._names import Named
from crdkit.data.importing._words import BAD
from crdkit.data.importing.questions import Question

_USUAL = 0.5  # share of complete samples, below which another key is looked for
_AGREES = 0.9  # share from which on another key is taken
KeyOf = Callable[[Named], tuple[str, ...]]


def sensor_order(name: str) -> tuple[bool, str]:
    """Return what sensors are sorted by: "rgb" first."""
    return name != "rgb", name


@dataclass(kw_only=True)
class Sample:
    """The files of one sample."""

    files: dict[str, str] = field(default_factory=dict)
    """By sensor."""
    split: str = ""
    label: str = ""
    defect: str = ""
    mask: str | None = None

    def takes(self, one: Named) -> bool:
        """Whether a file says nothing else than the sample's other files do."""
        said = ((self.split, one.split), (self.label, one.label), (self.defect, one.defect))
        return not (one.sensor and one.sensor in self.files) and all(a == b or not a or not b for a, b in said)

    def add(self, one: Named) -> None:
        """Add a file of a sensor."""
        self.files[one.sensor] = one.path
        self.split, self.label, self.defect = (
            self.split or one.split,
            self.label or one.label,
            self.defect or one.defect,
        )

    @property
    def kind(self) -> str:
        """The type of the defect, "good" or "unlabelled"."""
        if not self.label:
            return UNLABELLED
        return GOOD if self.label == GOOD else self.defect or "defective"

    @property
    def name(self) -> str:
        """The path of the first sensor's file without its ending."""
        first = min(self.files, key=sensor_order)
        return PurePosixPath(self.files[first]).with_suffix("").as_posix()


@dataclass(kw_only=True)
class Grouped:
    """Samples, and what belongs to none."""

    samples: list[Sample]
    unused: dict[str, str]
    questions: list[Question]


def group(named: Sequence[Named], *, key: int | None) -> Grouped:
    """Bring the files of each sample together, and their masks.

    Args:
        named: all files, with their sensors.
        key: which part of what is left of a name is the sample's, counted from 1; None to find out.
    """
    files = [one for one in named if one.sensor and not one.mask]
    unused = {
        one.path: "no word names its sensor, and no other file has its name"
        for one in named
        if not one.sensor and not one.mask
    }
    key_of, questions = _choose_key(files, key)
    by_key: dict[tuple[str, ...], list[Sample]] = defaultdict(list)
    for one in sorted(files, key=lambda one: (-sum(map(bool, (one.split, one.label, one.defect))), one.path)):
        fitting = [sample for sample in by_key[key_of(one)] if sample.takes(one)]
        if len(fitting) > 1:
            unused[one.path] = f"may belong to {len(fitting)} samples, such as {fitting[0].name} and {fitting[1].name}"
        elif fitting:
            fitting[0].add(one)
        elif same := next((s for s in by_key[key_of(one)] if _same(s, one)), None):
            unused[one.path] = f"is the same sensor of the same sample as {same.files[one.sensor]}"
        else:
            by_key[key_of(one)].append(Sample())
            by_key[key_of(one)][-1].add(one)
    unused |= _add_masks([one for one in named if one.mask], by_key, key_of)
    samples = sorted((sample for found in by_key.values() for sample in found), key=lambda sample: sample.name)
    return Grouped(samples=samples, unused=unused, questions=questions)


def _same(sample: Sample, one: Named) -> bool:
    said = (sample.split, sample.label, sample.defect) == (one.split, one.label, one.defect)
    return one.sensor in sample.files and said


def _add_masks(masks: Iterable[Named], samples: dict[tuple[str, ...], list[Sample]], key_of: KeyOf) -> dict[str, str]:
    unused = {}
    for one in masks:
        bare = Named(path=one.path, split=one.split, label=one.label, defect=one.defect)
        fitting = [sample for sample in samples.get(key_of(one), ()) if sample.takes(bare)]
        bad = [sample for sample in fitting if sample.label == BAD]
        chosen = fitting if len(fitting) == 1 else bad
        if len(chosen) != 1:
            unused[one.path] = f"is a mask of {'no sample' if not fitting else 'several samples'}"
        elif chosen[0].mask is not None:
            unused[one.path] = f"is the mask of the same sample as {chosen[0].mask}"
        else:
            chosen[0].mask = one.path
    return unused


def _choose_key(files: Sequence[Named], key: int | None) -> tuple[KeyOf, list[Question]]:
    """Return what samples are told apart by: all that is left of a name, or one part of it."""
    if key is not None:
        return _part(key - 1), []
    key_of: KeyOf = _whole
    for finer in (_exact, _labelled):  # 7 and 007 are two samples; so are good/7 and good_2/7
        if _repeated(files, key_of) > _repeated(files, finer):
            key_of = finer
    sensors = {one.sensor for one in files}
    if len(sensors) < 2 or _complete(files, key_of, sensors) >= _USUAL:
        return key_of, []
    longest = max((len(one.key) for one in files), default=0)
    agreeing = [
        place
        for place in range(longest)
        if _complete(files, _part(place), sensors) >= _AGREES and not _repeated(files, _part(place))
    ]
    if not agreeing:
        return key_of, []
    shown = " or ".join(
        f"part {place + 1} ({files[0].key[place]!r})" for place in agreeing if place < len(files[0].key)
    )
    candidates = "two candidate keys" if len(agreeing) > 1 else "one candidate key"
    taken = f"part {agreeing[0] + 1} is taken"
    message = f"the names of a sample's files differ, {candidates}: {shown} of {files[0].path}; {taken}"
    other = agreeing[1] if len(agreeing) > 1 else agreeing[0]
    return _part(agreeing[0]), [Question("names", message, f"--key {other + 1}")]


def _whole(one: Named) -> tuple[str, ...]:
    return one.key


def _exact(one: Named) -> tuple[str, ...]:
    return (*one.folders, *one.words)


def _labelled(one: Named) -> tuple[str, ...]:
    return (*one.label_folders, *one.key)


def _part(place: int) -> KeyOf:
    return lambda one: one.key[place : place + 1] or one.key


def _repeated(files: Sequence[Named], key_of: KeyOf) -> int:
    counts = Counter((one.sensor, one.split, one.label, one.defect, key_of(one)) for one in files)
    return sum(count - 1 for count in counts.values())


def _complete(files: Sequence[Named], key_of: KeyOf, sensors: Collection[str]) -> float:
    found: dict[object, set[str]] = defaultdict(set)
    for one in files:
        found[key_of(one)].add(one.sensor)
    return sum(len(names) == len(sensors) for names in found.values()) / max(len(found), 1)


def settle_labels(samples: Sequence[Sample], *, is_empty: Callable[[str], bool]) -> list[Question]:
    """Give samples a label where nothing says which they have, and tell so.

    Args:
        samples: they are changed.
        is_empty: whether the mask in a file marks nothing.
    """
    questions, unjudged = _leave_open(samples)
    bare = [sample for sample in samples if not sample.label]
    said = len(bare) < len(samples)
    masked = [sample for sample in bare if sample.mask is not None]
    for sample in masked:
        sample.label = GOOD if is_empty(str(sample.mask)) else BAD
    if masked:
        message = f"nothing says which of {len(masked)} samples with a mask are good; those whose mask is empty are"
        questions.append(Question("labels", message, "--good WORD"))
    rest = [sample for sample in bare if not sample.label]
    normal = [sample for sample in rest if sample.split in ("train", "validation") or not (said or sample.split)]
    normal = [sample for sample in normal if id(sample) not in unjudged]
    for sample in normal:
        sample.label = GOOD
    if any(not sample.split for sample in normal):
        message = f"no name says which parts are good; {len(normal)} samples are taken for good"
        questions.append(Question("labels", message, "--good WORD, --defect WORD"))
    unlabelled = [sample for sample in rest if not sample.label and id(sample) not in unjudged]
    if unlabelled:
        message = f"{len(unlabelled)} samples have no label, such as {unlabelled[0].name}; they can only be scored"
        questions.append(Question("labels", message, "--good WORD, --defect WORD"))
    return questions


def _leave_open(samples: Sequence[Sample]) -> tuple[list[Question], set[int]]:
    """Ask about folders such as ``new`` beside others, and return which samples they hold."""
    found = [sample for sample in samples if sample.label == UNLABELLED]
    names = Counter(sample.defect for sample in found)
    for sample in found:
        sample.label = sample.defect = ""
    if len(found) == len(samples):  # the word tells nothing apart
        return [], set()
    questions = [
        Question(
            about=name,
            message=f"does not say whether its {count} samples are good; unlabelled ones are scored, never trained on",
            option=f"--good {shlex.quote(name)}, or --defect {shlex.quote(name)}",
        )
        for name, count in names.items()
    ]
    return questions, {id(sample) for sample in found}


def settle_splits(samples: Sequence[Sample], *, test_share: float) -> list[Question]:
    """Give every sample a split; a share of the good ones is held out for the test if there are none to test on."""
    questions = []
    moved = [sample for sample in samples if sample.split in ("train", "validation") and sample.label == BAD]
    if moved:
        message = (
            f"{len(moved)} defective samples lie in train or validation, such as {moved[0].name}; they are tested on"
        )
        questions.append(Question("splits", message))
    for sample in samples:
        if sample.label != GOOD:
            sample.split = "test"
    tested = {sample.label for sample in samples if sample.split == "test"}
    free = [sample for sample in samples if sample.label == GOOD and sample.split in ("", "train")]
    if BAD in tested and GOOD not in tested and len(free) > 2:
        count = min(max(1, round(test_share * len(free))), len(free) - 2)
        by_hash = sorted(free, key=lambda sample: hashlib.sha256(sample.name.encode()).digest())
        for sample in by_hash[:count]:
            sample.split = "test"
        message = f"no folder holds good samples to test on; {count} of {len(free)} are held out for that"
        questions.append(Question("splits", message, "--test-share 0.2"))
    for sample in samples:
        sample.split = sample.split or "train"
    return questions
