"""Towards the primary, in any dialect: freeze, apply, become a source, become writable, write down that it happened.

The sequences are those of shared/reference/prior-art.md, section 6.3 and 6.4. Each is a function of a dialect, a
connection and a deadline, raises Failure where it ends early, and can be run again from wherever it ended.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pymysql.constants import ER

from failoverd.core.model import Outcome, Thread
from failoverd.databases.connection import Failure
from failoverd.databases.sockets import end_connections

if TYPE_CHECKING:
    from collections.abc import Callable

    from failoverd.core.gtid import GtidSet
    from failoverd.core.model import DatabaseFacts, NodeName
    from failoverd.databases.connection import Connection, Deadline
    from failoverd.databases.dialect import Dialect, Replica, Second
    from failoverd.databases.own_starts import OwnStarts

STOP_GRACE_S = 0.03  # a source that lives lets the receiver stop within this; after it its sockets are ended
STOP_AGAIN_S = 0.005
POLL_S = 0.01
WAIT_SLICE_S = 0.1  # a server that waits for a position does not notice that the applier stopped: ask in slices
REASON_MOST = 255  # failoverd.journal.reason


def freeze(dialect: Dialect, connection: Connection, deadline: Deadline) -> None:
    """Stop the receiver only (section 6.4, step 3): the applier goes on, the relay log stays."""
    replica = dialect.replica(connection, deadline)
    if replica is not None:
        stop_receiver(dialect, connection, deadline, replica)


def stop_receiver(dialect: Dialect, connection: Connection, deadline: Deadline, replica: Replica) -> None:
    """Stop the receiver without waiting for a source that does not answer: a few hundredths of a second.

    What takes the time in MariaDB (10.11's semisync_slave.cc; in its error log "cannot connect to master to kill slave
    io_thread's connection"): a semi-synchronous receiver that stops connects to its source once more, to end its dump
    thread there, and waits rpl_semi_sync_slave_kill_conn_timeout for that (default 5 s, at least 1 s). Neither KILL of
    the thread nor switching semi-sync off beforehand helps: it was decided when the receiver started. A receiver that
    reconnects waits slave_net_timeout (MySQL: replica_net_timeout) likewise, in both. Ending these sockets in the
    kernel ends each of the waits.
    """
    if not replica.receives:
        return
    connection.send(deadline, dialect.STOP_RECEIVER)
    pause = STOP_GRACE_S
    while not connection.wait(min(pause, deadline.left_s)):
        deadline.check(dialect.STOP_RECEIVER)
        with contextlib.suppress(OSError, ValueError):  # without it the server's own time-outs remain
            end_connections(replica.host, replica.port, connection.peer_uid)
        pause = STOP_AGAIN_S
    connection.finish(deadline)


def await_applied(
    dialect: Dialect, connection: Connection, deadline: Deadline, wanted: Callable[[DatabaseFacts], GtidSet]
) -> None:
    """Wait until what `wanted` says of the facts is applied (section 6.3, step 4; section 6.4, step 6).

    The server's own wait returns the moment it is so. UNKNOWN at the deadline: the applier goes on.
    """
    missing = ""
    while True:
        try:
            facts = dialect.read_facts(connection, deadline)
        except Failure as failure:
            if missing and failure.code == "DB_TIMEOUT":  # in the last of many looks
                raise Failure("DB_NOT_APPLIED", f"{missing} after {deadline.after_ms} ms", Outcome.UNKNOWN) from None
            raise
        position = wanted(facts)
        if facts.applied.covers(position):
            return
        missing = f"{position.minus(facts.applied)} is missing"
        follows = facts.replication
        if follows is None:
            raise Failure("DB_NOT_REPLICA", missing)
        if follows.applier is Thread.STOPPED:
            raise Failure("DB_APPLIER_STOPPED", f"{missing}; {follows.applier_error or 'stopped by hand'}")
        if follows.receiver is Thread.STOPPED and not facts.position.covers(position):
            raise Failure("DB_RECEIVER_STOPPED", f"{missing}; {follows.receiver_error or 'stopped by hand'}")
        if deadline.left_s <= POLL_S:
            raise Failure("DB_NOT_APPLIED", f"{missing} after {deadline.after_ms} ms", Outcome.UNKNOWN)
        dialect.wait_applied(connection, deadline, position, min(WAIT_SLICE_S, deadline.left_s - POLL_S / 2))


def become_source(dialect: Dialect, connection: Connection, deadline: Deadline, own: OwnStarts) -> None:
    """Replication off and forgotten, semi-sync source on (sections 6.2 and 6.3, step 6). Never before all is applied.

    Semi-sync as a replica stays on: it means nothing without a source, and in MariaDB, with init-rpl-role=SLAVE, it is
    what makes a crashed server drop what nobody acknowledged. All that a source needs besides is its binary log.
    """
    replica = dialect.replica(connection, deadline)
    if replica is not None:
        stop_receiver(dialect, connection, deadline, replica)
        facts = dialect.read_facts(connection, deadline)
        if not facts.applied.covers(facts.position):
            raise Failure("DB_NOT_APPLIED", f"{facts.position.minus(facts.applied)} is received and not applied")
        connection.run(deadline, dialect.STOP_BOTH)
        connection.run(deadline, dialect.FORGET_SOURCE)
        own.add(connection.server_run)
    dialect.be_source(connection, deadline)


def stop_waiting(dialect: Dialect, connection: Connection, deadline: Deadline) -> None:
    """Semi-sync source off. What waits is told to its client, and counted (DatabaseFacts.unacknowledged).

    Refused where a crash of this server, then the only one that has it, could take it back.
    """
    dialect.must_be_durable(connection, deadline)
    connection.run(deadline, dialect.SOURCE_OFF)


def await_replica(dialect: Dialect, connection: Connection, deadline: Deadline) -> None:
    """Wait until at least one replica that acknowledges is there: the first commit would hang without (section 6.3)."""
    none = Failure("DB_NO_REPLICA", f"none within {deadline.after_ms} ms", Outcome.UNKNOWN)
    waited = False
    try:
        while not dialect.read_facts(connection, deadline).semi_sync_clients:
            if deadline.left_s <= POLL_S:
                raise none
            waited = True
            connection.wait(POLL_S)
    except Failure as failure:
        if waited and failure.code == "DB_TIMEOUT":  # in the last of many looks
            raise none from None
        raise


def make_writable(dialect: Dialect, connection: Connection, deadline: Deadline, second: Second, *, term: int) -> None:
    """Read-only off (section 6.3, step 7); refused while a commit would not wait for a replica.

    The first transaction of a writable server is the term's first heartbeat, so that nothing of the term comes before
    one: the core tells by it whose history a server has. And *no number is used twice*: how that is kept is the
    dialect's.
    """
    facts = dialect.read_facts(connection, deadline)
    if facts.replication is not None:
        raise Failure("DB_STILL_REPLICA", f"still follows {facts.replication.source}")
    if not facts.semi_sync_source:
        raise Failure("DB_NOT_SOURCE", "semi-sync source is off, degraded or set to degrade")
    if facts.read_only:
        dialect.make_writable(connection, deadline, second, term=term, facts=facts)


def write_journal(
    dialect: Dialect,
    connection: Connection,
    deadline: Deadline,
    *,
    term: int,
    holder: NodeName,
    previous: NodeName | None,
    reason: str,
) -> None:
    """Insert the term's row with what the server holds as it begins (section 6.3, step 7), unless it is there.

    `gtid` says which server writes from now on, then all that it holds: what a server has beyond that of a
    term that is over is errant (core/errant.py).

    A row that can be read was acknowledged by a replica: with AFTER_SYNC nobody sees it before. An insert that still
    waits at the deadline is left waiting (ending it would commit it without an acknowledgement): UNKNOWN, and the next
    call waits behind it.
    """
    if _journalled(connection, deadline, term, holder):
        return
    # read_only in the statement itself: failoverd's account may write in spite of it.
    connection.send(
        deadline,
        "INSERT INTO failoverd.journal (term, holder, previous, gtid, reason) "  # noqa: S608 - a constant is put in
        f"SELECT %s, %s, %s, {dialect.JOURNAL_POSITION}, %s FROM DUAL WHERE @@GLOBAL.read_only = 0",
        *(term, holder, previous, reason[:REASON_MOST]),
    )
    try:
        await_commit(connection, deadline, f"the journal's row of term {term}")
    except Failure as failure:  # it waited behind an earlier call's, and that was committed
        if failure.number != ER.DUP_ENTRY or not _journalled(connection, deadline, term, holder):
            raise


def _journalled(connection: Connection, deadline: Deadline, term: int, holder: NodeName) -> bool:
    """Whether the term's row is there; it must not be another's."""
    found = connection.run(deadline, "SELECT holder FROM failoverd.journal WHERE term = %s", term)
    if found and found[0]["holder"] != holder:
        raise Failure("DB_TERM_TAKEN", f"term {term} is {found[0]['holder']}'s")
    return bool(found)


def send_first_beat(connection: Connection, deadline: Deadline, *, term: int) -> None:
    """Send a term's first heartbeat, which a read-only server takes from failoverd's account."""
    connection.send(
        deadline,
        "INSERT INTO failoverd.heartbeat (id, term, beat) VALUES (1, %s, 1) "
        "ON DUPLICATE KEY UPDATE term = %s, beat = beat + 1",
        *(term, term),
    )


def send_beat(connection: Connection, deadline: Deadline, *, term: int, beat: int) -> None:
    """Send the heartbeat's write (section 6.7); `await_commit` is its end."""
    connection.send(
        deadline,
        "INSERT INTO failoverd.heartbeat (id, term, beat) SELECT 1, %s, %s FROM DUAL WHERE @@GLOBAL.read_only = 0 "
        "ON DUPLICATE KEY UPDATE term = %s, beat = %s",  # no VALUES(): MySQL gives that up
        *(term, beat, term, beat),
    )


def await_commit(connection: Connection, deadline: Deadline, what: str) -> None:
    """Wait for the answer to a write that was sent. DB_NO_ACK leaves it unanswered, the connection in use."""
    if not connection.wait(deadline.left_s):
        raise Failure("DB_NO_ACK", f"{what} is not committed after {deadline.after_ms} ms", Outcome.UNKNOWN)
    connection.finish(deadline)
    if not connection.affected:
        raise Failure("DB_READ_ONLY", f"{what} was not written")
