"""MySQL's settings as findings, and its journal: what `mariadb_settings` is for MariaDB, as far as one reading says it.

Not looked at, since it would take more rights or the server's option files: whether super_read_only stands in a file,
events, tables of other engines, filters of the binary log.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from failoverd.core.errant import JournalRow, fold
from failoverd.core.model import Identity, SettingsFacts
from failoverd.databases.connection import understood
from failoverd.databases.mysql_facts import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from failoverd.databases.connection import Connection, Deadline

OLDEST = (8, 0, 26)  # the first in which everything has its present name
NET_TIMEOUT_MOST_S = 10
ACCESS_DENIED = 1045

# Their one right value, and the finding where they have another.
ONLY = {
    "log_bin": ("ON", "SET_BINLOG_OFF"),
    "log_replica_updates": ("ON", "SET_REPLICA_UPDATES"),
    "gtid_mode": ("ON", "SET_GTID_STRICT"),
    "enforce_gtid_consistency": ("ON", "SET_GTID_STRICT"),
    "sync_binlog": ("1", "SET_SYNC_BINLOG"),
    "innodb_flush_log_at_trx_commit": ("1", "SET_FLUSH_LOG"),
}
SEMI_SYNC = ("rpl_semi_sync_source_enabled", "rpl_semi_sync_replica_enabled")
_NAMES = ("server_uuid", "version", "binlog_format", "replica_net_timeout", *ONLY, *SEMI_SYNC)
# By name and not by @@: a variable that this version does not have is no error.
VARIABLES = f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({', '.join(map(repr, _NAMES))})"
JOURNAL = "SELECT term, gtid FROM failoverd.journal ORDER BY term"
_FILTERS = ("Do_DB", "Ignore_DB", "Do_Table", "Ignore_Table", "Wild_Do_Table", "Wild_Ignore_Table", "Rewrite_DB")


def read_settings(connection: Connection, deadline: Deadline) -> SettingsFacts:
    """Read it all. Raises Failure."""
    listed = connection.run(deadline, VARIABLES)
    rows = connection.run(deadline, "SHOW REPLICA STATUS")
    journal = connection.run(deadline, JOURNAL)
    with understood():
        variables = {row["Variable_name"]: row["Value"] for row in listed}
        return SettingsFacts(
            found=(*_of_variables(variables), *_of_replica(rows[0] if rows else {})),
            identity=Identity(unique=("server_uuid", variables["server_uuid"].lower())),
            journal=fold(tuple(_journal_row(row) for row in journal)),
        )


def _journal_row(row: dict[str, Any]) -> JournalRow:
    """`UUID,uuid:1-500,other:1-3`: the primary's own uuid, then all that it held."""
    own, _, held = row["gtid"].partition(",")
    return JournalRow(row["term"], own.lower(), parse(held))


def _of_variables(variables: dict[str, str]) -> Iterator[tuple[str, str]]:
    for name, (right, code) in ONLY.items():
        if variables.get(name, right) != right:
            yield code, f"{name} = {variables[name]}; allowed: {right}"
    for kind in ("STATEMENT", "MIXED"):
        if variables.get("binlog_format") == kind:
            yield f"SET_BINLOG_{kind}", f"binlog_format = {kind}; allowed: ROW"
    numbers = tuple(map(int, re.findall(r"\d+", variables["version"])[:3]))
    if numbers < OLDEST:
        yield "SET_VERSION_TOO_OLD", f"version = {variables['version']}; allowed: MySQL 8.0.26 or newer"
    for name in SEMI_SYNC:
        if name not in variables:
            yield "SET_SEMI_SYNC", f"there is no {name}; allowed: semi-sync as source and as replica"
    timeout = int(variables.get("replica_net_timeout", "0"))
    if not 0 < timeout <= NET_TIMEOUT_MOST_S:
        yield "SET_NET_TIMEOUT", f"replica_net_timeout = {timeout} s; allowed: 1 to {NET_TIMEOUT_MOST_S} s"


def _of_replica(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    named = [
        f"replicate_{name.lower()} = {row[f'Replicate_{name}']}" for name in _FILTERS if row.get(f"Replicate_{name}")
    ]
    if named:
        yield "SET_FILTER", f"{', '.join(named)}; allowed: no filter"
    if row.get("Last_IO_Errno") == ACCESS_DENIED:
        yield "SET_REPLICATION_LOGIN", f"{row['Last_IO_Error']}; allowed: an account that may log in"
