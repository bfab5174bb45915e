"""Who tells what, once: the book of what has been told, which all nodes share, and the rules that keep it.

Every node sees the same alerts, and one of them tells. **The book** has for each alert a *level*: 0 never told, odd is
open, even is resolved; firing and resolving each add one, so that episode n is the levels 2n-1 and 2n. For an event the
level is its number. Beside it stands, for each receiver, the level that it has been *told*. Both only grow, and two
books are merged by taking the higher of each: nodes may exchange them in any order, late, or twice, and come to the
same. A message is named by (cluster, key, level), nothing else.

**The speaker** is the first node, in one fixed order, of those that a node hears and that can tell (`Voice`). Only it
adds to levels, and only it sends.

    look ── settled ──> decide: level + 1, on this disk together with the messages in its queue
                              ──> shown to every node that is heard, for a second at most
                                    ──> sent until it is taken ──> told = level, shown at the next exchange

Why one firing and one resolve come of it:
- *A restart, a crash.* Level and messages reach the disk in one transaction: neither is there without the other. What
  was sent and not noted as told is sent again under the same name, which a receiver can drop.
- *Another speaker.* It has merged the books of all that it hears before it says its first word, and the former one
  has confirmed that it is silent with nothing in flight. So it finds every level that was shown, and adds nothing to
  what stands there. A level that was decided and not told is told by the new speaker under the same name: at once if
  the former one has fallen silent by its own word, after `TAKEN_UP_MS` if it is not heard, since a daemon that is only
  being restarted sends it by itself.
- *A partition.* Both sides have a speaker, and both may tell the same: under one name, since both count from the same
  level. Healed, the higher level holds on both sides: an alert that both have open is open once, and whoever speaks
  then resolves it once. Where one side has resolved what still stands, it fires once more, as the next episode.
- *Nothing is lost*: a level stands in the book until each receiver has been told of it or of a later one, whatever
  becomes of the node that decided it. Only who is gone before it has shown its book to anybody takes it with it; then
  the alert still stands, and the next speaker decides the same.

What remains: a speaker that dies for good right after a receiver has taken a message, and before it could note and show
that, is repeated after `TAKEN_UP_MS` under the same name. No protocol can do better without the receiver's help.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from failoverd.core.alerts import Alert, Happened
from failoverd.core.findings import Severity

TAKEN_UP_MS = 10_000  # how long what a silent node has decided is left to it
CLAIM_MS = 10_000  # a speaker waits so long for those before it to confirm their silence
YIELD_MS = 3_000  # who was told that an earlier node speaks is silent for so long: three of its exchanges
# Whether these are gone is seen from here, and not asked of the node that they name.
SEEN_FROM_HERE = frozenset({"BLK_UNREACHABLE", "BLK_STORE"})

Told = Mapping[tuple[str, str], int]  # (key, receiver) -> level


class Kind(Enum):
    """What a message says."""

    FIRING = "firing"
    RESOLVED = "resolved"
    REPEAT = "repeat"  # it is still open
    EVENT = "event"  # it has happened, and nothing resolves it
    HEARTBEAT = "heartbeat"
    TEST = "test"


class Voice(Enum):
    """What a node is in the telling. MUTE: it cannot tell, and is passed over."""

    MUTE = "mute"
    SILENT = "silent"
    CLAIMING = "claiming"  # first in the order, and not sure yet that the others are silent
    SPEAKING = "speaking"


@dataclass(frozen=True, slots=True)
class Entry:
    """What the book says of one key. Wall-clock times, since they are told: `told_ms` is of the newest repeat.

    `by`: the node that decided this level.
    """

    level: int
    alert: Alert
    by: str
    since_ms: int
    until_ms: int = 0
    told_ms: int = 0
    repeats: int = 0
    event: bool = False

    @property
    def open(self) -> bool:
        """It fired and has not been resolved."""
        return not self.event and self.level % 2 == 1

    @property
    def rank(self) -> tuple[int, int, str]:
        """Which of two entries of one key holds; the name only so that it is the same one everywhere."""
        return self.level, self.repeats, self.by


@dataclass(frozen=True, slots=True)
class Message:
    """One thing to send. `id` names it for the receiver, whoever sends it, however often."""

    id: str
    kind: Kind
    key: str
    level: int
    alert: Alert
    since_ms: int
    until_ms: int = 0


@dataclass(frozen=True, slots=True)
class Book:
    """What is decided, and what each receiver was told of it."""

    entries: Mapping[str, Entry]
    told: Told

    def merged(self, entries: Mapping[str, Entry], told: Told) -> Book:
        """Take over what is newer in another book. `self` itself where nothing is."""
        newer = {k: e for k, e in entries.items() if k not in self.entries or e.rank > self.entries[k].rank}
        later = {k: level for k, level in told.items() if level > self.told.get(k, 0)}
        return Book({**self.entries, **newer}, {**self.told, **later}) if newer or later else self

    def changed(self, key: str, entry: Entry) -> Book:
        """The same with another entry."""
        return Book({**self.entries, key: entry}, self.told)

    def told_of(self, key: str, receiver: str, level: int) -> Book:
        """The same, where `receiver` has been told of `level`."""
        return self.merged({}, {(key, receiver): level})

    @property
    def open(self) -> dict[str, Entry]:
        """What stands open, by key."""
        return {key: entry for key, entry in self.entries.items() if entry.open}


EMPTY = Book({}, {})


@dataclass(frozen=True, slots=True)
class Standing:
    """Since when a key has been standing, or gone, by this node's clock."""

    stands: bool
    since_ms: int


