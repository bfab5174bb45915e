"""MariaDB's settings as findings, and its journal: one slow reading, on a connection that nothing else waits for.

Each rule is a function of one `Server`, gives the value found and what is allowed, and has its severity, meaning and
fix in core/findings.py. What is compared between nodes (server_id, gtid_domain_id) is only read here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from failoverd.core.errant import JournalRow, fold
from failoverd.core.model import Identity, SettingsFacts
from failoverd.databases.connection import Failure, understood
from failoverd.databases.mariadb_facts import by_server
from failoverd.databases.option_files import UnreadableError, is_on, options_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from failoverd.core.errant import Journal
    from failoverd.databases.connection import Connection, Deadline

OLDEST = (10, 6)  # older ones have neither the privileges of config/grants-mariadb.sql nor its semi-sync
NO_HANGS = {(10, 6): 23, (10, 11): 14, (11, 4): 8}  # the first release of each series with MDEV-36934's fix
NET_TIMEOUT_MOST_S = 10
ACCESS_DENIED = 1045
GTID_MOST = 512  # failoverd.journal.gtid
NAMED_MOST = 5  # tables and events in one reason

_FILTERS = (
    "replicate_do_db",
    "replicate_ignore_db",
    "replicate_do_table",
    "replicate_ignore_table",
    "replicate_wild_do_table",
    "replicate_wild_ignore_table",
    "replicate_rewrite_db",
)
_BINLOG_FILTERS = ("Binlog_Do_DB", "Binlog_Ignore_DB")
_NAMES = (
    "server_id", "gtid_domain_id", "version", "log_bin", "log_slave_updates", "binlog_format", "gtid_strict_mode",
    "sync_binlog", "innodb_flush_log_at_trx_commit", "slave_net_timeout", "read_only", "event_scheduler",
    "rpl_semi_sync_master_enabled", "rpl_semi_sync_slave_enabled", *_FILTERS,
)  # fmt: skip
# By name and not by @@: a variable that this version does not have is no error.
_VARIABLES = f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({', '.join(map(repr, _NAMES))})"
_TABLES = """SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) AS name, ENGINE AS engine FROM information_schema.TABLES
  WHERE TABLE_TYPE = 'BASE TABLE' AND ENGINE <> 'InnoDB'
  AND TABLE_SCHEMA NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema')
  ORDER BY name LIMIT %s"""
_EVENTS = "SELECT CONCAT(db, '.', name) AS name FROM mysql.event WHERE status = 'ENABLED' ORDER BY name LIMIT %s"
_JOURNAL = "SELECT term, gtid FROM failoverd.journal ORDER BY term"
_WHOLE = re.compile(r"[0-9]+-[0-9]+-[0-9]+")


@dataclass(frozen=True, slots=True)
class Server:
    """What was read of one server."""

    variables: dict[str, str]
    row: dict[str, Any] | None  # of SHOW SLAVE STATUS
    binlog: dict[str, Any]  # of SHOW BINLOG STATUS
    options: dict[str, str] | None  # of its next start; None: not known
    why_not: str
    tables: list[str]
    events: list[str]

    def value(self, name: str) -> str:
        """A variable's value, "" where there is none."""
        return self.variables.get(name, "")

    def off(self, name: str) -> bool:
        """Whether a switch is off; one that there is not is neither."""
        return self.value(name).upper() in ("OFF", "0")


def read_settings(connection: Connection, deadline: Deadline) -> SettingsFacts:
    """Read it all. Raises Failure."""
    with understood():
        server = _server(connection, deadline)
        return SettingsFacts(
            found=_judged(server),
            identity=Identity(
                unique=("server_id", server.variables["server_id"]),
                shared=("gtid_domain_id", server.variables["gtid_domain_id"]),
            ),
            journal=_journal(connection.run(deadline, _JOURNAL)),
        )


def found(connection: Connection, deadline: Deadline) -> tuple[Found, ...]:
    """The findings alone, of a server that has no journal yet. Raises Failure."""
    with understood():
        return _judged(_server(connection, deadline))


def _judged(server: Server) -> tuple[Found, ...]:
    return tuple(finding for rule in RULES for finding in rule(server))


def _server(connection: Connection, deadline: Deadline) -> Server:
    variables = {row["Variable_name"]: row["Value"] for row in connection.run(deadline, _VARIABLES)}
    status = connection.run(deadline, "SHOW BINLOG STATUS")
    rows = connection.run(deadline, "SHOW SLAVE STATUS")
    options, why_not = None, ""
    try:
        options = options_of(connection.server_pid)
    except UnreadableError as error:
        why_not = str(error)
    return Server(
        variables=variables,
        row=rows[0] if rows else None,
        binlog=status[0] if status else {},
        options=options,
        why_not=why_not,
        tables=[f"{row['name']} ({row['engine']})" for row in connection.run(deadline, _TABLES, NAMED_MOST + 1)],
        events=[row["name"] for row in connection.run(deadline, _EVENTS, NAMED_MOST + 1)],
    )


def _journal(rows: list[dict[str, Any]]) -> Journal:
    return fold(tuple(_journal_row(row) for row in rows))


