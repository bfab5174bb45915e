"""The runbooks as pages of HTML: what a finding means is read where it is seen, on a phone, without a checkout.

    /runbooks/              runbooks/README.md
    /runbooks/codes/CODE    runbooks/codes/CODE.md        /runbooks/rules/ID    runbooks/rules/ID.md
    /runbooks/NAME          runbooks/NAME.md

Only names that were there when this was made are answered, so that no path leads out of the directory. A page is made
at its first asking, in a thread (all of them take a tenth of a second), and kept. Links between pages lead to pages
here; headings have the ids that GitHub gives them, for the links that name one.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

    from markdown_it.token import Token

README = "README"
_TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · failoverd runbooks</title>
<link rel="icon" href="{root}icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="{root}page.css">
</head>
<body class="runbook">
<a class="skip" href="#main">Skip to content</a>
<header class="top"><nav aria-label="Pages">
<a href="{root}">Status</a> <a href="{root}runbooks/"{current}>All runbooks</a>
</nav></header>
<main id="main" tabindex="-1">
<article>
{body}</article>
</main>
</body>
</html>
"""


class Runbooks:
    """The pages below `root`, by their names without `.md`."""

    def __init__(self, root: Traversable) -> None:
        self._files = dict(_pages(root, ""))
        self._made: dict[str, str] = {}
        # No HTML of a page's own: what a page quotes stays what it is, whoever wrote it.
        self._markdown = MarkdownIt("commonmark", {"html": False}).enable("table")

    def names(self) -> list[str]:
        """Every page's name, such as `codes/BLK_LAG`."""
        return sorted(self._files)

    def page(self, name: str) -> tuple[bool, str]:
        """The page, or one that says that there is none, and which of the two it is."""
        name = name or README
        if name not in self._files:
            return False, self._missing(name)
        if name not in self._made:
            self._made[name] = self._make(name)
        return True, self._made[name]

    def _make(self, name: str) -> str:
        tokens = self._markdown.parse(self._files[name].read_text(encoding="utf-8"))
        _finish(tokens)
        title = next((_plain(tokens[at + 1]) for at, token in enumerate(tokens) if token.type == "heading_open"), name)
        return _framed(name, title, self._markdown.renderer.render(tokens, self._markdown.options, {}))

    @staticmethod
    def _missing(name: str) -> str:
        said = html.escape(name)
        body = f"<h1>No such page</h1>\n<p>There is no runbook <code>{said}</code> in this version of failoverd.</p>\n"
        return _framed(name, "No such page", body)


def _pages(directory: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in directory.iterdir():
        if entry.is_dir():
            yield from _pages(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".md"):
            yield prefix + entry.name.removesuffix(".md"), entry


def _framed(name: str, title: str, body: str) -> str:
    # Links are relative, so that a proxy may serve the node below any path.
    root = "../" * (name.count("/") + 1)
    current = ' aria-current="page"' if name == README else ""
    return _TEMPLATE.format(title=html.escape(title), root=root, current=current, body=body)


def _finish(tokens: list[Token]) -> None:
    """Give headings their ids, links their pages and table heads their scope."""
    for at, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet("id", re.sub(r"[^\w -]", "", _plain(tokens[at + 1]).lower()).replace(" ", "-"))
        elif token.type == "th_open" and tokens[at + 1].content:
            token.attrSet("scope", "col")
        elif token.type == "th_open":
            token.tag = tokens[at + 2].tag = "td"  # a corner without a word is no head
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("href", _link(str(child.attrGet("href"))))


def _plain(inline: Token) -> str:
    """A heading's words, as they are read."""
    return "".join(child.content for child in inline.children or () if child.type in {"text", "code_inline"})


def _link(target: str) -> str:
    """Where a link of a page leads here, as relative as it was: `../README.md#x` to `../#x`, `X.md` to `X`."""
    path, mark, anchor = target.partition("#")
    if not path or "://" in path or not path.endswith(".md"):
        return target
    path = path.removesuffix(".md")
    if path == README or path.endswith(f"/{README}"):
        path = path.removesuffix(README) or "./"
    return path + mark + anchor
