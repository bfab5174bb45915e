"""`failoverd rebuild` in virtual time: a process of its own, which lives as long as its host has power.

    receive ── 2 s ──> prepared ── stop ──> moving ── 0.5 s ──> home ──> done

What it keeps to is the real one's: it stops this node's receiver first, takes a copy that has all that the primary had
by then, touches nothing without a primary, and goes on at boot where it had touched something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.core.machine import Observed
from failoverd.core.model import Health, Observation, Reading, RebuildFacts

if TYPE_CHECKING:
    from sim_binlog import Transaction
    from sim_node import Node

RECEIVE_MS = 2000
MOVE_MS = 500
LOOK_MS = 100
TELL_MS = 500  # until the daemon's probe has seen it
NO_PRIMARY_MS = 10_000


class Rebuild:
    """The unit on one host."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.facts: RebuildFacts | None = None
        self.cannot = False  # a fault: the donor refuses
        self._copy: list[Transaction] = []
        self._touched = False
        self._missed_ms = 0
        self._request = ""  # on disk, as the next
        self._ended = ""

    def start(self, request: str, donor: str | None) -> None:
        """Systemctl start; nothing where it runs."""
        if self.facts is not None and self.facts.running:
            return
        if self._touched:
            self._move(self._request)
            return
        if request == self._ended:
            self._say(request, "done", running=False)
            return
        self._missed_ms, self._request = 0, request
        if self.cannot or donor is None:
            self._failed(request, "REBUILD_NO_DONOR")
            return
        self._node.database.freeze()
        floor = self._primary_has()
        if floor is None:
            self._failed(request, "REBUILD_NO_PRIMARY")
            return
        self._say(request, "receive")
        self._node.when_awake(RECEIVE_MS, self._received, request, donor, floor)

    def boot(self) -> None:
        """What the unit does at boot: finish what was begun. Its word was in memory."""
        self.facts = None
        if self._touched:
            self._node.database.stop()
            self._node.when_awake(1000, self._move, self._request)

    def end(self) -> None:
        """The power is gone."""
        if self.facts is not None:
            self.facts = None

    @property
    def moving(self) -> bool:
        """The server is not started by anybody."""
        return self._touched

    def _primary_has(self) -> int | None:
        serving = self._node.world.serving()
        return len(serving.database.log) if serving is not None and serving is not self._node else None

    def _received(self, request: str, donor: str, floor: int) -> None:
        source = self._node.world.node(donor).database
        self._missed_ms = 0 if self._primary_has() is not None else self._missed_ms + LOOK_MS
        if self._missed_ms >= NO_PRIMARY_MS:
            self._failed(request, "REBUILD_NO_PRIMARY")
        elif self._missed_ms or not source.up or len(source.log) < floor:
            self._node.when_awake(LOOK_MS, self._received, request, donor, floor)
        elif self._node.lease_left_ms():
            self._failed(request, "REBUILD_IS_PRIMARY")
        else:
            self._copy = list(source.log)
            self._move(request)

    def _move(self, request: str) -> None:
        self._touched = True
        self._node.database.stop()
        self._say(request, "moving-out")
        self._node.when_awake(MOVE_MS, self._home, request)

    def _home(self, request: str) -> None:
        self._touched, self._ended = False, request
        self._node.database.become(self._copy)
        self._say(request, "done", running=False)

    def _failed(self, request: str, code: str) -> None:
        self._say(request, "failed", running=False, code=code)

    def _say(self, request: str, stage: str, *, running: bool = True, code: str = "") -> None:
        self.facts = RebuildFacts(request, stage, running, self._touched, code=code, reason=code and "simulated")
        self._node.when_running(TELL_MS, self.tell)

    def tell(self) -> None:
        """What the probe finds, at each change only: a world without a rebuild stays as it was."""
        daemon, now_ms = self._node.daemon, self._node.clock.now_ms()
        if daemon is not None and self.facts is not None:
            reading = Reading(Health.OK, facts=self.facts)
            daemon.feed(Observed(Observation("rebuild", self._node.member.name, reading, now_ms, 1)))
