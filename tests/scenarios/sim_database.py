"""A MariaDB server as a value in virtual time: binary log, relay log, semi-synchronous acknowledgements.

    client ── commit ──> binary log ──stream──> relay log of each replica ──applier──> its binary log
                 <── acknowledged ── as soon as one replica has it in its relay log (AFTER_SYNC, never degrading)

A transaction is (server id, number); its number is its place in the log, so two logs that differ at one place have
diverged. A source looks only at the replica's last id, as the real one does. What a crash does: waiting clients learn
nothing, the binary log stays up to what was acknowledged (init_rpl_role=SLAVE), the relay log is thrown away and
fetched again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from failoverd.core.gtid import GtidSet
from failoverd.core.model import DatabaseFacts, Replication, Thread

if TYPE_CHECKING:
    from world import World

Answer = Callable[[bool], None]
PUMP_MS = 200  # how often a stream is looked after: TCP's retransmission and the source's heartbeat in one
NET_TIMEOUT_MS = 4000  # slave_net_timeout
RETRY_MS = 1000


def _nobody(_: bool) -> None:
    """Whoever asked is gone."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """`heartbeat` is (term, beat) where it is one of the controller's own, else None.

    `made` is what no server knows: two with the same id are different transactions, after one was lost in a crash.
    """

    server: int
    number: int
    made: int
    heartbeat: tuple[int, int] | None = None

    @property
    def gtid(self) -> tuple[int, int]:
        """All that servers compare."""
        return self.server, self.number


@dataclass(eq=False)
class Stream:
    """One replica's connection to its source."""

    source: Database
    alive: bool = True
    heard_at: int = 0


