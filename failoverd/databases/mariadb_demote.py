"""MariaDB, away from the primary: read-only, whatever its clients do, and follow another.

The sequences are those of shared/reference/prior-art.md, section 6.3. Each is a function of a connection and a
deadline, raises Failure where it ends early, and can be run again from wherever it ended.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from failoverd.core.model import Outcome, Thread
from failoverd.databases.connection import Deadline, Failure
from failoverd.databases.facts import OwnStarts, by_domain, replication, slave_row
from failoverd.databases.mariadb_promote import POLL_S, stop_receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from failoverd.databases.connection import Connection

    # Opens one more connection for a moment; None where the server gives none.
    Second = Callable[[], AbstractContextManager[Connection | None]]

IDLE_GRACE_S = 0.15  # how long connections that only look things up are spared while read_only is waited for
SETTLE_S = 0.3  # how long a started receiver is watched for an error that ends it at once
SHORTEST_LIMIT_S = 0.01  # a max_statement_time of 0 would mean none
KILL_MS = 50

_NEVER_KILLED = {"Binlog Dump", "Slave_IO", "Slave_SQL", "Slave_worker", "Daemon"}
_WRONG_PASSWORD = {1045, 1698}
_ACK_WAIT = "semi-sync ACK"
_IN_COMMIT = ("Commit", "Waiting for prior transaction to commit")  # the binary log may have it already
_UNKNOWN_THREAD = "Unknown thread id"


@dataclass(frozen=True, slots=True)
class Account:
    """With what a replica logs in to its source."""

    user: str
    password: str = field(repr=False)
    port: int


def make_read_only(connection: Connection, deadline: Deadline, second: Second) -> None:
    """SET GLOBAL read_only = 1, clients killed meanwhile, bounded on both sides (section 6.3, step 2).

    read_only waits for open transactions, for locks, and for every commit under way; new writes wait behind it. So it
    is asked for first, and who holds it up is killed: then nobody is ended on the way into a commit. Local connections
    that sleep outside a transaction, as the look-ups of Postfix and Dovecot do, are spared at first: they hold nothing,
    and mail takes a minute to get over their loss.

    A commit that waits for a replica's acknowledgement is never ended, and semi-sync never switched off: both would
    commit here what no replica has, and semi-sync off would tell the client so as well. Where such a commit outlasts
    the deadline the answer is DB_READ_ONLY_BLOCKED, and the caller kills the server. One that starts again with
    init-rpl-role=SLAVE takes those transactions out of its binary log by itself (tried), and can follow the new
    primary without being rebuilt.
    """
    if connection.run(deadline, "SELECT @@GLOBAL.read_only AS v")[0]["v"]:
        return
    with _beside(connection, deadline, second) as other:
        started_s = deadline.left_s
        limit_s = max(deadline.left_s - KILL_MS / 1000, SHORTEST_LIMIT_S)
        connection.send(deadline, f"SET STATEMENT max_statement_time = {limit_s:.3f} FOR SET GLOBAL read_only = 1")
        while not connection.wait(min(POLL_S, deadline.left_s)):
            if deadline.left_s <= POLL_S:
                _give_up(connection, deadline, other)
            if other is not None:
                spare_idle = started_s - deadline.left_s < IDLE_GRACE_S
                _kill_clients(other, deadline, {connection.number, other.number}, spare_idle=spare_idle)
    try:
        connection.finish(deadline)
    except Failure as failure:
        if failure.code == "DB_TIMEOUT":  # the server's own limit was the first to end
            raise Failure("DB_READ_ONLY_BLOCKED", _blocked(deadline, _unacknowledged(connection, deadline))) from None
        raise
    _kill_clients(connection, deadline, {connection.number}, spare_idle=True)


@contextlib.contextmanager
def _beside(connection: Connection, deadline: Deadline, second: Second) -> Iterator[Connection | None]:
    """Another connection beside the one that will wait, if need be in the place of clients that do nothing."""
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(second())
        if other is None:
            _kill_clients(connection, deadline, {connection.number}, spare_idle=False, only_idle=True)
        for _ in range(10):
            if other is not None:
                break
            connection.wait(min(POLL_S, deadline.left_s))
            other = stack.enter_context(second())
        yield other


def _give_up(connection: Connection, deadline: Deadline, other: Connection | None) -> None:
    """End the statement, so that it does not come true when nobody expects it any more."""
    waiting = 0
    if other is not None:
        last = Deadline(KILL_MS)
        _kill(other, last, connection.number)
        waiting = _unacknowledged(other, last)
    raise Failure("DB_READ_ONLY_BLOCKED", _blocked(deadline, waiting), Outcome.UNKNOWN)


def _blocked(deadline: Deadline, waiting: int) -> str:
    words = f"read_only not set within {deadline.after_ms} ms"
    return f"{words}: {waiting} commits wait for an acknowledgement" if waiting else words


def _unacknowledged(connection: Connection, deadline: Deadline) -> int:
    """How many sessions wait for a replica's acknowledgement."""
    states = connection.run(deadline, "SELECT STATE FROM information_schema.PROCESSLIST")
    return sum(_ACK_WAIT in (row["STATE"] or "") for row in states)


