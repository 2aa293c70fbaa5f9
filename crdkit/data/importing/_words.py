"""What words in the names of folders and files say: a sensor, a split, good or defective, a mask, or nothing."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Literal, NamedTuple

from crdkit.data._names import GOOD, MASK, UNLABELLED

Kind = Literal["sensor", "split", "label", "mask", "filler"]
BAD = "bad"

_SENSORS = """
rgb bgr color colour colours farbe couleur vis visible gray grey grau mono intensity amplitude
depth tiefe profondeur profundidad height heightmap hohe range disparity tof laser lidar xyz pointcloud pcd cloud
thermal thermo thermique termica heat waerme warme ir infrared infrarot infrarouge flir tir lwir mwir swir nir
uv ultraviolet xray roentgen ct ultrasound normals polarization polarisation dolp aolp fluorescence reflectance albedo
"""
_GOOD = """
good ok oks okay io iO normal nominal gut gute guten gutteil gutteile pass passed passes healthy clean intact
nodefect defectfree flawless anomalyfree fehlerfrei bon bonne bons bueno buena bien buono buoni conforme
bom dobry dobre goed
良品 正常 合格 хорошо норма
"""
_BAD = """
bad nok notok ng ngs nio defect defects defective defekt defekte anomaly anomalies anomalous abnormal faulty fault
faults fail failed failure ko reject rejects rejected scrap damaged schlecht schlechte schlechtteil schlechtteile fehler
fehlerhaft ausschuss mauvais defaut defauts malo malos defecto defectos defectuoso difetto difetti difettoso
scarto rebut ruim wadliwy
不良 不良品 缺陷 异常 不合格 брак
"""
_UNJUDGED = """
new newparts newsamples incoming inbox unlabelled unlabeled notlabelled notlabeled unlabel unknown unsorted unchecked
unclassified unclear unsure unseen uncertain undecided todo tocheck tosort pending review mixed misc other others old
archive backup tmp temp neu neue neuteile unbekannt unsortiert ungepruft unklar offen eingang nouveau nouveaux nuevo
nuevos nuovo nuovi inconnu desconocido 未标注 未知 新
"""
"""Nobody has said whether these parts are good."""
_BEFORE = "no non not without ohne kein keine nicht sans sin senza"
_BEHIND = "free frei"
"""Turn a label into the other one, before or behind its word."""
_PARTS = """
part parts sample samples piece pieces item items object objects product products teil teile stuck piece pieza piezas
"""
"""Say nothing beside a word of a label."""
_SPLITS = {
    "train": "train training trainset traindata trn entrainement entrenamiento addestramento",
    "validation": "val valid validation validate validierung dev",
    "test": "test testing tests testset testdata eval evaluation holdout prueba",
}
_MASKS = "mask masks maske masken masque groundtruth gt label labels annotation annotations segmentation seg"
_FILLERS = """
image images img imgs bild bilder picture pictures pic pics photo photos foto fotos frame frames map maps data dataset
file files raw png tif tiff bmp jpg jpeg npy scan scans capture captures
"""

_PLACES = {
    "left",
    "right",
    "top",
    "bottom",
    "front",
    "back",
    "side",
    "upper",
    "lower",
    "up",
    "down",
    "links",
    "rechts",
    "oben",
    "unten",
    "vorn",
    "hinten",
}
_DIGITS = "0123456789"


class Role(NamedTuple):
    """What a word says."""

    kind: Kind
    value: str
    """A sensor's name ("" in a vocabulary: as it is written), a split, "good", "bad" or "unlabelled"."""


_NOTHING = Role("filler", "")
UNJUDGED = Role("label", UNLABELLED)


def is_place(word: str) -> bool:
    """Whether a word says where a camera is, and belongs to a sensor's word beside it.

    Examples:
        >>> is_place("Left"), is_place("part")
        (True, False)
    """
    return word.casefold() in _PLACES


def _beside_a_sensor(word: str) -> Role | None:
    if is_place(word):
        return Role("sensor", word.casefold())
    return Role("filler", word) if word.isdecimal() else None


def _is_in(vocabulary: str, word: str) -> bool:
    return _joined(word).rstrip(_DIGITS) in vocabulary.split()


def _with_label(words: Sequence[str], roles: Sequence[Role | None]) -> list[Role]:
    """Return what a name says that has a word for good or defective parts, whatever its other words are."""
    known = [role for role in roles if role is not None]
    values = {role.value for role in known if role.kind == "label"}
    others = [role for role in known if role.kind != "label"]
    place = next(place for place, role in enumerate(roles) if role is not None and role.kind == "label")
    denying = {*filter(partial(_is_in, _BEFORE), words[:place]), *filter(partial(_is_in, _BEHIND), words[place:])}
    unknown = [word for word, role in zip(words, roles, strict=True) if role is None and not word.isdecimal()]
    unknown = [word for word in unknown if word not in denying and not _is_in(_PARTS, word)]
    if len(values) > 1 or (unknown and values == {GOOD}):
        return [UNJUDGED, *others]
    (value,) = values
    return [Role("label", {GOOD: BAD, BAD: GOOD}[value] if denying else value), *others]


