"""Where the contract of `ports.Database` is played: three servers of either dialect, and what a story does to them.

    MariaDbStage   real mariadbd, see tests/adapters/mariadb_servers.py
    MySqlStage     the model, see mysql_model.py

Each story starts with the first as the writable, semi-synchronous source, the two others following it.
"""

# ruff: noqa: D102 - what a stage does is said where it is declared, in Stage; below is how

from __future__ import annotations

import contextlib
import re
import signal
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import mysql_model as model
import pymysql
from mariadb_servers import (
    ADDRESSES,
    PASSWORD,
    PORT,
    REPLICATION_PASSWORD,
    copies,
    hear,
    in_step,
    lay_out,
    statements,
    wait_for,
)
from mysql_wire import SqlError

from failoverd.core.model import DatabaseFacts, Health
from failoverd.databases.mariadb import MariaDb
from failoverd.databases.mysql import MySql

if TYPE_CHECKING:
    from collections.abc import Iterator

    import mariadb_servers

    from failoverd.databases.server import SqlServer

GRANTS = Path(__file__).parents[2] / "config"
QUICK_MS = 3000  # the real servers share two cores with everything else


class Stage(ABC):
    """One server, failoverd's view of it, and what others do there."""

    KIND: ClassVar[type[SqlServer]]
    CRASH_KEEPS: ClassVar[bool]  # what was logged and not acknowledged is committed when it starts again

    def __init__(self, socket: str, address: str) -> None:
        self.socket = socket
        self.address = address
        self._opened: list[SqlServer] = []
        self.database = self.view()

    def view(self, password: str = PASSWORD, replication_password: str = REPLICATION_PASSWORD) -> SqlServer:
        """Another view of the server; `close` closes it."""
        made = self.KIND(self.socket, "failoverd", password, "failoverd_repl", replication_password, PORT)
        self._opened.append(made)
        return made

    def facts(self) -> DatabaseFacts:
        """As failoverd reads them."""
        reading = self.database.status(deadline_ms=QUICK_MS)
        assert reading.health is Health.OK, reading
        assert isinstance(reading.facts, DatabaseFacts)
        return reading.facts

    def close(self) -> None:
        """Give up all views."""
        while self._opened:
            self._opened.pop().close()

    @contextlib.contextmanager
    def waiting_write(self, name: str) -> Iterator[list[object]]:
        """Yield once a write waits for its acknowledgement; what became of it is in the list in the end."""
        answers: list[object] = []

        def write() -> None:
            try:
                self.write(name)
            except (pymysql.err.MySQLError, SqlError) as error:
                answers.append(error)
            else:
                answers.append("acknowledged")

        thread = threading.Thread(target=write)
        thread.start()
        wait_for(self.waits, name="a waiting write")
        yield answers
        thread.join(10)
        assert not thread.is_alive()

    @abstractmethod
    def write(self, name: str) -> None:
        """A client commits one row."""

    @abstractmethod
    def waits(self) -> bool:
        """Whether a commit waits for its acknowledgement."""

    @abstractmethod
    def rows(self) -> set[str]:
        """What clients see."""

    @abstractmethod
    def errant(self, name: str) -> None:
        """Write on a replica, by hand; it is read-only again afterwards."""

    @abstractmethod
    def hold_applier(self) -> contextlib.AbstractContextManager[None]:
        """Let the applier wait, by a lock that read_only has nothing to do with."""

    @abstractmethod
    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold a lock as root, in a session that sleeps. It is killed meanwhile."""

    @abstractmethod
    def client(self) -> contextlib.AbstractContextManager[None]:
        """Let a client be connected, from elsewhere. It may be killed meanwhile."""

    @abstractmethod
    def full(self) -> contextlib.AbstractContextManager[None]:
        """Take all connections, by clients that do nothing."""

    @abstractmethod
    def last(self) -> contextlib.AbstractContextManager[None]:
        """Take the one connection that is kept for administrators."""

    @abstractmethod
    def hang(self) -> contextlib.AbstractContextManager[None]:
        """Let its kernel accept, and nobody answer."""

    @abstractmethod
    def receiver(self, *, run: bool) -> None:
        """By hand."""

    @abstractmethod
    def applier(self, *, run: bool) -> None:
        """By hand."""

    @abstractmethod
    def forget_source(self) -> None:
        """End the replication by hand."""

    @abstractmethod
    def semi_sync_timeout(self, ms: int) -> None:
        """Set it by hand."""

    @abstractmethod
    def commits_in_memory(self, *, on: bool) -> None:
        """Whether the loss of power takes back what clients were told."""

    @abstractmethod
    def read_only(self, *, on: bool) -> None:
        """By hand."""

    @abstractmethod
    def revoke(self, privilege: str) -> None:
        """Take a right from failoverd's account here."""

    @abstractmethod
    def grant(self, privilege: str) -> None:
        """Give it back."""

    @abstractmethod
    def drop_heartbeat(self) -> None:
        """Drop its table here."""

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL."""

    @abstractmethod
    def start(self) -> None:
        """As its own configuration has it."""


def privileges(path: Path) -> set[str]:
    """What a file of grants gives to failoverd: global ones by name, others as `SELECT ON table`."""
    found: set[str] = set()
    for statement in statements(path, {}):
        words = " ".join(line.partition("--")[0] for line in statement.splitlines())
        if not words.lstrip().startswith("GRANT") or "'failoverd'@" not in words:
            continue
        names, _, where = " ".join(words.split()).removeprefix("GRANT ").partition(" ON ")
        table = where.partition(" TO ")[0]
        each = re.split(r", (?![^(]*\))", names)  # not the commas between columns
        found |= {name if table == "*.*" else f"{name} ON {table}" for name in each}
    return found


# ---- MariaDB --------------------------------------------------------------------------------------------------------


class MariaDbStage(Stage):
    """A real server."""

    KIND = MariaDb
    CRASH_KEEPS = False

    def __init__(self, server: mariadb_servers.Server) -> None:
        self.server = server
        super().__init__(server.socket, server.address)

    def write(self, name: str) -> None:
        with contextlib.closing(self.server.connect()) as connection:
            connection.cursor().execute("INSERT INTO app.writes VALUES (%s, 0)", (name,))

    def waits(self) -> bool:
        return self.server.counter("Rpl_semi_sync_master_wait_sessions") >= "1"

    def rows(self) -> set[str]:
        return {str(row["id"]) for row in self.server.run("SELECT id FROM app.writes")}

    def errant(self, name: str) -> None:
        self.server.run("SET GLOBAL read_only = 0", f"INSERT INTO app.writes VALUES ('{name}', 0)")  # noqa: S608
        self.server.run("SET GLOBAL read_only = 1")

    @contextlib.contextmanager
    def hold_applier(self) -> Iterator[None]:
        with contextlib.closing(self.server.connect()) as blocker:
            blocker.cursor().execute("LOCK TABLES app.writes READ")
            yield

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        holder = self.server.connect()
        holder.cursor().execute("LOCK TABLES app.writes WRITE")
        yield
        with contextlib.suppress(pymysql.err.Error):
            holder.close()

    @contextlib.contextmanager
    def client(self) -> Iterator[None]:
        connected = self.server.client()
        yield
        with contextlib.suppress(pymysql.err.Error):
            connected.close()

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        self.server.run("SET GLOBAL max_connections = 10")
        taken = []
        with contextlib.suppress(pymysql.err.OperationalError):
            while True:
                taken.append(self.server.client())
        yield
        for connection in taken:
            with contextlib.suppress(pymysql.err.Error):
                connection.close()

    @contextlib.contextmanager
    def last(self) -> Iterator[None]:
        with contextlib.closing(wait_for(self._connected, name="the last place")):
            yield

    def _connected(self) -> pymysql.Connection[Any] | None:
        with contextlib.suppress(pymysql.err.OperationalError):  # whoever was refused just now has that place still
            return self.server.connect()
        return None

    @contextlib.contextmanager
    def hang(self) -> Iterator[None]:
        self.server.signal(signal.SIGSTOP)
        yield
        self.server.signal(signal.SIGCONT)

    def receiver(self, *, run: bool) -> None:
        self.server.run(f"{'START' if run else 'STOP'} SLAVE IO_THREAD")

    def applier(self, *, run: bool) -> None:
        self.server.run(f"{'START' if run else 'STOP'} SLAVE SQL_THREAD")

    def forget_source(self) -> None:
        self.server.run("STOP SLAVE", "RESET SLAVE ALL")

    def semi_sync_timeout(self, ms: int) -> None:
        self.server.run(f"SET GLOBAL rpl_semi_sync_master_timeout = {ms}")

    def commits_in_memory(self, *, on: bool) -> None:
        self.server.run(f"SET GLOBAL innodb_flush_log_at_trx_commit = {1 if on else 3}")

    def read_only(self, *, on: bool) -> None:
        self.server.run(f"SET GLOBAL read_only = {int(on)}")

    def revoke(self, privilege: str) -> None:
        self._change("REVOKE", privilege, "FROM")

    def grant(self, privilege: str) -> None:
        self._change("GRANT", privilege, "TO")

    def _change(self, verb: str, privilege: str, preposition: str) -> None:
        name, _, table = privilege.partition(" ON ")
        target = f"{preposition} failoverd@localhost"
        self.server.run("SET SESSION sql_log_bin = 0", f"{verb} {name} ON {table or '*.*'} {target}")

    def drop_heartbeat(self) -> None:
        self.server.run("SET SESSION sql_log_bin = 0", "DROP TABLE failoverd.heartbeat")

    def kill(self) -> None:
        self.server.kill()

    def start(self) -> None:
        self.server.start()


@contextlib.contextmanager
def mariadb_stages(root: Path, data: Path, directory: Path) -> Iterator[list[Stage]]:
    """Three real servers."""
    hear()
    servers = copies(data, root, directory, list(ADDRESSES))
    stages: list[Stage] = [MariaDbStage(server) for server in servers]
    try:
        for server in servers:
            server.start()
        lay_out(servers)
        for other in servers[1:]:
            in_step(servers[0], other)
        yield stages
    finally:
        for stage in stages:
            stage.close()
        for server in servers:
            server.kill()
        hear()


# ---- MySQL ----------------------------------------------------------------------------------------------------------


class MySqlStage(Stage):
    """A server of the model."""

    KIND = MySql
    CRASH_KEEPS = True

    def __init__(self, server: model.Server) -> None:
        self.server = server
        self.cluster = server.cluster
        super().__init__(server.socket, server.address)

    @contextlib.contextmanager
    def _session(self, **what: Any) -> Iterator[model.Session]:
        with self.cluster.changed:
            self.server.next_number += 1
            session = model.Session(self.server.next_number, **what)
            self.server.sessions[session.number] = session
        yield session
        with self.cluster.changed:
            self.server.sessions.pop(session.number, None)
            self.cluster.settle()

    def write(self, name: str) -> None:
        with self._session(user="root", command="Query") as session, self.cluster.changed:
            self.server.write(session, lambda there: there.app.add(name))

    def waits(self) -> bool:
        with self.cluster.changed:
            return self.server.unacknowledged()

    def rows(self) -> set[str]:
        with self.cluster.changed:
            return set(self.server.app)

    def errant(self, name: str) -> None:
        self.read_only(on=False)
        with self.cluster.changed:
            source, self.server.variables["rpl_semi_sync_source_enabled"] = self.server.variables.copy(), 0
            self.server.write(model.Session(0, "root"), lambda there: there.app.add(name))
            self.server.variables.update(source)
        self.read_only(on=True)

    @contextlib.contextmanager
    def hold_applier(self) -> Iterator[None]:
        self._held(True)
        yield
        self._held(False)

    def _held(self, held: bool) -> None:
        with self.cluster.changed:
            self.server.applier_held = held
            self.cluster.settle()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        with self._session(user="root", lock=True):
            yield

    @contextlib.contextmanager
    def client(self) -> Iterator[None]:
        with self._session(user="app", host="10.89.1.200:40000"):
            yield

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            self.server.max_connections = 10
            while len(self.server.sessions) < self.server.max_connections:
                stack.enter_context(self.client())
            yield

    @contextlib.contextmanager
    def last(self) -> Iterator[None]:
        with self._session(user="root"):
            yield

    @contextlib.contextmanager
    def hang(self) -> Iterator[None]:
        with self.cluster.changed:
            self.server.hung = True
        yield
        with self.cluster.changed:
            self.server.hung = False
            self.cluster.changed.notify_all()

    def receiver(self, *, run: bool) -> None:
        self._thread("io", "Connecting" if run else "No")

    def applier(self, *, run: bool) -> None:
        self._thread("sql", "Yes" if run else "No")

    def _thread(self, name: str, state: str) -> None:
        with self.cluster.changed:
            setattr(self.server.channel, name, state)
            self.cluster.settle()

    def forget_source(self) -> None:
        with self.cluster.changed:
            self.server.channel = None
            self.server.relay.clear()
            self.server.retrieved.clear()
            self.cluster.settle()

    def semi_sync_timeout(self, ms: int) -> None:
        self.server.variables["rpl_semi_sync_source_timeout"] = ms

    def commits_in_memory(self, *, on: bool) -> None:
        self.server.variables["innodb_flush_log_at_trx_commit"] = 2 if on else 1

    def read_only(self, *, on: bool) -> None:
        with self.cluster.changed:
            self.server.variables["read_only"] = self.server.variables["super_read_only"] = int(on)

    def revoke(self, privilege: str) -> None:
        self.cluster.privileges.remove(privilege)

    def grant(self, privilege: str) -> None:
        self.cluster.privileges.add(privilege)

    def drop_heartbeat(self) -> None:
        self.server.has_heartbeat_table = False

    def kill(self) -> None:
        self.server.kill()

    def start(self) -> None:
        self.server.start()


@contextlib.contextmanager
def mysql_stages(directory: Path) -> Iterator[list[Stage]]:
    """Three servers of the model; whatever it did not understand fails the test."""
    cluster = model.Cluster()
    cluster.accounts = {"failoverd": PASSWORD, "failoverd_repl": REPLICATION_PASSWORD}
    cluster.privileges = privileges(GRANTS / "grants-mysql.sql")
    cluster.roots = {"root"}
    servers = [
        model.Server(cluster, name, number, address, directory)
        for number, (name, address) in enumerate(ADDRESSES.items(), start=1)
    ]
    first, *others = servers
    for server in servers:
        server.start()
    with cluster.changed:
        first.variables |= {
            "read_only": 0, "super_read_only": 0, "rpl_semi_sync_source_enabled": 1,
            "rpl_semi_sync_source_timeout": 4294967295,
        }  # fmt: skip
        for other in others:
            options = {
                "SOURCE_HOST": first.address, "SOURCE_PORT": str(PORT), "SOURCE_USER": "failoverd_repl",
                "SOURCE_PASSWORD": REPLICATION_PASSWORD, "SOURCE_AUTO_POSITION": "1",
            }  # fmt: skip
            other.channel = model.Channel(options, "Connecting", "Yes")
        cluster.settle()
    stages: list[Stage] = [MySqlStage(server) for server in servers]
    for name in ("schema", "tables"):  # something to stand before all else, as the grants do
        stages[0].write(name)
    try:
        yield stages
    finally:
        for stage in stages:
            stage.close()
        for server in servers:
            server.kill()
    assert not cluster.unknown, f"not MySQL's: {cluster.unknown}"
