"""What the local MariaDB says of itself and of those that replicate from it; asked as root over its Unix socket.

Debian's root needs no password there (unix_socket). The settings are judged by the rules of `failoverctl check`, before
there is an account of failoverd's.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from failoverd.databases.connection import Connection, Deadline, Failure
from failoverd.databases.mariadb_settings import found as settings_found
from failoverd.setup.found import DatabaseFound, Replica
from failoverd.setup.look import name_of, output

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

USUAL_SOCKET = "/run/mysqld/mysqld.sock"
WITHIN_MS = 5000
_VARIABLES = """SELECT @@GLOBAL.version AS version, @@GLOBAL.read_only AS read_only, @@GLOBAL.port AS port,
  @@GLOBAL.datadir AS directory, @@GLOBAL.log_bin_basename AS binlog"""
_REPLICAS = "SELECT HOST AS host, USER AS user FROM information_schema.PROCESSLIST WHERE COMMAND = 'Binlog Dump'"
_ACKNOWLEDGE = "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_clients'"


def socket_path(given: str) -> str:
    """Where the server listens: as answered, as its own files say, or as Debian has it."""
    said = output("my_print_defaults", "--mysqld", "mariadbd").splitlines()
    named = [line.partition("=")[2] for line in said if line.startswith("--socket=")]
    return given or (named[-1] if named else USUAL_SOCKET)


@contextlib.contextmanager
def session(path: str, user: str = "root", password: str = "") -> Iterator[Connection]:
    """A session that is closed again. Raises Failure."""
    connection = Connection(user, password)
    try:
        connection.log_in(path, Deadline(WITHIN_MS), lambda _: None)
        yield connection
    finally:
        connection.drop()


def look(path: str) -> DatabaseFound | str:
    """All of it, or why it cannot be asked."""
    try:
        with session(path) as connection:
            return _asked(connection, path)
    except Failure as failure:
        return f"{failure.code}: {failure.reason}"


def _asked(connection: Connection, path: str) -> DatabaseFound:
    deadline = Deadline(WITHIN_MS)
    own = connection.run(deadline, _VARIABLES)[0]
    if "mariadb" not in str(own["version"]).lower():
        raise Failure(
            "DB_SQL", f"version = {own['version']}; allowed: MariaDB (config/grants-mysql.sql has MySQL's way)"
        )
    rows: list[dict[str, Any]] = connection.run(deadline, "SHOW SLAVE STATUS")
    dumps = connection.run(deadline, _REPLICAS)
    clients = connection.run(deadline, _ACKNOWLEDGE)
    return DatabaseFound(
        version=str(own["version"]),
        read_only=bool(int(own["read_only"])),
        socket=path,
        port=int(own["port"]),
        directory=str(own["directory"]).rstrip("/"),
        binlog=str(own["binlog"] or "").rpartition("/")[2],
        source=rows[0]["Master_Host"] if rows else "",
        receiving=bool(rows) and rows[0]["Slave_IO_Running"] == "Yes",
        acknowledge=int(clients[0]["Value"]) if clients else 0,
        replicas=tuple(_replicas(dumps, connection.run(deadline, "SHOW SLAVE HOSTS"))),
        accounts=frozenset(str(row["user"]) for row in dumps),
        findings=settings_found(connection, deadline),
    )


def _replicas(dumps: list[dict[str, Any]], reported: list[dict[str, Any]]) -> Iterator[Replica]:
    """Where each replica says that it is (report_host), where all of them do; else where its connection comes from."""
    said = {host for row in reported if (host := _address(str(row["Host"])))}
    connected = {_address(str(row["host"]).rpartition(":")[0] or str(row["host"])) for row in dumps}
    for address in sorted(said if len(said) == len(dumps) else connected):
        yield Replica(address, name_of(address))


def _address(host: str) -> str:
    """A host as a literal address: where the server looks names up, its list has names."""
    return host if host.replace(".", "").isdigit() else next(iter(output("getent", "ahostsv4", host).split()), host)
