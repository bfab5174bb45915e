"""The picture of `failoverctl top`, as large as the terminal.

lab   term 7   primary mail1, lease 2.4 s left   store arbiter, version 4711   seen from mail2
no answer for 12 s: ...                                             only where it is so; the rest is dimmed then

NODE     ROLE     SERVES  ...                                       never cut
Failover  possible, to mail2                                        what does not fit is cut from the end on
!  mail3  smtp down  ...
TIME                 CHANGE  ...
3 lines not shown   q quit   p hold   ? keys                        the last line
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from failoverd.ctl import printed, table
from failoverd.ctl.answers import answers, columns
from failoverd.ctl.durations import duration

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table

    from failoverd.runtime.document import StatusDocument
    from failoverd.runtime.document_history import Change

    Line = list[Segment]

CHANGES = 8  # the newest changes of primary
KEYS = (
    ("q, Ctrl-C", "end"),
    ("p", "hold the picture; again: go on"),
    ("?", "these keys; again: the cluster"),
)


class Picture:
    """What was seen last, drawn. One thread draws; those that look set whole values only."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._began = time.monotonic()
        self._seen: tuple[float, StatusDocument] | None = None
        self._missed: tuple[float, str] | None = None  # since when, and why
        self._held: tuple[float, StatusDocument] | None = None
        self._helping = False
        self.changes: tuple[Change, ...] = ()

    def saw(self, document: StatusDocument) -> None:
        """The daemon has answered."""
        self._seen, self._missed = (time.monotonic(), document), None

    def missed(self, why: str) -> None:
        """It has not."""
        since = self._missed[0] if self._missed else self._seen[0] if self._seen else self._began
        self._missed = (since, why)

    def key(self, key: str) -> None:
        """A key that does not end it."""
        if key in {"p", "P"}:
            self._held = None if self._held else self._seen
        elif key in {"?", "h", "H"}:
            self._helping = not self._helping
        elif key == "\x1b":
            self._helping = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """All lines of the terminal."""
        height = options.height or console.height
        plain = "utf" not in (console.encoding or "").lower()
        for index, line in enumerate(self._lines(console, options.update(height=None), height)):
            if index:
                yield Segment.line()
            for segment in line:
                yield Segment(printed.ascii_of(segment.text), segment.style) if plain else segment

    def _lines(self, console: Console, options: ConsoleOptions, height: int) -> list[Line]:
        def lines(part: RenderableType) -> list[Line]:
            return console.render_lines(part, options, pad=False)

        shown = self._held or self._seen
        head = lines(self._head(shown))
        if self._helping:
            body = [[], *lines(_keys())]
            kept = 0
        elif shown is None:
            body, kept = [], 0
        else:
            document = _aged(*shown) if self._held is None else shown[1]
            nodes = lines(table.nodes(console, document))
            body = [[], *nodes]
            kept = len(body)
            for part in self._parts(document):
                body += [[], *lines(part)]
            if self._missed is not None and self._held is None:
                body = [list(Segment.apply_style(line, post_style=Style(dim=True))) for line in body]
        room = max(height - len(head) - 1, kept)
        cut = len(body) - room
        if cut > 0:
            body = body[:room]
        whole = head + body
        whole += [[] for _ in range(height - 1 - len(whole))]
        foot = lines(_foot(max(cut, 0)))
        return (whole + foot[:1])[:height]

    def _head(self, shown: tuple[float, StatusDocument] | None) -> Text:
        now = time.monotonic()
        parts = []
        if shown is not None:
            parts.append(table.header(_aged(*shown) if self._held is None else shown[1]))
        elif self._missed is None:
            parts.append(Text(f"asking {self._socket}", "dim"))
        if self._held is not None:
            parts.append(Text(f"HELD for {duration(int((now - self._held[0]) * 1000))}: p goes on", "bold yellow"))
        if self._missed is not None:
            since, why = self._missed
            parts.append(Text(f"no answer for {duration(int((now - since) * 1000))}: {why}", "bold red"))
        return Text("\n").join(parts)

    def _parts(self, document: StatusDocument) -> Iterable[RenderableType]:
        yield answers(document)
        told = table.untoward(document)
        if told is not None:
            yield told
        if self.changes:
            yield _changes(self.changes[:CHANGES])


def _aged(seen: float, document: StatusDocument) -> StatusDocument:
    """The document, so much later: the lease runs down, and what was heard has become older."""
    age_ms = int((time.monotonic() - seen) * 1000)
    lease, left_ms = document.lease, document.lease.left_ms
    if left_ms is not None:
        lease = replace(lease, left_ms=max(left_ms - age_ms, 0))
    nodes = tuple(
        node if node.last_heard_ms is None or node.name == document.node
        else replace(node, last_heard_ms=node.last_heard_ms + age_ms)
        for node in document.nodes
    )  # fmt: skip
    return replace(document, lease=lease, nodes=nodes)


def _changes(changes: Iterable[Change]) -> Table:
    grid = columns()
    for change in changes:
        outage = "" if change.kind == "adoption" else f"{printed.seconds(change.outage_ms)} without a primary"
        moved = f"{change.previous or '-'} → {change.holder or '-'}"
        head = (printed.local(change.began), change.id, change.kind, moved, change.outcome, outage, change.reason)
        grid.add_row(*(Text(word, "dim" if index == 0 else "") for index, word in enumerate(head)))
    return grid


def _keys() -> Table:
    grid = columns()
    for key, words in KEYS:
        grid.add_row(Text(key, "bold"), Text(words))
    return grid


def _foot(cut: int) -> Text:
    left = f"{cut} line{'s' if cut > 1 else ''} not shown   " if cut else ""
    return Text.assemble((left, "yellow"), ("q quit   p hold   ? keys", "dim"))
