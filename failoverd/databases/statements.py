"""What the server is long at, for any dialect: its own count of slow statements, and those that still run.

Two sources, because each misses what the other sees. `Slow_queries` counts every statement that took longer than
`long_query_time`, whether a slow query log is written or not, but only once it has ended, and that limit is the
administrator's: 10 s where nobody has set it. The list of sessions shows what runs at this moment, however the limit
is set, and misses what came and went between two looks. Neither is changed here, and no statement's text is read: it
may hold what its table does.

The PROCESS privilege, which failoverd's account has anyway, shows everybody's sessions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.core.monitoring import StatementFacts
from failoverd.databases.connection import understood

if TYPE_CHECKING:
    from failoverd.databases.connection import Connection, Deadline
    from failoverd.databases.dialect import Dialect

COUNT = "SHOW GLOBAL STATUS LIKE 'Slow_queries'"
LIMIT = "SHOW GLOBAL VARIABLES LIKE 'long_query_time'"
COMMANDS = ("Query", "Execute")  # others are the server's own threads, replicas, and who does nothing
KEPT = 100  # of what runs


def read_statements(dialect: Dialect, connection: Connection, deadline: Deadline, *, limit_ms: int) -> StatementFacts:
    """Three statements. Raises Failure."""
    count = connection.run(deadline, COUNT)
    limit = connection.run(deadline, LIMIT)
    rows = connection.run(deadline, dialect.RUNNING)
    with understood():
        slow, counts_ms = int(count[0]["Value"]), round(float(limit[0]["Value"]) * 1000)
        running = []
        for row in ({name.lower(): value for name, value in row.items()} for row in rows):
            ms = int(row["time_ms"] if "time_ms" in row else (row["time"] or 0) * 1000)
            if row["command"] in COMMANDS and row["user"] not in {"system user", connection.name} and ms > limit_ms:
                running.append((int(row["id"]), str(row["user"]), ms))
    running.sort(key=lambda one: -one[2])
    return StatementFacts(slow, counts_ms, tuple(running[:KEPT]))
