"""A model of MySQL 8.4 servers for the contract suite: what the dialect says is MySQL's, and is said in a right order.

No MySQL server can be installed where this project is tested. The model speaks the client protocol on a Unix socket
(`mysql_wire`), keeps a small state, and understands exactly the statements of STATEMENTS: each has the section of the
manual of 8.4 that its syntax and its effect were written after, and the privileges that it needs there. Anything else
is an error to the client, is kept in `Cluster.unknown`, and fails the test.

    client ── commit ──> logged ──stream──> relay log of each replica ──applier──> executed there
                  <── executed here, visible, answered ── once a replica has it (AFTER_SYNC)

What it shows: the dialect speaks MySQL's words and reads MySQL's columns, takes the steps in an order that MySQL's
rules allow (a statement in a wrong state is refused as there), and needs the privileges of config/grants-mysql.sql.

What it does not prove: anything about a real server. That the manual was read rightly; timing, locks and what is killed
when; parsing (a pattern here is no grammar); crash recovery, relay_log_recovery and disks, whose outcome is asserted
here and not computed; TLS and the replication account's login; that a receiver stops against a silent source; that
8.0.26 to 8.0.x differ from 8.4 in nothing that matters. A server that is started again is the same process here.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mysql_wire import Row, SqlError, Wire

if TYPE_CHECKING:
    from collections.abc import Callable

Gtid = tuple[str, int]
VERSION = "8.4.3"
UNLIMITED = 10_000
# What my.cnf says, as config/grants-mysql.sql asks for it; `Server.variables` has what changes at run time.
SET_UP = {
    "log_bin": "ON", "log_replica_updates": "ON", "gtid_mode": "ON", "enforce_gtid_consistency": "ON",
    "binlog_format": "ROW", "replica_net_timeout": 4,
}  # fmt: skip
# Who may write though read_only is on; nobody may though super_read_only is.
EXEMPT = {"CONNECTION_ADMIN"}


@dataclass
class Transaction:
    """One in a binary or relay log. `change` is what it does to the tables."""

    gtid: Gtid
    change: Callable[[Server], None]
    acknowledged: bool = False


@dataclass
class Session:
    """One connection, or one that a test put there."""

    number: int
    user: str
    host: str = "localhost"
    command: str = "Sleep"
    state: str = ""
    writing: bool = False  # in a transaction
    lock: bool = False  # holds LOCK TABLES
    killed: bool = False
    end: Callable[[], None] = lambda: None
    variables: dict[str, int] = field(default_factory=dict)


@dataclass
class Channel:
    """The default channel's settings and threads."""

    options: dict[str, str]
    io: str = "No"
    sql: str = "No"
    io_error: tuple[int, str] = (0, "")
    sql_error: tuple[int, str] = (0, "")


def text_of(gtids: set[Gtid]) -> str:
    """As @@gtid_executed is printed: sorted uuids, intervals, a comma and a line feed in between."""
    parts = []
    for source in sorted({name for name, _ in gtids}):
        numbers = sorted(number for name, number in gtids if name == source)
        intervals: list[list[int]] = []
        for number in numbers:
            if intervals and number == intervals[-1][1] + 1:
                intervals[-1][1] = number
            else:
                intervals.append([number, number])
        parts.append(":".join([source, *(f"{a}-{b}" if a != b else str(a) for a, b in intervals)]))
    return ",\n".join(parts)


def set_of(text: str) -> set[Gtid]:
    """The other way round; refuses what MySQL does (error 1772)."""
    found: set[Gtid] = set()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        source, *intervals = part.split(":")
        if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", source) or not intervals:
            raise SqlError(1772, f"Malformed GTID set specification '{text}'.")
        for interval in intervals:
            if not re.fullmatch(r"\d+(-\d+)?", interval):
                raise SqlError(1772, f"Malformed GTID set specification '{text}'.")
            low, _, high = interval.partition("-")
            found |= {(source, number) for number in range(int(low), int(high or low) + 1)}
    return found


