"""MariaDB, towards the primary: freeze, apply, become a source, become writable, write down that it happened.

The sequences are those of shared/reference/prior-art.md, section 6.3 and 6.4. Each is a function of a connection and a
deadline, raises Failure where it ends early, and can be run again from wherever it ended.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from pymysql.constants import ER

from failoverd.core.model import Outcome, Thread
from failoverd.databases.connection import Failure
from failoverd.databases.facts import NEVER_DEGRADE_MS, read_facts, slave_row, wait_position
from failoverd.databases.sockets import end_connections

if TYPE_CHECKING:
    from collections.abc import Callable

    from failoverd.core.gtid import GtidSet
    from failoverd.core.model import DatabaseFacts, NodeName
    from failoverd.databases.connection import Connection, Deadline
    from failoverd.databases.facts import OwnStarts

STOP_GRACE_S = 0.03  # a source that lives lets STOP SLAVE end within this; after it the receiver's sockets are ended
STOP_AGAIN_S = 0.005
POLL_S = 0.01
WAIT_SLICE_S = 0.1  # MASTER_GTID_WAIT does not notice that the applier stopped: ask in slices
SKIPPED = 100_000  # each connection has one commit that waits, and MariaDB allows no more connections than that
REASON_MOST = 255  # failoverd.journal.reason


def freeze(connection: Connection, deadline: Deadline) -> None:
    """STOP SLAVE IO_THREAD (section 6.4, step 3): the applier goes on, the relay log stays."""
    row = slave_row(connection, deadline)
    if row is not None:
        stop_receiver(connection, deadline, row)


def stop_receiver(connection: Connection, deadline: Deadline, row: dict[str, Any]) -> None:
    """STOP SLAVE IO_THREAD without waiting for a source that does not answer: a few hundredths of a second.

    What takes the time (10.11's semisync_slave.cc; in its error log "cannot connect to master to kill slave
    io_thread's connection"): a semi-synchronous receiver that stops connects to its source once more, to end its dump
    thread there, and waits rpl_semi_sync_slave_kill_conn_timeout for that (default 5 s, at least 1 s). Neither KILL of
    the thread nor switching semi-sync off beforehand helps: it was decided when the receiver started. A receiver that
    reconnects waits slave_net_timeout likewise. Ending these sockets in the kernel ends each of the waits.
    """
    if row["Slave_IO_Running"] == "No":
        return
    connection.send(deadline, "STOP SLAVE IO_THREAD")
    pause = STOP_GRACE_S
    while not connection.wait(min(pause, deadline.left_s)):
        deadline.check("STOP SLAVE IO_THREAD")
        with contextlib.suppress(OSError, ValueError):  # without it the server's own time-outs remain
            end_connections(row["Master_Host"], row["Master_Port"], connection.peer_uid)
        pause = STOP_AGAIN_S
    connection.finish(deadline)


def await_applied(connection: Connection, deadline: Deadline, wanted: Callable[[DatabaseFacts], GtidSet]) -> None:
    """Wait until what `wanted` says of the facts is applied (section 6.3, step 4; section 6.4, step 6).

    MASTER_GTID_WAIT returns the moment it is so. UNKNOWN at the deadline: the applier goes on.
    """
    while True:
        facts = read_facts(connection, deadline)
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
        seconds = min(WAIT_SLICE_S, deadline.left_s - POLL_S / 2)
        connection.run(deadline, "SELECT MASTER_GTID_WAIT(%s, %s)", wait_position(position), seconds)


def become_source(connection: Connection, deadline: Deadline, own: OwnStarts) -> None:
    """STOP SLAVE; RESET SLAVE ALL; semi-sync source on (sections 6.2 and 6.3, step 6). Never before all is applied.

    Semi-sync as a replica stays on: it means nothing without a source, and with init-rpl-role=SLAVE it is what makes a
    crashed server drop what nobody acknowledged. All that a source needs besides is its binary log.
    """
    row = slave_row(connection, deadline)
    if row is not None:
        stop_receiver(connection, deadline, row)
        facts = read_facts(connection, deadline)
        if not facts.applied.covers(facts.position):
            raise Failure("DB_NOT_APPLIED", f"{facts.position.minus(facts.applied)} is received and not applied")
        connection.run(deadline, "STOP SLAVE")
        connection.run(deadline, "RESET SLAVE ALL")
        own.add(connection.server_run)
    connection.run(
        deadline,
        "SET GLOBAL rpl_semi_sync_master_wait_point = 'AFTER_SYNC', GLOBAL rpl_semi_sync_master_timeout = %s, "
        "GLOBAL rpl_semi_sync_master_wait_no_slave = ON, GLOBAL rpl_semi_sync_master_enabled = ON",
        NEVER_DEGRADE_MS,
    )


def await_replica(connection: Connection, deadline: Deadline) -> None:
    """Wait until Rpl_semi_sync_master_clients is at least 1: the first commit would hang without (section 6.3)."""
    while not read_facts(connection, deadline).semi_sync_clients:
        if deadline.left_s <= POLL_S:
            raise Failure("DB_NO_REPLICA", f"none within {deadline.after_ms} ms", Outcome.UNKNOWN)
        connection.wait(POLL_S)


def make_writable(
    connection: Connection,
    deadline: Deadline,
    second: Callable[[], contextlib.AbstractContextManager[Connection | None]],
    *,
    term: int,
) -> None:
    """SET GLOBAL read_only = 0 (section 6.3, step 7); refused while a commit would not wait for a replica.

    *No number is used twice.* A source that crashed has dropped what nobody had acknowledged, and a replica may have
    received it all the same. Were the same numbers given to other transactions, nothing could tell the two apart later.
    So the first transaction of a writable server has a number that none has ever had (`fresh_number`): a replica that
    has such a tail asks for one that nobody has, and is refused (1236, `needs-rejoin`). That transaction is the term's
    first heartbeat, so that nothing of the term comes before one. It may wait for its acknowledgement as it likes;
    read_only goes as soon as it is in the binary log, in front of whatever is written then.
    """
    facts = read_facts(connection, deadline)
    if facts.replication is not None:
        raise Failure("DB_STILL_REPLICA", f"still follows {facts.replication.source}")
    if not facts.semi_sync_source:
        raise Failure("DB_NOT_SOURCE", "semi-sync source is off, degraded or set to degrade")
    if not facts.read_only:
        return
    last = max((intervals[-1][1] for _, intervals in facts.holdings.parts), default=0)
    number = fresh_number(
        last, boot_us=time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000, wall_us=time.time_ns() // 1000
    )
    with second() as writer:
        if writer is None:
            raise Failure("DB_CONNECTIONS", "the server gives no second connection")
        writer.run(deadline, "SET SESSION gtid_seq_no = %s", number)
        writer.send(
            deadline,
            "INSERT INTO failoverd.heartbeat (id, term, beat) VALUES (1, %s, 1) "
            "ON DUPLICATE KEY UPDATE term = VALUES(term), beat = beat + 1",
            term,
        )
        while not _is_logged(connection, deadline, number):
            if writer.wait(POLL_S):
                writer.finish(deadline)  # raises what the server has against it
                if not _is_logged(connection, deadline, number):
                    raise Failure("DB_SQL", f"transaction {number} is committed and not in the binary log")
            deadline.check("the term's first transaction")
        connection.run(deadline, "SET GLOBAL read_only = 0")


def fresh_number(last: int, *, boot_us: int, wall_us: int) -> int:
    """A transaction number beyond `last`, and beyond all that this server gave before a crash made it forget them.

    The time in microseconds, since no server commits more than one in each. It need not be right: where the wall clock
    was set back below what was given already, the time since boot keeps two numbers of one boot apart.
    """
    return max(last + SKIPPED + boot_us, wall_us)


def _is_logged(connection: Connection, deadline: Deadline, number: int) -> bool:
    holdings = read_facts(connection, deadline).holdings
    return any(intervals[-1][1] >= number for _, intervals in holdings.parts)


def write_journal(
    connection: Connection, deadline: Deadline, *, term: int, holder: NodeName, previous: NodeName | None, reason: str
) -> None:
    """Insert the term's row, @@gtid_binlog_pos as its position (section 6.3, step 7), unless it is there.

    A row that can be read was acknowledged by a replica: with AFTER_SYNC nobody sees it before. An insert that still
    waits at the deadline is left waiting (ending it would commit it without an acknowledgement): UNKNOWN, and the next
    call waits behind it.
    """
    if _journalled(connection, deadline, term, holder):
        return
    # read_only in the statement itself: failoverd's account may write in spite of it.
    connection.send(
        deadline,
        "INSERT INTO failoverd.journal (term, holder, previous, gtid, reason) "
        "SELECT %s, %s, %s, @@GLOBAL.gtid_binlog_pos, %s FROM DUAL WHERE @@GLOBAL.read_only = 0",
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


def send_beat(connection: Connection, deadline: Deadline, *, term: int, beat: int) -> None:
    """Send the heartbeat's write (section 6.7); `await_commit` is its end."""
    connection.send(
        deadline,
        "INSERT INTO failoverd.heartbeat (id, term, beat) SELECT 1, %s, %s FROM DUAL WHERE @@GLOBAL.read_only = 0 "
        "ON DUPLICATE KEY UPDATE term = VALUES(term), beat = VALUES(beat)",
        *(term, beat),
    )


def await_commit(connection: Connection, deadline: Deadline, what: str) -> None:
    """Wait for the answer to a write that was sent. DB_NO_ACK leaves it unanswered, the connection in use."""
    if not connection.wait(deadline.left_s):
        raise Failure("DB_NO_ACK", f"{what} is not committed after {deadline.after_ms} ms", Outcome.UNKNOWN)
    connection.finish(deadline)
    if not connection.affected:
        raise Failure("DB_READ_ONLY", f"{what} was not written")
