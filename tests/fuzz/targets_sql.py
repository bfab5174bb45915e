"""What a database server answers: its packets as pymysql reads them, its rows, its positions, its option files."""

from __future__ import annotations

import json
import socket
import struct
from typing import TYPE_CHECKING, Any, cast

from places import AnswerIsNone, directory, place, saying, text
from target import Target

from failoverd.databases import (
    mariadb_facts,
    mysql_facts,
    option_files,
    sockets,
    statements,
)
from failoverd.databases.connection import Connection, Deadline, Failure
from failoverd.databases.mariadb import MariaDbDialect
from failoverd.databases.mysql import MySqlDialect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PASSWORD = "geheim-fuzz"


# ---- packets --------------------------------------------------------------------------------------------------------


def _packets(data: bytes) -> object:
    """A server that says `data` and closes: a greeting, the end of a login, the answer to a statement."""
    path = directory() / "server.sock"
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(1)

    connection = Connection("failoverd", PASSWORD)
    deadline = Deadline(3000)
    with saying(listener, data):
        try:
            connection.log_in(str(path), deadline, lambda _: None)
            return connection.run(deadline, "SELECT 1")
        except Failure as failure:
            if PASSWORD in failure.reason:
                raise AnswerIsNone("the password is told") from None
            raise
        finally:
            connection.drop()


def _packet(number: int, payload: bytes) -> bytes:
    return struct.pack("<I", len(payload))[:3] + bytes([number]) + payload


def _texts(*words: bytes) -> bytes:
    return b"".join(bytes([len(word)]) + word for word in words)


GREETING = _packet(
    0,
    b"\x0a10.11.6-MariaDB\0" + struct.pack("<I", 7) + b"abcdefgh\0" + struct.pack("<HBHHB", 0xF7FF, 45, 2, 0x81FF, 21)
    + b"\0" * 10 + b"ijklmnopqrst\0mysql_native_password\0",
)  # fmt: skip
OK = b"\x00\0\0" + struct.pack("<HH", 2, 0)
EOF = b"\xfe" + struct.pack("<HH", 0, 2)
COLUMN = _texts(b"def", b"", b"", b"", b"v", b"v") + b"\x0c" + struct.pack("<HIBHB", 45, 1024, 253, 0, 0) + b"\0\0"
NUMBER = _texts(b"def", b"", b"", b"", b"v", b"v") + b"\x0c" + struct.pack("<HIBHB", 63, 20, 8, 0, 0) + b"\0\0"
DATE = _texts(b"def", b"", b"", b"", b"v", b"v") + b"\x0c" + struct.pack("<HIBHB", 63, 20, 12, 0, 0) + b"\0\0"
REFUSED = b"\xff" + struct.pack("<H", 1045) + b"#28000Access denied for user"


def _rows(column: bytes, value: bytes) -> bytes:
    return b"".join(
        _packet(number, payload) for number, payload in enumerate([b"\x01", column, EOF, _texts(value), EOF], 1)
    )


def _packets_made() -> list[bytes]:
    in_ = GREETING + _packet(2, OK) + _packet(1, OK)  # of the login, and of SET NAMES
    return [
        in_ + _rows(COLUMN, b"0-1-500"),
        in_ + _rows(NUMBER, b"18446744073709551615"),
        in_ + _rows(DATE, b"2026-02-30 25:61:61"),
        in_ + _packet(1, b"\xfb/etc/passwd"),
        in_ + _packet(1, b"\xff" + struct.pack("<H", 1064) + b"#42000You have an error near 'x'"),
        in_ + _packet(1, OK),
        GREETING + _packet(2, REFUSED),
        GREETING + _packet(2, b"\xfemysql_native_password\0abcdefghijklmnopqrst\0") + _packet(4, OK),
        GREETING + _packet(2, b"\xfecaching_sha2_password\0abcdefghijklmnopqrst\0") + _packet(4, b"\x01\x03")
        + _packet(5, OK),
        GREETING + _packet(2, b"\xfedialog\0x"),
        _packet(0, b"\xff" + struct.pack("<H", 1040) + b"Too many connections"),
    ]  # fmt: skip


