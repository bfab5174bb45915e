"""MariaDB leaves the role: bounded in the server too, and never over what the new source lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.databases.mariadb_facts import by_domain

if TYPE_CHECKING:
    from failoverd.databases.connection import Connection, Deadline
    from failoverd.databases.dialect import Account


def send_read_only(connection: Connection, deadline: Deadline, limit_s: float) -> None:
    """SET GLOBAL read_only = 1, which the server itself gives up after `limit_s`.

    Where a commit that waits for an acknowledgement outlasts it and the server is killed for that: one that starts
    again with init-rpl-role=SLAVE takes those transactions out of its binary log by itself (tried), and can follow the
    new primary without being rebuilt.
    """
    connection.send(deadline, f"SET STATEMENT max_statement_time = {limit_s:.3f} FOR SET GLOBAL read_only = 1")


def change_source(connection: Connection, deadline: Deadline, address: str, account: Account) -> None:
    """CHANGE MASTER TO, by GTID.

    A server that was a source starts from its own binary log's end (MASTER_DEMOTE_TO_SLAVE), so that a transaction
    which the new source lacks is an error 1236 and not silently kept.
    """
    at = connection.run(deadline, "SELECT @@GLOBAL.gtid_slave_pos AS slave, @@GLOBAL.gtid_binlog_pos AS own")[0]
    was_source = not by_domain(at["slave"]).covers(by_domain(at["own"]))
    connection.run(
        deadline,
        "CHANGE MASTER TO MASTER_HOST = %s, MASTER_PORT = %s, MASTER_USER = %s, MASTER_PASSWORD = %s, "
        "MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1, MASTER_HEARTBEAT_PERIOD = 1"
        + (", MASTER_DEMOTE_TO_SLAVE = 1" if was_source else ""),
        *(address, account.port, account.user, account.password),
    )
