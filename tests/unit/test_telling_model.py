"""Several nodes, one receiver, and all that can go wrong between them, by seed: each thing is told once.

The nodes are `Teller`s as they are in the daemon; time, network, disks, crashes and the receiver are the model's. A
step is half a second. What is counted is what the receiver took, with repeats.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from failoverd.core import telling
from failoverd.core.alerts import Alert
from failoverd.core.findings import Severity
from failoverd.core.telling import EMPTY, Book, Receiving, Rules, Voice
from failoverd.notify.teller import Row, Teller

if TYPE_CHECKING:
    from collections.abc import Collection

    from failoverd.core.telling import Entry, Sent

ORDER = ("arbiter", "mail1", "mail2", "mail3")
STEP_MS = 500
SETTLE_MS = 2_000
KEYS = ("LAG_WARN/mail1", "BLK_STORE/-", "SET_DOMAIN/mail3")
ALERTS = {key: Alert(*key.replace("/-", "/").split("/"), Severity.WARNS, "why") for key in KEYS}
CALM_STEPS = 120  # a minute: more than all waits together


class CrashedError(Exception):
    """The node's process ended."""


class MemoryShelf:
    """What is on one node's disk. `crash`: the next transaction is cut off, before (False) or after it (True)."""

    def __init__(self) -> None:
        self.book: Book = EMPTY
        self.rows: list[Row] = []
        self.crash: bool | None = None
        self._last = 0

    def keep(
        self, book: Book, add: Sent = (), *, drop: Collection[int] = (), wall_ms: int = 0, dropped: int = 0
    ) -> None:
        """See Shelf."""
        crash, self.crash = self.crash, None
        if crash is False:
            raise CrashedError
        self.book = book
        self.rows = [row for row in self.rows if row.number not in drop]
        for receiver, message in add:
            self._last += 1
            self.rows.append(Row(self._last, receiver, message, wall_ms))
        assert dropped == 0
        if crash is True:
            raise CrashedError


@dataclass
class Node:
    """One node: its disk, and the process on it while there is one."""

    name: str
    shelf: MemoryShelf = field(default_factory=MemoryShelf)
    teller: Teller | None = None
    flying: tuple[Row, int] | None = None  # what is on its way, and for how many more steps


