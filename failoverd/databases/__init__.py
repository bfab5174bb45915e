"""The SQL dialects: one file each, one line in DATABASES, and the meaning of every code they give.

server    the port, for any dialect     connection    pymysql, bounded on this side
promote   its sequences                 sessions      which connections there are, and how they are ended
demote    and the way back              sockets       ends TCP connections that would be waited for
dialect   what differs                  own_starts    what throws a relay log away
settings  findings, the journal         option_files  what the server reads at its start

mariadb, mysql: the words of each, and beside them (`_facts`, `_promote`, `_demote`, `_settings`) what is more than
words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.databases.mariadb import MariaDb
from failoverd.databases.mysql import MySql

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from failoverd.ports import Database

# By the name in the configuration.
DATABASES: Mapping[str, Callable[..., Database]] = {"mariadb": MariaDb, "mysql": MySql}

# Every code that a dialect can give. Each has a page in runbooks/.
CODES: Mapping[str, str] = {
    # the server could not be asked
    "DB_REFUSED": "no server listens on the socket",
    "DB_HUNG": "the server accepts connections and does not greet: stopped, or out of threads",
    "DB_TIMEOUT": "the server did not answer a statement in time",
    "DB_LOST": "the server closed the connection in the middle: it stops, or somebody killed the connection",
    "DB_AUTH": "the server refused failoverd's name or password",
    "DB_DENIED": "failoverd's account lacks a right: see config/grants-mariadb.sql, grants-mysql.sql",
    "DB_CONNECTIONS": "the server has no connection left, not even the one kept for administrators",
    "DB_SCHEMA": "the database failoverd or one of its tables is missing: see config/grants-mariadb.sql, "
    "grants-mysql.sql",
    "DB_CANCELLED": "failoverd itself ended the work",
    "DB_SQL": "the server refused a statement; the reason is the server's",
    # what stood in the way
    "DB_READ_ONLY": "the server is read-only: nothing was written",
    "DB_READ_ONLY_BLOCKED": "read_only could not be set in time: a commit or a lock goes on",
    "DB_NOT_REPLICA": "no replication is configured",
    "DB_STILL_REPLICA": "replication is still configured: a source may follow nobody",
    "DB_NOT_SOURCE": "the server does not wait for an acknowledgement of its commits: it must not become writable",
    "DB_NOT_DURABLE": "a crash of the server could take back what a client was told, or what a replica has",
    "DB_NOT_APPLIED": "received transactions are not applied yet",
    "DB_APPLIER_STOPPED": "the applier stopped: what was received cannot be applied",
    "DB_RECEIVER_STOPPED": "the receiver stopped: what is missing cannot come",
    "DB_NO_REPLICA": "no replica that acknowledges is attached",
    "DB_NO_ACK": "the commit waits, most likely for a replica's acknowledgement",
    "DB_TERM_TAKEN": "the journal already names another primary for this term",
}
