"""report.html in a browser: every control does what it says, and nothing is reported or asked for."""

from __future__ import annotations

import dataclasses
import io
import re

import numpy as np
import pytest
from PIL import Image
from test_report import CASES, make

from browser.conftest import NARROW, WIDE
from browser.pages import LABELS, chosen, decided_run, overflow, settle, shown
from crdkit.report.page import write_report
from crdkit.scoring.rates import error_rates

HOSTILE = "</script><img src=x onerror=alert(1)>&amp;'\""


@pytest.fixture(scope="module")
def data():
    return decided_run()


@pytest.fixture(scope="module")
def report(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(data, path)
    return path


def counts(page):
    return [
        int(page.locator(f".confusion .{kind}").text_content()) for kind in ("passed", "false-alarm", "missed", "found")
    ]


def expected(data, threshold):
    alarms = data.scores > threshold
    labels = np.array(LABELS, dtype=bool)
    return [int(kind.sum()) for kind in (~labels & ~alarms, ~labels & alarms, labels & ~alarms, labels & alarms)]


def picture_of(locator):
    """Return what is seen of an element, without its rounded corners."""
    return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB")).astype(int)[8:-8, 8:-8]


def test_it_opens_as_decided_with_the_worst_mistake_chosen(visit, report, data):
    page = visit(report)
    assert counts(page) == expected(data, 1.0)
    assert page.locator(".origin").text_content() == "as decided"
    assert page.locator("#count").text_content() == "24 of 24 samples shown"
    assert chosen(page) == shown(page)[0]
    assert page.locator("#viewer .shares span").all_text_contents() in ([], ["rgb 50 %", "depth 50 %"])
    assert page.locator(".stage img.map").first.evaluate("image => image.complete && image.naturalWidth") == 48
    assert page.evaluate("[...document.images].filter((image) => !image.naturalWidth || !image.alt).length") == 0


@pytest.mark.parametrize("threshold", [0.6, 1.31])
def test_a_threshold_updates_matrix_rates_and_samples(visit, report, data, threshold):
    page = visit(report)
    page.get_by_role("spinbutton", name="Value").fill(str(threshold))
    settle(page)
    assert counts(page) == expected(data, threshold)
    rates = error_rates(data.scores, data.labels, threshold)
    for key, rate in (("false-alarms", rates.false_alarms), ("misses", rates.misses)):
        text = page.locator(f'[data-rate="{key}"]').text_content()
        found = [float(number) for number in re.findall(r"[\d.]+", text)]
        wanted = [rate.count, rate.total, 100 * rate.rate, 100 * rate.low, 100 * rate.high]
        assert found == pytest.approx(wanted, abs=0.051), text
    words = page.locator("#grid .outcome").all_text_contents()
    assert [
        sum(word.endswith(kind) for word in words) for kind in ("passed", "false alarm", "missed", "found")
    ] == counts(page)
    page.get_by_role("button", name="Reset").click()
    settle(page)
    assert counts(page) == expected(data, 1.0)


def test_the_slider_moves_the_threshold_and_the_gallery_follows(visit, report, data):
    page = visit(report)
    page.get_by_role("combobox", name="Outcome").select_option(label="missed")
    before = shown(page)
    assert len(before) == expected(data, 1.0)[2]
    slider = page.get_by_role("slider", name="Threshold")
    slider.focus()
    for _ in range(3):
        page.keyboard.press("PageUp")  # a tenth of the range
    settle(page)
    value = float(page.get_by_role("spinbutton", name="Value").input_value())
    assert value > 1.2
    assert counts(page) == expected(data, value)
    assert len(shown(page)) == expected(data, value)[2] > len(before)
    assert chosen(page) == before[0]  # arrows and pages of a slider are its own
    page.keyboard.press("ArrowLeft")
    settle(page)
    assert float(page.get_by_role("spinbutton", name="Value").input_value()) < value


def test_filters_and_order(visit, report, data):
    page = visit(report)
    page.get_by_role("combobox", name="Defect type").select_option("hole")
    holes = [name for name, kind in zip(data.sample_ids, data.defect_types, strict=True) if kind == "hole"]
    assert sorted(shown(page)) == sorted(holes)
    assert page.locator("#count").text_content() == f"{len(holes)} of 24 samples shown"
    page.get_by_role("combobox", name="Sort").select_option(label="highest score first")
    score = dict(zip(data.sample_ids, data.scores, strict=True))
    assert shown(page) == sorted(holes, key=lambda name: -score[name])
    page.get_by_role("combobox", name="Sort").select_option(label="lowest score first")
    assert shown(page) == sorted(holes, key=lambda name: score[name])
    page.get_by_role("combobox", name="Defect type").select_option("")
    page.get_by_role("combobox", name="Sort").select_option(label="by name")
    assert shown(page) == sorted(data.sample_ids)
    page.get_by_role("combobox", name="Outcome").select_option(label="false alarm")
    assert len(shown(page)) == expected(data, 1.0)[1] > 0
    assert all(name.startswith("good/") for name in shown(page))


def test_the_map_is_switched_and_its_opacity_set(visit, report):
    page = visit(report)
    stage = page.locator("#viewer .stage").first
    fused = page.locator("#viewer .stage .map").first.get_attribute("src")
    page.get_by_role("radio", name="depth").check(force=True)
    assert page.locator("#viewer .stage .map").first.get_attribute("src") != fused
    assert page.locator("#viewer figcaption").first.text_content() == "rgb with the depth map"
    page.locator(".map-button", has_text="fused").click()
    assert page.get_by_role("radio", name="fused").is_checked()
    assert page.locator("#viewer .stage .map").first.get_attribute("src") == fused
    opacity = page.get_by_role("slider", name="Map opacity")
    pictures = {}
    for name in ("true mask", "regions found"):
        if page.get_by_role("checkbox", name=name).count():
            page.get_by_role("checkbox", name=name).uncheck()
    for value in ("0", "50", "100"):
        opacity.fill(value)
        settle(page)
        pictures[value] = picture_of(stage)
    page.evaluate("document.querySelectorAll('.stage .map').forEach((map) => { map.style.display = 'none'; })")
    alone = picture_of(stage)
    assert abs(pictures["0"] - alone).max() <= 2  # the input alone
    assert abs(pictures["50"] - alone).mean() > 3
    page.evaluate("document.querySelectorAll('.stage .input').forEach((one) => { one.style.display = 'none'; })")
    page.evaluate("document.querySelectorAll('.stage .map').forEach((map) => { map.style.display = ''; })")
    assert abs(pictures["100"] - picture_of(stage)).max() <= 2  # the map alone


def test_outlines_are_drawn_and_can_be_hidden(visit, report):
    page = visit(report)
    found = page.locator("#grid li", has_text="found").first
    found.scroll_into_view_if_needed()
    for label, kind in (("true mask", ".of-truth"), ("regions found", ".of-regions")):
        assert found.locator(f"{kind} path.line").first.get_attribute("d").startswith("M")
        assert found.locator(kind).is_visible()
        page.get_by_role("checkbox", name=label).uncheck()
        assert not found.locator(kind).is_visible()
    found.locator("a").click()
    assert page.locator("#viewer .shares").get_attribute("aria-label") == "raised by rgb 50 %, depth 50 %"
    assert page.locator("#viewer details table tbody tr").count() >= 1


def test_the_keyboard_chooses_samples_and_maps(visit, report):
    page = visit(report)
    page.locator(".browse").scroll_into_view_if_needed()
    page.evaluate("document.querySelector('.browse').scrollIntoView()")
    names = shown(page)
    for key, place in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1)):
        page.keyboard.press(key)
        assert chosen(page) == names[place]
    row = page.evaluate("columns()")
    page.keyboard.press("ArrowDown")
    assert chosen(page) == names[1 + row]
    page.keyboard.press("ArrowUp")
    assert chosen(page) == names[1]
    assert page.evaluate("document.activeElement.getAttribute('aria-current')") == "true"
    page.keyboard.press("3")
    assert page.get_by_role("radio", name="depth").is_checked()
    page.keyboard.press("9")  # there are three
    assert page.get_by_role("radio", name="depth").is_checked()
    page.keyboard.press("1")
    assert page.get_by_role("radio", name="fused").is_checked()
    page.get_by_role("spinbutton", name="Value").press("2")  # is typed there
    assert page.get_by_role("radio", name="fused").is_checked()
    page.get_by_role("button", name="next sample").click()
    assert chosen(page) == names[2]