class Cluster:
    """All servers, one lock over them, and the network between them."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.servers: list[Server] = []
        self.silent: set[str] = set()
        self.unknown: list[str] = []
        self.used: set[str] = set()  # patterns
        self.accounts: dict[str, str] = {}
        self.privileges: set[str] = set()
        self.roots: set[str] = set()  # users with SYSTEM_USER and everything else

    def at(self, address: str, asker: Server) -> Server | None:
        """The server there, if it can be heard."""
        if self.silent & {address, asker.address}:
            return None
        return next((s for s in self.servers if s.address == address and s.up), None)

    def settle(self) -> None:
        """Let everything flow until nothing moves; called with the lock held."""
        while sum(server.flow() for server in self.servers if server.up):  # each of them, not only until one moved
            pass
        self.changed.notify_all()

    def wait(self, what: Callable[[], bool], session: Session | None = None, seconds: float | None = None) -> bool:
        """Wait with the lock held; a killed session is error 1317."""
        self.changed.wait_for(lambda: what() or (session is not None and session.killed), seconds)
        if session is not None and session.killed:
            raise SqlError(1317, "Query execution was interrupted", "70100")
        return what()


class Server:
    """One mysqld."""

    def __init__(self, cluster: Cluster, name: str, number: int, address: str, directory: Path) -> None:
        self.cluster = cluster
        self.name = name
        self.server_id = number
        self.uuid = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
        self.address = address
        self.socket = str(directory / f"{name}.sock")
        self.log: list[Transaction] = []
        self.executed: set[Gtid] = set()
        self.relay: list[Transaction] = []
        self.retrieved: set[Gtid] = set()
        self.channel: Channel | None = None
        self.heartbeat: tuple[int, int] | None = None
        self.has_heartbeat_table = True
        self.plugins = True  # semisync_source and semisync_replica are loaded
        self.journal: dict[int, Row] = {}
        self.journalling: set[int] = set()  # terms whose row is not committed yet: whoever comes second waits
        self.app: set[str] = set()
        self.variables: dict[str, Any] = {}
        self.counts = {"Com_change_replication_source": 0, "Com_reset": 0}
        self.let_go = {"Rpl_semi_sync_source_no_tx": 0, "Rpl_semi_sync_source_no_times": 0}
        self.sessions: dict[int, Session] = {}
        self.cached: set[str] = set()
        self.max_connections = UNLIMITED
        self.applier_held = False  # a table lock that the applier waits behind
        self.turning_read_only = False  # the global read lock is asked for
        self.up = False
        self.hung = False  # its kernel accepts, nobody answers
        self.next_number = 8
        self._listener: socket.socket | None = None
        cluster.servers.append(self)

    # ---- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """As its my.cnf has it: read-only, no source; both replication threads start where there is a channel."""
        with self.cluster.changed:
            self.variables = {
                "read_only": 1, "super_read_only": 1, "sync_binlog": 1, "innodb_flush_log_at_trx_commit": 1,
                "rpl_semi_sync_source_enabled": 0, "rpl_semi_sync_source_wait_point": "AFTER_SYNC",
                "rpl_semi_sync_source_timeout": 10000, "rpl_semi_sync_source_wait_no_replica": 1,
                "rpl_semi_sync_source_wait_for_replica_count": 1, "rpl_semi_sync_replica_enabled": 1,
            }  # fmt: skip
            for transaction in self.log:  # recovery: what is in the binary log is committed, acknowledged or not
                if transaction.gtid not in self.executed:
                    self._commit(transaction)
            self.relay.clear()  # relay_log_recovery=ON
            self.retrieved.clear()
            self.counts = dict.fromkeys(self.counts, 0)
            self.let_go = dict.fromkeys(self.let_go, 0)
            self.cached.clear()
            self.turning_read_only, self.up = False, True
            if self.channel is not None:
                self.channel.io, self.channel.sql = "Connecting", "Yes"
            self.cluster.settle()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.socket)
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def kill(self) -> None:
        """Everything in memory is gone, and nobody listens."""
        with self.cluster.changed:
            self.up = False
            for session in list(self.sessions.values()):
                session.killed = True
                session.end()
            self.cluster.settle()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
            Path(self.socket).unlink(missing_ok=True)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        wire = Wire(connection)
        with connection:
            with self.cluster.changed:
                self.cluster.changed.wait_for(lambda: not self.hung)
                self.next_number += 1
                session = Session(self.next_number, "unauthenticated user")
                full = len(self.sessions) >= self.max_connections + 1  # one is kept for CONNECTION_ADMIN
                if not full:
                    self.sessions[session.number] = session
            session.end = lambda: connection.shutdown(socket.SHUT_RDWR)
            try:
                if full:
                    wire.error(SqlError(1040, "Too many connections", "08004"))
                    return
                user = wire.greet(session.number, VERSION, self.cluster.accounts.get, self.cached)
                if user is None:
                    return
                session.user = user
                while (text := wire.query()) is not None and not session.killed:
                    self._answer(wire, session, text)
            except OSError:
                pass  # the client, or a kill, has closed it
            finally:
                with self.cluster.changed:
                    self.sessions.pop(session.number, None)
                    self.cluster.settle()

    def _answer(self, wire: Wire, session: Session, text: str) -> None:
        with self.cluster.changed:
            self.cluster.changed.wait_for(lambda: not self.hung)
            session.command = "Query"
            try:
                given = execute(self, session, text)
            except SqlError as error:
                given = error
            session.command, session.state = "Sleep", ""
            self.cluster.settle()
        if isinstance(given, SqlError):
            wire.error(given)
        elif isinstance(given, int):
            wire.ok(given)
        else:
            wire.rows(*given)

    # ---- replication ------------------------------------------------------------------------------------------------

    def flow(self) -> bool:
        """Receive and apply one transaction; whether anything moved."""
        channel = self.channel
        if channel is None:
            return False
        moved = False
        if channel.io != "No":
            moved = self._receive(channel)
        if channel.sql == "Yes" and self.relay and not self.applier_held:
            self._commit(self.relay.pop(0), log=True)
            moved = True
        return moved

    def _receive(self, channel: Channel) -> bool:
        source = self.cluster.at(channel.options["SOURCE_HOST"], self)
        if source is None:
            moved, channel.io = channel.io != "Connecting", "Connecting"
            return moved
        if self.cluster.accounts.get(channel.options["SOURCE_USER"]) != channel.options["SOURCE_PASSWORD"]:
            text = f"Error connecting to source '{channel.options['SOURCE_USER']}@{source.address}:3306'."
            moved = channel.io_error == (0, "")
            channel.io, channel.io_error = "Connecting", (1045, text)
            return moved
        mine = self.executed | self.retrieved
        theirs = {t.gtid for t in source.log} | source.executed
        if any(name == source.uuid and (name, number) not in theirs for name, number in mine):
            text = "Got fatal error 1236 from source when reading data from binary log: 'Replica has more GTIDs than"
            channel.io = "No"
            channel.io_error = (13114, f"{text} the source has, using the source's SERVER_UUID.'")
            return True
        moved, channel.io, channel.io_error = channel.io != "Yes", "Yes", (0, "")
        for transaction in source.log:
            if transaction.gtid in mine:
                continue
            self.relay.append(Transaction(transaction.gtid, transaction.change))
            self.retrieved.add(transaction.gtid)
            if self.variables["rpl_semi_sync_replica_enabled"]:
                transaction.acknowledged = True
            moved = True
        return moved

    def clients(self) -> int:
        """Replicas attached that acknowledge."""
        return sum(
            s.up
            and s.channel is not None
            and (s.channel.io, s.channel.options["SOURCE_HOST"]) == ("Yes", self.address)
            and bool(s.variables["rpl_semi_sync_replica_enabled"])
            for s in self.cluster.servers
        )

    def _commit(self, transaction: Transaction, *, log: bool = False) -> None:
        if log:
            self.log.append(transaction)
        self.executed.add(transaction.gtid)
        transaction.change(self)

    # ---- writing ----------------------------------------------------------------------------------------------------

    def write(self, session: Session, change: Callable[[Server], None]) -> int:
        """Commit one transaction; refused on a read-only server, and it waits for its acknowledgement."""
        self.refuse_read_only(session)
        self.cluster.wait(lambda: not self.turning_read_only, session)
        self.refuse_read_only(session)
        taken = {n for name, n in self.executed | {t.gtid for t in self.log} if name == self.uuid}
        number = next(n for n in range(1, len(taken) + 2) if n not in taken)  # the smallest free one
        transaction = Transaction((self.uuid, number), change)
        source = bool(self.variables["rpl_semi_sync_source_enabled"])  # one that is off counts no commit at all
        self.log.append(transaction)
        self.cluster.settle()
        session.state = "Waiting for semi-sync ACK from replica"
        self.cluster.changed.wait_for(
            lambda: transaction.acknowledged or not self.variables["rpl_semi_sync_source_enabled"] or not self.up
        )
        if not self.up:
            raise SqlError(1317, "Query execution was interrupted", "70100")
        self.let_go["Rpl_semi_sync_source_no_tx"] += not transaction.acknowledged and source
        session.state = "waiting for handler commit"
        self._commit(transaction)
        return 1

    def unacknowledged(self) -> bool:
        """Whether a commit is under way."""
        return any(t.gtid not in self.executed for t in self.log)

    def refuse_read_only(self, session: Session) -> None:
        """read_only exempts CONNECTION_ADMIN, super_read_only nobody."""
        option = "--super-read-only" if self.variables["super_read_only"] else "--read-only"
        exempt = session.user in self.cluster.roots or bool(EXEMPT & self.cluster.privileges)
        if self.variables["super_read_only"] or (self.variables["read_only"] and not exempt):
            raise SqlError(
                1290, f"The MySQL server is running with the {option} option so it cannot execute this statement"
            )

    def row(self) -> Row | None:
        """SHOW REPLICA STATUS. Only what it has that a client may look for."""
        channel = self.channel
        if channel is None:
            return None
        return {
            "Source_Host": channel.options["SOURCE_HOST"],
            "Source_User": channel.options["SOURCE_USER"],
            "Source_Port": int(channel.options["SOURCE_PORT"]),
            "Replica_IO_Running": channel.io,
            "Replica_SQL_Running": channel.sql,
            "Last_IO_Errno": channel.io_error[0],
            "Last_IO_Error": channel.io_error[1],
            "Last_SQL_Errno": channel.sql_error[0],
            "Last_SQL_Error": channel.sql_error[1],
            "Retrieved_Gtid_Set": text_of(self.retrieved),
            "Executed_Gtid_Set": text_of(self.executed),
            "Auto_Position": int(channel.options.get("SOURCE_AUTO_POSITION", "0")),
            "Channel_Name": "",
        }


# ---- the statements -------------------------------------------------------------------------------------------------

Answer = int | tuple[list[str], list[Row]]


@dataclass(frozen=True)
class Statement:
    """What may be said: its whole text, the titles of the manual's sections, the privileges it needs, what it does."""

    pattern: str
    section: str
    needs: tuple[str, ...]
    run: Callable[[Server, Session, re.Match[str]], Answer]


