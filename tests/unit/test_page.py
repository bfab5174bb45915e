"""The status page as it is served: its parts, what a browser may do with them, and the runbooks behind every code."""

from __future__ import annotations

import asyncio
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import test_runbooks
from starlette.applications import Starlette

from failoverd.runtime import page
from failoverd.runtime.page.runbooks import Runbooks

if TYPE_CHECKING:
    from typing import Any

SOURCES = Path(page.__file__).parent
SHOWN: Any = None  # the page's routes show no daemon: the page asks for its documents
APP = Starlette(routes=page.routes(SHOWN))
RUNBOOKS = Runbooks(test_runbooks.RUNBOOKS)
EMPTY = {"meta", "link", "hr", "br", "img"}


def get(path: str, scheme: str = "http", **headers: str) -> httpx.Response:
    async def asked() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(APP), base_url=f"{scheme}://node") as client:
            return await client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return asyncio.run(asked())


class Document(HTMLParser):
    """What a page consists of: where its links lead, its ids, its text, and that every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: D102 - the parser's own
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:  # noqa: D102 - likewise
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:  # noqa: D102 - likewise
        self.words.append(data)

    def all(self, tag: str, attribute: str) -> list[str]:
        """Give the attribute of every such element that has it."""
        return [str(found[attribute]) for name, found in self.tags if name == tag and attribute in found]

    @property
    def ids(self) -> set[str | None]:
        """Where a link within the page can lead."""
        return {found["id"] for _, found in self.tags if "id" in found}


def resolved(link: str, base: str) -> httpx.URL:
    return httpx.URL(f"http://node{base}").join(link)


# ---- the page and its parts


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/runbooks/codes/BLK_LAG", "text/html; charset=utf-8"),
    ],
)
def test_a_part_has_its_type_its_policy_and_its_tag(path: str, media_type: str) -> None:
    answer = get(path)
    assert answer.status_code == httpx.codes.OK
    assert answer.headers["content-type"] == media_type
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src", "img-src")} == {"'self'"}
    assert {policy[name] for name in ("base-uri", "form-action", "frame-ancestors", "trusted-types")} == {"'none'"}
    assert policy["require-trusted-types-for"] == "'script'"
    known = get(path, if_none_match=f'"other", W/{answer.headers["etag"]}')
    assert (known.status_code, known.content) == (httpx.codes.NOT_MODIFIED, b"")
    assert known.headers["content-security-policy"] == answer.headers["content-security-policy"]
    assert get(path, if_none_match='"other"').content == answer.content


def test_a_browser_is_told_over_tls_alone_what_it_heeds_there_alone() -> None:
    for path in ("/", "/page.js", "/runbooks/", "/runbooks/codes/NO_SUCH"):
        assert get(path, "https").headers["cross-origin-opener-policy"] == "same-origin"
        assert "cross-origin-opener-policy" not in get(path).headers  # it would complain in each reader's console


def test_every_file_of_the_page_is_served_and_nothing_else_of_the_package() -> None:
    for file in SOURCES.iterdir():
        served = file.suffix in {".css", ".js", ".svg"}
        assert (get(f"/{file.name}").status_code == httpx.codes.OK) is served, file.name


def test_all_that_the_page_is_made_of_comes_from_the_node_itself() -> None:
    document = Document(get("/").text)
    wanted = [*document.all("link", "href"), *document.all("script", "src"), *document.all("img", "src")]
    scripts = {name for name in wanted if name.endswith(".js")}
    for name in sorted(file.name for file in SOURCES.glob("*.js")):
        scripts |= set(re.findall(r'from "\./([^"]+)"', (SOURCES / name).read_text(encoding="utf-8")))
    assert scripts == {file.name for file in SOURCES.glob("*.js")}
    for name in {*wanted, *scripts}:
        assert re.fullmatch(r"[a-z]+\.(js|css|svg)", name), f"{name} is not of the page"
        assert get(f"/{name}").status_code == httpx.codes.OK
    assert "url(" not in (SOURCES / "page.css").read_text(encoding="utf-8")
    assert not [tag for tag, found in document.tags if "style" in found or any(name.startswith("on") for name in found)]


def test_the_page_has_its_landmarks_and_one_place_that_is_read_aloud() -> None:
    document = Document(get("/").text)
    tags = [tag for tag, _ in document.tags]
    for landmark in ("header", "main", "footer", "h1"):
        assert tags.count(landmark) == 1
    assert set(document.all("section", "aria-labelledby")) <= document.ids
    assert document.all("p", "aria-live") == ["polite"]
    assert document.all("html", "lang") == ["en"]


# ---- the runbooks


def test_there_is_a_page_for_every_code_and_every_rule() -> None:
    codes, rules = test_runbooks.CODES, test_runbooks.RULE_IDS
    assert {f"codes/{code}" for code in codes} | {f"rules/{rule}" for rule in rules} <= set(RUNBOOKS.names())
    for path, name in [*(("codes", code) for code in codes), *(("rules", rule) for rule in rules)]:
        answer = get(f"/runbooks/{path}/{name}")
        assert answer.status_code == httpx.codes.OK, name
        document = Document(answer.text)
        (title,) = document.all("title", "missing") or [answer.text.split("<title>")[1].split("</title>")[0]]
        assert title.startswith(f"{name}: ")
        assert [tag for tag, _ in document.tags].count("h1") == 1
        assert "What to do" in document.words


@pytest.mark.parametrize("name", ["", *RUNBOOKS.names()])
def test_every_link_of_a_runbook_leads_somewhere(name: str) -> None:
    base = f"/runbooks/{name}"
    document = Document(get(base).text)
    for link in [*document.all("a", "href"), *document.all("link", "href")]:
        there = resolved(link, base)
        assert there.host == "node", link
        answer = get(there.path)
        assert answer.status_code == httpx.codes.OK, link
        assert not there.fragment or there.fragment in Document(answer.text).ids, link


def test_tables_of_a_runbook_say_what_their_heads_are_for() -> None:
    document = Document(get("/runbooks/").text)
    heads = [found for tag, found in document.tags if tag == "th"]
    assert heads
    assert all(found.get("scope") == "col" for found in heads)


@pytest.mark.parametrize(
    "path",
    [
        "/runbooks/codes/NO_SUCH",
        "/runbooks/../pyproject.toml",
        "/runbooks/codes/../../../../etc/passwd",
        "/runbooks/codes/%2e%2e/%2e%2e/__init__",
        "/runbooks/codes/BLK_LAG.md",
        "/runbooks/codes",
        "/runbooks/<script>alert(1)</script>",
    ],
)
def test_what_is_no_runbook_is_not_found_and_never_markup(path: str) -> None:
    answer = get(path)
    assert answer.status_code == httpx.codes.NOT_FOUND
    assert "<script>" not in answer.text
    assert "root:" not in answer.text


def test_html_in_a_runbook_is_shown_and_not_made(tmp_path: Path) -> None:
    hostile = "[go](javascript:alert(1)) <img src=x onerror=alert(1)>"
    text = f"# X: <b>bold</b> & more\n\n<script>alert(1)</script>\n\n{hostile}\n"
    (tmp_path / "X.md").write_text(text, encoding="utf-8")
    found, made = Runbooks(tmp_path).page("X")
    assert found
    document = Document(made)
    tags = {tag for tag, _ in document.tags}
    assert not tags & {"script", "img", "b"}
    assert not [link for link in document.all("a", "href") if "javascript" in link]
    words = "".join(document.words)
    assert "<script>alert(1)</script>" in words
    assert "X: <b>bold</b> & more" in words