# ---- rows -----------------------------------------------------------------------------------------------------------


class _Server:
    """Answers one statement after the other with what a document has for it."""

    server_run = "boot-1000-100"
    server_pid = 1
    name = "failoverd"

    def __init__(self, data: bytes) -> None:
        try:
            told = json.loads(data)
        except (ValueError, RecursionError):
            raise Failure("DB_SQL", "no answers") from None
        self._answers: Iterator[Any] = iter(told if isinstance(told, list) else [])

    def run(self, _deadline: Deadline, _statement: str, *_values: object) -> list[dict[str, Any]]:
        """The next answer: rows, whose columns are there as in a table, and whose values are anything."""
        rows = next(self._answers, [])
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _read(work: Callable[[Any, Deadline], object]) -> Callable[[bytes], object]:
    return lambda data: work(_Server(data), Deadline(1000))


_SLAVE = {
    "Master_Host": "10.0.0.1", "Master_Port": 3306, "Master_User": "r", "Using_Gtid": "Slave_Pos", "Last_IO_Errno": 0,
    "Slave_IO_Running": "Yes", "Slave_SQL_Running": "Yes", "Gtid_IO_Pos": "0-1-500,1-2-7", "Last_IO_Error": "",
    "Last_SQL_Errno": 1062, "Last_SQL_Error": "Duplicate entry",
}  # fmt: skip
_MARIADB = {
    "version": "10.11.6-MariaDB", "server_id": 1, "read_only": 0, "binlog_state": "0-1-500,0-2-510",
    "binlog_pos": "0-2-510", "slave_pos": "0-1-500", "source_enabled": 1, "wait_point": "AFTER_SYNC",
    "timeout_ms": 18446744073709551615, "wait_no_slave": 1, "replica_enabled": 0, "term": 5, "beat": 7,
}  # fmt: skip
_MYSQL = {
    "version": "8.0.36", "server_id": 1, "server_uuid": "3E11FA47-71CA-11E1-9E33-C80AA9429562", "read_only": 0,
    "executed": "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7,\n3e11fa47-71ca-11e1-9e33-c80aa9429563:tag:1-3",
    "source_enabled": 1, "wait_point": "AFTER_SYNC", "timeout_ms": 4294967295, "wait_no_replica": 1,
    "replica_enabled": 0, "term": 5, "beat": 7,
}  # fmt: skip
_REPLICA = {
    "Source_Host": "10.0.0.1", "Source_Port": 3306, "Source_User": "r", "Auto_Position": "1", "Last_IO_Errno": 0,
    "Replica_IO_Running": "Yes", "Replica_SQL_Running": "No", "Retrieved_Gtid_Set": "3e11fa47:1-500",
    "Last_IO_Error": "", "Last_SQL_Errno": 0, "Last_SQL_Error": "",
}  # fmt: skip


def _named(**values: object) -> list[dict[str, object]]:
    return [{"Variable_name": name, "Value": value} for name, value in values.items()]


def _status(source: str) -> list[dict[str, object]]:
    found = {f"Rpl_semi_sync_{source}_{name}": value for name, value in
             (("status", "ON"), ("clients", "2"), ("no_tx", "0"), ("no_times", "0"))}  # fmt: skip
    counted = ("Com_start_slave", "Com_start_all_slaves", "Com_reset", "Com_change_master")
    return _named(**found, **dict.fromkeys((*counted, "Com_change_replication_source"), "1"))


def _made(*answers: object) -> Callable[[], list[bytes]]:
    return lambda: [json.dumps(answers).encode()]


_GTIDS = (b"0-1-500,0-2-510,\n1-3-7", b"3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7:tag:1-3,x:1", b"0-1-", b"")


