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
a server reads them does not matter. Only engines with transactions have snapshots: other tables are not in it.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any

from failoverd.databases.connection import Connection, Deadline, Failure
from failoverd.drill import DrillError
from failoverd.drill.model import TablesDone, TableSum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from failoverd.config import Config

HOLD_MS = 300
CATCH_UP_S = 0.2
ASK_MS = 5_000
PLACE_MS = 60_000  # the binary log is read up to the snapshot's place, and may be long
SUM_MS = 6 * 3_600_000


class Tables:
    """One node's. Blocks; raises DrillError."""

    def __init__(self, config: Config, tell: Callable[[dict[str, Any]], None]) -> None:
        if config.drill.password is None:
            raise DrillError(
                "DRILL_DIFFERS", "drill.password_file is missing: nobody may read the rows to compare them"
            )
        self._config, self._tell = config, tell
        self._password = config.drill.password.get_secret_value()
        self._snapshot: Connection | None = None
        self._held: Connection | None = None
        self._timer: threading.Timer | None = None
        self._gtid = ""
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
        if self._snapshot is not None:
            self._snapshot.drop()
            self._snapshot = None

    def _open(self, at: str) -> None:
        self._drop()
        self._snapshot, deadline = self._connect(), Deadline(ASK_MS)
        # What a row is shown as must not depend on how this server is set up.
        self._snapshot.run(deadline, "SET SESSION sql_mode = '', SESSION time_zone = '+00:00'")
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
        connection.run(deadline, "SET SESSION max_statement_time = 0")
        tables = connection.run(
            deadline,
            "SELECT T.TABLE_SCHEMA AS s, T.TABLE_NAME AS t FROM information_schema.TABLES T"
            " JOIN information_schema.ENGINES E ON E.ENGINE = T.ENGINE AND E.TRANSACTIONS = 'YES'"
            " WHERE T.TABLE_TYPE = 'BASE TABLE'"
            " AND T.TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys') ORDER BY 1, 2",
        )
        for number, table in enumerate(tables, 1):
            schema, name = str(table["s"]), str(table["t"])
            self._tell({"table": f"{schema}.{name}", "number": number, "of": len(tables)})
            yield self._sum(connection, deadline, schema, name)

    @staticmethod
    def _sum(connection: Connection, deadline: Deadline, schema: str, name: str) -> TableSum:
        columns = connection.run(
            deadline,
            "SELECT COLUMN_NAME AS c, DATA_TYPE AS d, COLUMN_TYPE AS y, CHARACTER_SET_NAME AS h, COLLATION_NAME AS l,"
            " IS_NULLABLE AS o, COLUMN_DEFAULT AS f, EXTRA AS x, GENERATION_EXPRESSION AS g, COLUMN_KEY AS k"
            " FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION",
            schema,
            name,
        )
        row = connection.run(deadline, sum_statement(schema, name, [(str(c["c"]), str(c["d"])) for c in columns]))[0]
        shape = [list(column.values()) for column in columns]
        # As JSON: no name of a column passes for two.
        told = json.dumps([shape, *(str(row[part]) for part in ("n", "x", "s"))])
        return TableSum(name=f"{schema}.{name}", rows=int(row["n"]), digest=hashlib.sha256(told.encode()).hexdigest())


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


def sum_statement(schema: str, name: str, columns: list[tuple[str, str]]) -> str:
    """Return the statement that sums up a table: count, 64 bits of XOR and others of sum, over each row's SHA-256.

    Each value has its own hash first: what is put together stays short, whatever max_allowed_packet is, and a value
    cannot pass for the end of one and the beginning of the next. Rows that are there twice leave the XOR; the sum has
    them. It is one pass with nothing kept, in the server as well: the inner query is merged into the outer one.
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
    table = f"{quoted(schema)}.{quoted(name)}"
    return f"SELECT COUNT(*) AS n, {xor}, {total} FROM (SELECT {row} AS h FROM {table}) AS hashed"  # noqa: S608 - names, quoted
