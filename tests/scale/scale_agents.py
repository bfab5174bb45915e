"""A simulated cluster: the four nodes' clients of the store, by the lease's own rules, and nothing else of a node.

    primary    one transaction a renewal interval, by a timer; its lease counts from before it was sent (lease.granted)
    all four   a watch each; where it tells nothing, the daemon asks after a renewal and 150 ms, the store after 1 s
    candidate  the same renewal counter for a whole ttl since it was first seen (lease.over_from_ms), then its swap

Of real candidates only the best asks for the term; here both do, which is harder on the store.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from scale_link import Link
from scale_wire import Exchange, Wire

from failoverd import wire
from failoverd.core import lease
from failoverd.core.gtid import GtidSet
from failoverd.core.model import NodeName, Record
from failoverd.runtime.daemon import STORE_PAUSE_MS, STORE_SILENT_MS
from failoverd.stores import etcd_requests as etcd
from failoverd.stores.etcd import AGAIN_S, SILENT_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NODES = 4  # three data nodes and the arbiter
DATA_NODES = 3
AUTHENTICATE_MS = 30_000
OK = 200
_WHY = "primary-lost-by-quorum: a majority of observers cannot use it and its lease has run out"


def now_ms() -> int:
    """One clock for all: they are on one machine."""
    return time.monotonic_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Timing:
    """The policy's numbers, ms."""

    ttl_ms: int = 3000
    renew_ms: int = 500
    margin_ms: int = 300


@dataclass(slots=True)
class Counts:
    """What happened since the last look. Latencies in ms."""

    sent: int = 0
    renewed: list[float] = field(default_factory=list)
    timeouts: int = 0
    lost: int = 0
    reads: int = 0
    events: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    taken: list[tuple[int, float, float]] = field(default_factory=list)  # cluster, ms since the last renewal, and fault
    overlaps: int = 0
    ready: int = 0
    watching: int = 0
    watched_again: int = 0

    def error(self, why: str) -> None:
        """Count it by its words."""
        self.errors[why] = self.errors.get(why, 0) + 1


@dataclass(slots=True)
class World:
    """What all clusters of one process share."""

    wire: Wire
    members: Sequence[tuple[str, int]]
    timing: Timing
    prefix: str
    password: str
    counts: Counts = field(default_factory=Counts)


