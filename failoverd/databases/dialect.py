"""What differs between MariaDB and MySQL, as one object: the words, a few short sequences, and how facts are read.

    server ── the port ──> promote, demote ── in the words of ──> Dialect ── one of ──> mariadb, mysql

Everything that has to do with time, with connections and with the order of steps is in `server`, `promote` and
`demote`, once for both. A dialect says how something is called, and nothing of when it is done.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from failoverd.core.model import Thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from failoverd.core.gtid import GtidSet
    from failoverd.core.model import DatabaseFacts, Replication, SettingsFacts
    from failoverd.databases.connection import Connection, Deadline
    from failoverd.databases.own_starts import OwnStarts

    # Opens one more connection for a moment; None where the server gives none.
    Second = Callable[[], AbstractContextManager[Connection | None]]

# What SHOW ... STATUS calls a thread; "Connecting" and "Preparing" are a receiver that looks.
THREADS = {"Yes": Thread.RUNNING, "No": Thread.STOPPED}


@dataclass(frozen=True, slots=True)
class Account:
    """With what a replica logs in to its source."""

    user: str
    password: str = field(repr=False)
    port: int


@dataclass(frozen=True, slots=True)
class Replica:
    """A configured replication: whom it asks, as whom, by GTID or not, the receiver's error number, and its threads."""

    host: str
    port: int
    user: str
    by_gtid: bool
    receiver_errno: int
    replication: Replication

    @property
    def receives(self) -> bool:
        """The receiver runs, or tries to."""
        return self.replication.receiver is not Thread.STOPPED

    @property
    def applies(self) -> bool:
        """The applier runs."""
        return self.replication.applier is not Thread.STOPPED


class Dialect(ABC):
    """One server's language."""

    STOP_RECEIVER: ClassVar[str]
    STOP_BOTH: ClassVar[str]
    START_RECEIVER: ClassVar[str]
    START_APPLIER: ClassVar[str]
    START_BOTH: ClassVar[str]
    FORGET_SOURCE: ClassVar[str]  # replication off for good
    SEMI_SYNC: ClassVar[str]  # a SELECT of the columns `source` and `replica`: switched on or not
    SOURCE_OFF: ClassVar[str]  # semi-synchronous replication as a source
    REPLICA_ON: ClassVar[str]  # and as a replica
    READ_ONLY: ClassVar[str]  # a SELECT of one column `v`: nothing is left to be done to be read-only
    JOURNAL_POSITION: ClassVar[str]  # the expression for which server writes, then all that it holds
    SESSIONS: ClassVar[str]  # all of them, with the columns id, user, host, command, state, however they are spelled
    RUNNING: ClassVar[str]  # likewise, with command and time_ms, or time in seconds where the server has no more
    NEVER_KILLED: ClassVar[frozenset[str]]  # commands of the server's own threads and of replicas
    IN_COMMIT: ClassVar[tuple[str, ...]]  # states, in small letters: the binary log may have it already
    START_LOSES_RELAY_LOG: ClassVar[bool]  # starting a thread may throw away what was received and not applied

    @abstractmethod
    def read_facts(self, connection: Connection, deadline: Deadline, own: OwnStarts | None = None) -> DatabaseFacts:
        """Read it all. Raises Failure. Without `own` the facts do not name the run."""

    @abstractmethod
    def read_settings(self, connection: Connection, deadline: Deadline) -> SettingsFacts:
        """What is wrong with how the server is set up, and what the journal says. Raises Failure."""

    @abstractmethod
    def replica(self, connection: Connection, deadline: Deadline) -> Replica | None:
        """What is configured, None when nothing is."""

    @abstractmethod
    def wait_applied(self, connection: Connection, deadline: Deadline, position: GtidSet, seconds: float) -> None:
        """Return when `position` is applied or so much time has passed, whichever is first."""

    @abstractmethod
    def be_source(self, connection: Connection, deadline: Deadline) -> None:
        """Switch semi-synchronous replication as a source on: AFTER_SYNC, never degrading."""

    @abstractmethod
    def must_be_durable(self, connection: Connection, deadline: Deadline) -> None:
        """Raise DB_NOT_DURABLE where a crash could take back what a client was told without a replica's word."""

    @abstractmethod
    def make_writable(
        self, connection: Connection, deadline: Deadline, second: Second, *, term: int, facts: DatabaseFacts
    ) -> None:
        """Read-only off, behind the term's first heartbeat. What must be so before has been looked at: `facts`."""

    @abstractmethod
    def send_read_only(self, connection: Connection, deadline: Deadline, limit_s: float) -> None:
        """Send what makes it read-only, limited in the server too, as far as that can be said there."""

    @abstractmethod
    def change_source(self, connection: Connection, deadline: Deadline, address: str, account: Account) -> None:
        """Point the stopped replication at `address`, by GTID."""

    def sessions(self, connection: Connection, deadline: Deadline) -> list[dict[str, Any]]:
        """All sessions of the server, by the names of SESSIONS in small letters."""
        rows = connection.run(deadline, self.SESSIONS)
        return [{name.lower(): value for name, value in row.items()} for row in rows]
