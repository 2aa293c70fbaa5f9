"""A real browser, headless: one process for all tests of this folder, and a page that fails on any error it reports.

Tests are skipped where Playwright or a Chromium is missing; with CRDKIT_BROWSER=required, as in CI, they fail instead.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import threading
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WIDE, NARROW = {"width": 1400, "height": 1000}, {"width": 390, "height": 844}


def missing() -> str:
    """Return what the tests lack; empty if nothing."""
    if importlib.util.find_spec("playwright") is None:
        return "Playwright is not installed: pip install crdkit[browser]"
    if not any(map(shutil.which, NAMES)):
        return f"no browser: none of {', '.join(NAMES)} is on the PATH; on Debian: apt-get install chromium"
    return ""


@pytest.fixture(scope="package")
def browser():
    if lack := missing():
        (pytest.fail if os.environ.get("CRDKIT_BROWSER") == "required" else pytest.skip)(lack)
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, NAMES)))
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


class Visits:
    """Opens addresses, and remembers what went wrong there."""

    def __init__(self, browser, held):
        self._browser, self._held = browser, held
        self.problems = []

    def __call__(self, address, *, size=WIDE, scheme="light", allowed=("file:", "data:")):
        """Return the page at a path or an address, in a profile of its own."""
        context = self._held.enter_context(self._browser.new_context(viewport=size, color_scheme=scheme))
        context.set_default_timeout(10_000)
        page = context.new_page()
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("dialog", self._dialog)
        page.on("request", lambda request: self._request(request.url, allowed))
        page.goto(address if ":" in str(address)[:6] else f"file://{address}")
        return page

    def _console(self, message):
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text}")

    def _dialog(self, dialog):
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, url, allowed):
        if not url.startswith(allowed):
            self.problems.append(f"request: {url}")


@pytest.fixture
def visit(browser):
    """Open a page; at the end nothing may have been reported on any."""
    with ExitStack() as held:
        visits = Visits(browser, held)
        yield visits
    assert visits.problems == []


@pytest.fixture(scope="package")
def serve():
    """Serve a folder on this machine, for pages that fetch files of their own; returns its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ExitStack() as held:

        def start(folder):
            server = held.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            held.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}"

        yield start
