"""MySQL 8.0.26 and later, 8.4: GTID and semi-synchronous replication, in its words.

    mysql_facts    one reading        mysql_promote  no number is used twice
    mysql_demote   super_read_only, and how a replica logs in to its source

8.0.26 is the first release in which everything has its present name (`source`, `replica`); 8.4 has no others. What
8.4 renamed otherwise (SHOW MASTER STATUS, RESET MASTER) is not used: variables say the same in both.

*max_connections reached.* An account with CONNECTION_ADMIN gets one connection more than max_connections; for a second
one idle clients are killed (`demote`). MySQL's admin_port has no limit, but it is TCP only and would need a second
address, port and certificate in the configuration: not used.

*Which sessions can be killed.* CONNECTION_ADMIN ends all but those of accounts with SYSTEM_USER, for which it takes
SYSTEM_USER as well: `config/grants-mysql.sql` gives it, since it is root's own backup that holds the lock on the day.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.databases import mysql_demote, mysql_facts, mysql_promote, mysql_settings
from failoverd.databases.dialect import Dialect
from failoverd.databases.server import SqlServer

if TYPE_CHECKING:
    from failoverd.core.gtid import GtidSet
    from failoverd.core.model import DatabaseFacts, SettingsFacts
    from failoverd.databases.connection import Connection, Deadline
    from failoverd.databases.dialect import Account, Replica, Second
    from failoverd.databases.own_starts import OwnStarts


class MySqlDialect(Dialect):
    """8.0.26+: REPLICA and SOURCE, positions by server uuid."""

    STOP_RECEIVER = "STOP REPLICA IO_THREAD"
    STOP_BOTH = "STOP REPLICA"
    START_RECEIVER = "START REPLICA IO_THREAD"
    START_APPLIER = "START REPLICA SQL_THREAD"
    START_BOTH = "START REPLICA"
    FORGET_SOURCE = "RESET REPLICA ALL"
    SEMI_SYNC = (
        "SELECT @@GLOBAL.rpl_semi_sync_source_enabled AS source, @@GLOBAL.rpl_semi_sync_replica_enabled AS replica"
    )
    SOURCE_OFF = "SET GLOBAL rpl_semi_sync_source_enabled = OFF"
    REPLICA_ON = "SET GLOBAL rpl_semi_sync_replica_enabled = ON"
    READ_ONLY = "SELECT @@GLOBAL.super_read_only AS v"
    JOURNAL_POSITION = "CONCAT(@@GLOBAL.server_uuid, ',', @@GLOBAL.gtid_executed)"
    SESSIONS = "SHOW PROCESSLIST"  # information_schema's table is deprecated
    RUNNING = SESSIONS  # which knows whole seconds only
    NEVER_KILLED = frozenset({"Binlog Dump", "Binlog Dump GTID", "Daemon"})
    IN_COMMIT = ("waiting for handler commit",)
    START_LOSES_RELAY_LOG = False

    def read_facts(self, connection: Connection, deadline: Deadline, own: OwnStarts | None = None) -> DatabaseFacts:
        """Three statements."""
        return mysql_facts.read_facts(connection, deadline, own)

    def read_settings(self, connection: Connection, deadline: Deadline) -> SettingsFacts:
        """Variables, the replication's row, the journal."""
        return mysql_settings.read_settings(connection, deadline)

    def replica(self, connection: Connection, deadline: Deadline) -> Replica | None:
        """SHOW REPLICA STATUS."""
        return mysql_facts.replica(connection, deadline)

    def wait_applied(self, connection: Connection, deadline: Deadline, position: GtidSet, seconds: float) -> None:
        """WAIT_FOR_EXECUTED_GTID_SET: a GtidSet's own text is MySQL's."""
        connection.run(deadline, "SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %s)", str(position), seconds)

    def be_source(self, connection: Connection, deadline: Deadline) -> None:
        """One acknowledgement, which is what the election counts with; a larger number would only block more."""
        connection.run(
            deadline,
            "SET GLOBAL rpl_semi_sync_source_wait_point = 'AFTER_SYNC', GLOBAL rpl_semi_sync_source_timeout = %s, "
            "GLOBAL rpl_semi_sync_source_wait_no_replica = ON, "
            "GLOBAL rpl_semi_sync_source_wait_for_replica_count = 1, GLOBAL rpl_semi_sync_source_enabled = ON",
            mysql_facts.NEVER_DEGRADE_MS,
        )

    def must_be_durable(self, connection: Connection, deadline: Deadline) -> None:
        """What is in the binary log is committed by recovery, if both are on disk."""
        mysql_promote.must_be_durable(connection, deadline)

    def make_writable(
        self,
        connection: Connection,
        deadline: Deadline,
        second: Second,  # noqa: ARG002 - the one connection will do
        *,
        term: int,
        facts: DatabaseFacts,  # noqa: ARG002 - nothing depends on what it holds
    ) -> None:
        """Behind the heartbeat, and only where a crash takes nothing back."""
        mysql_promote.make_writable(connection, deadline, term=term)

    def send_read_only(self, connection: Connection, deadline: Deadline, limit_s: float) -> None:
        """super_read_only."""
        mysql_demote.send_read_only(connection, deadline, limit_s)

    def change_source(self, connection: Connection, deadline: Deadline, address: str, account: Account) -> None:
        """CHANGE REPLICATION SOURCE TO."""
        mysql_demote.change_source(connection, deadline, address, account)


class MySql(SqlServer):
    """`ports.Database` for MySQL, over its Unix socket."""

    DIALECT = MySqlDialect()