def test_a_sample_has_a_link_that_lasts(visit, report):
    page = visit(report)
    name = shown(page)[5]
    page.locator("#grid a").nth(5).click()
    assert chosen(page) == name
    address = page.url
    assert address.endswith("#sample=" + name.replace("/", "%2F"))
    assert page.locator("#viewer-link").evaluate("link => link.href") == address
    page.reload()
    assert chosen(page) == name
    again = visit(address)
    assert chosen(again) == name
    assert again.locator(".browse").evaluate("part => part.getBoundingClientRect().top < innerHeight")
    again.evaluate("location.hash = '#sample=nothing/999'")
    assert chosen(again) == name


def test_colours_follow_the_system_until_they_are_chosen(visit, report):
    def paper(page):
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    page = visit(report, scheme="dark")
    dark = paper(page)
    page.get_by_role("button", name="switch to light colours").click()
    light = paper(page)
    assert light != dark
    page.reload()
    assert paper(page) == light  # the choice is kept
    page = visit(report, scheme="light")
    assert paper(page) == light
    page.emulate_media(color_scheme="dark")
    assert paper(page) == dark
    page.get_by_role("button", name="switch to light colours").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_a_desk(visit, report, scheme):
    for size in (WIDE, NARROW):
        page = visit(report, size=size, scheme=scheme)
        assert overflow(page) <= 0
        boxes = [page.locator(part).bounding_box() for part in ("#grid", "#viewer")]
        beside = boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
        assert beside == (size is WIDE)


