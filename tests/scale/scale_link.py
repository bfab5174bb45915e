"""What failoverd/stores/etcd_link.py says to etcd, when and to whom, without what it costs there.

    ask ── preferred endpoint ── silent for half of the deadline, refused, lost: the next one as well ── first answer

Its numbers are imported from there, and its order is told here again, since what it adds to an etcd that is slow is
part of what is measured. Connections are kept as its pool keeps them.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from scale_wire import Exchange, Wire

from failoverd.stores.etcd_link import AVOID_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

KEPT_S = 30.0  # an idle connection, in EtcdLink's pool
_FINAL = range(400, 500)
_OK = 200


class Link:
    """One client of an etcd. `error` is told of everything that is no answer."""

    def __init__(self, wire: Wire, members: Sequence[tuple[str, int]], error: Callable[[str], None]) -> None:
        self.wire = wire
        self.token = b""
        self.error = error
        self._members = members
        self._avoided: dict[tuple[str, int], float] = {}
        self._idle: dict[tuple[str, int], list[Exchange]] = {}

    def in_order(self) -> list[tuple[str, int]]:
        """The endpoints, those that failed of late last."""
        now_s = time.monotonic()
        return sorted(self._members, key=lambda where: max(self._avoided.get(where, 0.0), now_s))

    def avoid(self, where: tuple[str, int]) -> None:
        """Ask it last for a while."""
        self._avoided[where] = time.monotonic() + AVOID_S

    def ask(self, path: str, body: bytes, deadline_ms: int, then: Callable[[int, bytes], None]) -> None:
        """POST, and call `then` with the status and the answer's body; with status 0 when there was none in time."""
        Race(self, path, body, deadline_ms, then)

    def kept(self, where: tuple[str, int]) -> Exchange:
        """A connection to ask on: one that is idle, or a new one."""
        idle, now_s = self._idle.get(where, []), time.monotonic()
        while idle:
            exchange = idle.pop()
            if exchange.open and now_s - exchange.idle_since_s < KEPT_S:
                return exchange
            exchange.abort()
        return Exchange(self.wire, where, self)

    def keep(self, exchange: Exchange) -> None:
        """It is free again."""
        exchange.listener = self
        self._idle.setdefault(exchange.where, []).append(exchange)

    # an idle connection's listener

    def piece(self, exchange: Exchange, data: bytes) -> None:  # noqa: ARG002 - whatever it is
        """It says something without having been asked."""
        exchange.abort()

    def answered(self, exchange: Exchange, status: int) -> None:
        """Likewise."""

    def broken(self, exchange: Exchange, why: str) -> None:
        """It was closed by etcd; `kept` finds out."""


class Race:
    """One request, at one endpoint or at several."""

    def __init__(
        self, link: Link, path: str, body: bytes, deadline_ms: int, then: Callable[[int, bytes], None]
    ) -> None:
        self._link, self._path, self._body, self._then = link, path.encode(), body, then
        self._deadline_ms = deadline_ms
        self._left = link.in_order()
        self._running: dict[Exchange, list[bytes]] = {}
        self._over = False
        self._number = 0
        link.wire.at(time.monotonic() + deadline_ms / 1000, self._too_late)
        self._next()

    def _next(self) -> None:
        if not self._left:
            if not self._running:
                self._end(0, b"")
            return
        exchange = self._link.kept(self._left.pop(0))
        exchange.listener = self
        self._running[exchange] = []
        self._number += 1
        now_s = time.monotonic()
        if self._left:
            patience_ms = self._deadline_ms / (2 if len(self._running) == 1 else 4)
            self._link.wire.at(now_s + patience_ms / 1000, partial(self._impatient, self._number))
        if self._number > 1:  # the first one's own limit is the race's
            self._link.wire.at(now_s + self._deadline_ms / 1000, partial(self._stop, exchange))
        exchange.ask(self._path, self._body, self._link.token)

    def _impatient(self, number: int) -> None:
        if not self._over and number == self._number:
            self._next()

    def _too_late(self) -> None:
        for exchange in list(self._running)[:1]:
            self._stop(exchange)
        self._end(0, b"")

    def _stop(self, exchange: Exchange) -> None:
        if self._running.pop(exchange, None) is not None:
            self._link.avoid(exchange.where)
            exchange.abort()

    def _end(self, status: int, body: bytes) -> None:
        if self._over:
            return
        self._over = True
        for exchange in self._running:  # another was quicker, or nobody was quick enough
            self._link.avoid(exchange.where)
        self._then(status, body)

    # the listener of each

    def piece(self, exchange: Exchange, data: bytes) -> None:
        """See scale_wire.Listener."""
        self._running[exchange].append(data)

    def answered(self, exchange: Exchange, status: int) -> None:
        """See scale_wire.Listener."""
        body = b"".join(self._running.pop(exchange))
        self._link.keep(exchange)
        if self._over:
            return
        if status == _OK or status in _FINAL:
            self._end(status, body)
        else:
            self._failed(exchange, f"{status} {body[:80].decode(errors='replace')}")

    def broken(self, exchange: Exchange, why: str) -> None:
        """See scale_wire.Listener."""
        self._running.pop(exchange, None)
        if not self._over:
            self._failed(exchange, why)

    def _failed(self, exchange: Exchange, why: str) -> None:
        self._link.error(why)
        self._link.avoid(exchange.where)
        self._next()
