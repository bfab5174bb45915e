"""One reading of a MySQL server: its state as `DatabaseFacts`, in three statements.

The replica's row is read first and the positions after it, so that `applied` is never behind what `received` was
compared with. MySQL has one notation, sets of numbers by server uuid, `uuid:1-500:502`; since 8.3 a number may have a
tag, `uuid:1-5:tag:1-3`, which is a source of its own here, `uuid:tag`.

    holdings   @@gtid_executed        committed here, by whoever wrote it
    applied    the same
    received   Retrieved_Gtid_Set     what the receiver has got since the replication was set up, applied or not
    own        of @@gtid_executed     what has this server's own uuid

On a source @@gtid_executed grows when a transaction commits, with AFTER_SYNC behind its acknowledgement: while the
server lives, what nobody has acknowledged is not in it. Once it was started again it is: see `mysql_promote`.

Retrieved_Gtid_Set and the relay log. Unlike MariaDB, starting both threads keeps the relay log. What throws it away
is RESET REPLICA, CHANGE REPLICATION SOURCE TO with both threads stopped, and a start of the server with
relay_log_recovery=ON: all three end a run, the first two by the server's count of them. With relay_log_recovery=OFF
and sync_relay_log=1 a start would keep what was acknowledged; that is not counted on, since a torn end of a relay log
then stops the applier. The run ends with each start, and the next heartbeat that is applied ends the doubt.
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

NEVER_DEGRADE_MS = 4294967295  # the largest timeout that the manual allows, 49 days: there is no "infinite"

VARIABLES = """SELECT
  @@GLOBAL.version AS version,
  @@GLOBAL.server_id AS server_id,
  @@GLOBAL.server_uuid AS server_uuid,
  @@GLOBAL.read_only AS read_only,
  @@GLOBAL.gtid_executed AS executed,
  @@GLOBAL.rpl_semi_sync_source_enabled AS source_enabled,
  @@GLOBAL.rpl_semi_sync_source_wait_point AS wait_point,
  @@GLOBAL.rpl_semi_sync_source_timeout AS timeout_ms,
  @@GLOBAL.rpl_semi_sync_source_wait_no_replica AS wait_no_replica,
  @@GLOBAL.rpl_semi_sync_replica_enabled AS replica_enabled,
  (SELECT term FROM failoverd.heartbeat WHERE id = 1) AS term,
  (SELECT beat FROM failoverd.heartbeat WHERE id = 1) AS beat"""
# What may throw a relay log away: RESET REPLICA, CHANGE REPLICATION SOURCE TO.
_COUNTED = ("Com_change_replication_source", "Com_reset")
# What says that a commit may have been acknowledged without a replica: of one that was switched off by hand, which
# counts no commit at all, only `no_times` tells.
_LET_GO = ("Rpl_semi_sync_source_no_tx", "Rpl_semi_sync_source_no_times")
STATUS = f"""SHOW GLOBAL STATUS WHERE Variable_name IN
  ('Rpl_semi_sync_source_status', 'Rpl_semi_sync_source_clients', {", ".join(map(repr, (*_LET_GO, *_COUNTED)))})"""


def parse(gtids: str) -> GtidSet:
    """`uuid:1-5:7, other:1-3` as a set; raises ValueError on what is none."""
    found: dict[str, list[tuple[int, int]]] = {}
    for part in "".join(gtids.split()).split(","):
        uuid, *pieces = part.split(":")
        source = uuid.lower()
        if part and not pieces:
            raise ValueError(f"{part!r} has no numbers")
        for piece in pieces:
            if piece[:1].isdigit():
                low, _, high = piece.partition("-")
                found.setdefault(source, []).append((int(low), int(high or low)))
            else:
                source = f"{uuid.lower()}:{piece.lower()}"
    return GtidSet.of(found)


def written_by(uuid: str, gtids: GtidSet) -> GtidSet:
    """What one server wrote, with a tag or without."""
    mine = uuid.lower()
    return GtidSet(tuple(part for part in gtids.parts if part[0].partition(":")[0] == mine))


def replica(connection: Connection, deadline: Deadline) -> Replica | None:
    """SHOW REPLICA STATUS, None when no replication is configured."""
    rows = connection.run(deadline, "SHOW REPLICA STATUS")
    if not rows:
        return None
    with understood():
        return _replica(rows[0])


def _replica(row: dict[str, Any]) -> Replica:
    return Replica(
        host=row["Source_Host"],
        port=row["Source_Port"],
        user=row["Source_User"],
        by_gtid=int(row["Auto_Position"]) == 1,
        receiver_errno=row["Last_IO_Errno"],
        replication=Replication(
            source=row["Source_Host"],
            receiver=THREADS.get(row["Replica_IO_Running"], Thread.CONNECTING),
            applier=THREADS.get(row["Replica_SQL_Running"], Thread.CONNECTING),
            received=parse(row["Retrieved_Gtid_Set"] or ""),
            receiver_error=_error(row, "IO"),
            applier_error=_error(row, "SQL"),
        ),
    )


def _error(row: dict[str, Any], thread: str) -> str:
    number, text = row[f"Last_{thread}_Errno"], row[f"Last_{thread}_Error"]
    return f"{number}: {text}" if number else ""


def read_facts(connection: Connection, deadline: Deadline, own: OwnStarts | None = None) -> DatabaseFacts:
    """Read it all. Raises Failure. Without `own` the facts do not name the run."""
    run = connection.server_run if own is not None else ""
    mine = own.of(run) if own is not None else 0  # before the server's own count: an error forgets too much
    configured = replica(connection, deadline)
    rows, lines = connection.run(deadline, VARIABLES), connection.run(deadline, STATUS)
    with understood():
        values, status = rows[0], {line["Variable_name"]: line["Value"] for line in lines}
        executed = parse(values["executed"] or "")
        return DatabaseFacts(
            version=values["version"],
            server_id=values["server_id"],
            read_only=bool(values["read_only"]),  # super_read_only never stands without it
            holdings=executed,
            applied=executed,
            replication=configured.replication if configured is not None else None,
            semi_sync_source=bool(
                values["source_enabled"]
                and values["wait_point"] == "AFTER_SYNC"
                and values["timeout_ms"] >= NEVER_DEGRADE_MS
                and values["wait_no_replica"]
                and status["Rpl_semi_sync_source_status"] == "ON"
            ),
            semi_sync_replica=bool(values["replica_enabled"]),
            semi_sync_clients=int(status["Rpl_semi_sync_source_clients"]),
            heartbeat_term=values["term"] or 0,
            heartbeat_beat=values["beat"] or 0,
            unacknowledged=sum(int(status[name]) for name in _LET_GO),
            own=written_by(values["server_uuid"], executed),
            run=f"{run}-{sum(int(status[name]) for name in _COUNTED) - mine}" if run else "",
        )