def _kill_clients(
    connection: Connection, deadline: Deadline, keep: set[int], *, spare_idle: bool, only_idle: bool = False
) -> None:
    """KILL all that may write or hold a lock, but for `keep` and for whoever is inside a commit.

    Neither the server's own threads nor replicas' dumps nor failoverd's other connections: a reading holds nothing,
    and a heartbeat either waits behind read_only or is inside its commit.
    """
    rows = connection.run(deadline, "SELECT ID, USER, HOST, COMMAND, STATE FROM information_schema.PROCESSLIST")
    transactions = connection.run(deadline, "SELECT trx_mysql_thread_id AS id FROM information_schema.INNODB_TRX")
    writing = {row["id"] for row in transactions}
    for row in rows:
        number, user, command, state = row["ID"], row["USER"], row["COMMAND"], row["STATE"] or ""
        if number in keep or user == "system user" or command in _NEVER_KILLED:
            continue
        if state.startswith(_IN_COMMIT) or _ACK_WAIT in state:
            continue
        local = row["HOST"] == "localhost"
        idle = command == "Sleep" and number not in writing
        if (local and (user == connection.name or (spare_idle and idle))) or (only_idle and not idle):
            continue
        _kill(connection, deadline, number)


def _kill(connection: Connection, deadline: Deadline, number: int) -> None:
    try:
        connection.run(deadline, f"KILL {int(number)}")
    except Failure as failure:
        if _UNKNOWN_THREAD not in failure.reason:  # it went by itself
            raise


def follow(
    connection: Connection, deadline: Deadline, second: Second, own: OwnStarts, *, address: str, account: Account
) -> None:
    """Become a read-only replica of `address` (section 6.3, steps 7 and 8), or stay one.

    Read-only first. Semi-sync source off, or the applier's own commits would wait for replicas that this server will
    never have; replica on. A server that was a source starts from its own binary log's end (MASTER_DEMOTE_TO_SLAVE), so
    that a transaction which the new source lacks is an error 1236 and not silently kept. What follows `address` already
    is left alone, but for threads that stand still: starting both at once throws the relay log away, which is right
    here (the new source has it all) and nowhere else.
    """
    make_read_only(connection, deadline, second)
    fresh = _be_semi_sync_replica(connection, deadline)
    row = slave_row(connection, deadline)
    if row is not None and _follows(row, address, account):
        _start_stopped(connection, deadline, own, row, restart_receiver=fresh)
    else:
        _change_source(connection, deadline, own, row, address, account)
    _settle(connection, deadline)


