"""One node's part in the telling: the rules of core/telling.py applied to what is on its disk. No I/O but the shelf's.

Who owns it says what it sees (`tell`), hands it what other nodes say (`learn`), and sends what `next` gives. Times are
arguments, so that a model of several nodes runs it as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from failoverd.core import telling
from failoverd.core.alerts import Alert  # noqa: TC001 - pydantic reads the annotation
from failoverd.core.telling import Entry, Kind, Message, Queued, Voice  # `Entry`: pydantic reads the annotation

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from failoverd.core.alerts import Happened
    from failoverd.core.telling import Book, Rules, Sent

DEAF_MS = 15_000  # a node that is heard and answers no exchange for so long is passed over


@dataclass(frozen=True, slots=True)
class Row:
    """A message in the queue on disk. Numbers grow; `queued_ms` is of the wall clock."""

    number: int
    receiver: str
    message: Message
    queued_ms: int


class Shelf(Protocol):
    """Book and queue on this node's disk. Each call is one transaction: all of it, or nothing and an exception."""

    @property
    def book(self) -> Book:
        """As it is on disk."""
        ...

    @property
    def rows(self) -> Sequence[Row]:
        """The queue, oldest first."""
        ...

    def keep(
        self, book: Book, add: Sent = (), *, drop: Collection[int] = (), wall_ms: int = 0, dropped: int = 0
    ) -> None:
        """Replace the book, add messages, take others out; `dropped` are counted as left out."""
        ...


@dataclass(frozen=True, slots=True)
class Hello:
    """What nodes tell each other: who they are in the telling, and their book, where the other one lacks it."""

    sender: str
    voice: Voice
    busy: bool  # something is on its way to a receiver
    digest: str  # of the sender's book
    own: tuple[Alert, ...] = ()  # what it finds of itself and no other node can see
    entries: dict[str, Entry] | None = None
    told: list[tuple[str, str, int]] | None = None


@dataclass(slots=True)
class _Peer:
    """What is known of another node. Times are of this node's clock."""

    since_ms: int  # heard without a break, or not heard without a break
    heard: bool = False
    answered_ms: int = -DEAF_MS
    voice: Voice = Voice.SILENT
    confirmed: bool = False  # silent by its own word, after it was told that this node speaks
    digest: str = ""
    own: tuple[Alert, ...] = ()


