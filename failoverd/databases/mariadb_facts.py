"""One reading of a MariaDB server: its state as `DatabaseFacts`, in three statements and about one millisecond.

The replica's row is read first and the positions after it, so that `applied` is never behind what `received` was
compared with. Positions are kept in the notations of `core.gtid`:

    holdings   @@gtid_binlog_state    every (domain, server) that its binary log has seen, "0-1"
    applied    @@gtid_slave_pos and @@gtid_binlog_pos, the further of both by domain, "0"
    received   Gtid_IO_Pos            the last complete transaction in its relay log, by domain
    own        of @@gtid_binlog_state what this server's own id wrote, by domain
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from failoverd.core.gtid import GtidSet
from failoverd.core.model import DatabaseFacts, Replication, Thread
from failoverd.databases.connection import understood
from failoverd.databases.dialect import THREADS, Replica

if TYPE_CHECKING:
    from failoverd.databases.connection import Connection, Deadline
    from failoverd.databases.own_starts import OwnStarts

NEVER_DEGRADE_MS = 18446744073709551615  # the largest timeout: there is no "infinite"
PATIENT_MS = 365 * 24 * 3600 * 1000  # an administrator's own "never" counts as well

_VARIABLES = """SELECT
  @@GLOBAL.version AS version,
  @@GLOBAL.server_id AS server_id,
  @@GLOBAL.read_only AS read_only,
  @@GLOBAL.gtid_binlog_state AS binlog_state,
  @@GLOBAL.gtid_binlog_pos AS binlog_pos,
  @@GLOBAL.gtid_slave_pos AS slave_pos,
  @@GLOBAL.rpl_semi_sync_master_enabled AS source_enabled,
  @@GLOBAL.rpl_semi_sync_master_wait_point AS wait_point,
  @@GLOBAL.rpl_semi_sync_master_timeout AS timeout_ms,
  @@GLOBAL.rpl_semi_sync_master_wait_no_slave AS wait_no_slave,
  @@GLOBAL.rpl_semi_sync_slave_enabled AS replica_enabled,
  (SELECT term FROM failoverd.heartbeat WHERE id = 1) AS term,
  (SELECT beat FROM failoverd.heartbeat WHERE id = 1) AS beat"""
# What may throw a relay log away: START SLAVE where both threads were stopped, RESET SLAVE, CHANGE MASTER.
_COUNTED = ("Com_start_slave", "Com_start_all_slaves", "Com_reset", "Com_change_master")
# What says that a commit may have been acknowledged without a replica. `no_tx` alone is not enough: a source that was
# switched off by hand counts no commit at all, neither as waited for nor as not; only `no_times` tells of it then.
_LET_GO = ("Rpl_semi_sync_master_no_tx", "Rpl_semi_sync_master_no_times")
_STATUS = f"""SHOW GLOBAL STATUS WHERE Variable_name IN
  ('Rpl_semi_sync_master_status', 'Rpl_semi_sync_master_clients', {", ".join(map(repr, (*_LET_GO, *_COUNTED)))})"""


def by_server(gtids: str) -> GtidSet:
    """`0-1-500,0-2-510` as {"0-1": 1..500, "0-2": 1..510}."""
    last: dict[str, int] = {}
    for domain, server, number in _split(gtids):
        source = f"{domain}-{server}"
        last[source] = max(last.get(source, 0), number)
    return GtidSet.upto(last)


def by_domain(*gtids: str) -> GtidSet:
    """`0-1-500` and `0-2-510` as {"0": 1..510}: the furthest in each domain."""
    last: dict[str, int] = {}
    for text in gtids:
        for domain, _, number in _split(text):
            last[domain] = max(last.get(domain, 0), number)
    return GtidSet.upto(last)


def _split(gtids: str) -> list[tuple[str, str, int]]:
    found = []
    for part in gtids.replace("\n", "").split(","):
        if part.strip():
            domain, server, number = part.strip().split("-")
            found.append((domain, server, int(number)))
    return found


def wait_position(position: GtidSet) -> str:
    """Write a position by domain as MASTER_GTID_WAIT takes it; it looks at the numbers only, not at the server."""
    return ",".join(f"{domain}-1-{intervals[-1][1]}" for domain, intervals in position.parts)


def by_own_domain(gtids: str, server_id: int) -> GtidSet:
    """Of `0-1-500,0-2-510` what one server wrote, by domain: {"0": 1..510} for server 2."""
    mine = [f"{domain}-{server}-{number}" for domain, server, number in _split(gtids) if server == str(server_id)]
    return by_domain(*mine)


def replica(connection: Connection, deadline: Deadline) -> Replica | None:
    """SHOW SLAVE STATUS, None when no replication is configured."""
    rows = connection.run(deadline, "SHOW SLAVE STATUS")
    if not rows:
        return None
    with understood():
        return _replica(rows[0])


def _replica(row: dict[str, Any]) -> Replica:
    return Replica(
        host=row["Master_Host"],
        port=row["Master_Port"],
        user=row["Master_User"],
        by_gtid=row["Using_Gtid"] == "Slave_Pos",
        receiver_errno=row["Last_IO_Errno"],
        replication=Replication(
            source=row["Master_Host"],
            receiver=THREADS.get(row["Slave_IO_Running"], Thread.CONNECTING),
            applier=THREADS.get(row["Slave_SQL_Running"], Thread.CONNECTING),
            received=by_domain(row["Gtid_IO_Pos"] or ""),
            receiver_error=_error(row, "IO"),
            applier_error=_error(row, "SQL"),
        ),
    )


def _error(row: dict[str, Any], thread: str) -> str:
    number, text = row[f"Last_{thread}_Errno"], row[f"Last_{thread}_Error"]
    return f"{number}: {text}" if number else ""


def read_facts(connection: Connection, deadline: Deadline, own: OwnStarts | None = None) -> DatabaseFacts:
    """Read it all. Raises Failure. Without `own` the facts do not name the run."""
    run = (
        connection.server_run if own is not None else ""
    )  # first: while the connection lives, no other has that number
    mine = (
        own.of(run) if own is not None else 0
    )  # before the server's own count, and that after the position: an error forgets too much
    configured = replica(connection, deadline)
    rows, lines = connection.run(deadline, _VARIABLES), connection.run(deadline, _STATUS)
    with understood():
        values, status = rows[0], {line["Variable_name"]: line["Value"] for line in lines}
        return DatabaseFacts(
            version=values["version"],
            server_id=values["server_id"],
            read_only=bool(values["read_only"]),
            holdings=by_server(values["binlog_state"] or ""),
            applied=by_domain(values["slave_pos"] or "", values["binlog_pos"] or ""),
            replication=configured.replication if configured is not None else None,
            semi_sync_source=bool(
                values["source_enabled"]
                and values["wait_point"] == "AFTER_SYNC"
                and values["timeout_ms"] >= PATIENT_MS
                and values["wait_no_slave"]
                and status["Rpl_semi_sync_master_status"] == "ON"
            ),
            semi_sync_replica=bool(values["replica_enabled"]),
            semi_sync_clients=int(status["Rpl_semi_sync_master_clients"]),
            heartbeat_term=values["term"] or 0,
            heartbeat_beat=values["beat"] or 0,
            unacknowledged=sum(int(status[name]) for name in _LET_GO),
            own=by_own_domain(values["binlog_state"] or "", values["server_id"]),
            run=f"{run}-{sum(int(status[name]) for name in _COUNTED) - mine}" if run else "",
        )
