"""Questions to the local server, over connections that end with the question."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from failoverd.core.gtid import GtidSet
from failoverd.core.model import Thread
from failoverd.databases.connection import Connection, Deadline, Failure
from failoverd.databases.mariadb_facts import by_domain, replica
from failoverd.rebuild import RebuildError, protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from failoverd.config import Database

DEADLINE_MS = 5_000


@dataclass(frozen=True, slots=True)
class Standing:
    """How a node's server stands."""

    version: str
    read_only: bool
    binlog_state: str  # as MariaDB writes it: 0-1-500,0-2-510
    replicates_from: str  # an address; "" when it follows nobody, or one of the two threads does not run
    data: str  # its data directory, as the server names it

    @classmethod
    def of(cls, message: dict[str, object]) -> Standing:
        """Read one that came over the network. Raises RebuildError."""
        values = {field.name: message.get(field.name) for field in fields(cls)}
        if not all(isinstance(value, bool if name == "read_only" else str) for name, value in values.items()):
            raise RebuildError("REBUILD_STREAM", "an answer without what was asked for")
        if not protocol.POSITION.fullmatch(str(values["binlog_state"])):
            raise RebuildError("REBUILD_STREAM", "an answer whose gtid_binlog_state is none")
        return cls(**values)  # type: ignore[arg-type] # each was looked at above

    def message(self) -> dict[str, object]:
        """As it is sent."""
        return asdict(self)


@contextlib.contextmanager
def opened(path: Path, database: Database, deadline_ms: int = DEADLINE_MS) -> Iterator[tuple[Connection, Deadline]]:
    """Log in to the server at the socket `path` with failoverd's account. Raises Failure."""
    deadline = Deadline(deadline_ms)
    connection = Connection(database.user, database.password.get_secret_value())
    try:
        connection.log_in(str(path), deadline, lambda _: None)
        yield connection, deadline
    finally:
        connection.drop()


def standing(database: Database) -> Standing:
    """Ask this node's server. Raises Failure."""
    with opened(database.socket, database) as (connection, deadline):
        configured = replica(connection, deadline)
        row = connection.run(
            deadline,
            "SELECT @@GLOBAL.version AS version, @@GLOBAL.read_only AS read_only, @@GLOBAL.datadir AS data,"
            " @@GLOBAL.gtid_binlog_state AS binlog_state",
        )[0]
    follows = configured.replication if configured is not None else None
    runs = follows is not None and follows.receiver is follows.applier is Thread.RUNNING
    return Standing(
        version=str(row["version"]),
        read_only=bool(row["read_only"]),
        binlog_state=str(row["binlog_state"] or "").replace("\n", ""),
        replicates_from=follows.source if follows is not None and runs else "",
        data=str(row["data"]),
    )


def doubtful_since(database: Database) -> str:
    """Return a GTID after which this node's numbers may stand for other transactions on the primary; "" for none.

    The primary has refused this server: it does not know what this one holds last. Where no number here is beyond the
    primary's, its server lost that in a crash and has gone on with greater numbers. All since the newest term that this
    node knows of began is then in doubt. Nothing where the server does not answer: there only numbers can be compared.
    """
    try:
        with opened(database.socket, database) as (connection, deadline):
            configured = replica(connection, deadline)
            if configured is None or not configured.replication.refused:
                return ""
            rows = connection.run(deadline, "SELECT gtid FROM failoverd.journal ORDER BY term DESC LIMIT 1")
    except Failure:
        return ""
    began = by_domain(str(rows[0]["gtid"])) if rows else GtidSet()
    domain, intervals = began.parts[0] if began.parts else ("0", ((0, 0),))
    return f"{domain}-0-{intervals[-1][1]}"


def is_writable(database: Database) -> bool:
    """Ask only that. Raises Failure."""
    with opened(database.socket, database) as (connection, deadline):
        return not connection.run(deadline, "SELECT @@GLOBAL.read_only AS r")[0]["r"]