def execute(server: Server, session: Session, text: str) -> Answer:
    """Find the statement, look at the privileges, do it."""
    words = " ".join(text.split())
    for statement in STATEMENTS:
        match = re.fullmatch(statement.pattern, words)
        if match is None:
            continue
        server.cluster.used.add(statement.pattern)
        if session.user not in server.cluster.roots:
            for privilege in statement.needs:
                if privilege not in server.cluster.privileges:
                    raise _denied(privilege, session)
        return statement.run(server, session, match)
    server.cluster.unknown.append(words)
    raise SqlError(1064, f"You have an error in your SQL syntax near '{words[:40]}'", "42000")


def _denied(privilege: str, session: Session) -> SqlError:
    if " ON " in privilege:
        verb, _, table = privilege.partition(" ON failoverd.")
        text = f"{verb} command denied to user '{session.user}'@'localhost' for table '{table}'"
        return SqlError(1142, text, "42000")
    text = f"Access denied; you need (at least one of) the {privilege} privilege(s) for this operation"
    return SqlError(1227, text, "42000")


def _one(**columns: object) -> Answer:
    return list(columns), [columns]


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text.strip().strip("'"))


def _channel(server: Server) -> Channel:
    if server.channel is None:
        raise SqlError(1200, "The server is not configured as replica; fix with CHANGE REPLICATION SOURCE TO")
    return server.channel