def fold(text: str) -> str:
    """Return text without case and accents, for comparisons.

    Examples:
        >>> fold("Défaut"), fold("N.i.O.")
        ('defaut', 'n.i.o.')
    """
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in plain if not unicodedata.combining(character))


class Vocabulary:
    """The words that are understood.

    Args:
        sensors: further words that name sensors; they come before all others.
        good: further words for good parts.
        defect: further words for defective ones.
        masks: further words for masks.
    """

    def __init__(
        self,
        *,
        sensors: Iterable[str] = (),
        good: Iterable[str] = (),
        defect: Iterable[str] = (),
        masks: Iterable[str] = (),
    ) -> None:
        self.used: set[str] = set()
        """The further words that were found."""
        self._further = {_joined(word): word for word in (*sensors, *good, *defect, *masks)}
        self._roles = {word: Role("filler", word) for word in _FILLERS.split()}
        self._roles |= {word: Role("sensor", "") for word in _SENSORS.split()}
        self._roles |= {word: Role("mask", MASK) for word in _MASKS.split()}
        self._roles |= {word: Role("split", split) for split, words in _SPLITS.items() for word in words.split()}
        self._roles |= {_joined(word): Role("label", BAD) for word in _BAD.split()}
        self._roles |= {_joined(word): Role("label", GOOD) for word in _GOOD.split()}
        self._roles |= {_joined(word): Role("mask", MASK) for word in masks}
        self._roles |= {_joined(word): Role("label", BAD) for word in defect}
        self._roles |= {_joined(word): Role("label", GOOD) for word in good}
        self._roles |= {_joined(word): Role("sensor", word) for word in sensors}

    def of_word(self, word: str) -> Role | None:
        """Return what one word says; a sensor may have a number, as in ``ir2``."""
        joined = _joined(word)
        role = self._roles.get(joined)
        if joined in self._further:
            self.used.add(self._further[joined])
        if role is None and self._roles.get(joined.rstrip(_DIGITS), _NOTHING).kind == "sensor":
            role = Role("sensor", "")
        return role._replace(value=joined) if role is not None and not role.value else role

    def of_folder(self, name: str) -> list[Role]:
        """Return what a folder's name says, if all of its words say something; else nothing.

        Beside a sensor's word, ``left``, ``top`` and the like belong to its name, and numbers say nothing. A name with
        ``new`` in it, or with words for good parts beside others that are not known, leaves open whether they are good.
        """
        whole = self.of_word(name)
        if whole is not None:
            return [whole]
        words = words_of(name)
        roles = [self.of_word(word) or self._label_like(word) for word in words]
        if any(role is not None and role.kind == "label" for role in roles):
            return _with_label(words, roles)
        if _is_in(_UNJUDGED, name) or any(_is_in(_UNJUDGED, word) for word in words):
            return [UNJUDGED, *filter(None, roles)]
        if any(role is not None and role.kind == "sensor" for role in roles):
            roles = [role or _beside_a_sensor(word) for role, word in zip(roles, words, strict=True)]
        known = [role for role in roles if role is not None]
        return known if len(known) == len(roles) else []

    def _label_like(self, word: str) -> Role | None:
        """Return what ``good2``, ``NG_1`` or ``fails`` says, which lies beside ``good``, ``NG`` or ``pass``."""
        bare = word.rstrip(_DIGITS)
        forms = (bare, bare[:-1]) if len(bare) > 3 and bare[-1] in "sS" else (bare,)
        found = (self.of_word(form) for form in forms)
        return next((role for role in found if role is not None and role.kind == "label"), None)

    def split_stem(self, stem: str) -> list[str]:
        """Return the words of a file's name; one without a mark between words is cut where that gives a known word."""
        found: list[str] = []
        words = words_of(stem)
        numbered = sum(any(map(str.isdigit, word)) for word in words)
        for word in words:
            pieces = re.findall(r"\d+|[^\W\d_]+", word)
            if len(pieces) == 1:
                pieces = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^A-Za-z]+", word)
            whole = self._roles.get(_joined(word)) is not None or len(pieces) < 2
            whole = whole or (numbered > 1 and word[0].isalpha() and self.of_word(word) is not None)  # ir2_07
            cut = not whole and any(self._roles.get(_joined(piece)) is not None for piece in pieces)
            found += pieces if cut else [word]
        return self._with_phrases(found)

    def _with_phrases(self, words: list[str]) -> list[str]:
        """Return words, those brought together that say something only as one, as ``ground_truth`` does."""
        found, place = list[str](), 0
        while place < len(words):
            count = next((n for n in (3, 2) if self._is_phrase(words[place : place + n], n)), 1)
            found.append("_".join(words[place : place + count]))
            place += count
        return found

    def _is_phrase(self, words: list[str], count: int) -> bool:
        known = _joined("".join(words)) in self._roles
        return known and len(words) == count and any(_joined(word) not in self._roles for word in words)


def words_of(name: str) -> list[str]:
    """Return the words of a name, which other marks than letters and digits separate.

    Examples:
        >>> words_of("07_rgb-left"), words_of("n.i.O.")
        (['07', 'rgb', 'left'], ['n', 'i', 'O'])
    """
    return [word for word in re.split(r"[\W_]+", name) if word]


def _joined(name: str) -> str:
    return "".join(filter(str.isalnum, fold(name)))
