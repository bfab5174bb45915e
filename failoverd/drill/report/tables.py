"""Tables of report.html, which become one card a row where there is no room, and stay tables for a screen reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.drill.report.element import Markup, h

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    Cell: TypeAlias = "Markup | str | int"

SIGNS = {"good": "✓", "warn": "!", "bad": "✕", "off": "\N{EN DASH}", "unknown": "?"}


def badge(kind: str, words: str) -> Markup:
    """A state as a sign, a word and a colour."""
    sign = h("span", SIGNS[kind], of={"class": "sign", "aria-hidden": "true"})
    return h("span", sign, words, of={"class": f"badge {kind}"})


def table(caption: str, titles: Sequence[str], rows: Sequence[Sequence[Cell]], *, kind: str) -> Markup:
    """The first cell of a row is its head. A column without a title is a picture of what the others say."""
    # The roles are for browsers that take them away where a table is laid out otherwise.
    head = h("tr", [_title(title) for title in titles], of={"role": "row"})
    body = [h("tr", _row(titles, row), of={"role": "row"}) for row in rows]
    return h(
        "table",
        h("caption", caption, of={"class": "unseen"}),
        h("thead", head, of={"role": "rowgroup"}),
        h("tbody", body, of={"role": "rowgroup"}),
        of={"role": "table", "class": f"cards {kind}"},
    )


def _title(title: str) -> Markup:
    if not title:
        return h("td", of={"aria-hidden": "true", "class": "bar"})
    return h("th", title, of={"scope": "col", "role": "columnheader"})


def _row(titles: Sequence[str], row: Sequence[Cell]) -> list[Markup]:
    first, *others = row
    cells = [h("th", first, of={"scope": "row", "role": "rowheader"})]
    for title, cell in zip(titles[1:], others, strict=True):
        own = {"role": "cell", "data-label": title} if title else {"aria-hidden": "true", "class": "bar"}
        cells.append(h("td", cell, of=own))
    return cells
