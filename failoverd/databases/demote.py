"""Away from the primary, in any dialect: read-only, whatever its clients do, and follow another.

The sequences are those of shared/reference/prior-art.md, section 6.3. Each is a function of a dialect, a connection
and a deadline, raises Failure where it ends early, and can be run again from wherever it ended.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from failoverd.core.model import Outcome, Thread
from failoverd.databases.connection import Deadline, Failure
from failoverd.databases.promote import POLL_S, stop_receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from failoverd.databases.connection import Connection
    from failoverd.databases.dialect import Account, Dialect, Replica, Second
    from failoverd.databases.own_starts import OwnStarts

IDLE_GRACE_S = 0.15  # how long connections that only look things up are spared while read_only is waited for
SETTLE_S = 0.3  # how long a started receiver is watched for an error that ends it at once
ROOM_ATTEMPTS = 10  # at a second connection, where the server has no more to give
SHORTEST_LIMIT_S = 0.01  # a server-side limit of 0 would mean none
KILL_MS = 50

_WRONG_PASSWORD = {1045, 1698}
_ACK_WAIT = "semi-sync ACK"
_UNKNOWN_THREAD = "Unknown thread id"


def make_read_only(dialect: Dialect, connection: Connection, deadline: Deadline, second: Second) -> None:
    """Set read_only, clients killed meanwhile, bounded on both sides (section 6.3, step 2).

    read_only waits for open transactions, for locks, and for every commit under way; new writes wait behind it. So it
    is asked for first, and who holds it up is killed: then nobody is ended on the way into a commit. Local connections
    that sleep outside a transaction, as the look-ups of Postfix and Dovecot do, are spared at first: they hold nothing,
    and mail takes a minute to get over their loss.

    A commit that waits for a replica's acknowledgement is never ended, and semi-sync never switched off: both would
    commit here what no replica has, and semi-sync off would tell the client so as well. Where such a commit outlasts
    the deadline the answer is DB_READ_ONLY_BLOCKED, and the caller kills the server. What becomes of such a commit
    when the server starts again is the dialect's: MariaDB takes it back, MySQL commits it.
    """
    if connection.run(deadline, dialect.READ_ONLY)[0]["v"]:
        return
    with _beside(dialect, connection, deadline, second) as other:
        started_s = deadline.left_s
        dialect.send_read_only(connection, deadline, max(deadline.left_s - KILL_MS / 1000, SHORTEST_LIMIT_S))
        while not connection.wait(min(POLL_S, deadline.left_s)):
            if deadline.left_s <= POLL_S:
                _give_up(dialect, connection, deadline, other)
            if other is not None:
                spare_idle = started_s - deadline.left_s < IDLE_GRACE_S
                _kill_clients(dialect, other, deadline, {connection.number, other.number}, spare_idle=spare_idle)
    try:
        connection.finish(deadline)
    except Failure as failure:
        if failure.code == "DB_TIMEOUT":  # the server's own limit was the first to end
            waiting = _unacknowledged(dialect, connection, deadline)
            raise Failure("DB_READ_ONLY_BLOCKED", _blocked(deadline, waiting)) from None
        raise
    _kill_clients(dialect, connection, deadline, {connection.number}, spare_idle=True)


@contextlib.contextmanager
def _beside(
    dialect: Dialect, connection: Connection, deadline: Deadline, second: Second
) -> Iterator[Connection | None]:
    """Another connection beside the one that will wait, if need be in the place of clients that do nothing.

    Of remote ones first: local look-ups are of the mail services, which take a minute to get over their loss.
    """
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(second())
        for attempt in range(ROOM_ATTEMPTS):
            if other is not None:
                break
            spare = attempt < ROOM_ATTEMPTS // 2
            _kill_clients(dialect, connection, deadline, {connection.number}, spare_idle=spare, only_idle=True)
            connection.wait(min(POLL_S, deadline.left_s))
            other = stack.enter_context(second())
        yield other


def _give_up(dialect: Dialect, connection: Connection, deadline: Deadline, other: Connection | None) -> None:
    """End the statement, so that it does not come true when nobody expects it any more."""
    waiting = 0
    if other is not None:
        last = Deadline(KILL_MS)
        _kill(other, last, connection.number)
        waiting = _unacknowledged(dialect, other, last)
    raise Failure("DB_READ_ONLY_BLOCKED", _blocked(deadline, waiting), Outcome.UNKNOWN)


def _blocked(deadline: Deadline, waiting: int) -> str:
    words = f"read_only not set within {deadline.after_ms} ms"
    return f"{words}: {waiting} commits wait for an acknowledgement" if waiting else words


def _unacknowledged(dialect: Dialect, connection: Connection, deadline: Deadline) -> int:
    """How many sessions wait for a replica's acknowledgement."""
    return sum(_ACK_WAIT in (row["state"] or "") for row in dialect.sessions(connection, deadline))