@dataclass(eq=False)
class Database:
    """One server. `world` gives it time and network; names are those of the nodes."""

    world: World
    name: str
    server_id: int
    up: bool = True
    frozen: bool = False
    read_only: bool = True
    read_only_blocked: bool = False  # a fault: SET GLOBAL read_only does not come back
    apply_ms: int = 1  # a fault when large: the applier lags
    can_start: bool = True
    log: list[Transaction] = field(default_factory=list)
    relay: list[Transaction] = field(default_factory=list)
    last: dict[int, int] = field(default_factory=dict)  # by server: what @@gtid_binlog_state says
    heartbeat: tuple[int, int] = (0, 0)
    source: str | None = None
    receiver_on: bool = False
    applier_on: bool = False
    error: str = ""
    stream: Stream | None = None
    semi_sync_source: bool = False
    waiting: list[tuple[int, Answer]] = field(default_factory=list)
    applying: bool = False
    unsure: int = 0  # how many at the log's end nobody had acknowledged when it crashed

    # ---- what SQL can ask for ---------------------------------------------------------------------------------

    def commit(self, answer: Answer, heartbeat: tuple[int, int] | None = None) -> None:
        """Commit one transaction; `answer` comes when it is acknowledged, or with False when it cannot be."""
        if not self.up or self.read_only:
            answer(False)
            return
        transaction = self._transaction(heartbeat)
        self._append(transaction)
        if self.semi_sync_source:
            self.waiting.append((transaction.number, answer))
        else:
            answer(True)
        for server in self.world.databases():
            if server.stream is not None and server.stream.source is self:
                server.pull(server.stream)

    def facts(self) -> DatabaseFacts:
        """What one reading gives."""
        clients = sum(s.stream is not None and s.stream.source is self for s in self.world.databases())
        return DatabaseFacts(
            version="10.11.11-MariaDB",
            server_id=self.server_id,
            read_only=self.read_only,
            holdings=GtidSet.upto({f"0-{server}": number for server, number in self.last.items()}),
            applied=GtidSet.upto({"0": len(self.log)}),
            replication=self._replication(),
            semi_sync_source=self.semi_sync_source,
            semi_sync_replica=not self.semi_sync_source,
            semi_sync_clients=clients,
            heartbeat_term=self.heartbeat[0],
            heartbeat_beat=self.heartbeat[1],
        )

    def _replication(self) -> Replication | None:
        if self.source is None:
            return None
        receiver = Thread.RUNNING if self.stream else Thread.CONNECTING if self.receiver_on else Thread.STOPPED
        return Replication(
            source=self.world.address(self.source),
            receiver=receiver,
            applier=Thread.RUNNING if self.applier_on else Thread.STOPPED,
            received=GtidSet.upto({"0": self.received}),
            receiver_error=self.error,
        )

    @property
    def received(self) -> int:
        """How many transactions it has, applied or not."""
        return len(self.log) + len(self.relay)

    def freeze(self) -> None:
        """STOP SLAVE IO_THREAD."""
        self.receiver_on, self.stream = False, None

    def become_source(self) -> None:
        """Replication off and forgotten, semi-sync source on."""
        self.freeze()
        self.source, self.applier_on, self.semi_sync_source = None, False, True
        self.relay.clear()

    def kill_clients(self) -> None:
        """Their connections end; their commits still wait for an acknowledgement that nobody will hear of."""
        for _, answer in self.waiting:
            answer(False)
        self.waiting = [(number, _nobody) for number, _ in self.waiting]

    def follow(self, source: str) -> None:
        """Replicate from `source`; nothing happens where that is so already."""
        self.read_only, self.semi_sync_source = True, False
        if self.source == source and self.receiver_on and self.applier_on and not self.error:
            return
        if self.source != source:
            self.relay.clear()
        self.freeze()
        self.source, self.receiver_on, self.applier_on, self.error = source, True, True, ""
        self._connect()

    def write_errant(self, count: int) -> None:
        """Transactions of this server alone, past replication and read-only."""
        for _ in range(count):
            self._append(self._transaction())

    # ---- its life ---------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """The process is gone, at once."""
        if not self.up:
            return
        self.up, self.stream, self.applying = False, None, False
        self.unsure = len(self.log) - self.waiting[0][0] + 1 if self.waiting else 0
        self._drop_clients()
        if self.world.is_powered(self.name):  # its kernel closes the connections; a dead host's does not
            for server in self.world.databases():
                if server.stream is not None and server.stream.source is self:
                    server.lose_stream()

    def start(self) -> None:
        """As my.cnf has it: read-only, a replica where it was one, relay log fetched again."""
        if self.up or not self.can_start:
            return
        self.up, self.read_only, self.semi_sync_source = True, True, False
        self.relay.clear()
        del self.log[len(self.log) - self.unsure :]
        self.unsure = 0
        self.last = {transaction.server: transaction.number for transaction in self.log}
        self.receiver_on = self.applier_on = self.source is not None
        if self.source is not None:
            self._connect()

    def _drop_clients(self) -> None:
        waiting, self.waiting = self.waiting, []
        for _, answer in waiting:
            answer(False)

    # ---- the stream -------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self.world.at(self.world.latency(5), self._connected, self.source)

    def _connected(self, name: str | None) -> None:
        if not (self.up and self.receiver_on and self.stream is None and name is not None and self.source == name):
            return
        source = self.world.node(name).database
        if not (source.up and not source.frozen and self.world.connected(self.name, name)):
            self.world.at(RETRY_MS, self._connected, name)
            return
        mine = self.received
        last = (self.relay or self.log)[-1] if mine else None
        if last is not None and (len(source.log) < mine or source.log[mine - 1].gtid != last.gtid):
            self.receiver_on, self.error = False, "1236: GTID requested, which is not in the master's binlog"
            return
        self.stream = Stream(source, heard_at=self.world.now)
        self._pump(self.stream)

    def lose_stream(self) -> None:
        """The connection broke; the receiver tries again."""
        self.stream = None
        self.world.at(RETRY_MS, self._connected, self.source)

    def _pump(self, stream: Stream) -> None:
        if self.stream is not stream:
            return
        if self.world.now - stream.heard_at > NET_TIMEOUT_MS:
            self.lose_stream()
            return
        self.pull(stream)
        self.world.at(PUMP_MS, self._pump, stream)

    def pull(self, stream: Stream) -> None:
        """Let the source send what it has."""
        source = stream.source
        if source.up and not source.frozen:
            self.world.send(source.name, self.name, self._arrived, stream, len(source.log))

    def _arrived(self, stream: Stream, upto: int) -> None:
        if self.stream is not stream or self.frozen:
            return
        stream.heard_at = self.world.now
        self.relay.extend(stream.source.log[self.received : upto])
        self.world.send(self.name, stream.source.name, stream.source.acknowledged, stream, upto)
        self.apply_soon()

    def acknowledged(self, stream: Stream, upto: int) -> None:
        """A replica has everything up to `upto`."""
        if not self.up or self.frozen or not self.world.has_stream(stream):
            return
        done = [answer for number, answer in self.waiting if number <= upto]
        self.waiting = [(number, answer) for number, answer in self.waiting if number > upto]
        for answer in done:
            answer(True)

    def apply_soon(self) -> None:
        """Let the applier work, one batch at a time."""
        if self.relay and self.applier_on and not self.applying:
            self.applying = True
            self.world.at(self.apply_ms, self._apply, len(self.relay))

    def _apply(self, count: int) -> None:
        if not self.applying:
            return
        self.applying = False
        if not (self.up and self.applier_on):
            return
        if self.frozen:
            self.world.at(PUMP_MS, self.apply_soon)
            return
        batch, self.relay = self.relay[:count], self.relay[count:]
        for transaction in batch:
            self._append(transaction)
        self.apply_soon()

    def _transaction(self, heartbeat: tuple[int, int] | None = None) -> Transaction:
        self.world.made += 1
        return Transaction(self.server_id, len(self.log) + 1, self.world.made, heartbeat)

    def _append(self, transaction: Transaction) -> None:
        self.log.append(transaction)
        self.last[transaction.server] = transaction.number
        self.heartbeat = transaction.heartbeat or self.heartbeat
