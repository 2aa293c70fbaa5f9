"""The page of several runs, and that of a sweep, in a browser."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from browser.conftest import NARROW, WIDE
from browser.pages import chosen, decided_run, overflow, settle, shown
from crdkit.report.compared import SideBySide, write_side_by_side
from crdkit.report.explorer import explore
from crdkit.report.gallery import order
from crdkit.report.grid import Cell, Column, Grid
from crdkit.report.study import Study, write_study

NAMES = ("rgb-depth", "rgb <b>only</b>")


@pytest.fixture(scope="module")
def runs():
    return decided_run(), decided_run(("rgb",), seed=1, threshold=1.3)


@pytest.fixture(scope="module")
def comparison(runs, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "comparison.html"
    rows = order(runs[0].labels, runs[0].scores)
    second = dataclasses.replace(runs[1], inputs={})
    what = SideBySide(
        title="cable_gland",
        names=NAMES,
        folders=NAMES,
        metrics=[run.metrics["aggregate"] for run in runs],
        differences={NAMES[1]: {}},
        options={"modalities.depth": ["{}", "–"]},
        notes=["rgb-depth: 2 samples were left out"],
        explored=[explore(run, name=name, rows=rows) for run, name in zip((runs[0], second), NAMES, strict=True)],
    )
    write_side_by_side(what, path)
    return path


def alarms(run, threshold):
    return dict(zip(run.sample_ids, (run.scores > threshold).tolist(), strict=True))


def test_each_run_has_its_threshold(visit, comparison, runs):
    page = visit(comparison)
    assert page.get_by_role("note").first.text_content() == "rgb-depth: 2 samples were left out"
    panels = page.locator(".cut")
    for place, (run, threshold) in enumerate(zip(runs, (1.0, 1.3), strict=True)):
        missed = sum(not alarm and not name.startswith("good") for name, alarm in alarms(run, threshold).items())
        assert panels.nth(place).locator(".confusion .missed").text_content() == str(missed)
    before = panels.nth(0).locator(".confusion").text_content()
    panels.nth(1).get_by_role("spinbutton").fill("100")
    settle(page)
    assert panels.nth(1).locator(".confusion .missed").text_content() == "14"
    assert panels.nth(0).locator(".confusion").text_content() == before


def test_samples_on_which_the_runs_differ(visit, comparison, runs):
    page = visit(comparison)
    one, two = alarms(runs[0], 1.0), alarms(runs[1], 1.3)
    page.get_by_role("combobox", name="Outcome").select_option(label="the runs differ")
    assert sorted(shown(page)) == sorted(name for name in one if one[name] != two[name]) != []
    page.locator("#outcome").select_option("1:missed")
    assert sorted(shown(page)) == sorted(name for name in two if not two[name] and not name.startswith("good"))
    page.locator("#outcome").select_option("")
    page.locator("#sort").select_option("high:1")
    score = dict(zip(runs[1].sample_ids, runs[1].scores, strict=True))
    assert shown(page) == sorted(score, key=lambda name: -score[name])
    page.locator("#sort").select_option("differ")
    ranks = [np.argsort(np.argsort(run.scores)) for run in runs]
    apart = dict(zip(runs[0].sample_ids, abs(ranks[0] - ranks[1]).tolist(), strict=True))
    assert [apart[name] for name in shown(page)] == sorted(apart.values(), reverse=True)


def test_both_runs_are_seen_side_by_side(visit, comparison):
    page = visit(comparison)
    assert page.locator("#grid li").first.locator(".stage").count() == 2
    parts = page.locator("#viewer .run")
    assert parts.locator("h4").all_text_contents() == list(NAMES)
    boxes = [parts.nth(place).bounding_box() for place in (0, 1)]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    page.locator(".browse").evaluate("part => part.scrollIntoView()")
    names = shown(page)
    page.keyboard.press("ArrowRight")
    assert chosen(page) == names[1]
    assert page.url.endswith(names[1].replace("/", "%2F"))
    page.keyboard.press("3")  # depth, which one run does not have
    assert parts.nth(0).locator(".stage .map").count() == 1
    assert parts.nth(1).locator(".nothing").text_content() == "no depth"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_a_desk(visit, comparison, scheme):
    for size in (WIDE, NARROW):
        page = visit(comparison, size=size, scheme=scheme)
        assert overflow(page) <= 0
        assert page.locator("#theme").is_visible()


def test_the_page_of_a_sweep_opens(visit, tmp_path):
    grid = Grid(title="all", name="category", columns=[Column("I-AUROC", "measured")], rows={"bagel": [Cell(0.9, 0.1)]})
    path = write_study(Study(title="<b>sweep</b>", subtitle="two seeds", grids=[grid]), tmp_path)
    papers = set()
    for scheme in ("light", "dark"):
        page = visit(path, size=NARROW, scheme=scheme)
        assert overflow(page) <= 0
        assert "<b>sweep</b>" in page.locator("h1").text_content()
        papers.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(papers) == 2
