"""report.html in a real Chromium, from a file: readable at every width, for everybody, on paper; it asks nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from chromium import NARROW, WIDE, Watched, chromium
from drill_stage import reports

from failoverd.drill.report.page import page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser
NAMES = ("passed", "failed", "aborted", "hostile")
ONLY_FILES = {""}  # what file:///… has where a host would be


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("reports")
    for name, report in reports().items():
        (directory / f"{name}.html").write_text(page(report), encoding="utf-8")
    return directory


@pytest.mark.parametrize(("width", "scheme"), [(NARROW, "dark"), (WIDE, "light")])
@pytest.mark.parametrize("name", NAMES)
def test_nobody_is_kept_out_and_nothing_is_asked_for(
    browser: Browser, files: Path, name: str, width: int, scheme: str
) -> None:
    watched = Watched(browser, width, color_scheme=scheme)
    watched.page.goto((files / f"{name}.html").as_uri())
    for details in watched.page.locator("summary").all():
        details.click()
    assert watched.width() <= width
    assert watched.barriers() == []
    assert watched.complaints == []
    assert watched.hosts - {"image"} <= ONLY_FILES
    assert "owned" not in watched.page.title().partition("document.title")[0]
    watched.page.close()


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_letters_of_charts_keep_their_size_and_stay_inside(browser: Browser, files: Path, width: int) -> None:
    watched = Watched(browser, width)
    watched.page.goto((files / "passed.html").as_uri())
    places = watched.page.evaluate(
        """[...document.querySelectorAll(".chart text")].map((text) => {
          const box = text.getBoundingClientRect();
          return [text.textContent, box.left, box.right, parseFloat(getComputedStyle(text).fontSize)];
        })"""
    )
    assert len(places) > 40
    for words, left, right, size in places:
        assert left >= 0, words
        assert right <= width, words
        assert size >= 12, words
    watched.page.close()


def test_the_outage_is_drawn_where_it_was(browser: Browser, files: Path) -> None:
    watched = Watched(browser)
    watched.page.goto((files / "passed.html").as_uri())
    bars = watched.page.evaluate(
        """[...document.querySelectorAll("[aria-labelledby^=timeline] .outage")].map((bar) => {
          const box = bar.getBoundingClientRect(), whole = bar.ownerSVGElement.getBoundingClientRect();
          return box.width;
        })"""
    )
    assert bars[1] / bars[0] == pytest.approx(2_920 / 2_720, rel=0.01)
    watched.page.close()


def test_it_is_black_on_white_on_paper_whatever_the_screens_scheme(browser: Browser, files: Path) -> None:
    watched = Watched(browser, color_scheme="dark")
    watched.page.goto((files / "passed.html").as_uri())
    watched.page.emulate_media(media="print")
    colours = watched.page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert colours == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    assert watched.page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    watched.page.close()
