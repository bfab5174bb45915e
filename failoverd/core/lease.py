"""The lease in six rules (design.md), as functions of numbers.

    holder     sent ──────────── ttl - margin ───────────> deadline: gone
    candidate     first seen ─────────────── ttl ───────────────────> over, and only if its swap on that version wins

    store away
      holder   round sent ──── ttl - margin ────> deadline, once *every* other data node has promised that round
      promiser        promised ──────── ttl ────────────────> before that no takeover of its own

Rule 1 is `granted`, rule 2 `still_held`, rule 3 `Watch` and `over_from_ms`, rule 4 `Promise` and `prolonged`, rule 5
`View.may_promise`, rule 6 `acceptable`. A request for a promise is a report that asks, so that a round is named by
that report's process and number, and its time of sending is known to whoever sent it (health.Sendings).
"""

from __future__ import annotations

from dataclasses import dataclass

from failoverd.core.model import Heard, NodeName, Record, Rejoin


@dataclass(frozen=True, slots=True)
class Held:
    """This node's own lease. `version` is the store's version that its next swap must name."""

    term: int
    version: int
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Watch:
    """A renewal counter of a term and when this node *first* saw it, by its own clock."""

    term: int
    counter: int
    first_seen_ms: int


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A takeover whose answer has not come: the version it names, the term it asks for, when it was *first* sent.

    It may come to pass as long as that version stands, whatever was sent after it; and if it did, the lease counts
    from the first sending, since nobody knows which one arrived. A record of another term says nothing of it, least
    of all one of this node's own, ended term. `term` is 0 where nothing is to be had from it.
    """

    version: int
    term: int
    sent_ms: int


@dataclass(frozen=True, slots=True)
class Promise:
    """This node's word to the holder of `term`: no takeover before `until_ms`. `heard` is the request it answers.

    It need not outlive the daemon: one that has just started counts a whole ttl from its first read.
    """

    term: int
    heard: Heard
    until_ms: int
    floor_ms: int = 0  # when the holder counted the floor that goes with it (bounded.py); 0: it has none

    def bound_until_ms(self, record: Record) -> int:
        """Until when it forbids a takeover of this record's term; 0 when it is of another."""
        return self.until_ms if self.term == record.term else 0


@dataclass(frozen=True, slots=True)
class Memory:
    """What a node keeps on its own disk: without it, one that starts anew could contradict itself.

    `term` is the highest it has seen (rule 6). `holder` and `ttl_ms` are that term's, where known: a node that starts
    while the store is away knows whom it may promise to. `takeover` is the version that an unanswered takeover of its
    own names (rule 5): a request may outlive the process, and the boot, that sent it. `caught_up` is the run of its
    database that last had all that the node may have acknowledged (positions.catches_up): a daemon that is restarted
    while there is no primary could not prove that again. `let_go` is how many commits its database had let go without a
    replica in this term, as far as the store was told, `unproven` and `marks` the newest that the record said of that
    (unproven.py): an old copy of the store must not hide it. `rejoin`: its database is being made anew, from before
    that begins until it is done: while its server is stopped nothing else would say so. `rejoin_failures` and
    `rejoin_failed_ms`: how many of those failed in a row, and when the last did (rejoin.failed_before). `floor_ms`: a
    floor of this term that was counted earlier is none any more (bounded.py). `moves` is how often the record went to
    another store, and `moved_to` the place that it went to (migration.py): an old copy of the store that was left must
    not be believed.
    """

    term: int = 0
    holder: NodeName | None = None
    ttl_ms: int = 0
    takeover: int | None = None
    caught_up: str = ""
    let_go: int = 0
    unproven: str = ""
    marks: int = 0
    rejoin: Rejoin | None = None
    rejoin_failures: int = 0
    rejoin_failed_ms: int = 0
    floor_ms: int = 0
    moves: int = 0
    moved_to: str = ""


NO_MEMORY = Memory()


def unanswered(memory: Memory) -> Unanswered | None:
    """The takeover of an earlier run of this node's daemon. What came of it is that run's, and no lease any more."""
    return None if memory.takeover is None else Unanswered(memory.takeover, term=0, sent_ms=0)


def granted(record: Record, sent_ms: int, margin_ms: int) -> Held:
    """Rule 1: a swap that succeeded counts from before it was sent, an answer that did not come for nothing."""
    return Held(record.term, record.version, sent_ms + record.ttl_ms - margin_ms)


def still_held(held: Held | None, now_ms: int) -> Held | None:
    """Rule 2: a holder whose deadline has passed is no holder, whatever a later answer says."""
    return held if held is not None and now_ms < held.deadline_ms else None


def watched(watch: Watch | None, record: Record, now_ms: int) -> Watch:
    """Rule 3: the clock of the wait starts anew with each renewal, not with other changes of the record."""
    if watch is not None and (watch.term, watch.counter) == (record.term, record.counter):
        return watch
    return Watch(record.term, record.counter, now_ms)


def over_from_ms(record: Record, watch: Watch, promise: Promise | None) -> int:
    """Rule 3: at once (0) when given back or without power, or after the same counter was seen for a whole ttl.

    A promise of one's own prolongs it. The swap on this version has the last word.
    """
    if record.holder is None or record.revoked or record.off:
        return 0
    counted_ms = watch.first_seen_ms + record.ttl_ms
    return counted_ms if promise is None else max(counted_ms, promise.bound_until_ms(record))


def prolonged(held: Held, round_sent_ms: int, ttl_ms: int, margin_ms: int) -> Held:
    """Rule 4: every other data node promised a round; it counts from before that was sent."""
    return Held(held.term, held.version, max(held.deadline_ms, round_sent_ms + ttl_ms - margin_ms))


def acceptable(record: Record, highest_term: int, moves: int) -> bool:
    """Rule 6: a lower term than one ever seen, or fewer moves, come from an old copy of the store."""
    return record.term >= highest_term and record.moves >= moves
