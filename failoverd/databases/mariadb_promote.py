"""MariaDB becomes writable with a transaction number that none has ever had."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from failoverd.databases.connection import Failure
from failoverd.databases.mariadb_facts import read_facts
from failoverd.databases.promote import POLL_S, send_first_beat

if TYPE_CHECKING:
    from failoverd.core.model import DatabaseFacts
    from failoverd.databases.connection import Connection, Deadline
    from failoverd.databases.dialect import Second

DURABLE = "SELECT @@GLOBAL.sync_binlog AS sync_binlog, @@GLOBAL.innodb_flush_log_at_trx_commit AS flush_log"
SKIPPED = 100_000  # each connection has one commit that waits, and MariaDB allows no more connections than that


def make_writable(
    connection: Connection, deadline: Deadline, second: Second, *, term: int, facts: DatabaseFacts
) -> None:
    """SET GLOBAL read_only = 0, behind a first transaction far ahead.

    *No number is used twice.* A source that crashed has dropped what nobody had acknowledged, and a replica may have
    received it all the same. Were the same numbers given to other transactions, nothing could tell the two apart later.
    So the first transaction of a writable server has a number that none has ever had (`fresh_number`): a replica that
    has such a tail asks for one that nobody has, and is refused (1236, `needs-rejoin`). That transaction is the term's
    first heartbeat. It may wait for its acknowledgement as it likes; read_only goes as soon as it is in the binary log,
    in front of whatever is written then.
    """
    last = max((intervals[-1][1] for _, intervals in facts.holdings.parts), default=0)
    number = fresh_number(
        last, boot_us=time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000, wall_us=time.time_ns() // 1000
    )
    with second() as writer:
        if writer is None:
            raise Failure("DB_CONNECTIONS", "the server gives no second connection")
        writer.run(deadline, "SET SESSION gtid_seq_no = %s", number)
        send_first_beat(writer, deadline, term=term)
        while not _is_logged(connection, deadline, number):
            if writer.wait(POLL_S):
                writer.finish(deadline)  # raises what the server has against it
                if not _is_logged(connection, deadline, number):
                    raise Failure("DB_SQL", f"transaction {number} is committed and not in the binary log")
            deadline.check("the term's first transaction")
        connection.run(deadline, "SET GLOBAL read_only = 0")


def must_be_durable(connection: Connection, deadline: Deadline) -> None:
    """Raise DB_NOT_DURABLE where the loss of power could take back a commit that no replica has.

    With innodb_flush_log_at_trx_commit=1 and a binary log the commit itself is not synced, only its preparation and the
    log; a server that starts with init-rpl-role=SLAVE takes what is only prepared for what nobody acknowledged.
    """
    values = connection.run(deadline, DURABLE)[0]
    if (values["sync_binlog"], values["flush_log"]) != (1, 3):
        words = (
            "sync_binlog is {sync_binlog} and innodb_flush_log_at_trx_commit {flush_log}; while no replica acknowledges"
            " they must be 1 and 3"
        )
        raise Failure("DB_NOT_DURABLE", words.format(**values))


def fresh_number(last: int, *, boot_us: int, wall_us: int) -> int:
    """A transaction number beyond `last`, and beyond all that this server gave before a crash made it forget them.

    The time in microseconds, since no server commits more than one in each. It need not be right: where the wall clock
    was set back below what was given already, the time since boot keeps two numbers of one boot apart.
    """
    return max(last + SKIPPED + boot_us, wall_us)


def _is_logged(connection: Connection, deadline: Deadline, number: int) -> bool:
    holdings = read_facts(connection, deadline).holdings
    return any(intervals[-1][1] >= number for _, intervals in holdings.parts)