def _kill_clients(
    dialect: Dialect,
    connection: Connection,
    deadline: Deadline,
    keep: set[int],
    *,
    spare_idle: bool,
    only_idle: bool = False,
) -> None:
    """KILL all that may write or hold a lock, but for `keep` and for whoever is inside a commit.

    Neither the server's own threads nor replicas' dumps nor failoverd's other connections: a reading holds nothing,
    and a heartbeat either waits behind read_only or is inside its commit.
    """
    rows = dialect.sessions(connection, deadline)
    transactions = connection.run(deadline, "SELECT trx_mysql_thread_id AS id FROM information_schema.INNODB_TRX")
    writing = {row["id"] for row in transactions}
    for row in rows:
        number, user, command, state = row["id"], row["user"], row["command"], row["state"] or ""
        if number in keep or user == "system user" or command in dialect.NEVER_KILLED:
            continue
        if state.lower().startswith(dialect.IN_COMMIT) or _ACK_WAIT in state:
            continue
        local = row["host"] == "localhost"
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
    dialect: Dialect,
    connection: Connection,
    deadline: Deadline,
    second: Second,
    own: OwnStarts,
    *,
    address: str,
    account: Account,
) -> None:
    """Become a read-only replica of `address` (section 6.3, steps 7 and 8), or stay one.

    Read-only first. Semi-sync source off, or the applier's own commits would wait for replicas that this server will
    never have; replica on. What follows `address` already is left alone, but for threads that stand still: starting
    both at once may throw the relay log away, which is right here (the new source has it all) and nowhere else.
    """
    make_read_only(dialect, connection, deadline, second)
    fresh = _be_semi_sync_replica(dialect, connection, deadline)
    replica = dialect.replica(connection, deadline)
    if replica is not None and _follows(replica, address, account):
        _start_stopped(dialect, connection, deadline, own, replica, restart_receiver=fresh)
    else:
        _change_source(dialect, connection, deadline, own, replica, address, account)
    _settle(dialect, connection, deadline)


def _be_semi_sync_replica(dialect: Dialect, connection: Connection, deadline: Deadline) -> bool:
    """Source off, replica on. Returns whether a receiver that runs would have to start anew to notice."""
    on = connection.run(deadline, dialect.SEMI_SYNC)[0]
    if on["source"]:
        # Whoever still waits for an acknowledgement (an account that may write in spite of read_only) must not be
        # told that there was one.
        waiting = _unacknowledged(dialect, connection, deadline)
        if waiting:
            raise Failure("DB_NO_ACK", f"{waiting} commits wait for an acknowledgement on this read-only server")
        connection.run(deadline, dialect.SOURCE_OFF)
    if not on["replica"]:
        connection.run(deadline, dialect.REPLICA_ON)
    return not on["replica"]


def _follows(replica: Replica, address: str, account: Account) -> bool:
    as_wanted = (address, account.port, account.user, True)
    found = (replica.host, replica.port, replica.user, replica.by_gtid)
    return found == as_wanted and replica.receiver_errno not in _WRONG_PASSWORD


def _start_stopped(
    dialect: Dialect,
    connection: Connection,
    deadline: Deadline,
    own: OwnStarts,
    replica: Replica,
    *,
    restart_receiver: bool,
) -> None:
    receiver, applier = replica.receives, replica.applies
    if restart_receiver and receiver and applier:  # with the applier running the relay log stays
        stop_receiver(dialect, connection, deadline, replica)
        receiver = False
    if not receiver and not applier:
        connection.run(deadline, dialect.START_BOTH)
    elif not (receiver and applier):
        connection.run(deadline, dialect.START_RECEIVER if applier else dialect.START_APPLIER)
        after = dialect.replica(connection, deadline)
        stayed = after is not None and (after.applies if applier else after.receives)
        if stayed and dialect.START_LOSES_RELAY_LOG:
            own.add(connection.server_run)  # the other ran all the time, so that the relay log stayed


def _change_source(  # noqa: PLR0917 - all that it needs
    dialect: Dialect,
    connection: Connection,
    deadline: Deadline,
    own: OwnStarts,
    replica: Replica | None,
    address: str,
    account: Account,
) -> None:
    """Follow another than before: what it had received of that one is thrown away, and was not of the new one's term.

    Who followed nobody, or `address` with another account, may have acknowledged something to it.
    """
    if replica is not None:
        stop_receiver(dialect, connection, deadline, replica)
        connection.run(deadline, dialect.STOP_BOTH)
    dialect.change_source(connection, deadline, address, account)
    connection.run(deadline, dialect.START_BOTH)
    if replica is not None and replica.host != address:
        own.add(connection.server_run)  # the change itself
        if dialect.START_LOSES_RELAY_LOG:
            own.add(connection.server_run)


def _settle(dialect: Dialect, connection: Connection, deadline: Deadline) -> None:
    """Watch the receiver for a moment: one that its source refuses stops at once and says why."""
    watch = Deadline(int(min(SETTLE_S, deadline.left_s) * 1000))
    while True:
        replica = dialect.replica(connection, deadline)
        if replica is None:
            raise Failure("DB_NOT_REPLICA", "the replication was removed meanwhile")
        follows = replica.replication
        if follows.receiver is Thread.STOPPED:
            raise Failure("DB_RECEIVER_STOPPED", follows.receiver_error or "stopped by hand")
        if follows.applier is Thread.STOPPED:
            raise Failure("DB_APPLIER_STOPPED", follows.applier_error or "stopped by hand")
        if follows.receiver is Thread.RUNNING or watch.left_s <= 0:
            return
        connection.wait(POLL_S)