class Model:
    """The cluster. `heard(a, b)`: a hears b."""

    def __init__(self, seed: int, *, lost: float = 0.0) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - a model's dice
        self.lost = lost
        self.now = 0
        self.nodes = {name: Node(name) for name in ORDER}
        self.sides = dict.fromkeys(ORDER, 0)
        self.one_way: set[tuple[str, str]] = set()  # (a, b): the reports of b do not reach a, requests do
        self.standing: set[str] = set()
        self.received: list[tuple[int, str, str]] = []  # (step's time, sender, id)
        self.receiver_answers = True
        self.receiver_up = True
        for node in self.nodes.values():
            self.start(node)

    def start(self, node: Node) -> None:
        """Start a process on what is on the node's disk."""
        rules = Rules("lab", node.name, (Receiving("oncall", Severity.WARNS),), SETTLE_MS, None)
        node.teller = Teller(rules, ORDER, node.shelf, limit=1000, now_ms=self.now)

    def stop(self, node: Node) -> None:
        """End the node's process, whatever it is doing."""
        node.teller, node.flying = None, None

    def start_all(self) -> None:
        """Start whoever has no process, and let no disk cut anything off."""
        for node in self.nodes.values():
            node.shelf.crash = None
            if node.teller is None:
                self.start(node)

    def heal(self) -> None:
        """End all troubles."""
        self.sides, self.receiver_answers, self.receiver_up = dict.fromkeys(ORDER, 0), True, True
        self.lost = 0.0
        self.start_all()

    def heard(self, by: str) -> set[str]:
        """Whose reports reach a node."""
        return {name for name in self.reached(by) if (by, name) not in self.one_way}

    def reached(self, by: str) -> set[str]:
        """With whom a node can exchange."""
        return {
            name
            for name, node in self.nodes.items()
            if name != by and node.teller is not None and self.sides[name] == self.sides[by]
        }

    def step(self) -> None:
        """Half a second: each node in turn, in any order."""
        self.now += STEP_MS
        for name in self.chance.sample(ORDER, len(ORDER)):
            node = self.nodes[name]
            try:
                self._act(node)
            except CrashedError:
                self.stop(node)

    def _act(self, node: Node) -> None:
        teller = node.teller
        if teller is None:
            return
        if self.now % 2000 == 0 or teller.voice is not Voice.SILENT or not teller.looked:
            self._exchange(node)
        stands = {key: ALERTS[key] for key in self.standing}
        heard = self.heard(node.name)
        if teller.tell(stands, (), heard=heard, unknown=(), now_ms=self.now, wall_ms=self.now):
            self._exchange(node)
        self._send(node, teller)

    def _exchange(self, node: Node) -> None:
        assert node.teller is not None
        newest = node.teller.newest
        for name in sorted(self.reached(node.name)):
            other = self.nodes[name].teller
            if other is None or self.chance.random() < self.lost:
                continue
            asked_as = node.teller.voice
            asking = node.teller.hello(str(hash_of(node.shelf.book)), name)
            try:
                other.learn(asking, self.now)
            except CrashedError:
                self.stop(self.nodes[name])
                continue
            answer = other.hello(str(hash_of(other.shelf.book)), node.name)
            if self.chance.random() >= self.lost:
                node.teller.learn(answer, self.now, asked_as=asked_as)
        node.teller.shown(newest)

    def _send(self, node: Node, teller: Teller) -> None:
        if node.flying is not None:
            row, left = node.flying
            if left > 0:
                node.flying = row, left - 1
                return
            node.flying = None
            teller.end(row)
            if self.receiver_up:
                self.received.append((self.now, node.name, row.message.id))
                if self.receiver_answers:
                    teller.taken(row, self.now)
                    self._exchange(node)
        row_now = teller.next("oncall")
        if row_now is not None:
            teller.begin(row_now)
            node.flying = row_now, self.chance.randrange(4)

    def run(self, steps: int) -> None:
        """Let time pass."""
        for _ in range(steps):
            self.step()

    def toggle(self) -> None:
        """Let one thing come or go."""
        self.standing ^= {self.chance.choice(KEYS)}

    # ---- what came of it ----------------------------------------------------------------------------------------

    def counts(self, since: int = 0) -> Counter[str]:
        """How often each message was received."""
        return Counter(name for at, _, name in self.received if at > since)

    def levels(self, key: str) -> list[int]:
        """The levels of a key in the order in which the receiver first had each."""
        names = dict.fromkeys(name for _, _, name in self.received if name.startswith(f"lab/{key}/"))
        return [int(name.rpartition("/")[2]) for name in names]

    def judge(self) -> None:
        """Once all is well again and quiet: the receiver knows what stands, and nobody has anything left to say.

        By the highest level: what two sides of a partition said came in any order.
        """
        for key in KEYS:
            assert max(self.levels(key), default=0) % 2 == (key in self.standing), (key, self.levels(key))
        books = {hash_of(node.shelf.book) for node in self.nodes.values()}
        assert len(books) == 1
        assert not any(node.shelf.rows for node in self.nodes.values())
        assert [n.name for n in self.nodes.values() if n.teller and n.teller.voice is Voice.SPEAKING] == ["arbiter"]


def hash_of(book: Book) -> int:
    entries = sorted((key, entry.level) for key, entry in book.entries.items())
    return hash((tuple(entries), tuple(sorted(book.told.items()))))


def test_each_alert_is_told_once_and_resolved_once() -> None:
    model = Model(1)
    model.run(20)
    for _ in range(2):
        model.standing = set(KEYS)
        model.run(30)
        model.standing = set()
        model.run(30)
    assert {key: model.levels(key) for key in KEYS} == {key: [1, 2, 3, 4] for key in KEYS}
    assert set(model.counts().values()) == {1}
    assert {sender for _, sender, _ in model.received} == {"arbiter"}
    model.judge()


