"""Published numbers: complete, consistent with themselves, and AU-PRO never without its kind."""

from __future__ import annotations

import csv
import importlib.resources

import pytest

from crdkit.errors import UnknownNameError
from crdkit.paper import numbers as published
from crdkit.scoring.metrics import LIMITS

CATEGORIES = ("bagel", "cable_gland", "carrot", "cookie", "dowel", "foam", "peach", "potato", "rope", "tire")
METRICS = {"I-AUROC", "P-AUROC", "AU-PRO@30%", "I-AP", "P-AP"}
ROWS = [(name, row) for name in published.tables() for row in published.table(name).rows]

TRD = """\
I-AUROC,TRD,RGB+depth,99.6,96.1,98.2,98.5,99.7,90.1,99.2,97.6,100,83.3,96.2
I-AUROC,TRD,RGB+normals,98.9,99.5,99.7,97.0,100,98.8,99.6,98.3,100,91.7,98.4
I-AUROC,3D-ADNAS,RGB+depth,99.7,100,97.1,98.6,96.6,94.8,89.7,87.3,100,86.7,95.1
P-AUROC,TRD,RGB+depth,99.3,99.3,99.8,99.3,99.7,97.4,99.8,99.9,99.7,99.5,99.4
P-AUROC,TRD,RGB+normals,99.3,99.6,99.8,99.2,99.7,99.8,99.8,99.8,99.7,99.7,99.6
AU-PRO@30%,TRD,RGB+depth,97.5,97.4,98.1,97.3,97.9,90.2,98.2,98.3,97.6,96.8,96.9
AU-PRO@30%,TRD,RGB+normals,97.5,98.0,98.2,97.1,98.1,98.2,98.2,98.3,97.8,97.9,97.9
"""


def averages(name, **wanted):
    """The printed averages of one table, by metric, in the print's order of variants."""
    found = {}
    for row in published.table(name).rows:
        if all(getattr(row, key) == value for key, value in wanted.items()):
            found.setdefault(row.metric, []).append(row.values[published.AVERAGE])
    return found


def test_every_table_is_there_and_every_file_is_a_table():
    counts = {name: len(published.table(name).rows) for name in published.tables()}
    assert counts == {
        "1": 10, "2": 10, "3": 30, "4": 20, "5": 20, "6": 15, "7": 15, "8": 6, "11": 20, "12": 15, "13": 15, "trd": 7,
    }  # fmt: skip
    files = {entry.name for entry in importlib.resources.files("crdkit.paper.numbers").iterdir()}
    assert len({name for name in files if name.endswith(".csv")}) == len(counts)
    for name in published.tables():
        table = published.table(name)
        assert table.name == name
        assert "arXiv 2412.08949" in table.source
        assert name == "trd" or table.source.endswith(f"Table {name}")
        assert (table.dataset, table.unit) == ("mvtec3d", "percent")
        assert len({(row.metric, row.method, row.variant) for row in table.rows}) == len(table.rows)


@pytest.mark.parametrize(("name", "row"), ROWS, ids=lambda part: part if isinstance(part, str) else str(part.method))
def test_printed_averages_are_the_means_of_the_categories_or_the_row_says_otherwise(name, row):
    assert row.metric in METRICS
    assert all(0 <= value <= 100 for value in row.values.values())
    categories = [value for category, value in row.values.items() if category != published.AVERAGE]
    if not categories:
        return
    assert tuple(row.values) == (*CATEGORIES, published.AVERAGE)
    mean = sum(categories) / len(categories)
    deviates = abs(mean - row.values[published.AVERAGE]) > 0.1 + 1e-9
    assert deviates == (f"mean of the categories is {mean:.2f}" in row.note), (name, row)


@pytest.mark.parametrize(("means", "by_category"), [("5", "11"), ("6", "12"), ("7", "13")])
def test_tables_of_means_repeat_the_averages_of_tables_by_category(means, by_category):
    assert averages(means) == averages(by_category)


