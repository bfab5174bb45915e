"""The port for any dialect: one local server, over its Unix socket.

    replica ── freeze ──> apply_relay_log ──> become_source ──> await_replica ──> make_writable ──> primary
       ^                           promote                                                            │
       └────────────────────────────── follow <────────────────── make_read_only <────────────────────┘
                                                   demote

Here is what they have in common: a connection of its own for each sequence, one that is kept for readings and one for
heartbeats, one deadline over all that a call does, the facts right after it, and `cancel`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, ClassVar, Self

from failoverd.core.model import Health, Outcome, Reading
from failoverd.databases import demote, promote
from failoverd.databases.connection import Deadline, Failure
from failoverd.databases.dialect import Account
from failoverd.databases.own_starts import OwnStarts
from failoverd.databases.sessions import Kept, Sessions
from failoverd.databases.settings import settings_reading
from failoverd.databases.statements import read_statements
from failoverd.ports import Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from failoverd.core.gtid import GtidSet
    from failoverd.core.model import DatabaseFacts, NodeName
    from failoverd.databases.connection import Connection
    from failoverd.databases.dialect import Dialect


class SqlServer:
    """`ports.Database` in the words of `DIALECT`. The sequences' own docstrings say how and why."""

    DIALECT: ClassVar[Dialect]

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
        self._login = (socket, user, password)
        self._account = Account(replication_user, replication_password, replication_port)
        self._own = own or OwnStarts()
        self._sessions = Sessions(socket, user, password, (replication_password,))
        self._for_status = Kept()
        self._for_beats = Kept()

    def beside(self) -> Self:
        """The same server over connections of its own: to cancel one never ends what the other does."""
        account = self._account
        return type(self)(*self._login, account.user, account.password, account.port, own=self._own)

    # ---- the port ---------------------------------------------------------------------------------------------------

    def status(self, *, deadline_ms: int) -> Reading:
        """Read `DatabaseFacts` on a connection that is kept: about 1 ms. FAILED with a code when there is no answer."""
        deadline = Deadline(deadline_ms)
        try:
            return Reading(Health.OK, facts=self._read(deadline, self._sessions.token))
        except Failure as failure:
            return Reading(Health.FAILED, failure.code, failure.reason)

    def settings(self, *, deadline_ms: int) -> Reading:
        """Read `SettingsFacts` on the connection that is kept. UNKNOWN where there is no answer: `status` says why."""
        deadline = Deadline(deadline_ms)
        try:
            facts = self._sessions.over(
                self._for_status, deadline, self._sessions.token, lambda c: self.DIALECT.read_settings(c, deadline)
            )
        except Failure as failure:
            return Reading(Health.UNKNOWN, failure.code, failure.reason)
        return settings_reading(facts)

    def statements(self, *, limit_ms: int, deadline_ms: int) -> Reading:
        """Read `StatementFacts` on the connection that is kept. UNKNOWN where there is no answer: `status` says why."""
        deadline = Deadline(deadline_ms)
        try:
            facts = self._sessions.over(
                self._for_status,
                deadline,
                self._sessions.token,
                lambda c: read_statements(self.DIALECT, c, deadline, limit_ms=limit_ms),
            )
        except Failure as failure:
            return Reading(Health.UNKNOWN, failure.code, failure.reason)
        return Reading(Health.OK, facts=facts)

    def freeze(self, *, deadline_ms: int) -> Result:
        """Stop the receiver, also against a silent source; the applier goes on. Success where there is none."""
        return self._operate(deadline_ms, lambda c, d: promote.freeze(self.DIALECT, c, d))

    def apply_relay_log(self, *, deadline_ms: int) -> Result:
        """Wait until all that was received is applied. FAILED when the applier stopped, UNKNOWN at the deadline."""
        return self._operate(
            deadline_ms, lambda c, d: promote.await_applied(self.DIALECT, c, d, lambda facts: facts.position)
        )

    def await_position(self, *, position: GtidSet, deadline_ms: int) -> Result:
        """Wait until `position` (in the notation of `Replication.received`) is received and applied."""
        return self._operate(deadline_ms, lambda c, d: promote.await_applied(self.DIALECT, c, d, lambda _: position))

    def become_source(self, *, deadline_ms: int) -> Result:
        """Replication off and forgotten, semi-sync source on; refused while the relay log is not applied."""
        return self._operate(deadline_ms, lambda c, d: promote.become_source(self.DIALECT, c, d, self._own))

    def stop_waiting(self, *, deadline_ms: int) -> Result:
        """Let go what waits for a replica, and wait no more. The store must say so before."""
        return self._operate(deadline_ms, lambda c, d: promote.stop_waiting(self.DIALECT, c, d))

    def await_replica(self, *, deadline_ms: int) -> Result:
        """Wait until at least one replica that acknowledges is attached."""
        return self._operate(deadline_ms, lambda c, d: promote.await_replica(self.DIALECT, c, d))

    def make_writable(self, *, term: int, deadline_ms: int) -> Result:
        """Write the term's first heartbeat, then read_only off; refused where a commit would not wait."""

        def work(connection: Connection, deadline: Deadline) -> None:
            second = lambda: self._sessions.second(deadline)  # noqa: E731 - it reads like the call below
            promote.make_writable(self.DIALECT, connection, deadline, second, term=term)

        return self._operate(deadline_ms, work)

    def write_journal(
        self, *, term: int, holder: NodeName, previous: NodeName | None, reason: str, deadline_ms: int
    ) -> Result:
        """Insert the term's row once. UNKNOWN when its commit waits."""

        def work(connection: Connection, deadline: Deadline) -> None:
            promote.write_journal(
                self.DIALECT, connection, deadline, term=term, holder=holder, previous=previous, reason=reason
            )

        return self._operate(deadline_ms, work)

    def make_read_only(self, *, deadline_ms: int) -> Result:
        """Kill clients and set read_only. FAILED/UNKNOWN at the deadline: the caller kills the server."""
        return self._operate(
            deadline_ms, lambda c, d: demote.make_read_only(self.DIALECT, c, d, lambda: self._sessions.second(d))
        )

    def follow(self, *, address: str, deadline_ms: int) -> Result:
        """Be a read-only, semi-synchronous replica of the server at `address`."""

        def work(connection: Connection, deadline: Deadline) -> None:
            second = lambda: self._sessions.second(deadline)  # noqa: E731 - it reads like the call below
            demote.follow(self.DIALECT, connection, deadline, second, self._own, address=address, account=self._account)

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
            return self.DIALECT.read_facts(connection, deadline, self._own)

        try:
            facts = self._sessions.over(self._for_beats, deadline, self._sessions.token, work)
        except Failure as failure:
            return Result(failure.outcome, failure.code, failure.reason)
        return Result(Outcome.SUCCEEDED, facts=facts)

    def cancel(self) -> None:
        """Shut every socket that a thread works on now. Kept connections that lie idle are left alone."""
        self._sessions.cancel()

    def close(self) -> None:
        """Give up the kept connections."""
        for kept in (self._for_status, self._for_beats):
            with contextlib.suppress(Failure), kept.held(Deadline(1000)):
                kept.drop()

    # ---- what its methods have in common ----------------------------------------------------------------------------

    def _operate(self, deadline_ms: int, work: Callable[[Connection, Deadline], None]) -> Result:
        """Run a sequence on a connection of its own and answer with the facts right after it."""
        deadline, token = Deadline(deadline_ms), self._sessions.token
        try:
            connection = self._sessions.open(deadline, token)
            try:
                with self._sessions.working(connection, token):
                    work(connection, deadline)
                    return Result(Outcome.SUCCEEDED, facts=self.DIALECT.read_facts(connection, deadline, self._own))
            finally:
                connection.drop()
        except Failure as failure:
            facts = None
            if deadline.left_s > 0 and token == self._sessions.token:
                with contextlib.suppress(Failure):
                    facts = self._read(deadline, token)
            return Result(failure.outcome, failure.code, failure.reason, facts)

    def _read(self, deadline: Deadline, token: int) -> DatabaseFacts:
        return self._sessions.over(
            self._for_status, deadline, token, lambda c: self.DIALECT.read_facts(c, deadline, self._own)
        )