def test_what_stands_for_a_moment_only_is_not_told() -> None:
    model = Model(1)
    model.run(20)
    for _ in range(10):
        model.toggle()
        model.run(2)
        model.standing = set()
        model.run(1)
    assert model.received == []


@pytest.mark.parametrize("seed", range(25))
def test_daemons_that_crash_and_are_started_again_tell_nothing_twice(seed: int) -> None:
    """Any node's process ends at any transaction or between, one at a time, and is back within seconds.

    Not while something is on its way: what was taken and not noted is sent once more, see the next test.
    """
    model = Model(seed)
    model.run(20)
    for _ in range(40):
        model.toggle()
        model.run(model.chance.randrange(1, 12))
        node = model.nodes[model.chance.choice(ORDER)]
        if node.teller is None or node.flying is not None:
            continue
        if model.chance.random() < 0.5:
            model.stop(node)
        elif not node.shelf.rows:
            node.shelf.crash = model.chance.random() < 0.5
        model.run(model.chance.randrange(1, 12))
        model.start_all()
    model.run(CALM_STEPS)
    assert set(model.counts().values()) <= {1}
    for key in KEYS:
        assert model.levels(key) == list(range(1, len(model.levels(key)) + 1))
    model.judge()


@pytest.mark.parametrize("seed", range(25))
def test_what_was_on_its_way_at_a_crash_comes_twice_at_most_and_in_its_order(seed: int) -> None:
    """One network; any process may end while a message is on its way, and be away for any time."""
    model = Model(seed)
    model.run(20)
    crashes = 0
    for _ in range(40):
        model.toggle()
        model.run(model.chance.randrange(1, 12))
        node = model.nodes[model.chance.choice(ORDER)]
        if node.teller is not None and model.chance.random() < 0.5:
            crashes += 1
            if model.chance.random() < 0.5:
                model.stop(node)
            else:
                node.shelf.crash = model.chance.random() < 0.5
        model.run(model.chance.randrange(1, 60))
        if model.chance.random() < 0.5:
            model.start_all()
    model.heal()
    model.run(CALM_STEPS)
    model.judge()
    for key in KEYS:
        raw = [int(name.rpartition("/")[2]) for _, _, name in model.received if name.startswith(f"lab/{key}/")]
        assert raw == sorted(raw), "a resolve that overtakes its firing leaves the receiver with an alert for ever"
        assert set(raw) == set(range(1, max(raw, default=0) + 1)), "none is missing"
    assert len(model.received) - len(model.counts()) <= crashes


@pytest.mark.parametrize("seed", range(25))
def test_whatever_happens_nothing_is_lost_and_a_repeat_has_its_former_name(seed: int) -> None:
    """Partitions, crashes at any moment, lost answers of nodes and of the receiver, a receiver that is away."""
    model = Model(seed, lost=0.2)
    model.run(20)
    for _ in range(40):
        trouble = model.chance.randrange(6)
        node = model.nodes[model.chance.choice(ORDER)]
        if trouble == 0:
            model.sides = {name: model.chance.randrange(2) for name in ORDER}
        elif trouble == 1:
            model.stop(node)
        elif trouble == 2:
            node.shelf.crash = model.chance.random() < 0.5
        elif trouble == 3:
            model.receiver_answers = not model.receiver_answers
        elif trouble == 4:
            model.receiver_up = not model.receiver_up
        else:
            model.start_all()
        model.toggle()
        model.run(model.chance.randrange(1, 60))
    model.heal()
    model.run(CALM_STEPS)
    model.judge()
    healed = model.now
    model.standing ^= set(KEYS)
    model.run(CALM_STEPS)
    model.judge()
    assert sorted(model.counts(healed).values()) == [1] * len(KEYS), "whatever was before: told once, resolved once"


