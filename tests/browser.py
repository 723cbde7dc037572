"""Chromium for tests of pages, through Playwright, with axe-core; tests skip with a reason where either is missing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

AXE = Path(__file__).parent / "data" / "axe" / "axe.min.js"
CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
                None)
FLAGS = ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser of Playwright's; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


class Visit:
    """A page that is looked at, with what it asked for and what went wrong in it."""

    def __init__(self, browser: Any, width: int, scheme: str = "light") -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.width = width
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda said: self.errors.append(said.text)
                     if said.type == "error" and "status of 404" not in said.text else None)  # an answer, not a fault

    def until(self, holds: str, given: Any = None, seconds: float = 15.0) -> None:
        """Wait for a JavaScript expression to hold; Playwright's own waiting is forbidden by the page's policy."""
        deadline = time.monotonic() + seconds
        while not self.page.evaluate(holds, given):
            assert time.monotonic() < deadline, f"never: {holds}; {self.errors}"
            time.sleep(0.02)

    def violations(self) -> list[str]:
        """What axe-core finds at fault in the page as it stands."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE.read_text())  # evaluated by the browser itself: the page's own policy stays as it is
        found = self.page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
        return [f"{one['id']}: {node['html'][:150]}" for one in found for node in one["nodes"]]

    def require_sound(self, *origins: str) -> None:
        """Nothing sticks out, nothing went wrong, axe finds nothing, and nothing was asked but of ``origins``."""
        assert self.page.evaluate("document.documentElement.scrollWidth") <= self.width
        assert self.errors == []
        assert self.violations() == []
        strangers = [url for url in self.asked if not url.startswith((*origins, "data:", "blob:"))]
        assert strangers == []