def _threads(state: str) -> Callable[[Server, Session, re.Match[str]], Answer]:
    def run(server: Server, _: Session, match: re.Match[str]) -> Answer:
        channel, which = _channel(server), (match["thread"] or "").strip()
        if which in {"", "IO_THREAD"}:
            channel.io = "No" if state == "No" else channel.io if channel.io == "Yes" else "Connecting"
            channel.io_error = (0, "") if state == "Yes" else channel.io_error
        if which in {"", "SQL_THREAD"}:
            channel.sql = state
        return 0

    return run


def _reset(server: Server, _: Session, __: re.Match[str]) -> Answer:
    channel = _channel(server)
    if (channel.io, channel.sql) != ("No", "No"):
        raise SqlError(
            3081, "This operation cannot be performed with running replication threads; run STOP REPLICA first"
        )
    server.channel = None
    server.relay.clear()
    server.retrieved.clear()
    server.counts["Com_reset"] += 1
    return 0


OPTIONS = {
    "SOURCE_HOST": r"'[\d.]+'", "SOURCE_PORT": r"\d+", "SOURCE_USER": r"'\w+'", "SOURCE_PASSWORD": r"'.{1,32}'",
    "SOURCE_AUTO_POSITION": "1", "SOURCE_CONNECT_RETRY": r"\d+", "SOURCE_RETRY_COUNT": r"\d+",
    "SOURCE_HEARTBEAT_PERIOD": r"[\d.]+", "GET_SOURCE_PUBLIC_KEY": "1",
}  # fmt: skip