@pytest.mark.parametrize("seed", range(15))
def test_after_a_partition_each_open_alert_is_resolved_once(seed: int) -> None:
    model = Model(seed)
    model.run(20)
    cut = model.chance.randrange(1, 4)
    names = model.chance.sample(ORDER, len(ORDER))
    model.sides = {name: int(index < cut) for index, name in enumerate(names)}
    model.run(4)
    model.standing = set(KEYS)
    model.run(40)
    assert {len(set(names)) for names in (model.counts(),)} == {3}, "both sides use the same names"
    assert set(model.counts().values()) == {2}, "both sides tell: they cannot know of each other"
    model.sides = dict.fromkeys(ORDER, 0)
    model.run(model.chance.randrange(8))
    model.standing = set()
    model.run(CALM_STEPS)
    assert model.counts() == {f"lab/{key}/{level}": 2 - (level == 2) for key in KEYS for level in (1, 2)}
    model.judge()


@pytest.mark.parametrize("seed", range(10))
def test_who_does_not_hear_the_speaker_learns_of_it_by_the_exchange(seed: int) -> None:
    model = Model(seed)
    model.one_way = {("mail1", "arbiter"), ("mail2", "arbiter")}
    model.run(20)
    for _ in range(20):
        model.toggle()
        model.run(model.chance.randrange(1, 12))
    model.run(CALM_STEPS)
    assert set(model.counts().values()) == {1}
    model.judge()


@pytest.mark.parametrize("seed", range(10))
def test_what_a_node_has_decided_and_not_sent_is_sent_by_another_when_it_is_gone_for_good(seed: int) -> None:
    model = Model(seed)
    model.run(20)
    model.receiver_up = False
    model.standing = set(KEYS)
    model.run(model.chance.randrange(8, 30))
    model.stop(model.nodes["arbiter"])
    model.receiver_up = True
    model.run(CALM_STEPS)
    assert model.counts() == {f"lab/{key}/1": 1 for key in KEYS}
    model.start(model.nodes["arbiter"])
    model.run(CALM_STEPS)
    model.standing = set()
    model.run(CALM_STEPS)
    assert set(model.counts().values()) == {1}
    model.judge()


# ---- what the model must find -----------------------------------------------------------------------------------


def without_confirmation(self: Teller, heard: Collection[str], now_ms: int) -> None:
    """A speaker that does not wait for the former one's silence."""
    for name, peer in self._peers.items():
        peer.confirmed = peer.confirmed or name in heard
    LISTEN(self, heard, now_ms)
    self.voice = Voice.SPEAKING if self.voice is Voice.CLAIMING else self.voice


def without_told(self: Book, entries: dict[str, Entry], told: dict[tuple[str, str], int]) -> Book:
    """Books that are merged without what receivers were told, but for this node's own notes of one."""
    return MERGED(self, entries, told if len(told) == 1 else {})


LISTEN, MERGED = Teller._listen, Book.merged
PLANTED = {
    "speaks unconfirmed": (
        (Teller, "_listen", without_confirmation),
        test_daemons_that_crash_and_are_started_again_tell_nothing_twice,
    ),
    "overtakes": (
        (telling, "_is_told", lambda *_: True),
        test_what_was_on_its_way_at_a_crash_comes_twice_at_most_and_in_its_order,
    ),
    "never takes up": (
        (telling, "TAKEN_UP_MS", 10**9),
        test_what_a_node_has_decided_and_not_sent_is_sent_by_another_when_it_is_gone_for_good,
    ),
    "forgets who was told": (
        (Book, "merged", without_told),
        test_whatever_happens_nothing_is_lost_and_a_repeat_has_its_former_name,
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (where, attribute, wrong), story = PLANTED[name]
    monkeypatch.setattr(where, attribute, wrong)

    def told() -> None:
        for seed in range(40):
            story(seed)

    with pytest.raises(AssertionError):
        told()