def test_every_control_has_a_name(visit, report):
    page = visit(report)
    unnamed = page.evaluate(
        """[...document.querySelectorAll("input, select, button")].filter((control) => !(control.labels?.length
        || control.getAttribute("aria-label") || control.textContent.trim())).map((control) => control.outerHTML)"""
    )
    assert unnamed == []
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize(
    "name", ["one modality", "six modalities", "unlabelled", "all normal", "odd names", "bytes, wide"]
)
def test_any_kind_of_data_works(visit, name, tmp_path):
    data = CASES[name]()
    write_report(data, tmp_path / "report.html")
    page = visit(tmp_path / "report.html")
    assert sorted(shown(page)) == sorted(data.sample_ids)
    assert page.locator("#layers input").count() == len(data.branch_maps) + 1
    for key in range(min(9, len(data.branch_maps) + 1), 0, -1):
        page.locator(".explorer h2").click()
        page.keyboard.press(str(key))
        assert page.locator("#layers input").nth(key - 1).is_checked()
    if data.labels is None:
        page.get_by_role("spinbutton", name="Value").fill("-1000")
        settle(page)
        assert page.locator(".confusion .alarms").text_content() == str(len(data.sample_ids))
    assert overflow(page) <= 0


def test_names_are_text_and_a_missing_sensor_is_said(visit, tmp_path):
    data = make(
        (HOSTILE, "depth"), labels=[0, 1], present={HOSTILE: np.ones(2, bool), "depth": np.array([True, False])}
    )
    data = dataclasses.replace(data, title=HOSTILE, sample_ids=[HOSTILE, "b/1"], defect_types=["good", HOSTILE])
    write_report(data, tmp_path / "report.html")
    page = visit(tmp_path / "report.html")
    assert set(shown(page)) == {HOSTILE, "b/1"}
    page.locator("#grid li", has_text="b/1").locator("a").click()
    assert "lacks depth" in page.locator("#viewer-facts").text_content()
    assert "missing" in page.locator(".map-button", has_text="depth").text_content()
    page.locator("#layers label", has_text="depth").click()
    assert page.locator("#viewer .nothing").first.text_content() == "no depth"
    page.locator("#grid li", has_text="onerror").locator("a").click()
    assert chosen(page) == HOSTILE
    page.reload()
    assert chosen(page) == HOSTILE