def _change_source(server: Server, _: Session, match: re.Match[str]) -> Answer:
    channel = server.channel
    if channel is not None and (channel.io, channel.sql) != ("No", "No"):
        raise SqlError(1198, "This operation cannot be performed with a running replica; run STOP REPLICA first")
    options: dict[str, str] = {}
    for part in match["options"].split(", "):
        name, _, value = part.partition(" = ")
        if name not in OPTIONS or not re.fullmatch(OPTIONS[name], value):
            raise SqlError(1064, f"You have an error in your SQL syntax near '{name}'", "42000")
        options[name] = _unquote(value)
    server.channel = Channel(options)
    server.relay.clear()
    server.retrieved.clear()
    server.counts["Com_change_replication_source"] += 1
    return 0


SETTABLE = {
    "rpl_semi_sync_source_enabled": {"ON": 1, "OFF": 0},
    "rpl_semi_sync_source_wait_point": {"'AFTER_SYNC'": "AFTER_SYNC", "'AFTER_COMMIT'": "AFTER_COMMIT"},
    "rpl_semi_sync_source_wait_no_replica": {"ON": 1, "OFF": 0},
    "rpl_semi_sync_replica_enabled": {"ON": 1, "OFF": 0},
}
NUMERIC = {
    "rpl_semi_sync_source_timeout": (0, 4294967295),
    "rpl_semi_sync_source_wait_for_replica_count": (1, 65535),
}


def _set_semi_sync(server: Server, _: Session, match: re.Match[str]) -> Answer:
    for assignment in match["all"].split(", "):
        name, _, value = assignment.removeprefix("GLOBAL ").partition(" = ")
        if name in SETTABLE and value in SETTABLE[name]:
            off = name == "rpl_semi_sync_source_enabled" and SETTABLE[name][value] < int(str(server.variables[name]))
            server.let_go["Rpl_semi_sync_source_no_times"] += off
            server.variables[name] = SETTABLE[name][value]
        elif name in NUMERIC and NUMERIC[name][0] <= int(value) <= NUMERIC[name][1]:
            server.variables[name] = int(value)
        else:
            raise SqlError(1231, f"Variable '{name}' can't be set to the value of '{value}'", "42000")
    return 0


def _super_read_only_on(server: Server, session: Session, _: re.Match[str]) -> Answer:
    """It takes the global read lock: behind explicit locks and every commit under way, before new ones."""
    server.turning_read_only = True
    session.state = "Waiting for commit lock"
    try:
        free = server.cluster.wait(
            lambda: not server.unacknowledged() and not any(s.lock for s in server.sessions.values()),
            session,
            session.variables.get("lock_wait_timeout", 31_536_000),
        )
    finally:
        server.turning_read_only = False
    if not free:
        raise SqlError(1205, "Lock wait timeout exceeded; try restarting transaction")
    server.variables["super_read_only"] = server.variables["read_only"] = 1
    return 0


def _read_only_off(server: Server, _: Session, match: re.Match[str]) -> Answer:
    server.variables["super_read_only"] = 0
    if match["name"] == "read_only":
        server.variables["read_only"] = 0
    return 0


def _kill(server: Server, session: Session, match: re.Match[str]) -> Answer:
    victim = server.sessions.get(int(match["number"]))
    if victim is None:
        raise SqlError(1094, f"Unknown thread id: {match['number']}")
    if session.user not in server.cluster.roots:
        if victim.user in server.cluster.roots and "SYSTEM_USER" not in server.cluster.privileges:
            raise SqlError(1227, "Access denied; you need (at least one of) the SYSTEM_USER privilege(s)", "42000")
        if victim.user != session.user and "CONNECTION_ADMIN" not in server.cluster.privileges:
            raise SqlError(1095, f"You are not owner of thread {victim.number}")
    victim.killed = True
    if victim.number in server.sessions and victim.state != "Waiting for semi-sync ACK from replica":
        del server.sessions[victim.number]
    victim.end()
    return 0


