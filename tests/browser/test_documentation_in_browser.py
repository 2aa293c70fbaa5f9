"""The documentation as built: every link inside it resolves, and search, colours and pages work in a browser."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from browser.conftest import NARROW, WIDE
from browser.pages import overflow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site: that of CRDKIT_SITE, or one that is built here."""
    if given := os.environ.get("CRDKIT_SITE"):
        return Path(given)
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install crdkit[docs]")
    pytest.importorskip("material", reason="mkdocs-material is not installed: pip install crdkit[docs]")
    folder = tmp_path_factory.mktemp("documentation") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def address(site, serve):
    return serve(site)


class Links(HTMLParser):
    """Collects what a page points to, and the places in it that can be pointed to."""

    def __init__(self, text):
        super().__init__()
        self.targets, self.places = [], set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.targets += [found[name] for name in ("href", "src") if found.get(name)]
        self.places |= {found[name] for name in ("id", "name") if found.get(name)}


def test_every_link_inside_the_documentation_resolves(site):
    pages = {path: Links(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    assert len(pages) > 25
    checked, broken = 0, []
    for path, page in pages.items():
        if path.name == "404.html":  # its links are absolute: it is shown at any address
            continue
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            checked += 1
            to = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            to = to / "index.html" if to.is_dir() else to
            fragment = unquote(parts.fragment)
            if not to.is_file() or (fragment and to in pages and fragment not in pages[to].places):
                broken.append(f"{path.relative_to(site)}: {target}")
    assert checked > 1000
    assert broken == []


def test_programs_find_every_page_in_llms_txt(site):
    text = (site / "llms.txt").read_text(encoding="utf-8")
    links = re.findall(r"^- \[[^]]+\]\(([^)]+)\): \S", text, re.MULTILINE)
    assert len(links) > 25
    assert [link for link in links if not (site / link / "index.html").is_file()] == []
    whole = (site / "llms-full.txt").read_text(encoding="utf-8")
    assert "# Troubleshooting" in whole
    assert "## 0.1.0" in whole  # the changelog


def test_every_page_opens_without_a_complaint(visit, site, address):
    """One page at a time in one window; what is asked for comes from the site itself."""
    page = visit(address + "/", allowed=(address, "data:", "blob:"))
    index = json.loads((site / "search/search_index.json").read_text(encoding="utf-8"))
    index["docs"] = index["docs"][:1]  # every page reads all of it; see the search below
    page.route("**/search/search_index.json", lambda route: route.fulfill(json=index))
    papers = sorted(path.parent.relative_to(site).as_posix() for path in site.rglob("index.html"))
    for paper in papers:
        page.goto(f"{address}/{paper}/", wait_until="load")
        assert page.locator("h1").first.text_content().strip()
        assert (
            page.evaluate("[...document.images].filter((image) => image.complete && !image.naturalWidth).length") == 0
        )


@pytest.mark.parametrize(
    ("size", "word", "page_name"),
    [(WIDE, "conformal", "predict"), (NARROW, "conformal", "predict"), (WIDE, "untrusted", "troubleshooting")],
)
def test_the_search_finds_a_word(visit, address, size, word, page_name):
    page = visit(address + "/", size=size, allowed=(address, "data:", "blob:"))
    if size is NARROW:
        page.locator("label[for=__search]").first.click()
    page.locator("input[name=query]").click()
    page.locator("input[name=query]").press_sequentially(word)  # keys, as the page waits for them
    page.locator(".md-search-result__item a").first.wait_for(timeout=60_000)  # the index of all pages is made first
    assert page_name in page.locator(".md-search-result__list").inner_html()
    page.locator(".md-search-result__item a").first.click()
    page.wait_for_url(f"{address}/*/**")
    assert overflow(page) <= 0


def test_the_colours_are_switched_and_kept(visit, address):
    def scheme(page):
        return page.locator("body").get_attribute("data-md-color-scheme")

    page = visit(address + "/", scheme="dark", allowed=(address, "data:", "blob:"))
    assert scheme(page) == "slate"
    page.locator("label[title=Light]").click()
    assert scheme(page) == "default"
    page.goto(f"{address}/report/")
    assert scheme(page) == "default"
