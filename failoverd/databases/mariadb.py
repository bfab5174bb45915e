"""MariaDB 10.11 with GTID and semi-synchronous replication.

    replica ── freeze ──> apply_relay_log ──> become_source ──> await_replica ──> make_writable ──> primary
       ^                       mariadb_promote                                                        │
       └────────────────────────────── follow <────────────────── make_read_only <────────────────────┘
                                               mariadb_demote

Here is what they have in common: a connection of its own for each sequence, one that is kept for readings and one for
heartbeats, one deadline over all that a call does, the facts right after it, and `cancel`.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar

from failoverd.core.model import Health, Outcome, Reading
from failoverd.databases import mariadb_demote as demote
from failoverd.databases import mariadb_promote as promote
from failoverd.databases.connection import Connection, Deadline, Failure
from failoverd.databases.facts import OwnStarts, read_facts
from failoverd.ports import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from failoverd.core.gtid import GtidSet
    from failoverd.core.model import DatabaseFacts, NodeName

T = TypeVar("T")
_MAY_BE_OURS = {"DB_LOST", "DB_HUNG", "DB_TIMEOUT"}  # what a shut socket looks like


class MariaDb:
    """`ports.Database` for MariaDB, over its Unix socket. The sequences' own docstrings say how and why."""

    def __init__(  # noqa: PLR0917 - all that it needs, in the order of the configuration
        self,
        socket: str,
        user: str,
        password: str,
        replication_user: str,
        replication_password: str,
        replication_port: int,
        own: OwnStarts | None = None,
    ) -> None:
        self._socket = socket
        self._user = user
        self._password = password
        self._account = demote.Account(replication_user, replication_password, replication_port)
        self._own = own or OwnStarts()
        self._guard = threading.Lock()
        self._busy: set[Connection] = set()
        self._cancelled = 0  # how often; whoever started before a later one is done with
        self._for_status = _Kept()
        self._for_beats = _Kept()

    def beside(self) -> MariaDb:
        """The same server over connections of its own: to cancel one never ends what the other does."""
        account = self._account
        return MariaDb(
            self._socket, self._user, self._password, account.user, account.password, account.port, own=self._own
        )

    # ---- the port ---------------------------------------------------------------------------------------------------

    def status(self, *, deadline_ms: int) -> Reading:
        """Read `DatabaseFacts` on a connection that is kept: about 1 ms. FAILED with a code when there is no answer."""
        deadline = Deadline(deadline_ms)
        try:
            return Reading(Health.OK, facts=self._read(deadline, self._cancelled))
        except Failure as failure:
            return Reading(Health.FAILED, failure.code, failure.reason)

    def freeze(self, *, deadline_ms: int) -> Result:
        """Stop the receiver, also against a silent source; the applier goes on. Success where there is none."""
        return self._operate(deadline_ms, promote.freeze)

    def apply_relay_log(self, *, deadline_ms: int) -> Result:
        """Wait until all that was received is applied. FAILED when the applier stopped, UNKNOWN at the deadline."""
        return self._operate(deadline_ms, lambda c, d: promote.await_applied(c, d, lambda facts: facts.position))

    def await_position(self, *, position: GtidSet, deadline_ms: int) -> Result:
        """Wait until `position` (by domain) is received and applied."""
        return self._operate(deadline_ms, lambda c, d: promote.await_applied(c, d, lambda _: position))

    def become_source(self, *, deadline_ms: int) -> Result:
        """Replication off and forgotten, semi-sync source on; refused while the relay log is not applied."""
        return self._operate(deadline_ms, lambda c, d: promote.become_source(c, d, self._own))

    def await_replica(self, *, deadline_ms: int) -> Result:
        """Wait until at least one replica that acknowledges is attached."""
        return self._operate(deadline_ms, promote.await_replica)

    def make_writable(self, *, term: int, deadline_ms: int) -> Result:
        """Skip the numbers that may have been lost, then read_only off; refused where a commit would not wait."""

        def work(connection: Connection, deadline: Deadline) -> None:
            promote.make_writable(connection, deadline, lambda: self._second(deadline), term=term)

        return self._operate(deadline_ms, work)

    def write_journal(
        self, *, term: int, holder: NodeName, previous: NodeName | None, reason: str, deadline_ms: int
    ) -> Result:
        """Insert the term's row once. UNKNOWN when its commit waits."""

        def work(connection: Connection, deadline: Deadline) -> None:
            promote.write_journal(connection, deadline, term=term, holder=holder, previous=previous, reason=reason)

        return self._operate(deadline_ms, work)

    def make_read_only(self, *, deadline_ms: int) -> Result:
        """Kill clients and set read_only. FAILED/UNKNOWN at the deadline: the caller kills the server."""
        return self._operate(deadline_ms, lambda c, d: demote.make_read_only(c, d, lambda: self._second(d)))

    def follow(self, *, address: str, deadline_ms: int) -> Result:
        """Be a read-only, semi-synchronous replica of the server at `address`."""

        def work(connection: Connection, deadline: Deadline) -> None:
            second = lambda: self._second(deadline)  # noqa: E731 - it reads like the call above
            demote.follow(connection, deadline, second, self._own, address=address, account=self._account)

        return self._operate(deadline_ms, work)

    def beat(self, *, term: int, beat: int, deadline_ms: int) -> Result:
        """Write the heartbeat row on a connection that is kept. UNKNOWN when its commit waits.

        A commit that still waits at the deadline stays where it is, and the next beat first waits for that one: the
        server never has more than one of them, and none is committed by our ending it.
        """
        deadline = Deadline(deadline_ms)

        def work(connection: Connection) -> DatabaseFacts:
            if self._for_beats.pending:
                promote.await_commit(connection, deadline, "the heartbeat before")
            promote.send_beat(connection, deadline, term=term, beat=beat)
            self._for_beats.pending = True
            promote.await_commit(connection, deadline, "the heartbeat")
            self._for_beats.pending = False
            return read_facts(connection, deadline, self._own)

        try:
            return Result(Outcome.SUCCEEDED, facts=self._over(self._for_beats, deadline, self._cancelled, work))
        except Failure as failure:
            return Result(failure.outcome, failure.code, failure.reason)

    def cancel(self) -> None:
        """Shut every socket that a thread works on now. Kept connections that lie idle are left alone."""
        with self._guard:
            self._cancelled += 1
            for connection in self._busy:
                connection.shut()

    def close(self) -> None:
        """Give up the kept connections."""
        for kept in (self._for_status, self._for_beats):
            with contextlib.suppress(Failure), kept.held(Deadline(1000)):
                kept.drop()

    # ---- what its methods have in common ----------------------------------------------------------------------------

    def _operate(self, deadline_ms: int, work: Callable[[Connection, Deadline], None]) -> Result:
        """Run a sequence on a connection of its own and answer with the facts right after it."""
        deadline, token = Deadline(deadline_ms), self._cancelled
        try:
            connection = self._open(deadline, token)
            try:
                with self._working(connection, token):
                    work(connection, deadline)
                    return Result(Outcome.SUCCEEDED, facts=read_facts(connection, deadline, self._own))
            finally:
                connection.drop()
        except Failure as failure:
            facts = None
            if deadline.left_s > 0 and token == self._cancelled:
                with contextlib.suppress(Failure):
                    facts = self._read(deadline, token)
            return Result(failure.outcome, failure.code, failure.reason, facts)

    def _read(self, deadline: Deadline, token: int) -> DatabaseFacts:
        return self._over(
            self._for_status, deadline, token, lambda connection: read_facts(connection, deadline, self._own)
        )

    def _over(self, kept: _Kept, deadline: Deadline, token: int, work: Callable[[Connection], T]) -> T:
        """Do `work` over a kept connection, a new one where that broke while it lay idle."""
        with kept.held(deadline):
            if kept.connection is not None and not kept.pending and kept.connection.wait(0):
                kept.drop()  # nothing was asked, so this is the server's farewell
            try:
                if kept.connection is None:
                    kept.connection = self._open(deadline, token)
                with self._working(kept.connection, token):
                    return work(kept.connection)
            except Failure as failure:
                if failure.code != "DB_NO_ACK":  # its answer is still to come
                    kept.drop()
                raise

    def _open(self, deadline: Deadline, token: int) -> Connection:
        connection = Connection(self._user, self._password, (self._account.password,))
        try:
            connection.log_in(self._socket, deadline, lambda opened: self._register(opened, token))
        except Failure as failure:
            connection.drop()
            raise self._explained(failure, token) from None
        finally:
            self._forget(connection)
        return connection

    @contextlib.contextmanager
    def _second(self, deadline: Deadline) -> Iterator[Connection | None]:
        """Another connection beside the one that waits; None where the server gives none."""
        token = self._cancelled
        try:
            second = self._open(deadline, token)
        except Failure:
            yield None
            return
        try:
            with self._working(second, token):
                yield second
        finally:
            second.drop()

    @contextlib.contextmanager
    def _working(self, connection: Connection, token: int) -> Iterator[None]:
        """While it lasts, `cancel` ends what this connection waits for."""
        self._register(connection, token)
        try:
            yield
        except Failure as failure:
            raise self._explained(failure, token) from None
        finally:
            self._forget(connection)

    def _register(self, connection: Connection, token: int) -> None:
        with self._guard:
            if token != self._cancelled:
                raise Failure("DB_CANCELLED", "ended by failoverd itself", Outcome.UNKNOWN)
            self._busy.add(connection)

    def _forget(self, connection: Connection) -> None:
        with self._guard:
            self._busy.discard(connection)

    def _explained(self, failure: Failure, token: int) -> Failure:
        if token != self._cancelled and failure.code in _MAY_BE_OURS:
            return Failure("DB_CANCELLED", f"ended by failoverd itself: {failure.reason}", Outcome.UNKNOWN)
        return failure


class _Kept:
    """A connection that outlives its statement, for one thread at a time. `pending`: an answer is still to come."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.pending = False
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def held(self, deadline: Deadline) -> Iterator[None]:
        """Have it alone."""
        if not self._lock.acquire(timeout=deadline.left_s):
            raise Failure("DB_HUNG", f"an earlier question has not come back after {deadline.after_ms} ms")
        try:
            yield
        finally:
            self._lock.release()

    def drop(self) -> None:
        """Give it up."""
        if self.connection is not None:
            self.connection.drop()
        self.connection, self.pending = None, False
