"""watch.html in a browser: while a folder is watched, and when that is over."""

from __future__ import annotations

import pytest
from test_watch import drop_all, live, once

from browser.conftest import NARROW, WIDE
from browser.pages import overflow


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("watched")
    (base / "line").mkdir()
    return base / "line", base / "out"


@pytest.fixture(scope="module")
def watched(folders):
    """The page of 40 samples, of which some raised an alarm and all have moved away from the calibration."""
    line, out = folders
    for number in range(40):
        drop_all(line, f"<img src=x onerror=alert({number})>", value=200 if number % 8 == 0 else 90)
    once(line, out)
    return out / "watch.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_a_desk(visit, watched, scheme):
    for size in (WIDE, NARROW):
        page = visit(watched, size=size, scheme=scheme)
        assert overflow(page) <= 0
    assert "Something has moved" in page.get_by_role("alert").text_content()
    assert page.locator(".latest .sample").count() == 24
    assert page.evaluate("[...document.images].filter((image) => !image.naturalWidth || !image.alt).length") == 0
    assert "<img src=x onerror=alert(" in page.locator(".latest .sample strong").first.text_content()


def test_its_colours_can_be_chosen(visit, watched):
    page = visit(watched)
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_page_that_is_still_written_is_loaded_again(visit, tmp_path):
    (tmp_path / "line").mkdir()
    kept = tmp_path / "seen.html"
    page_of_now = tmp_path / "out/watch.html"
    live(
        tmp_path / "line",
        tmp_path / "out",
        [(0, lambda: None), (0, lambda: kept.write_bytes(page_of_now.read_bytes()))],
    )
    page = visit(kept)
    assert "watching" in page.locator(".live").text_content()
    with page.expect_navigation(timeout=10_000):
        kept.write_bytes(page_of_now.read_bytes())  # by then it is over
    assert "watching has ended" in page.locator(".live").text_content()
