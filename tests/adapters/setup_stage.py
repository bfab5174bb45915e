"""Three real MariaDB servers as an administrator has them before failoverd comes, and `failoverctl` run beside them.

Each run has a host name of its own, and sees the server of its node at the one path that the configuration has: on
real hosts that is the same path on each.
"""

from __future__ import annotations

import hashlib
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mariadb_servers import ADDRESSES, PORT, REPOSITORY, Server, in_step, statements, wait_for

from failoverd.setup import steps

if TYPE_CHECKING:
    from collections.abc import Iterable

OWN_REPLICATION = ("repl", "the-administrators-own")
LIMIT_S = 90
SYSTEMCTL = Path(__file__).with_name("setup_systemctl.sh")
PROGRAM = Path(sys.executable).with_name("failoverctl")


def as_an_administrator(servers: list[Server]) -> None:
    """The first is writable and semi-synchronous, the others follow it by an account that is not failoverd's."""
    first, *others = servers
    user, password = OWN_REPLICATION
    first.run(
        "SET GLOBAL read_only = 0",
        *statements(REPOSITORY / "tests/lab/files/schema.sql", {}),
        "DROP DATABASE failoverd",
        f"CREATE USER '{user}'@'10.89.1.%' IDENTIFIED BY '{password}'",
        f"GRANT REPLICATION SLAVE ON *.* TO '{user}'@'10.89.1.%'",
    )
    for other in others:
        other.run(
            f"CHANGE MASTER TO MASTER_HOST='{first.address}', MASTER_PORT={PORT}, MASTER_USER='{user}', "
            f"MASTER_PASSWORD='{password}', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1",
            "START SLAVE",
        )
    first.run("SET GLOBAL rpl_semi_sync_master_enabled = 1, GLOBAL rpl_semi_sync_slave_enabled = 1")
    wait_for(lambda: first.counter("Rpl_semi_sync_master_clients") == str(len(others)), name="semi-sync replicas")
    for other in others:
        in_step(first, other)


def units(host: Server) -> Path:
    """Where the state of its units is kept; all of failoverd's are installed, and none runs."""
    place = host.directory / "units"
    if not place.exists():
        for state in ("known", "enabled", "active", "fails"):
            (place / state).mkdir(parents=True)
        for unit in (*steps.ENABLED, *steps.STARTED):
            (place / "known" / unit).touch()
    return place


def on(host: Server, primary: Server, *arguments: str) -> list[str]:
    """The command line that runs failoverctl as on that host."""
    there = 'hostname "$1"; [ "$2" = "$3" ] || mount --bind "$2" "$3"; mount --bind "$4" "$5"; shift 5; exec "$@"'
    return [
        "unshare", "--uts", "--mount", "--propagation", "private", "sh", "-ec", there, "sh",
        host.name, str(host.directory), str(primary.directory), str(SYSTEMCTL), "/usr/bin/systemctl",
        "env", f"SETUP_UNITS={units(host)}", str(PROGRAM), *arguments,
    ]  # fmt: skip


def run(host: Server, primary: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        on(host, primary, *arguments),
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        stdin=subprocess.DEVNULL,
    )


def dialogue(host: Server, primary: Server, replies: Iterable[tuple[str, str]], *arguments: str) -> tuple[int, str]:
    """Run it on a terminal of its own and answer each question as soon as it stands there; exit code and screen."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(on(host, primary, *arguments), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    screen, seen = "", 0
    until = time.monotonic() + LIMIT_S
    try:
        for question, reply in replies:
            while question not in screen[seen:]:
                screen += _more(ours, until, screen)
            seen = screen.index(question, seen) + len(question)
            os.write(ours, f"{reply}\n".encode())
        while text := _rest(ours, until, screen):
            screen += text
        return process.wait(LIMIT_S), screen.replace("\r\n", "\n")
    finally:
        os.close(ours)
        process.kill()
        process.wait()


def _more(terminal: int, until: float, screen: str) -> str:
    text = _rest(terminal, until, screen)
    assert text, f"it ended, and was to ask more:\n{screen}"
    return text


def _rest(terminal: int, until: float, screen: str) -> str:
    ready, _, _ = select.select([terminal], [], [], max(until - time.monotonic(), 0))
    assert ready, f"it neither asks nor ends:\n{screen}"
    try:
        return os.read(terminal, 65536).decode(errors="replace")
    except OSError:  # the other end is closed
        return ""


def checksums(directory: Path) -> dict[str, str]:
    """Of every file below, with its mode."""
    return {
        f"{path.relative_to(directory)} {path.stat().st_mode:o}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


def accounts(server: Server) -> list[str]:
    """Every account with its rights and its password's hash."""
    rows = server.run("SELECT User, Host, JSON_REMOVE(Priv, '$.password_last_changed') AS priv FROM mysql.global_priv")
    rows += server.run("SELECT Db, User, Table_name, Table_priv, Column_priv FROM mysql.tables_priv")
    rows += server.run("SELECT Db, User, Table_name, Column_name, Column_priv FROM mysql.columns_priv")
    return sorted(map(str, rows))


NODES = {name: ADDRESSES[name] for name in ("mail1", "mail2", "mail3")}
