"""The sums of all tables of one node, as of one transaction that all nodes agree on.

    coordinator        primary's job                     each job, the primary's too
    {"hold": n}   ──>  BACKUP STAGE BLOCK_COMMIT
                       {"held": gtid}
                       {"held": ""} where they could not be
    {"open": n, "at": gtid} ───────────────────────────> a replica first applies what is on its way to it
                                                         START TRANSACTION WITH CONSISTENT SNAPSHOT
                                                         {"opened": gtid}
    {"let_go"}    ──>  commits go on (by itself after HOLD_MS, whatever the coordinator does)
    {"sum"}  where all opened the same, or {"hold": n} again

While commits are held, replicas apply what is on its way, and so all snapshots can be of the same transaction; nothing
but commits waits, and for some 100 ms. Reading goes on afterwards for as long as it takes, and nobody waits for it.

A table's digest is of its rows as a set: each row's SHA-256, put together by XOR and by sum, so that the order in which
a server reads them does not matter. Only engines with transactions have snapshots: other tables are named as left out.

A table that is altered or dropped meanwhile cannot be read in an older snapshot (error 1412): it is said to have
changed, and the coordinator asks for it again. Nobody's DDL waits for a table that has been summed up: each one's
metadata lock goes with a savepoint, as mysqldump does it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any

from failoverd.databases.connection import Connection, Deadline, Failure
from failoverd.drill import DrillError
from failoverd.drill.model import TablesDone, TableSum

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from failoverd.config import Config

HOLD_MS = 300
CATCH_UP_S = 0.2
ASK_MS = 5_000
PLACE_MS = 60_000  # the binary log is read up to the snapshot's place, and may be long
SUM_MS = 6 * 3_600_000
LOCKED_S = 60  # that a table may be locked by somebody's DDL before it counts as changed

# The server's errors that mean: this table is not what it was when the snapshot was taken.
_CHANGED = {
    1412: "altered",  # ER_TABLE_DEF_CHANGED
    1146: "gone",  # ER_NO_SUCH_TABLE
    1049: "gone",  # ER_BAD_DB_ERROR
    1054: "altered",  # ER_BAD_FIELD_ERROR: a column that was there when it was looked at
    1205: f"locked for {LOCKED_S} s",  # ER_LOCK_WAIT_TIMEOUT
}


class Tables:
    """One node's. Blocks; raises DrillError."""

    def __init__(
        self, config: Config, tell: Callable[[dict[str, Any]], None], only: Collection[str] | None = None
    ) -> None:
        """`only`: the tables that are asked for, as schema.table; None: all."""
        if config.drill.password is None:
            raise DrillError(
                "DRILL_DIFFERS", "drill.password_file is missing: nobody may read the rows to compare them"
            )
        self._config, self._tell, self._only = config, tell, only
        self._password = config.drill.password.get_secret_value()
        self._snapshot: Connection | None = None
        self._held: Connection | None = None
        self._timer: threading.Timer | None = None
        self._gtid = ""
        self._summing = False
        self._left_out: dict[str, str] = {}
        self._lock = threading.Lock()

    def run(self, orders: Iterator[dict[str, Any]]) -> TablesDone:
        """Do what the coordinator says until it says `sum`."""
        began = time.monotonic()
        try:
            for order in orders:
                if "hold" in order:
                    self._hold()
                elif "open" in order:
                    self._open(str(order.get("at", "")))
                elif "let_go" in order:
                    self._let_go()
                elif "sum" in order:
                    return TablesDone(
                        node=self._config.this.name,
                        gtid=self._gtid,
                        tables=tuple(self._sums()),
                        left_out=self._left_out,
                        took_s=round(time.monotonic() - began, 3),
                    )
        except Failure as failure:
            raise DrillError("DRILL_DIFFERS", f"{self._config.this.name}: {failure}") from None
        finally:
            self._let_go()
            self._drop()
        raise DrillError("DRILL_DIFFERS", "the coordinator is gone")

    def _connect(self) -> Connection:
        connection = Connection(self._config.drill.user, self._password)
        connection.log_in(str(self._config.database.socket), Deadline(ASK_MS), lambda _: None)
        return connection

    def _hold(self) -> None:
        """Hold commits, where that can be had at once: whoever waits for it lets others wait as well."""
        held, deadline = self._connect(), Deadline(ASK_MS)
        with self._lock:
            self._held = held
        # Whatever becomes of this process, frozen or starved: the server itself ends what is held, after 1 s at most.
        held.run(deadline, "SET SESSION lock_wait_timeout = 1, SESSION wait_timeout = 1")
        held.run(deadline, f"SET SESSION max_statement_time = {HOLD_MS / 1000}")
        try:
            held.run(deadline, "BACKUP STAGE START")
            self._timer = threading.Timer(HOLD_MS / 1000, self._time_is_up, [held])
            self._timer.daemon = True
            self._timer.start()
            held.run(deadline, "BACKUP STAGE BLOCK_COMMIT")
            held_at = str(held.run(deadline, "SELECT @@GLOBAL.gtid_binlog_pos AS p")[0]["p"])
        except Failure as failure:
            if failure.code == "DB_DENIED":
                raise
            self._let_go()  # a long statement or a backup is in the way: the coordinator comes again
            held_at = ""
        self._tell({"held": held_at})

    @staticmethod
    def _time_is_up(held: Connection) -> None:
        """End the session from outside; its own thread may wait for an answer of it, and closes it."""
        held.shut()

    def _let_go(self) -> None:
        """End the session, which ends what it holds. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with self._lock:
            held, self._held = self._held, None
        if held is not None:
            held.drop()

    def _drop(self) -> None:
        """End the snapshot. A server does not see before its answer that nobody waits for it: it is told."""
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is None:
            return
        if self._summing:
            with contextlib.suppress(Failure):  # it has ended by itself, or the server has
                other = self._connect()
                other.run(Deadline(ASK_MS), f"KILL {snapshot.number}")
                other.drop()
        snapshot.drop()

    def _open(self, at: str) -> None:
        self._drop()
        self._snapshot, deadline = self._connect(), Deadline(ASK_MS)
        # What a row is shown as must not depend on how this server is set up.
        self._snapshot.run(deadline, "SET SESSION sql_mode = '', SESSION time_zone = '+00:00'")
        # Nothing is written; but a session that the binary log listens to gives no metadata lock back to a savepoint.
        self._snapshot.run(deadline, "SET SESSION sql_log_bin = 0")
        if at:
            self._snapshot.run(deadline, "SELECT MASTER_GTID_WAIT(%s, %s)", at, CATCH_UP_S)
        self._snapshot.run(deadline, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        self._snapshot.run(deadline, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
        # Of this snapshot, and not of this moment: https://mariadb.com/kb/en/enhancements-for-start-transaction-with-consistent-snapshot/
        rows = self._snapshot.run(deadline, "SHOW STATUS LIKE 'binlog_snapshot_%'")
        found = {str(row["Variable_name"]).lower(): str(row["Value"]) for row in rows}
        place = found["binlog_snapshot_file"], int(found["binlog_snapshot_position"])
        asked = self._snapshot.run(Deadline(PLACE_MS), "SELECT BINLOG_GTID_POS(%s, %s) AS p", *place)
        self._gtid = str(asked[0]["p"] or "")
        self._tell({"opened": self._gtid})

    def _sums(self) -> Iterator[TableSum]:
        assert self._snapshot is not None  # noqa: S101 - the coordinator opens before it sums
        connection, deadline = self._snapshot, Deadline(SUM_MS)
        connection.run(deadline, f"SET SESSION max_statement_time = 0, SESSION lock_wait_timeout = {LOCKED_S}")
        rows = connection.run(
            deadline,
            "SELECT T.TABLE_SCHEMA AS s, T.TABLE_NAME AS t, T.TABLE_TYPE AS k, T.ENGINE AS e, T.TABLE_COMMENT AS c,"
            " E.TRANSACTIONS = 'YES' AS safe"
            " FROM information_schema.TABLES T LEFT JOIN information_schema.ENGINES E ON E.ENGINE = T.ENGINE"
            " WHERE T.TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE')"
            " AND T.TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys') ORDER BY 1, 2",
        )
        asked = [row for row in rows if self._only is None or f"{row['s']}.{row['t']}" in self._only]
        tables = [row for row in asked if row["safe"] and row["k"] != "SEQUENCE"]
        self._left_out = {f"{row['s']}.{row['t']}": _why(row) for row in asked if row not in tables}
        for number, table in enumerate(tables, 1):
            schema, name = str(table["s"]), str(table["t"])
            self._tell({"table": f"{schema}.{name}", "number": number, "of": len(tables)})
            connection.run(deadline, "SAVEPOINT before_table")
            self._summing = True
            try:
                found = self._sum(connection, deadline, schema, name, versioned=table["k"] == "SYSTEM VERSIONED")
            except Failure as failure:
                if failure.number not in _CHANGED:
                    raise
                found = TableSum(name=f"{schema}.{name}", rows=0, digest="", changed=_CHANGED[failure.number])
            self._summing = False
            connection.run(deadline, "ROLLBACK TO SAVEPOINT before_table")  # releases its metadata lock
            yield found

    @staticmethod
    def _sum(connection: Connection, deadline: Deadline, schema: str, name: str, *, versioned: bool) -> TableSum:
        columns = connection.run(
            deadline,
            "SELECT COLUMN_NAME AS c, DATA_TYPE AS d, COLUMN_TYPE AS y, CHARACTER_SET_NAME AS h, COLLATION_NAME AS l,"
            " IS_NULLABLE AS o, COLUMN_DEFAULT AS f, EXTRA AS x, GENERATION_EXPRESSION AS g, COLUMN_KEY AS k"
            " FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION",
            schema,
            name,
        )
        if not columns:
            return TableSum(name=f"{schema}.{name}", rows=0, digest="", changed="gone")
        named = [(str(column["c"]), str(column["d"])) for column in columns]
        row = connection.run(deadline, sum_statement(schema, name, named, versioned=versioned))[0]
        # As JSON: no name of a column passes for two.
        shape = hashlib.sha256(json.dumps([list(column.values()) for column in columns]).encode()).hexdigest()
        told = json.dumps([shape, *(str(row[part]) for part in ("n", "x", "s"))])
        digest = hashlib.sha256(told.encode()).hexdigest()
        return TableSum(name=f"{schema}.{name}", rows=int(row["n"]), digest=digest, shape=shape)


def _why(row: dict[str, Any]) -> str:
    """Say why a table's rows are not summed up."""
    if row["k"] == "SEQUENCE":
        return "a sequence has no snapshot"
    if row["e"] is None:
        return f"it cannot be opened: {row['c']}"
    return f"{row['e']} has no snapshots"