def _processlist(server: Server, session: Session, _: re.Match[str]) -> Answer:
    everyone = session.user in server.cluster.roots or "PROCESS" in server.cluster.privileges
    rows: list[Row] = [
        {"Id": s.number, "User": s.user, "Host": s.host, "db": None, "Command": s.command, "Time": 0, "State": s.state,
         "Info": None}
        for s in server.sessions.values() if everyone or s.user == session.user
    ]  # fmt: skip
    if everyone:
        own = {"Host": "", "db": None, "Time": 1, "Info": None}
        rows.append({"Id": 5, "User": "event_scheduler", "Command": "Daemon", "State": "Waiting on empty queue"} | own)
        dump = {"User": "failoverd_repl", "Command": "Binlog Dump GTID", "State": "Source has sent all binlog"} | own
        rows.extend({"Id": 6 + number} | dump for number in range(server.clients()))
        if server.channel is not None:
            rows.append({"Id": 4, "User": "system user", "Command": "Connect", "State": "Waiting for source"} | own)
    return list(rows[0]), rows


def _transactions(server: Server, _: Session, __: re.Match[str]) -> Answer:
    return ["id"], [{"id": s.number} for s in server.sessions.values() if s.writing]


def _wait(server: Server, session: Session, match: re.Match[str]) -> Answer:
    wanted = set_of(match["gtids"])
    session.state = "Waiting for gtid to be committed"
    there = server.cluster.wait(lambda: wanted <= server.executed, session, float(match["seconds"]))
    return _one(v=0 if there else 1)


def _status(server: Server, _: Session, match: re.Match[str]) -> Answer:
    source = server.variables["rpl_semi_sync_source_enabled"]
    values: dict[str, object] = {
        "Rpl_semi_sync_source_status": "ON" if source else "OFF",
        "Rpl_semi_sync_source_clients": str(server.clients() if source else 0),
        **{name: str(count) for name, count in (server.counts | server.let_go).items()},
    }
    names = re.findall(r"'(\w+)'", match["names"])
    return ["Variable_name", "Value"], [{"Variable_name": n, "Value": values[n]} for n in names if n in values]


def _facts(server: Server, _: Session, __: re.Match[str]) -> Answer:
    if not server.has_heartbeat_table:
        raise SqlError(1146, "Table 'failoverd.heartbeat' doesn't exist", "42S02")
    if not server.plugins:
        raise SqlError(1193, "Unknown system variable 'rpl_semi_sync_source_enabled'")
    variables, (term, beat) = server.variables, server.heartbeat or (None, None)
    return _one(
        version=VERSION,
        server_id=server.server_id,
        server_uuid=server.uuid,
        read_only=variables["read_only"],
        executed=text_of(server.executed),
        source_enabled=variables["rpl_semi_sync_source_enabled"],
        wait_point=variables["rpl_semi_sync_source_wait_point"],
        timeout_ms=variables["rpl_semi_sync_source_timeout"],
        wait_no_replica=variables["rpl_semi_sync_source_wait_no_replica"],
        replica_enabled=variables["rpl_semi_sync_replica_enabled"],
        term=term,
        beat=beat,
    )


def _variables(*names: str, **renamed: str) -> Callable[[Server, Session, re.Match[str]], Answer]:
    asked = {name: name for name in names} | renamed
    return lambda server, _, __: _one(**{column: server.variables[name] for column, name in asked.items()})


def _set_heartbeat(term: int, beat: int) -> Callable[[Server], None]:
    def change(server: Server) -> None:
        server.heartbeat = (term, beat)

    return change


def _first_beat(server: Server, session: Session, match: re.Match[str]) -> Answer:
    after = (server.heartbeat or (0, 0))[1] + 1
    return server.write(session, _set_heartbeat(int(match["term"]), after))


def _beat(server: Server, session: Session, match: re.Match[str]) -> Answer:
    server.refuse_read_only(session)
    if server.variables["read_only"]:
        return 0  # WHERE @@GLOBAL.read_only = 0
    return server.write(session, _set_heartbeat(int(match["term"]), int(match["beat"])))


def _journal(server: Server, session: Session, match: re.Match[str]) -> Answer:
    server.refuse_read_only(session)
    if server.variables["read_only"]:
        return 0
    term, row = int(match["term"]), {key: _unquote(match[key]) for key in ("holder", "previous", "reason")}

    def change(there: Server) -> None:
        there.journal[term] = {"term": term, **row, "gtid": gtid}

    gtid = f"{server.uuid},{text_of(server.executed)}"
    pending = server.journalling
    server.cluster.wait(lambda: term not in pending, session)
    if term in server.journal:
        raise SqlError(1062, f"Duplicate entry '{term}' for key 'journal.PRIMARY'", "23000")
    pending.add(term)
    try:
        return server.write(session, change)
    finally:
        pending.discard(term)


