"""What `crdkit data import` takes a folder's name for: good, defective, or open."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from crdkit.data.importing import Answers, propose_import
from crdkit.data.importing._words import Vocabulary

GOOD = """
good Good GOOD goods ok OK oks okay io IO i.O. pass Pass passed passes normal Normal gut Gut gute Gutteile healthy
nodefect no-defects without_defects defect-free fehlerfrei ohne_Fehler good_parts ok_teile good2 OK_01 Good-3
"""
BAD = """
bad Bad bads nok NOK noks n.i.O. nio NIO ng NG ngs fehler Fehler fail Fail fails failed failure failures anomaly
Anomaly anomalies anomalous abnormal Abnormal abnormals defect defects reject Rejects ausschuss schlecht Schlechtteile
bad_parts NG2 nok_03 defect_hole not_good not-ok nicht_gut defect_no_5
"""
OPEN = """
new New NEW incoming Incoming inbox unlabelled unlabeled Un-labelled unknown unsorted todo ToDo TO_DO to_check pending
review misc other mixed old neu Neu unsortiert new_parts newparts new-2 new_2024 new_images incoming_monday good_bad
ok-Schicht2 good_old
"""


@pytest.mark.parametrize(
    ("value", "name"),
    [(value, name) for value, names in (("good", GOOD), ("bad", BAD), ("unlabelled", OPEN)) for name in names.split()],
)
def test_what_a_folder_says(value, name):
    assert [role.value for role in Vocabulary().of_folder(name) if role.kind == "label"] == [value]


@pytest.mark.parametrize("name", ["scratch", "hole", "combined", "crack_2", "open", "missing_part", "noise", "part_07"])
def test_what_says_nothing_may_be_a_type_of_defect(name):
    assert not Vocabulary().of_folder(name)


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(abs(hash(path))).integers(0, 256, (8, 8, 3), np.uint8)).save(path)


@pytest.fixture
def parts(tmp_path):
    """Write four pictures into every folder that a test names, and return what is proposed for them."""

    def propose(*folders, **answers):
        for folder in folders:
            for number in range(4):
                save(tmp_path / folder / f"{number}_rgb.png")
        return propose_import(tmp_path, Answers(**answers))

    return propose


def test_parts_that_nobody_has_judged_are_neither_defects_nor_trained_on(parts):
    proposal = parts("good", "scratch", "new")
    assert proposal.counts() == {"train": {"good": 3}, "test": {"good": 1, "scratch": 4, "unlabelled": 4}}
    (question,) = (question for question in proposal.questions if question.about == "new")
    said = "does not say whether its 4 samples are good; unlabelled ones are scored, never trained on"
    assert question.line == f"new: {said} (--good new, or --defect new)"
    assert ",,new/0_rgb.png" in proposal.manifest()
    assert parts("good", good=["new"]).counts() == {"train": {"good": 6}, "test": {"good": 2, "scratch": 4}}
    assert parts("good", defect=["new"]).counts()["test"]["new"] == 4


def test_good_parts_in_several_folders_are_all_kept(parts):
    proposal = parts("good", "good_2", "Good parts", "NG", "NG 2")
    assert proposal.counts()["train"]["good"] + proposal.counts()["test"]["good"] == 12
    assert proposal.counts()["test"]["NG"] == proposal.counts()["test"]["NG 2"] == 4
    assert not proposal.unused


def test_in_a_split_too_and_where_other_words_say_more(parts):
    proposal = parts("train/good", "train/new", "test/good", "test/new parts", "new/ok", "old/ok", "new/nok")
    assert proposal.counts() == {"train": {"good": 12}, "test": {"good": 4, "unlabelled": 8, "nok": 4}}
    assert [question.option for question in proposal.questions if question.about == "new parts"] == [
        "--good 'new parts', or --defect 'new parts'"
    ]


def test_a_word_that_tells_nothing_apart_leaves_all_as_they_were(parts):
    proposal = parts("new")
    assert proposal.counts() == {"train": {"good": 4}}
    assert [question.about for question in proposal.questions if "taken for good" in question.message] == ["labels"]


def test_the_same_folder_below_good_and_defective_parts(parts):
    proposal = parts("ok/new", "ok/morning", "nok/new", "nok/morning", "nok/other", test_share=0.5)
    assert proposal.counts()["test"] == {"good": 4, "morning": 4, "new": 4, "other": 4}


def test_normals_are_good_parts_beside_defective_ones(parts):
    assert parts("normals", "abnormals").counts()["test"]["abnormals"] == 4


def test_normals_are_directions_beside_sensors(tmp_path):
    for number in range(3):
        save(tmp_path / f"ok/rgb/{number}.png")
        save(tmp_path / f"ok/normals/{number}.png")
    assert [sensor.name for sensor in propose_import(tmp_path).sensors] == ["rgb", "normals"]


def test_a_files_own_word_counts_in_such_a_folder(tmp_path, parts):
    for number in range(3):
        save(tmp_path / f"new/{number}_ok_rgb.png")
    assert parts("nok").counts() == {"train": {"good": 2}, "test": {"good": 1, "nok": 4}}