def _journal_row(row: dict[str, Any]) -> JournalRow:
    """`0-2-0,0-1-1000,0-2-5000`: the primary's own source, then all that it held. The last one may have been cut."""
    words = row["gtid"].split(",")
    whole = [word for word in words if _WHOLE.fullmatch(word)]
    if len(row["gtid"]) >= GTID_MOST:  # also "0-1-12" of 0-1-1234 is whole
        whole = [word for word in whole if word is not words[-1]]
    if not whole:
        raise Failure("DB_SQL", f"failoverd.journal: term {row['term']} has no position")
    return JournalRow(row["term"], whole[0].rpartition("-")[0], by_server(",".join(whole)))


# ---- the rules --------------------------------------------------------------------------------------------------


Found = tuple[str, str]


def _history(server: Server) -> Iterator[Found]:
    """What would make the binary log incomplete, or another one than the primary's."""
    if server.off("log_bin"):
        yield "SET_BINLOG_OFF", "log_bin = OFF; allowed: ON"
    if server.off("log_slave_updates"):
        yield "SET_REPLICA_UPDATES", "log_slave_updates = OFF; allowed: ON"
    named = [f"{name} = {server.value(name)}" for name in _FILTERS if server.value(name)]
    named += [f"{name.lower()} = {server.binlog[name]}" for name in _BINLOG_FILTERS if server.binlog.get(name)]
    if named:
        yield "SET_FILTER", f"{', '.join(named)}; allowed: no filter"
    for kind in ("STATEMENT", "MIXED"):
        if server.value("binlog_format") == kind:
            yield f"SET_BINLOG_{kind}", f"binlog_format = {kind}; allowed: ROW"
    if server.off("gtid_strict_mode"):
        yield "SET_GTID_STRICT", "gtid_strict_mode = OFF; allowed: ON"


def _durability(server: Server) -> Iterator[Found]:
    """What would take an acknowledged commit back."""
    if server.value("sync_binlog") != "1":
        yield "SET_SYNC_BINLOG", f"sync_binlog = {server.value('sync_binlog')}; allowed: 1"
    flush = server.value("innodb_flush_log_at_trx_commit")
    if flush not in ("1", "3"):
        yield "SET_FLUSH_LOG", f"innodb_flush_log_at_trx_commit = {flush}; allowed: 3 or 1"
    if server.tables:
        yield "SET_ENGINE", f"{_named(server.tables)}; allowed: InnoDB"


def _version(server: Server) -> Iterator[Found]:
    """The release itself."""
    version = server.value("version")
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if numbers is None:
        yield "SET_VERSION_TOO_OLD", f"version = {version}; allowed: MariaDB 10.6 or newer"
        return
    major, minor, patch = map(int, numbers.groups())
    if (major, minor) < OLDEST:
        yield "SET_VERSION_TOO_OLD", f"version = {version}; allowed: MariaDB 10.6 or newer"
    elif not _has_fix((major, minor), patch):
        yield "SET_VERSION_HANGS", f"version = {version}; allowed: 10.6.23, 10.11.14, 11.4.8 or newer"


def _has_fix(series: tuple[int, int], patch: int) -> bool:
    """A series that ended before the fix, such as 11.0, never got it."""
    return patch >= NO_HANGS[series] if series in NO_HANGS else series > max(NO_HANGS)


def _next_start(server: Server) -> Iterator[Found]:
    """What the option files say, which is what a restart in the middle of the night gives."""
    options = server.options
    if options is None:
        yield "SET_FILES_UNREAD", f"{server.why_not}; allowed: files that failoverd can read"
        return
    if not is_on(options.get("read_only")):
        found = f"read_only = {options['read_only']}" if "read_only" in options else "read_only is not in its files"
        yield "SET_READ_ONLY_FILE", f"{found}; allowed: read_only = ON"
    role = options.get("init_rpl_role")
    if role is None or role.upper() not in ("SLAVE", "2"):
        found = "init_rpl_role is not in its files" if role is None else f"init_rpl_role = {role}"
        yield "SET_INIT_ROLE", f"{found}; allowed: init_rpl_role = SLAVE"
    if is_on(options.get("skip_slave_start")):
        yield "SET_SKIP_START", "skip_slave_start = ON; allowed: OFF"


def _replication(server: Server) -> Iterator[Found]:
    """What a replica needs to be one, and to become more."""
    for name in ("rpl_semi_sync_master_enabled", "rpl_semi_sync_slave_enabled"):
        if name not in server.variables:
            yield "SET_SEMI_SYNC", f"there is no {name}; allowed: semi-sync as source and as replica"
    timeout = int(server.value("slave_net_timeout") or 0)
    if timeout > NET_TIMEOUT_MOST_S or not timeout:
        yield "SET_NET_TIMEOUT", f"slave_net_timeout = {timeout} s; allowed: 1 to {NET_TIMEOUT_MOST_S} s"
    if server.row is None:
        return
    if server.off("rpl_semi_sync_slave_enabled"):
        yield "SET_NO_ACK", "rpl_semi_sync_slave_enabled = OFF; allowed: ON"
    if server.row["Last_IO_Errno"] == ACCESS_DENIED:
        yield "SET_REPLICATION_LOGIN", f"{server.row['Last_IO_Error']}; allowed: an account that may log in"
    if server.events and server.value("event_scheduler").upper() == "ON":
        yield "SET_EVENT", f"{_named(server.events)}: ENABLED; allowed on a replica: SLAVESIDE_DISABLED"


def _named(names: list[str]) -> str:
    return ", ".join(names[:NAMED_MOST]) + (" and more" if len(names) > NAMED_MOST else "")


RULES = (_history, _durability, _version, _next_start, _replication)