def _journalled(server: Server, _: Session, match: re.Match[str]) -> Answer:
    row = server.journal.get(int(match["term"]))
    return ["holder"], [{"holder": row["holder"]}] if row else []


def _show_variables(server: Server, _: Session, match: re.Match[str]) -> Answer:
    known: dict[str, object] = {**SET_UP, **server.variables, "server_uuid": server.uuid, "version": VERSION}
    switch = {"rpl_semi_sync_source_enabled", "rpl_semi_sync_replica_enabled"}
    values = {name: ("ON" if value else "OFF") if name in switch else str(value) for name, value in known.items()}
    names = re.findall(r"'(\w+)'", match["names"])
    return ["Variable_name", "Value"], [{"Variable_name": n, "Value": values[n]} for n in names if n in values]


def _whole_journal(server: Server, _: Session, __: re.Match[str]) -> Answer:
    return ["term", "gtid"], [{"term": row["term"], "gtid": row["gtid"]} for _, row in sorted(server.journal.items())]


def _replica_status(server: Server, _: Session, __: re.Match[str]) -> Answer:
    row = server.row()
    return (list(row), [row]) if row else (["Source_Host"], [])


def _session_limit(_: Server, session: Session, match: re.Match[str]) -> Answer:
    session.variables["lock_wait_timeout"] = int(match["seconds"])
    return 0


def _nothing(_: Server, __: Session, ___: re.Match[str]) -> Answer:
    return 0