class Cluster:
    """What is true of a cluster, as nobody in it can know; the agents tell it, to be measured by."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.name = f"c{number:05}"
        self.key = etcd.key_of(world.prefix, self.name, "record")
        self.agents = [Agent(self, place) for place in range(NODES)]
        self.deadline_ms = 0  # the newest that anybody may believe in
        self.holder: Agent | None = None
        self.renewed_ms = self.failed_ms = 0

    def start(self) -> None:
        """Begin with the first primary; the others follow when there is a record."""
        self.agents[self.number % DATA_NODES].start()

    def held_by(self, agent: Agent, sent_ms: int, deadline_ms: int) -> None:
        """Somebody was granted a term, or more of it. No two at once: that would be worth more than any figure."""
        if self.holder is not agent:
            if self.holder is not None:
                if now_ms() < self.deadline_ms:
                    self.world.counts.overlaps += 1
                now = now_ms()
                self.world.counts.taken.append((self.number, now - self.renewed_ms, now - self.failed_ms))
            else:
                for other in self.agents:
                    if other is not agent:
                        other.start()
                self.world.counts.ready += 1
            self.holder = agent
        self.renewed_ms = max(self.renewed_ms, sent_ms)
        self.deadline_ms = max(self.deadline_ms, deadline_ms)

    def fail(self) -> None:
        """Its primary falls silent, whoever that is."""
        if self.holder is not None:
            self.failed_ms = now_ms()
            self.holder.fallen = True

    def heal(self) -> None:
        """Who had fallen is a node again, and knows nothing."""
        for agent in self.agents:
            if agent.fallen:
                agent.rise()


class Agent:
    """One node's client of the store."""

    def __init__(self, cluster: Cluster, place: int) -> None:
        self.fallen = False
        self._cluster, self._place = cluster, place
        self._world = world = cluster.world
        self._name = NodeName(f"mail{place + 1}" if place < DATA_NODES else "arbiter")
        turn = place % len(world.members)
        self._link = Link(world.wire, (*world.members[turn:], *world.members[:turn]), self._error)
        self._watching = Exchange(world.wire, world.members[turn], self)
        self._line = b""
        self._text = b""  # the value as the newest event had it, in base64
        self._value: bytes | None = None
        self._record = Record()
        self._seen_ms = self._heard_ms = self._told_ms = 0  # a new counter; the store; the watch
        self._held: lease.Held | None = None
        self._begun = self._counting = self._renewing = self._swapping = self._overdue = False
        self._not_before_ms = 0

    # ---- etcd ------------------------------------------------------------------------------------------------------

    def _ask(self, path: str, body: bytes, then: Callable[[int, bytes], None], within_ms: int = 0) -> None:
        self._link.ask(path, body, within_ms or self._world.timing.renew_ms, then)

    def _error(self, why: str) -> None:
        self._world.counts.error(why)

    def _later(self, in_ms: int, call: Callable[[], None]) -> None:
        self._world.wire.at(time.monotonic() + in_ms / 1000, call)

    def _refused(self, what: str, status: int, body: bytes) -> bool:
        """Whether it was no answer, or etcd's no. What is asked next waits a little."""
        if status == OK:
            return False
        counts = self._world.counts
        if status:
            counts.error(f"{what}: {status} {etcd.error_of(body)}")
        else:
            counts.timeouts += 1
        self._not_before_ms = now_ms() + self._world.timing.renew_ms // 2
        return True

    # ---- to begin ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Say who one is, read, watch."""
        body = etcd.authenticate(self._cluster.name, self._world.password)
        self._ask(etcd.AUTHENTICATE, body, self._known, AUTHENTICATE_MS)

    def rise(self) -> None:
        """Be a node again, one that has just started."""
        self.fallen = False
        self._held, self._value, self._text = None, None, b""
        self._read(self._begin)

    def _known(self, status: int, body: bytes) -> None:
        if self._refused("authenticate", status, body):
            self._later(STORE_PAUSE_MS, self.start)
            return
        self._link.token = etcd.token_of(body).encode()
        self._read(self._begin)

    def _read(self, then: Callable[[int, bytes], None]) -> None:
        self._ask(etcd.RANGE, etcd.read(self._cluster.key), then)

    def _begin(self, status: int, body: bytes) -> None:
        if self._refused("read", status, body):
            self._later(STORE_PAUSE_MS, partial(self._read, self._begin))
            return
        said = etcd.said(body)
        if said.found:
            self._see(said.found[0].value)
        self._heard_ms = self._told_ms = now_ms()
        if not self._begun:
            self._begun = True
            self._later(self._silent_ms // 2, self._look)
            self._later(SILENT_MS, self._ask_about_watch)
            self._watch(said.revision)
        if self._place < DATA_NODES and not self._counting:
            if said.found:
                self._counting = True
                self._count()
            elif self._cluster.number % DATA_NODES == self._place:
                self._take(Record())

    # ---- the watch ---------------------------------------------------------------------------------------------

    @property
    def _silent_ms(self) -> int:
        return self._world.timing.renew_ms + STORE_SILENT_MS

    def _watch(self, revision: int) -> None:
        self._line = b""
        self._watching.abort()
        self._watching.where = self._link.in_order()[0]
        self._watching.ask(etcd.WATCH.encode(), etcd.watch(self._cluster.key, revision + 1), self._link.token)

    def piece(self, exchange: Exchange, data: bytes) -> None:  # noqa: ARG002 - there is only one
        """See scale_wire.Listener: the watch says something."""
        lines = (self._line + data).split(b"\n")
        self._line = lines.pop()
        for line in lines:
            self._told(line)

    def answered(self, exchange: Exchange, status: int) -> None:
        """See scale_wire.Listener."""
        self.broken(exchange, f"the watch ended with {status}")

    def broken(self, exchange: Exchange, why: str) -> None:
        """See scale_wire.Listener."""
        self._world.counts.error(why)
        self._link.avoid(exchange.where)
        self._watching.abort()
        self._watch_later()

    def _watch_later(self) -> None:
        self._later(int(AGAIN_S * 1000), partial(self._read, self._watch_again))

    def _watch_again(self, status: int, body: bytes) -> None:
        """As the store does: read, and watch from there."""
        if self._refused("read", status, body):
            self._later(STORE_PAUSE_MS, partial(self._read, self._watch_again))
            return
        self._looked(status, body)
        self._told_ms = now_ms()
        self._world.counts.watched_again += 1
        self._watch(etcd.said(body).revision)

    def _told(self, line: bytes) -> None:
        # What nearly every line is, without taking it apart: 8 000 a second of them are not what is to be measured.
        begin = line.rfind(b'"value":"')
        if begin < 0 or b'"events":' not in line:
            watched = etcd.watched(line)
            if watched.ended:
                self.broken(self._watching, f"watch: {watched.ended}")
            elif not watched.put:
                self._world.counts.watching += 1
            return
        if self.fallen:
            return
        self._world.counts.events += 1
        text = line[begin + 9 : line.index(b'"', begin + 9)]
        self._heard_ms = self._told_ms = now_ms()
        if text != self._text:  # here every write is a renewal or a takeover: another counter, or another term
            self._text, self._seen_ms = text, self._heard_ms

    def _look(self) -> None:
        """Ask about a store that tells nothing, as the daemon does."""
        self._later(self._silent_ms // 2, self._look)
        if now_ms() - self._heard_ms >= self._silent_ms and not self.fallen:
            self._world.counts.reads += 1
            self._read(self._looked)

    def _ask_about_watch(self) -> None:
        """Ask about a watch that tells nothing, as the store does; one that is behind is made anew elsewhere."""
        silent_ms = now_ms() - self._told_ms
        self._later(SILENT_MS - silent_ms if silent_ms < SILENT_MS else SILENT_MS, self._ask_about_watch)
        if silent_ms >= SILENT_MS and not self.fallen and self._watching.busy:
            self._told_ms = now_ms()
            self._world.counts.reads += 1
            self._read(partial(self._asked_about_watch, self._text))

    def _asked_about_watch(self, before: bytes, status: int, body: bytes) -> None:
        behind = not self._looked(status, body) or self._text != before
        if behind and self._watching.busy:
            self._link.avoid(self._watching.where)
            self._watching.abort()
            self._watch_later()

    def _looked(self, status: int, body: bytes) -> bool:
        if self.fallen or self._refused("read", status, body):
            return False
        said = etcd.said(body)
        self._heard_ms = now_ms()
        if said.found:
            self._see(said.found[0].value)
        return True

    def _see(self, value: bytes) -> None:
        if value != self._value:
            self._value, self._record = value, wire.decode_stamped(value)[0]
        text = etcd._text(value).encode()
        if text != self._text:
            self._text, self._seen_ms = text, now_ms()

    # ---- candidate and primary ---------------------------------------------------------------------------------

    def _count(self) -> None:
        """Rule 3, looked at again when it can first be true."""
        timing, now = self._world.timing, now_ms()
        due_ms = self._seen_ms + timing.ttl_ms
        if self.fallen or self._held is not None or not self._text:  # nothing is known yet by one that is back
            due_ms = now + timing.ttl_ms
        elif now >= due_ms and now >= self._not_before_ms and not self._swapping:
            self._see(json_value(self._text))
            record = self._record
            over_ms = lease.over_from_ms(record, lease.Watch(record.term, record.counter, self._seen_ms), None)
            if now < over_ms:
                raise AssertionError(f"{self._cluster.name}: taken over {over_ms - now} ms too early")
            self._take(record)
            due_ms = now + timing.renew_ms
        else:
            due_ms = max(due_ms, now + 20)
        self._later(due_ms - now, self._count)

    def _take(self, standing: Record) -> None:
        taken = Record(
            version=standing.version + 1,
            term=standing.term + 1,
            holder=self._name,
            ttl_ms=self._world.timing.ttl_ms,
            began=GtidSet.upto({"0-1": 148_302 + 1000 * standing.term}),
            previous=standing.holder,
            reason=_WHY,
        )
        self._swap(taken)

    def _renew(self) -> None:
        """Rule 2 first: a lease that ended is not revived."""
        held, timing = self._held, self._world.timing
        if held is None or self.fallen:
            self._renewing = False
            return
        self._later(timing.renew_ms, self._renew)
        if lease.still_held(held, now_ms()) is None:
            self._world.counts.lost += 1
            self._lose()
        elif not self._swapping:
            self._renew_now()
        else:
            self._overdue = True  # its time is over in this very moment

    def _renew_now(self) -> None:
        self._swap(replace(self._record, version=self._record.version + 1, counter=self._record.counter + 1))

    def _swap(self, record: Record) -> None:
        value = wire.encode_stamped(record, os.urandom(8).hex())
        self._world.counts.sent += 1
        self._swapping = True
        body = etcd.swap(self._cluster.key, self._value, value)
        self._ask(etcd.TXN, body, partial(self._swapped, record, value, time.monotonic_ns()))

    def _swapped(self, record: Record, value: bytes, sent_ns: int, status: int, body: bytes) -> None:
        self._swapping, overdue, self._overdue = False, self._overdue, False
        if self.fallen:
            return
        if self._refused("swap", status, body):
            if overdue and self._held is not None:
                self._renew_now()
            return
        said = etcd.said(body)
        sent_ms = sent_ns // 1_000_000
        stands = value if said.swapped else said.found[0].value if said.found else None
        if stands != value:
            self._not_swapped(stands)
            return
        self._world.counts.renewed.append((time.monotonic_ns() - sent_ns) / 1e6)
        self._value, self._record = value, record
        granted = lease.granted(record, sent_ms, self._world.timing.margin_ms)
        was, self._held = self._held, lease.still_held(granted, now_ms())
        if self._held is None:
            self._lose()
            return
        self._cluster.held_by(self, sent_ms, granted.deadline_ms)
        if was is None and not self._renewing:
            self._renewing = True
            self._later(sent_ms + self._world.timing.renew_ms - now_ms(), self._renew)

    def _not_swapped(self, stands: bytes | None) -> None:
        if stands is None:
            raise AssertionError(f"{self._cluster.name}: its record is gone")
        self._see(stands)
        held, record = self._held, self._record
        if held is not None and record.holder == self._name and record.term == held.term:
            self._renew_now()  # an earlier one came to pass, whose answer did not: again at once
        elif held is not None:
            self._world.counts.lost += 1
            self._lose()

    def _lose(self) -> None:
        self._held = None
        self._seen_ms = now_ms()
        if not self._counting:
            self._counting = True
            self._count()


def json_value(text: bytes) -> bytes:
    """The bytes that a JSON text of base64 stands for: `=`, `+` and `/` may be written as numbers there."""
    return etcd._bytes({"value": json.loads(b'"' + text + b'"')}, "value")