def test_the_same_model_has_the_same_numbers_wherever_it_is_printed():
    full = {"I-AUROC": [96.2], "P-AUROC": [99.4], "AU-PRO@30%": [97.7], "I-AP": [98.8], "P-AP": [45.5]}
    assert averages("3", variant="RGB+Depth+Crossmodal") == full
    assert averages("4", variant="both") == full
    assert averages("7", variant="normalised sum") == full
    assert averages("3", variant="RGB+Depth") == averages("4", variant="neither")
    assert averages("4", variant="CF") == averages("5", variant="8x8")
    assert averages("4", variant="CA") == averages("6", variant="2x")
    for name, metric in (("1", "I-AUROC"), ("2", "AU-PRO@30%"), ("8", "P-AUROC")):
        (row,) = (row for row in published.table(name).rows if row.method == "CRD")
        (again,) = (
            row for row in published.table("13").rows if (row.metric, row.variant) == (metric, "normalised sum")
        )
        assert row.values == again.values


def test_numbers_read_otherwise_than_printed_say_so():
    notes = {(name, row.metric, row.variant): row.note for name, row in ROWS if row.note.startswith("printed")}
    assert notes == {
        ("3", "AU-PRO@30%", "RGB+Depth+Crossmodal"): "printed 977",
        ("5", "AU-PRO@30%", "4x4"): "printed 974",
        ("5", "I-AP", "16x16"): "printed 979",
        ("5", "P-AP", "4x4"): "printed 453",
    }


def test_au_pro_is_never_without_its_kind():
    for _, row in ROWS:
        assert (row.au_pro is None) == (row.metric != "AU-PRO@30%")
        assert row.au_pro in (None, "exact", "100t", "unstated")
        assert row.label == (row.metric if row.au_pro is None else f"AU-PRO@30% ({row.au_pro})")
    for key, kind in (("aupro_0.30", "exact"), ("aupro100t_0.30", "100t")):
        assert {value.row.au_pro for value in published.lookup(metric=key)} == {kind}
    assert {value.row.au_pro for value in published.lookup(metric="AU-PRO@30%", method="TRD")} == {"100t"}
    assert {value.row.au_pro for value in published.lookup(metric="AU-PRO@30%", method="CRD")} == {"exact"}
    mixed = [name for name in published.tables() if len({r.au_pro for r in published.table(name).rows} - {None}) > 1]
    assert mixed == ["2"]
    assert any("kinds differ by row" in comment for comment in published.table("2").comments)


def test_keys_are_those_of_metrics_json():
    keys = {"image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "aupro_0.30", "aupro100t_0.30"}
    assert {row.key for _, row in ROWS} == {*keys, None}
    assert 0.30 in LIMITS
    assert {row.au_pro for _, row in ROWS if row.key is None} == {"unstated"}


def test_the_table_of_trd():
    rows = published.table("trd").rows
    for row, printed in zip(rows, csv.reader(TRD.splitlines()), strict=True):
        assert [row.metric, row.method, row.variant] == printed[:3]
        assert list(row.values.values()) == [float(text) for text in printed[3:]]


def test_lookup():
    (value,) = published.lookup(dataset="mvtec3d", method="CFM", metric="image_auroc", category="cable_gland")
    assert str(value).startswith("CFM, cable_gland: I-AUROC 87.5 % (Multimodal Industrial")
    found = published.lookup(method="CRD", metric="I-AUROC", category="cable_gland", variant="normalised sum")
    assert [(value.percent, value.table.name) for value in found] == [(96.1, "13")]
    assert published.lookup(method="AST", metric="P-AUROC", category="bagel") == ()
    assert len(published.lookup()) == sum(len(row.values) for _, row in ROWS)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"method": "CRDD"}, "unknown method of published numbers 'CRDD' - did you mean 'CRD'"),
        ({"metric": "image_aurok"}, "did you mean 'image_auroc'"),
        ({"category": "Bagel"}, "did you mean 'bagel'"),
        ({"dataset": "mvtec"}, "did you mean 'mvtec3d'"),
        ({"name": "14"}, "unknown table of published numbers '14'"),
        ({"variant": "cf"}, "unknown variant"),
    ],
)
def test_unknown_names(wanted, message):
    with pytest.raises(UnknownNameError, match=message):
        published.lookup(**wanted)
    with pytest.raises(UnknownNameError, match="tables 9, 10 and 14"):
        published.table("9")
