"""MariaDB 10.11 with GTID and semi-synchronous replication, in its words.

    mariadb_facts    one reading        mariadb_promote  no number is used twice
    mariadb_demote   read-only, and what a former source may follow

Starting both threads throws the relay log away in GTID mode, so each start of a thread is counted (`own_starts`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.databases import mariadb_demote, mariadb_facts, mariadb_promote, mariadb_settings
from failoverd.databases.dialect import Dialect
from failoverd.databases.server import SqlServer

if TYPE_CHECKING:
    from failoverd.core.gtid import GtidSet
    from failoverd.core.model import DatabaseFacts, SettingsFacts
    from failoverd.databases.connection import Connection, Deadline
    from failoverd.databases.dialect import Account, Replica, Second
    from failoverd.databases.own_starts import OwnStarts


class MariaDbDialect(Dialect):
    """10.11: SLAVE and MASTER, positions by domain."""

    STOP_RECEIVER = "STOP SLAVE IO_THREAD"
    STOP_BOTH = "STOP SLAVE"
    START_RECEIVER = "START SLAVE IO_THREAD"
    START_APPLIER = "START SLAVE SQL_THREAD"
    START_BOTH = "START SLAVE"
    FORGET_SOURCE = "RESET SLAVE ALL"
    SEMI_SYNC = (
        "SELECT @@GLOBAL.rpl_semi_sync_master_enabled AS source, @@GLOBAL.rpl_semi_sync_slave_enabled AS replica"
    )
    SOURCE_OFF = "SET GLOBAL rpl_semi_sync_master_enabled = OFF"
    REPLICA_ON = "SET GLOBAL rpl_semi_sync_slave_enabled = ON"
    READ_ONLY = "SELECT @@GLOBAL.read_only AS v"
    JOURNAL_POSITION = (  # a list that is too long is cut: whoever reads it leaves out the GTID at which it was
        "LEFT(CONCAT_WS(',', CONCAT(@@GLOBAL.gtid_domain_id, '-', @@GLOBAL.server_id, '-0'), "
        "NULLIF(REPLACE(@@GLOBAL.gtid_binlog_state, '\\n', ''), ''), NULLIF(@@GLOBAL.gtid_slave_pos, '')), 512)"
    )
    SESSIONS = "SELECT ID, USER, HOST, COMMAND, STATE FROM information_schema.PROCESSLIST"
    RUNNING = (
        "SELECT ID, USER, COMMAND, TIME_MS FROM information_schema.PROCESSLIST WHERE COMMAND IN ('Query', 'Execute')"
    )
    NEVER_KILLED = frozenset({"Binlog Dump", "Slave_IO", "Slave_SQL", "Slave_worker", "Daemon"})
    IN_COMMIT = ("commit", "waiting for prior transaction to commit")
    START_LOSES_RELAY_LOG = True

    def read_facts(self, connection: Connection, deadline: Deadline, own: OwnStarts | None = None) -> DatabaseFacts:
        """Three statements, about a millisecond."""
        return mariadb_facts.read_facts(connection, deadline, own)

    def read_settings(self, connection: Connection, deadline: Deadline) -> SettingsFacts:
        """Variables, tables, events, the journal, and the option files of the next start."""
        return mariadb_settings.read_settings(connection, deadline)

    def replica(self, connection: Connection, deadline: Deadline) -> Replica | None:
        """SHOW SLAVE STATUS."""
        return mariadb_facts.replica(connection, deadline)

    def wait_applied(self, connection: Connection, deadline: Deadline, position: GtidSet, seconds: float) -> None:
        """MASTER_GTID_WAIT, which looks at the numbers only."""
        where = mariadb_facts.wait_position(position)
        connection.run(deadline, "SELECT MASTER_GTID_WAIT(%s, %s)", where, seconds)

    def be_source(self, connection: Connection, deadline: Deadline) -> None:
        """The wait point is AFTER_COMMIT unless it is set, the timeout 10 s."""
        connection.run(
            deadline,
            "SET GLOBAL rpl_semi_sync_master_wait_point = 'AFTER_SYNC', GLOBAL rpl_semi_sync_master_timeout = %s, "
            "GLOBAL rpl_semi_sync_master_wait_no_slave = ON, GLOBAL rpl_semi_sync_master_enabled = ON",
            mariadb_facts.NEVER_DEGRADE_MS,
        )

    def must_be_durable(self, connection: Connection, deadline: Deadline) -> None:
        """The commit itself must be on disk: recovery as a replica drops what is only prepared."""
        mariadb_promote.must_be_durable(connection, deadline)

    def make_writable(
        self, connection: Connection, deadline: Deadline, second: Second, *, term: int, facts: DatabaseFacts
    ) -> None:
        """Behind a number that none has ever had."""
        mariadb_promote.make_writable(connection, deadline, second, term=term, facts=facts)

    def send_read_only(self, connection: Connection, deadline: Deadline, limit_s: float) -> None:
        """Bounded by max_statement_time."""
        mariadb_demote.send_read_only(connection, deadline, limit_s)

    def change_source(self, connection: Connection, deadline: Deadline, address: str, account: Account) -> None:
        """CHANGE MASTER TO."""
        mariadb_demote.change_source(connection, deadline, address, account)


class MariaDb(SqlServer):
    """`ports.Database` for MariaDB, over its Unix socket."""

    DIALECT = MariaDbDialect()