_SPATIAL = frozenset(
    [
        "geometry",
        "point",
        "linestring",
        "polygon",
        "multipoint",
        "multilinestring",
        "multipolygon",
        "geometrycollection",
    ]
)


def sum_statement(schema: str, name: str, columns: list[tuple[str, str]], *, versioned: bool = False) -> str:
    """Return the statement that sums up a table: count, 64 bits of XOR and others of sum, over each row's SHA-256.

    Each value has its own hash first: what is put together stays short, whatever max_allowed_packet is, and a value
    cannot pass for the end of one and the beginning of the next. Rows that are there twice leave the XOR; the sum has
    them. It is one pass with nothing kept, in the server as well: the inner query is merged into the outer one.
    `versioned`: rows that have been replaced count as well.
    """

    def quoted(word: str) -> str:
        return "`" + word.replace("`", "``") + "`"

    def value(column: str, kind: str) -> str:
        shown = quoted(column)
        if kind.lower() in _SPATIAL:
            shown = f"ST_AsWKB({shown})"
        elif kind.lower() == "float":
            shown = f"CAST({shown} AS DOUBLE)"  # as text a float has six digits, and others look the same
        return f"IFNULL(SHA2({shown},256),'-')"

    row = f"SHA2(CONCAT_WS(',',{','.join(value(*column) for column in columns)}),256)"
    xor = "BIT_XOR(CAST(CONV(SUBSTR(h,1,16),16,10) AS UNSIGNED)) AS x"
    total = "COALESCE(SUM(CAST(CONV(SUBSTR(h,17,14),16,10) AS UNSIGNED)),0) AS s"
    table = f"{quoted(schema)}.{quoted(name)}{' FOR SYSTEM_TIME ALL' if versioned else ''}"
    return f"SELECT COUNT(*) AS n, {xor}, {total} FROM (SELECT {row} AS h FROM {table}) AS hashed"  # noqa: S608 - names, quoted