def _positions(data: bytes) -> object:
    words = text(data)
    for parse in (mariadb_facts.by_server, mariadb_facts.by_domain, mysql_facts.parse):
        try:
            found = parse(words)
        except ValueError:
            continue
        mariadb_facts.wait_position(found)
    return None


def _options(data: bytes) -> object:
    root = place("mycnf")
    (root / "my.cnf").write_bytes(data)
    (root / "conf.d").mkdir()
    (root / "conf.d" / "x.cnf").write_bytes(data)
    return dict(option_files._options(option_files._lines(root, "/my.cnf", must_exist=True)))


def _netlink(data: bytes) -> object:
    """Answers of the kernel about sockets: it is trusted, its lengths are looked at all the same."""

    class Netlink:
        def recv(self, _: int) -> bytes:
            return data

    return list(sockets._messages(cast("socket.socket", Netlink())))


_SETTINGS = _named(
    server_id="1", gtid_domain_id="0", version="10.11.6-MariaDB", log_bin="ON", binlog_format="ROW", sync_binlog="1",
    slave_net_timeout="5", rpl_semi_sync_master_enabled="ON",
)  # fmt: skip
_MYSQL_SETTINGS = _named(server_uuid="A-b", version="8.0.36", replica_net_timeout="5", log_bin="ON")
_JOURNAL = [{"term": 1, "gtid": "0-2-0,0-1-1000,0-2-5000"}, {"term": 2, "gtid": "0-1-7"}]
_SESSIONS = [{"Id": 7, "User": "a", "Host": "h", "Command": "Query", "State": "x", "TIME_MS": 1500, "time": 2}]

TARGETS = [
    Target("sql-packets", "a database server's packets", _packets, _packets_made, (Failure,)),
    Target(
        "mariadb-facts",
        "rows of a MariaDB server's state",
        _read(lambda server, deadline: MariaDbDialect().read_facts(server, deadline)),
        _made([_SLAVE], [_MARIADB], _status("master")),
        (Failure,),
    ),
    Target(
        "mysql-facts",
        "rows of a MySQL server's state",
        _read(lambda server, deadline: MySqlDialect().read_facts(server, deadline)),
        _made([_REPLICA], [_MYSQL], _status("source")),
        (Failure,),
    ),
    Target(
        "mariadb-settings",
        "rows of how a MariaDB server is set up, and failoverd's journal in it",
        _read(lambda server, deadline: MariaDbDialect().read_settings(server, deadline)),
        _made(
            _SETTINGS,
            [{"Binlog_Do_DB": ""}],
            [_SLAVE],
            [{"name": "a.b", "engine": "MyISAM"}],
            [{"name": "a.e"}],
            _JOURNAL,
        ),
        (Failure,),
    ),
    Target(
        "mysql-settings",
        "likewise, of a MySQL server",
        _read(lambda server, deadline: MySqlDialect().read_settings(server, deadline)),
        _made(_MYSQL_SETTINGS, [_REPLICA], [{"term": 1, "gtid": "A-B,a-b:1-500,other:1-3"}]),
        (Failure,),
    ),
    Target(
        "sql-statements",
        "a server's own list of what runs",
        _read(lambda s, deadline: statements.read_statements(MariaDbDialect(), s, deadline, limit_ms=1000)),
        _made(_named(Slow_queries="3"), _named(long_query_time="10.0"), _SESSIONS),
        (Failure,),
    ),
    Target("gtid-positions", "positions, in both notations", _positions, lambda: list(_GTIDS)),
    Target(
        "option-files",
        "a MariaDB server's option files",
        _options,
        lambda: [
            b"[mysqld]\nread-only = 1 # x\n!includedir /conf.d/\n!include /my.cnf\n[mariadb-10.11]\nskip-read-only\n"
        ],
        (option_files.UnreadableError,),
    ),
    Target(
        "netlink",
        "the kernel's list of sockets",
        _netlink,
        lambda: [struct.pack("=IHHII", 16, 3, 0, 0, 0), struct.pack("=IHHIIi", 20, 2, 0, 0, 0, -1)],
        (OSError,),
    ),
]