# ruff: noqa: S608 - patterns of statements, which run nowhere
_G = r"@@GLOBAL\."
_SEMI = r"GLOBAL rpl_semi_sync_\w+ = [^,]+"
STATEMENTS = (
    Statement(r"SET NAMES utf8mb4", "SET NAMES Statement", (), _nothing),
    Statement(r"SET AUTOCOMMIT = 1", "Server System Variables: autocommit", (), _nothing),
    Statement(
        rf"SELECT {_G}version AS version, {_G}server_id AS server_id, {_G}server_uuid AS server_uuid, "
        rf"{_G}read_only AS read_only, {_G}gtid_executed AS executed, "
        rf"{_G}rpl_semi_sync_source_enabled AS source_enabled, {_G}rpl_semi_sync_source_wait_point AS wait_point, "
        rf"{_G}rpl_semi_sync_source_timeout AS timeout_ms, "
        rf"{_G}rpl_semi_sync_source_wait_no_replica AS wait_no_replica, "
        rf"{_G}rpl_semi_sync_replica_enabled AS replica_enabled, "
        r"\(SELECT term FROM failoverd\.heartbeat WHERE id = 1\) AS term, "
        r"\(SELECT beat FROM failoverd\.heartbeat WHERE id = 1\) AS beat",
        "Global Transaction ID System Variables; Semisynchronous Replication; Replication Options: server_uuid",
        ("SELECT ON failoverd.heartbeat",),
        _facts,
    ),
    Statement(
        r"SHOW GLOBAL STATUS WHERE Variable_name IN \((?P<names>('\w+'(, )?)+)\)",
        "SHOW STATUS Statement; Semisynchronous Replication Monitoring; Server Status Variables: Com_xxx",
        (),
        _status,
    ),
    Statement(r"SHOW REPLICA STATUS", "SHOW REPLICA STATUS Statement", ("REPLICATION CLIENT",), _replica_status),
    Statement(
        r"STOP REPLICA(?P<thread> IO_THREAD)?", "STOP REPLICA Statement", ("REPLICATION_SLAVE_ADMIN",), _threads("No")
    ),
    Statement(
        r"START REPLICA(?P<thread> (IO|SQL)_THREAD)?",
        "START REPLICA Statement",
        ("REPLICATION_SLAVE_ADMIN",),
        _threads("Yes"),
    ),
    Statement(r"RESET REPLICA ALL", "RESET REPLICA Statement", ("RELOAD",), _reset),
    Statement(
        r"CHANGE REPLICATION SOURCE TO (?P<options>.+)",
        "CHANGE REPLICATION SOURCE TO Statement",
        ("REPLICATION_SLAVE_ADMIN",),
        _change_source,
    ),
    Statement(
        r"SELECT WAIT_FOR_EXECUTED_GTID_SET\('(?P<gtids>[^']+)', (?P<seconds>[\d.e-]+)\)",
        "Functions Used with Global Transaction Identifiers: WAIT_FOR_EXECUTED_GTID_SET",
        (),
        _wait,
    ),
    Statement(
        rf"SET (?P<all>{_SEMI}(, {_SEMI})*)",
        "Installing Semisynchronous Replication; System Variable Privileges",
        ("SYSTEM_VARIABLES_ADMIN",),
        _set_semi_sync,
    ),
    Statement(
        rf"SELECT {_G}rpl_semi_sync_source_enabled AS source, {_G}rpl_semi_sync_replica_enabled AS replica",
        "Semisynchronous Replication",
        (),
        _variables(source="rpl_semi_sync_source_enabled", replica="rpl_semi_sync_replica_enabled"),
    ),
    Statement(
        rf"SELECT {_G}super_read_only AS v",
        "Server System Variables: super_read_only",
        (),
        _variables(v="super_read_only"),
    ),
    Statement(
        rf"SELECT {_G}sync_binlog AS sync_binlog, {_G}innodb_flush_log_at_trx_commit AS flush_log",
        "Binary Logging Options and Variables: sync_binlog; InnoDB Startup Options: innodb_flush_log_at_trx_commit",
        (),
        _variables("sync_binlog", flush_log="innodb_flush_log_at_trx_commit"),
    ),
    Statement(
        r"SET SESSION lock_wait_timeout = (?P<seconds>[1-9]\d*)",
        "Server System Variables: lock_wait_timeout",
        (),
        _session_limit,
    ),
    Statement(
        r"SET GLOBAL super_read_only = ON",
        "Server System Variables: super_read_only",
        ("SYSTEM_VARIABLES_ADMIN",),
        _super_read_only_on,
    ),
    Statement(
        r"SET GLOBAL (?P<name>(super_)?read_only) = OFF",
        "Server System Variables: read_only, super_read_only",
        ("SYSTEM_VARIABLES_ADMIN",),
        _read_only_off,
    ),
    Statement(r"SHOW PROCESSLIST", "SHOW PROCESSLIST Statement", (), _processlist),
    Statement(
        r"SELECT trx_mysql_thread_id AS id FROM information_schema\.INNODB_TRX",
        "The INFORMATION_SCHEMA INNODB_TRX Table",
        ("PROCESS",),
        _transactions,
    ),
    Statement(r"KILL (?P<number>\d+)", "KILL Statement; Account Categories: SYSTEM_USER", (), _kill),
    Statement(
        r"INSERT INTO failoverd\.heartbeat \(id, term, beat\) VALUES \(1, (?P<term>\d+), 1\) "
        r"ON DUPLICATE KEY UPDATE term = (?P=term), beat = beat \+ 1",
        "INSERT ... ON DUPLICATE KEY UPDATE Statement",
        ("INSERT ON failoverd.heartbeat", "UPDATE ON failoverd.heartbeat"),
        _first_beat,
    ),
    Statement(
        r"INSERT INTO failoverd\.heartbeat \(id, term, beat\) SELECT 1, (?P<term>\d+), (?P<beat>\d+) FROM DUAL "
        rf"WHERE {_G}read_only = 0 ON DUPLICATE KEY UPDATE term = (?P=term), beat = (?P=beat)",
        "INSERT ... SELECT Statement; INSERT ... ON DUPLICATE KEY UPDATE Statement",
        ("INSERT ON failoverd.heartbeat", "UPDATE ON failoverd.heartbeat"),
        _beat,
    ),
    Statement(
        r"INSERT INTO failoverd\.journal \(term, holder, previous, gtid, reason\) SELECT (?P<term>\d+), "
        rf"(?P<holder>'\w+'), (?P<previous>'\w+'|NULL), "
        rf"CONCAT\({_G}server_uuid, ',', {_G}gtid_executed\), (?P<reason>'.*') FROM DUAL "
        rf"WHERE {_G}read_only = 0",
        "INSERT ... SELECT Statement",
        ("INSERT ON failoverd.journal",),
        _journal,
    ),
    Statement(
        r"SELECT holder FROM failoverd\.journal WHERE term = (?P<term>\d+)",
        "SELECT Statement",
        ("SELECT ON failoverd.journal",),
        _journalled,
    ),
    Statement(
        r"SHOW GLOBAL VARIABLES WHERE Variable_name IN \((?P<names>('\w+'(, )?)+)\)",
        "SHOW VARIABLES Statement",
        (),
        _show_variables,
    ),
    Statement(
        r"SELECT term, gtid FROM failoverd\.journal ORDER BY term",
        "SELECT Statement",
        ("SELECT ON failoverd.journal",),
        _whole_journal,
    ),
)