@dataclass(slots=True)
class Teller:
    """See the module. `order`: all nodes, in the order in which they speak."""

    rules: Rules
    order: tuple[str, ...]
    shelf: Shelf
    limit: int
    now_ms: int
    voice: Voice = Voice.SILENT
    released: int = 0  # rows up to this one have been shown to the others
    looked: bool = False
    own: tuple[Alert, ...] = ()  # see Hello
    _standings: telling.Standings = field(default_factory=dict)
    _peers: dict[str, _Peer] = field(default_factory=dict)
    _claim_ms: int | None = None
    _yield_until_ms: int = 0
    _flying: set[str] = field(default_factory=set)
    _aside: dict[tuple[str, str], int] = field(default_factory=dict)  # (receiver, key) -> level that was refused

    def __post_init__(self) -> None:
        self._peers = {name: _Peer(self.now_ms) for name in self.order if name != self.rules.me}

    # ---- between nodes ------------------------------------------------------------------------------------------

    def hello(self, digest: str, to: str) -> Hello:
        """What to say to `to` now; with the book, unless it has the same."""
        book = self.shelf.book
        same = self._peers[to].digest == digest
        return Hello(
            sender=self.rules.me,
            voice=self.voice,
            busy=bool(self._flying),
            digest=digest,
            own=self.own,
            entries=None if same else dict(book.entries),
            told=None if same else [(key, receiver, level) for (key, receiver), level in book.told.items()],
        )

    def learn(self, hello: Hello, now_ms: int, *, asked_as: Voice | None = None, wall_ms: int = 0) -> bool:
        """Take in what another node says. `asked_as`: it is the answer to a hello that said this. True: it had news."""
        peer = self._peers.get(hello.sender)
        if peer is None:
            return False
        peer.voice, peer.digest, peer.answered_ms, peer.own = hello.voice, hello.digest, now_ms, hello.own
        speaks = hello.voice in {Voice.CLAIMING, Voice.SPEAKING}
        if speaks or hello.busy:
            peer.confirmed = False
        elif asked_as in {Voice.CLAIMING, Voice.SPEAKING}:
            peer.confirmed = True
        if speaks and self.order.index(hello.sender) < self.order.index(self.rules.me):
            self._yield_until_ms = now_ms + telling.YIELD_MS
            self._be_silent()
        told = {(key, receiver): level for key, receiver, level in hello.told or ()}
        merged = self.shelf.book.merged(hello.entries or {}, told)
        if merged is self.shelf.book:
            return False
        self.shelf.keep(merged, drop=[row.number for row in self.shelf.rows if _is_over(merged, row)], wall_ms=wall_ms)
        return True

    def deaf(self, name: str) -> None:
        """A node has said that it cannot tell: it has no receivers, or another version."""
        self._peers[name].voice = Voice.MUTE

    def _be_silent(self) -> None:
        self.voice, self._claim_ms = Voice.SILENT, None
        for peer in self._peers.values():
            peer.confirmed = False

    def _listen(self, heard: Collection[str], now_ms: int) -> None:
        """Who is heard now, and what that makes of this node."""
        for name, peer in self._peers.items():
            if (name in heard) != peer.heard:
                peer.heard, peer.since_ms = name in heard, now_ms
                peer.confirmed = False
        others = [name for name, peer in self._peers.items() if peer.heard and not self._is_deaf(peer, now_ms)]
        first = next(name for name in self.order if name == self.rules.me or name in others)
        if first != self.rules.me or now_ms < self._yield_until_ms:
            self._be_silent()
            return
        if all(self._peers[name].confirmed for name in others):
            self.voice, self._claim_ms = Voice.SPEAKING, None
            return
        if self._claim_ms is None:
            self._claim_ms = now_ms
        late = now_ms - self._claim_ms >= telling.CLAIM_MS  # told twice is better than not at all
        self.voice = Voice.SPEAKING if late else Voice.CLAIMING

    @property
    def speaker(self) -> str | None:
        """Who tells, as far as this node knows."""
        if self.voice in {Voice.SPEAKING, Voice.CLAIMING}:
            return self.rules.me
        speaking = (name for name, peer in self._peers.items() if peer.heard and peer.voice is Voice.SPEAKING)
        return next(speaking, None)

    @staticmethod
    def _is_deaf(peer: _Peer, now_ms: int) -> bool:
        silent_ms = now_ms - max(peer.since_ms, peer.answered_ms)
        return peer.voice is Voice.MUTE or silent_ms >= DEAF_MS

    @property
    def of_others(self) -> tuple[Alert, ...]:
        """What the other nodes that are heard find of themselves."""
        return tuple(alert for peer in self._peers.values() if peer.heard for alert in peer.own)

    # ---- what is told -------------------------------------------------------------------------------------------

    def tell(
        self,
        stands: Mapping[str, Alert],
        happened: Iterable[Happened],
        *,
        heard: Collection[str],
        unknown: Collection[str],
        now_ms: int,
        wall_ms: int,
    ) -> bool:
        """Look: what stands and has happened, who is heard. True: something new is in the queue, to be shown first."""
        self._standings = telling.watched(self._standings, stands, self.shelf.book, unknown, now_ms)
        self._listen(heard, now_ms)
        self.looked = True
        if self.voice is not Voice.SPEAKING:
            return False
        before, free = self.shelf.book, self._free(now_ms)
        queued = {(row.receiver, row.message.key, row.message.level) for row in self.shelf.rows}
        queued |= {(r, key, level - back) for (r, key), level in self._aside.items() for back in (0, 1)}
        late = telling.left_behind(self.rules, before, queued, free)
        book, new = telling.decide(
            self.rules, before, stands, self._standings, happened, free=free, now_ms=now_ms, wall_ms=wall_ms
        )
        sent = (*late, *(one for one in new if not self._put_aside(*one)))
        if book is before and not sent:
            return False
        self.shelf.keep(book, sent, drop=self._replaced(sent), wall_ms=wall_ms)
        self._bound(wall_ms)
        return True

    def _put_aside(self, receiver: str, message: Message) -> bool:
        """Whether a resolve has to wait with its firing, which the receiver has refused: it would stand alone."""
        alone = message.kind is Kind.RESOLVED and self._aside.get((receiver, message.key)) == message.level - 1
        if alone:
            self._aside[receiver, message.key] = message.level
        return alone

    def say(self, receiver: str, message: Message, wall_ms: int) -> None:
        """Queue something that is no alert: a heartbeat, a test."""
        sent = ((receiver, message),)
        self.shelf.keep(self.shelf.book, sent, drop=self._replaced(sent), wall_ms=wall_ms)

    def _free(self, now_ms: int) -> set[str]:
        """Whose undelivered messages are this node's to send: its own, and those of who is silent or long gone."""
        free = {self.rules.me}
        for name, peer in self._peers.items():
            gone = not peer.heard and now_ms - peer.since_ms >= telling.TAKEN_UP_MS
            if gone or peer.confirmed or (peer.heard and self._is_deaf(peer, now_ms)):
                free.add(name)
        return free

    def _replaced(self, sent: Sent) -> list[int]:
        """Older repeats and heartbeats of the same in the queue: the newer one says it."""
        newer = {(to, m.kind, m.key) for to, m in sent if m.kind in {Kind.REPEAT, Kind.HEARTBEAT}}
        return [row.number for row in self.shelf.rows if (row.receiver, row.message.kind, row.message.key) in newer]

    def _bound(self, wall_ms: int) -> None:
        """Leave out what the limit does not allow; what is left out counts as told, so that nobody sends it instead."""
        for receiver in self.rules.receivers:
            rows = {row.number: row.message for row in self.shelf.rows if row.receiver == receiver.name}
            gone = telling.excess([Queued(n, m.kind, m.key, m.level) for n, m in rows.items()], self.limit)
            if not gone:
                continue
            book = self.shelf.book
            for number in gone:
                if rows[number].kind in {Kind.FIRING, Kind.RESOLVED}:
                    book = book.told_of(rows[number].key, receiver.name, rows[number].level)
            self.shelf.keep(book, drop=gone, wall_ms=wall_ms, dropped=len(gone))

    # ---- sending ------------------------------------------------------------------------------------------------

    @property
    def newest(self) -> int:
        """The number of the newest row."""
        return max((row.number for row in self.shelf.rows), default=0)

    def shown(self, number: int) -> None:
        """All up to this row has been shown to every node that is heard, or they had their time."""
        self.released = max(self.released, number)

    def next(self, receiver: str) -> Row | None:
        """What to send to `receiver` now. Only the speaker sends; a test, any node, and before all else."""
        rows = [row for row in self.shelf.rows if row.receiver == receiver]
        first = next((row for row in rows if row.message.kind is Kind.TEST), None)
        if first is None and self.voice is Voice.SPEAKING:
            first = next((row for row in rows if row.number <= self.released), None)
        return first

    def may_send(self, row: Row) -> bool:
        """Whether it still is to be sent: it is there, and this node's to send."""
        kept = any(other.number == row.number for other in self.shelf.rows)
        return kept and (row.message.kind is Kind.TEST or self.voice is Voice.SPEAKING)

    def begin(self, row: Row) -> None:
        """It is on its way."""
        if row.message.kind is not Kind.TEST:
            self._flying.add(row.receiver)

    def end(self, row: Row) -> None:
        """It is on its way no more."""
        self._flying.discard(row.receiver)

    def taken(self, row: Row, wall_ms: int) -> None:
        """The receiver has it."""
        book, message = self.shelf.book, row.message
        if message.kind in {Kind.FIRING, Kind.RESOLVED, Kind.EVENT}:
            book = book.told_of(message.key, row.receiver, message.level)
        self.shelf.keep(book, drop=[row.number], wall_ms=wall_ms)
        if self._aside:  # it takes messages again: what it refused is offered once more
            self._aside = {key: level for key, level in self._aside.items() if key[0] != row.receiver}

    def refused(self, row: Row, wall_ms: int, *, for_good: bool) -> None:
        """The receiver does not want it. `for_good`: this one; else any, until it takes one or this node restarts."""
        message, book = row.message, self.shelf.book
        if message.kind in {Kind.FIRING, Kind.RESOLVED, Kind.EVENT}:
            if for_good:
                book = book.told_of(message.key, row.receiver, message.level)
            else:
                self._aside[row.receiver, message.key] = message.level
        self.shelf.keep(book, drop=[row.number], wall_ms=wall_ms)


def _is_over(book: Book, row: Row) -> bool:
    """Another node has sent it, or something newer of the same."""
    message = row.message
    if message.kind in {Kind.HEARTBEAT, Kind.TEST}:
        return False
    if message.kind is Kind.REPEAT:
        entry = book.entries.get(message.key)
        return entry is None or entry.level != message.level
    return book.told.get((message.key, row.receiver), 0) >= message.level