def _be_semi_sync_replica(connection: Connection, deadline: Deadline) -> bool:
    """Source off, replica on. Returns whether a receiver that runs would have to start anew to notice."""
    on = connection.run(
        deadline,
        "SELECT @@GLOBAL.rpl_semi_sync_master_enabled AS source, @@GLOBAL.rpl_semi_sync_slave_enabled AS replica",
    )[0]
    if on["source"]:
        # Whoever still waits for an acknowledgement (an account that may write in spite of read_only) must not be
        # told that there was one.
        waiting = _unacknowledged(connection, deadline)
        if waiting:
            raise Failure("DB_NO_ACK", f"{waiting} commits wait for an acknowledgement on this read-only server")
        connection.run(deadline, "SET GLOBAL rpl_semi_sync_master_enabled = OFF")
    if not on["replica"]:
        connection.run(deadline, "SET GLOBAL rpl_semi_sync_slave_enabled = ON")
    return not on["replica"]


def _follows(row: dict[str, Any], address: str, account: Account) -> bool:
    as_wanted = (address, account.port, account.user, "Slave_Pos")
    found = (row["Master_Host"], row["Master_Port"], row["Master_User"], row["Using_Gtid"])
    return found == as_wanted and row["Last_IO_Errno"] not in _WRONG_PASSWORD


def _start_stopped(
    connection: Connection, deadline: Deadline, own: OwnStarts, row: dict[str, Any], *, restart_receiver: bool
) -> None:
    receiver, applier = row["Slave_IO_Running"] != "No", row["Slave_SQL_Running"] != "No"
    if restart_receiver and receiver and applier:  # with the applier running the relay log stays
        stop_receiver(connection, deadline, row)
        receiver = False
    if not receiver and not applier:
        connection.run(deadline, "START SLAVE")
    elif not (receiver and applier):
        connection.run(deadline, "START SLAVE IO_THREAD" if applier else "START SLAVE SQL_THREAD")
        after = slave_row(connection, deadline)
        if after is not None and after["Slave_SQL_Running" if applier else "Slave_IO_Running"] != "No":
            own.add(connection.server_run)  # the other ran all the time, so that the relay log stayed


def _change_source(  # noqa: PLR0917 - all that it needs
    connection: Connection,
    deadline: Deadline,
    own: OwnStarts,
    row: dict[str, Any] | None,
    address: str,
    account: Account,
) -> None:
    """Follow another than before: what it had received of that one is thrown away, and was not of the new one's term.

    Who followed nobody, or `address` with another account, may have acknowledged something to it.
    """
    if row is not None:
        stop_receiver(connection, deadline, row)
        connection.run(deadline, "STOP SLAVE")
    at = connection.run(deadline, "SELECT @@GLOBAL.gtid_slave_pos AS slave, @@GLOBAL.gtid_binlog_pos AS own")[0]
    was_source = not by_domain(at["slave"]).covers(by_domain(at["own"]))
    connection.run(
        deadline,
        "CHANGE MASTER TO MASTER_HOST = %s, MASTER_PORT = %s, MASTER_USER = %s, MASTER_PASSWORD = %s, "
        "MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1, MASTER_HEARTBEAT_PERIOD = 1"
        + (", MASTER_DEMOTE_TO_SLAVE = 1" if was_source else ""),
        *(address, account.port, account.user, account.password),
    )
    connection.run(deadline, "START SLAVE")
    if row is not None and row["Master_Host"] != address:
        own.add(connection.server_run)  # CHANGE MASTER
        own.add(connection.server_run)


def _settle(connection: Connection, deadline: Deadline) -> None:
    """Watch the receiver for a moment: one that its source refuses stops at once and says why."""
    watch = Deadline(int(min(SETTLE_S, deadline.left_s) * 1000))
    while True:
        follows = replication(slave_row(connection, deadline))
        if follows is None:
            raise Failure("DB_NOT_REPLICA", "the replication was removed meanwhile")
        if follows.receiver is Thread.STOPPED:
            raise Failure("DB_RECEIVER_STOPPED", follows.receiver_error or "stopped by hand")
        if follows.applier is Thread.STOPPED:
            raise Failure("DB_APPLIER_STOPPED", follows.applier_error or "stopped by hand")
        if follows.receiver is Thread.RUNNING or watch.left_s <= 0:
            return
        connection.wait(POLL_S)
