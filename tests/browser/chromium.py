"""Debian's Chromium without a screen, driven over a pipe: it may live in another network than the test."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

PROGRAM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",  # it refuses to start as root with one
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NARROW, WIDE = 360, 1280
AXE = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations"],
}


@contextlib.contextmanager
def chromium(directory: Path, network: Path | None = None) -> Iterator[Browser]:
    """Run one, in the network namespace `network`. `directory` is for what it needs on disk."""
    program = PROGRAM
    if network is not None:
        wrapper = directory / "chromium"
        wrapper.write_text(f'#!/bin/sh\nexec nsenter --net={network} {PROGRAM} "$@"\n')
        wrapper.chmod(0o755)
        program = str(wrapper)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page of the browser and all that it complained of, or fetched from elsewhere."""

    def __init__(self, browser: Browser, width: int = WIDE, **settings: Any) -> None:
        self.page: Page = browser.new_page(viewport={"width": width, "height": 800}, **settings)
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("console", lambda said: self.complaints.append(f"{said.type}: {said.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("request", lambda asked: self.hosts.add(asked.url.split("/")[2]))

    def width(self) -> int:
        """How wide the page is laid out."""
        return int(self.page.evaluate("document.documentElement.scrollWidth"))

    def barriers(self) -> list[str]:
        """What keeps somebody out, as axe-core finds it: each rule and where it is broken."""
        found = Axe().run(self.page, options=AXE).response["violations"]
        return [f"{rule['id']}: {node['html'][:160]}" for rule in found for node in rule["nodes"]]