Standings = Mapping[str, Standing]


def watched(
    before: Standings, stands: Mapping[str, Alert], book: Book, unknown: Collection[str], now_ms: int
) -> Standings:
    """How long each key has been as it is. What is not known of a node counts as it was, and its time does not run."""
    after: dict[str, Standing] = {}
    for key in {*stands, *book.open, *before}:
        seen, former = key in stands, before.get(key)
        code, _, node = key.partition("/")
        if not seen and node in unknown and code not in SEEN_FROM_HERE:
            after[key] = Standing(former.stands if former else True, now_ms)
        elif former is not None and former.stands == seen:
            after[key] = former
        elif seen or key in book.open:
            after[key] = Standing(seen, now_ms)
    return {key: one for key, one in after.items() if one.stands or key in book.open}


@dataclass(frozen=True, slots=True)
class Receiving:
    """What the telling has to know of a receiver. `repeats`: it wants to be reminded; Alertmanager does that itself."""

    name: str
    least: Severity
    repeats: bool = True

    def wants(self, alert: Alert) -> bool:
        """It is severe enough."""
        return self.least is Severity.WARNS or alert.severity is Severity.BLOCKS


Sent = tuple[tuple[str, Message], ...]  # (receiver, message), in the order in which they are queued


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says. `repeat_ms` None: never."""

    cluster: str
    me: str
    receivers: tuple[Receiving, ...]
    settle_ms: int
    repeat_ms: int | None


def decide(
    rules: Rules,
    book: Book,
    stands: Mapping[str, Alert],
    standings: Standings,
    happened: Iterable[Happened],
    *,
    free: Collection[str],
    now_ms: int,
    wall_ms: int,
) -> tuple[Book, Sent]:
    """Work out what is told now, and the book after it. The speaker's alone.

    What another node may still be telling (`free`: who is not) is waited for: or a resolve could overtake its firing.
    """
    sent: list[tuple[str, Message]] = []
    for key, one in sorted(standings.items()):
        entry = book.entries.get(key)
        if entry is not None and entry.by not in free and not _is_told(rules, book, key, entry):
            continue
        settled = now_ms - one.since_ms >= rules.settle_ms
        if one.stands and key in stands and not (entry and entry.open) and (settled or stands[key].at_once):
            level = entry.level + 1 if entry else 1
            entry = Entry(level, stands[key], rules.me, since_ms=wall_ms, told_ms=wall_ms)
        elif not one.stands and entry is not None and entry.open and settled:
            entry = replace(entry, level=entry.level + 1, by=rules.me, until_ms=wall_ms, repeats=0)
        elif entry is not None and entry.open and _is_due(rules, entry, wall_ms):
            entry = replace(entry, repeats=entry.repeats + 1, told_ms=wall_ms, by=rules.me)
        else:
            continue
        book = book.changed(key, entry)
        sent += _to_all(rules, key, entry, _kind(entry))
    for event in happened:
        key, entry = event.alert.key, book.entries.get(event.alert.key)
        if entry is not None and entry.level >= event.number:
            continue
        fresh = Entry(event.number, event.alert, rules.me, since_ms=wall_ms, told_ms=wall_ms, event=True)
        book = book.changed(key, fresh)
        if entry is None and event.alert.code == "PRIMARY_CHANGED":
            # The first look of all: what happened before there was a book is no news.
            for receiver in rules.receivers:
                book = book.told_of(key, receiver.name, event.number)
            continue
        sent += _to_all(rules, key, fresh, Kind.EVENT)
    return book, tuple(sent)


def _is_told(rules: Rules, book: Book, key: str, entry: Entry) -> bool:
    """Every receiver that wants to know of it has been told."""
    wanting = (receiver.name for receiver in rules.receivers if receiver.wants(entry.alert))
    return all(book.told.get((key, name), 0) >= entry.level for name in wanting)


def _is_due(rules: Rules, entry: Entry, wall_ms: int) -> bool:
    return rules.repeat_ms is not None and wall_ms - entry.told_ms >= rules.repeat_ms


def _kind(entry: Entry) -> Kind:
    if entry.event:
        return Kind.EVENT
    if not entry.open:
        return Kind.RESOLVED
    return Kind.REPEAT if entry.repeats else Kind.FIRING


def _to_all(rules: Rules, key: str, entry: Entry, kind: Kind) -> Iterable[tuple[str, Message]]:
    for receiver in rules.receivers:
        if receiver.wants(entry.alert) and (receiver.repeats or kind is not Kind.REPEAT):
            yield receiver.name, message(rules.cluster, key, entry, kind, entry.level)


def message(cluster: str, key: str, entry: Entry, kind: Kind, level: int) -> Message:
    """Make the message of one level of an entry; the firing of an episode that is over has no end yet."""
    repeat = f"/{entry.repeats}" if kind is Kind.REPEAT else ""
    until_ms = entry.until_ms if kind is Kind.RESOLVED else 0
    return Message(f"{cluster}/{key}/{level}{repeat}", kind, key, level, entry.alert, entry.since_ms, until_ms)


def left_behind(rules: Rules, book: Book, queued: Collection[tuple[str, str, int]], free: Collection[str]) -> Sent:
    """What others have decided and not told, and this node has to send in their place.

    `queued`: (receiver, key, level) that this node has in its own queue. `free`: nodes that tell nothing any more.
    """
    sent = []
    for key, entry in sorted(book.entries.items()):
        if entry.by not in free:
            continue
        for receiver in rules.receivers:
            told = book.told.get((key, receiver.name), 0)
            if told >= entry.level or not receiver.wants(entry.alert):
                continue
            first = entry.level if entry.event or entry.open or told == entry.level - 1 else entry.level - 1
            for level in range(first, entry.level + 1):
                if (receiver.name, key, level) in queued:
                    continue
                kind = Kind.EVENT if entry.event else Kind.FIRING if level % 2 else Kind.RESOLVED
                sent.append((receiver.name, message(rules.cluster, key, entry, kind, level)))
    return tuple(sent)


# ---- a queue that is full ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Queued:
    """A message in one receiver's queue; numbers grow."""

    number: int
    kind: Kind
    key: str
    level: int


def excess(queue: Iterable[Queued], limit: int) -> tuple[int, ...]:
    """Which messages of one receiver's queue go, so that it holds `limit`: the oldest repeats, then the oldest pairs.

    A pair is two neighbouring levels of one alert, both untold: a firing with its resolve, or a resolve with the next
    firing. Without it the receiver knows the alert as it did before, and that is how it is. A lone message always
    stays: there is at most one of each alert, so that the queue is bounded all the same.
    """
    left = {one.number: one for one in sorted(queue, key=lambda one: one.number)}
    gone: list[int] = []
    for one in tuple(left.values()):
        if len(left) > limit and one.kind in {Kind.REPEAT, Kind.HEARTBEAT}:
            gone.append(one.number)
            del left[one.number]
    for one in tuple(left.values()):
        if len(left) <= limit or one.number not in left or one.kind not in {Kind.FIRING, Kind.RESOLVED}:
            continue
        other = next((o for o in left.values() if o.key == one.key and o.level == one.level + 1), None)
        if other is not None and other.kind in {Kind.FIRING, Kind.RESOLVED}:
            gone += [one.number, other.number]
            del left[one.number], left[other.number]
    return tuple(gone)
