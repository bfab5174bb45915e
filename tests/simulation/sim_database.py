"""A MariaDB server as a value in virtual time: binary log, relay log, semi-synchronous acknowledgements.

    client ── commit ──> binary log ──stream──> relay log of each replica ──applier──> its binary log
                 <── acknowledged ── as soon as one replica has it in its relay log (AFTER_SYNC, never degrading)

A transaction is (server id, number). Numbers grow along a log, and a server that is made writable goes on with
production's `fresh_number`: what it lost in a crash, and a replica may have, is never given to another transaction. A
source looks only at the replica's last id, as the real one does. What a crash does: waiting clients learn nothing, the
binary log stays up to what was acknowledged (init_rpl_role=SLAVE), the relay log is thrown away and fetched again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sim_binlog import Stream, Transaction

from failoverd.core.gtid import GtidSet
from failoverd.core.model import DatabaseFacts, Replication, Thread
from failoverd.databases.mariadb_promote import fresh_number

if TYPE_CHECKING:
    from sim_node import Node

Answer = Callable[[bool], None]
NET_TIMEOUT_MS = 4000  # slave_net_timeout
RETRY_MS = 1000


def _nobody(_: bool) -> None:
    """Whoever asked is gone."""


class Database:
    """One server, on `node`."""

    def __init__(self, node: Node, server_id: int) -> None:
        self._node = node
        self.world = node.world
        self.name = node.name
        self.server_id = server_id
        self.up = True
        self.life = 0  # how often it was stopped
        self.starts = 0  # how often its replication was started by hand
        self.frozen = False
        self.disk_hung = False  # what must be written, waits
        self.disk_full = False  # what must be written, is refused
        self.read_only = True
        self.read_only_blocked = False  # a fault: SET GLOBAL read_only does not come back
        self.apply_ms = 1  # a fault when large: the applier lags
        self.can_start = True
        self.log: list[Transaction] = []
        self.relay: list[Transaction] = []
        self.last: dict[int, int] = {}  # by server: what @@gtid_binlog_state says
        self.heartbeat = (0, 0)
        self.source: str | None = None
        self.receiver_on = False
        self.applier_on = False
        self.error = ""
        self.stream: Stream | None = None
        self.semi_sync_source = False
        self.before_ack: Callable[[], None] | None = None  # what happens just before the next one is heard
        self.waiting: list[tuple[int, Answer, tuple[int, int] | None]] = []  # place, whom to tell, heartbeat
        self.let_go = 0  # commits that did not wait for a replica, and times it stopped waiting, since its start
        self._fresh = 0
        self._applying = False
        self._unsure = 0  # how many at the log's end nobody had acknowledged when it crashed
        self._pump_ms = self.world.chance.pump_ms
        self._net_timeout_ms = max(NET_TIMEOUT_MS, 2 * self._pump_ms)

    @property
    def answers(self) -> bool:
        """Whether a statement that must be written comes back."""
        return self.up and not self.disk_hung and not self.disk_full

    # ---- what SQL can ask for ---------------------------------------------------------------------------------

    def commit(self, answer: Answer, heartbeat: tuple[int, int] | None = None) -> None:
        """Commit one transaction; `answer` comes when it is acknowledged, or with False when it cannot be."""
        if self.disk_hung:
            return  # it does not come back
        if not self.up or self.read_only or self.disk_full:
            answer(False)
            return
        transaction = self._transaction(heartbeat)
        self._append(transaction)
        if self.semi_sync_source:
            self.waiting.append((len(self.log), answer, heartbeat))
        else:
            self.world.judge.let_go.add(transaction.made)
            self.heartbeat = heartbeat or self.heartbeat
            answer(True)
        for server in self.world.databases:
            if server.stream is not None and server.stream.source is self:
                server.pull(server.stream)

    def facts(self) -> DatabaseFacts:
        """What one reading gives."""
        return DatabaseFacts(
            version="10.11.11-MariaDB",
            server_id=self.server_id,
            read_only=self.read_only,
            holdings=GtidSet.upto({f"0-{server}": number for server, number in self.last.items()}),
            applied=GtidSet.upto({"0": self.log[-1].number if self.log else 0}),
            replication=self._replication(),
            semi_sync_source=self.semi_sync_source,
            semi_sync_replica=not self.semi_sync_source,
            semi_sync_clients=len(self.world.replicas_of(self)),
            heartbeat_term=self.heartbeat[0],
            heartbeat_beat=self.heartbeat[1],
            own=GtidSet.upto({"0": self.last.get(self.server_id, 0)}),
            run=f"{self.name}-{self.life}-{self.starts}",
            unacknowledged=self.let_go,
        )

    def _replication(self) -> Replication | None:
        if self.source is None:
            return None
        receiver = Thread.RUNNING if self.stream else Thread.CONNECTING if self.receiver_on else Thread.STOPPED
        return Replication(
            source=self.world.node(self.source).member.address,
            receiver=receiver,
            applier=Thread.RUNNING if self.applier_on else Thread.STOPPED,
            received=GtidSet.upto({"0": self._last_number}),
            receiver_error=self.error,
        )

    @property
    def received(self) -> int:
        """How many transactions it has, applied or not."""
        return len(self.log) + len(self.relay)

    @property
    def _last_number(self) -> int:
        last = (self.relay or self.log)[-1:]
        return last[0].number if last else 0

    def make_writable(self, term: int) -> None:
        """SET GLOBAL read_only = 0, behind the term's first heartbeat, whose number is one that nobody can have."""
        if self.read_only:
            clock = self._node.clock
            self._fresh = fresh_number(
                self._last_number, boot_us=clock.now_ms() * 1000, wall_us=clock.wall_ns() // 1000
            )
            self.read_only = False
            self.commit(_nobody, heartbeat=(term, self.heartbeat[1] + 1))

    def freeze(self) -> None:
        """STOP SLAVE IO_THREAD."""
        self.receiver_on, self.stream = False, None

    def become_source(self) -> None:
        """Replication off and forgotten, semi-sync source on."""
        self.freeze()
        self.source, self.applier_on, self.semi_sync_source = None, False, True
        self.relay.clear()

    def stop_waiting(self) -> None:
        """Semi-sync source off: what waits is told to its client, and counted; what comes then is not."""
        if self.semi_sync_source:
            self.semi_sync_source = False
            waiting, self.waiting = self.waiting, []
            self.let_go += len(waiting) + 1
            for place, answer, heartbeat in waiting:
                self.world.judge.let_go.add(self.log[place - 1].made)
                self.heartbeat = heartbeat or self.heartbeat
                answer(True)

    def kill_clients(self) -> None:
        """Their connections end; their commits still wait for an acknowledgement that nobody will hear of."""
        for _, answer, _ in self.waiting:
            answer(False)
        self.waiting = [(place, _nobody, heartbeat) for place, _, heartbeat in self.waiting]

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

    def restart_replication(self) -> None:
        """STOP SLAVE; START SLAVE: with both threads stopped the relay log is thrown away and fetched again."""
        if self.up and not self.frozen and self.source is not None:
            self.freeze()
            self.relay.clear()
            self.starts += 1
            self.receiver_on, self.applier_on, self.error = True, True, ""
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
        self.up, self.stream, self._applying = False, None, False
        self.life += 1
        self._unsure = len(self.log) - self.waiting[0][0] + 1 if self.waiting else 0
        self._drop_clients()
        if self._node.powered:  # its kernel closes the connections; a dead host's does not
            for server in self.world.replicas_of(self):
                server.lose_stream()

    def start(self) -> None:
        """As my.cnf has it: read-only, a replica where it was one, relay log fetched again."""
        if self.up or not self.can_start or self._node.rebuild.moving:
            return
        self.up, self.read_only, self.semi_sync_source, self.let_go = True, True, False, 0
        self.relay.clear()
        del self.log[len(self.log) - self._unsure :]
        self._unsure = 0
        self.last = {transaction.server: transaction.number for transaction in self.log}
        self.receiver_on = self.applier_on = self.source is not None
        if self.source is not None:
            self._connect()

    def become(self, copy: list[Transaction]) -> None:
        """Other data in the place of its own: read-only, following nobody."""
        self.stop()
        self.log, self.source, self._unsure = list(copy), None, 0
        self.heartbeat = next((t.heartbeat for t in reversed(copy) if t.heartbeat), (0, 0))
        self.error = ""
        self.start()

    def _drop_clients(self) -> None:
        waiting, self.waiting = self.waiting, []
        for _, answer, _ in waiting:
            answer(False)

    # ---- the stream -------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self.world.at(self.world.chance.latency(5), self._connected, self.source)

    def _connected(self, name: str | None) -> None:
        if not (self.up and self.receiver_on and self.stream is None and name is not None and self.source == name):
            return
        host = self.world.node(name)
        source = host.database
        if not (source.up and not source.frozen and self.world.network.connected(self._node, host)):
            self.world.at(RETRY_MS, self._connected, name)
            return
        mine = self.received
        last = (self.relay or self.log)[-1] if mine else None
        if last is not None and (len(source.log) < mine or source.log[mine - 1].gtid != last.gtid):
            self.receiver_on, self.error = False, "1236: GTID requested, which is not in the master's binlog"
            return
        self.stream = Stream(source, source.life, self.world.now)
        self._pump(self.stream)

    def lose_stream(self) -> None:
        """The connection broke; the receiver tries again."""
        self.stream = None
        self.world.at(RETRY_MS, self._connected, self.source)

    def _pump(self, stream: Stream) -> None:
        """TCP's retransmission and the source's heartbeat in one."""
        if self.stream is not stream:
            return
        if self.world.now - stream.heard_at > self._net_timeout_ms:
            self.lose_stream()
            return
        self.pull(stream)
        self.world.at(self._pump_ms, self._pump, stream)

    def pull(self, stream: Stream) -> None:
        """Let the source send what it has."""
        source, mine = stream.source, self.received
        if source.up and source.life == stream.life and not source.frozen and not source.disk_hung:
            sent = source.log[mine:]
            self.world.network.send(source._node, self._node, self._arrived, stream, mine, sent)

    def _arrived(self, stream: Stream, after: int, sent: list[Transaction]) -> None:
        mine = self.received
        if self.stream is not stream or self.frozen or self.disk_hung or self.disk_full or mine < after:
            return  # what a lost message held comes again
        stream.heard_at = self.world.now
        self.relay.extend(sent[mine - after :])
        self.world.network.send(self._node, stream.source._node, stream.source.acknowledged, stream, self.received)
        self.apply_soon()

    def acknowledged(self, stream: Stream, upto: int) -> None:
        """A replica has everything up to `upto`."""
        if not self.up or self.life != stream.life or self.frozen or not self.waiting:
            return
        if self.before_ack is not None:
            strike, self.before_ack = self.before_ack, None
            strike()
            return
        done = [entry for entry in self.waiting if entry[0] <= upto]
        self.waiting = self.waiting[len(done) :]
        for _, answer, heartbeat in done:
            self.heartbeat = heartbeat or self.heartbeat  # nobody sees a row before it is acknowledged (AFTER_SYNC)
            answer(True)

    def apply_soon(self) -> None:
        """Let the applier work, one batch at a time."""
        if self.relay and self.applier_on and not self._applying:
            self._applying = True
            self.world.at(self.apply_ms, self._apply, len(self.relay))

    def _apply(self, count: int) -> None:
        if not self._applying:
            return
        self._applying = False
        if not (self.up and self.applier_on):
            return
        if self.frozen or self.disk_hung or self.disk_full:
            self.world.at(self._pump_ms, self.apply_soon)
            return
        batch, self.relay = self.relay[:count], self.relay[count:]
        for transaction in batch:
            self._append(transaction)
            self.heartbeat = transaction.heartbeat or self.heartbeat
        self.apply_soon()

    def _transaction(self, heartbeat: tuple[int, int] | None = None) -> Transaction:
        self.world.made += 1
        number, self._fresh = max(self._last_number + 1, self._fresh), 0
        return Transaction(self.server_id, number, self.world.made, heartbeat)

    def _append(self, transaction: Transaction) -> None:
        self.log.append(transaction)
        self.last[transaction.server] = transaction.number
