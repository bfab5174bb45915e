"""Real mariadbd processes for the adapter's tests: one network namespace, one address each, no booted host.

The binaries come from the lab's cached root (`tests/lab/lab root`), the settings from the lab's own `my.cnf`, the
grants from `config/grants-mariadb.sql`. Each server has an address of its own on the namespace's loopback, so that a
replica names its source as in the lab, and `silence` can drop every packet of one of them: a peer whose power is cut.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pymysql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).parents[2]
PASSWORD = "database-lab-password"
REPLICATION_PASSWORD = "replication-lab-password"
ADDRESSES = {"mail1": "10.89.1.11", "mail2": "10.89.1.12", "mail3": "10.89.1.13"}
NOWHERE = "10.89.1.99"
PORT = 3306
CLONE_NEWNET = 0x40000000

SILENCE = """
table inet silence
delete table inet silence
table inet silence {
  set silent { type ipv4_addr; }
  chain output { type filter hook output priority -300; ip daddr @silent drop; ip saddr @silent drop; }
}
"""


def lab_root() -> Path:
    """The lab's root; FAILOVERD_TEST_ROOT names another one that holds the same packages."""
    given = os.environ.get("FAILOVERD_TEST_ROOT")
    if given:
        return Path(given)
    lab = REPOSITORY / "tests/lab/lab"
    printed = subprocess.run([str(lab), "root"], check=True, capture_output=True, text=True).stdout
    return Path(printed.split()[-1])


def wait_for(what: Callable[[], Any], *, seconds: float = 10.0, name: str = "") -> Any:
    """Return the first true value of `what`; AssertionError after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = what()
        if value:
            return value
        assert time.monotonic() < end, f"waited {seconds} s in vain for {name or what}"
        time.sleep(0.005)


def nft(script: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=script, check=True, text=True)


@contextlib.contextmanager
def private_network() -> Iterator[Path]:
    """Put this thread, and all that it starts, into a network namespace of its own; gives the lab's root.

    The root first: where it has to be built, that needs the machine's network.
    """
    root = lab_root()
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare: a new network namespace was refused")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        for address in (*ADDRESSES.values(), NOWHERE):
            subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
        nft(SILENCE)
        hear()
        yield root
    finally:
        if libc.setns(before, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns: the way back was refused")
        os.close(before)


def silence(address: str) -> None:
    """No packet from or to `address` any more: no reset, no refusal."""
    nft(f"add element inet silence silent {{ {address} }}")


def hear() -> None:
    """Everybody speaks again, but NOWHERE: an address at which nobody ever was."""
    nft(f"flush set inet silence silent; add element inet silence silent {{ {NOWHERE} }}")


@dataclass
class Server:
    """One mariadbd. `directory` is bound to /mnt of its private view of the root, and holds data, socket and log."""

    name: str
    root: Path
    directory: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def address(self) -> str:
        """Its own, of the namespace's loopback."""
        return ADDRESSES[self.name]

    @property
    def socket(self) -> str:
        """The Unix socket, from outside the root."""
        return str(self.directory / "mysqld.sock")

    def chroot(self, command: str) -> list[str]:
        """`command` in the root, with the server's directory at /mnt; the binding ends with the process."""
        return [
            "unshare", "--mount", "--propagation", "private", "sh", "-c",
            f'mount --bind "$0" "$1/mnt" && exec chroot "$1" {command}',
            str(self.directory), str(self.root),
        ]  # fmt: skip

    def start(self, *options: str) -> None:
        """Start, with the lab's settings, and wait until it answers."""
        settings = (REPOSITORY / "tests/lab/files/my.cnf").read_text(encoding="utf-8")
        (self.directory / "my.cnf").write_text(
            settings.replace("@SERVER_ID@", str(list(ADDRESSES).index(self.name) + 1)), encoding="utf-8"
        )
        command = " ".join(
            (
                "/usr/sbin/mariadbd --defaults-file=/mnt/my.cnf --user=root --datadir=/mnt/data --tmpdir=/mnt",
                "--socket=/mnt/mysqld.sock --pid-file=/mnt/pid --log-error=/mnt/error.log --skip-networking=0",
                f"--bind-address={self.address} --port={PORT}",
                *options,
            )
        )
        with (self.directory / "console.log").open("ab") as console:
            self.process = subprocess.Popen(self.chroot(command), stdout=console, stderr=console)
        wait_for(self.answers, seconds=30, name=f"{self.name} to start")

    def answers(self) -> bool:
        """Whether it accepts a login; AssertionError with its log when it has ended."""
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "error.log").read_text(encoding="utf-8")
        with socket.socket(socket.AF_UNIX) as look:  # pymysql leaks the socket of a refused connection
            if look.connect_ex(self.socket) != 0:
                return False
        self.connect().close()
        return True

    def kill(self) -> None:
        """SIGKILL: what was not on disk is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def signal(self, number: int) -> None:
        """Send a signal. After SIGSTOP none of the server's threads runs any more: one may be late to hear of it."""
        assert self.process is not None
        self.process.send_signal(number)
        if number == signal.SIGSTOP:
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def connect(self, user: str = "root", password: str = "", **more: Any) -> pymysql.Connection[Any]:
        """A local session."""
        return pymysql.connect(
            unix_socket=self.socket,
            user=user,
            password=password,
            autocommit=True,
            ssl_disabled=True,
            **{"read_timeout": 60, **more},
        )

    def client(self, **more: Any) -> pymysql.Connection[Any]:
        """A user's connection, over TCP as the lab's."""
        return pymysql.connect(
            host=self.address,
            port=PORT,
            user="app",
            password="app-lab-password",
            autocommit=True,
            ssl_disabled=True,
            **more,
        )

    def run(self, *statements: str) -> list[dict[str, Any]]:
        """Run them as root; the last one's rows."""
        with contextlib.closing(self.connect()) as connection, connection.cursor(pymysql.cursors.DictCursor) as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def value(self, expression: str) -> Any:
        """One expression's value."""
        return self.run(f"SELECT {expression} AS v")[0]["v"]

    def variable(self, name: str) -> str:
        """One global variable."""
        return str(self.run(f"SHOW GLOBAL VARIABLES LIKE '{name}'")[0]["Value"])

    def counter(self, name: str) -> str:
        """One global status variable."""
        return str(self.run(f"SHOW GLOBAL STATUS LIKE '{name}'")[0]["Value"])

    def slave(self) -> dict[str, Any]:
        """The row of SHOW SLAVE STATUS, empty where there is none."""
        rows = self.run("SHOW SLAVE STATUS")
        return rows[0] if rows else {}


def statements(path: Path, replacements: dict[str, str]) -> list[str]:
    """The statements of a file of SQL without semicolons in strings; comments are left out."""
    text = path.read_text(encoding="utf-8")
    for old, new in replacements.items():
        text = text.replace(old, new)
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    return [statement.strip() for statement in "\n".join(lines).split(";") if statement.strip()]


def make_template(root: Path, directory: Path) -> Path:
    """A data directory with the system tables only, and nothing in its binary log: each server copies it."""
    server = Server("mail1", root, directory)
    install = (
        "mariadb-install-db --no-defaults --datadir=/mnt/data --user=root --skip-test-db --innodb-log-file-size=16M"
    )
    command = server.chroot(f"{install} --auth-root-authentication-method=normal")
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, f"mariadb-install-db gave {done.returncode}:\n{done.stdout}"
    return directory / "data"


def lay_out(servers: list[Server]) -> None:
    """As the administrator would: the first is writable, semi-synchronous source; the others replicate from it."""
    first, *others = servers
    first.run("SET GLOBAL read_only = 0")
    grants = {"@PASSWORD@": PASSWORD, "@REPLICATION_PASSWORD@": REPLICATION_PASSWORD, "@REPLICATION_HOST@": "10.89.1.%"}
    schema = statements(REPOSITORY / "tests/lab/files/schema.sql", {})
    first.run(*schema, *statements(REPOSITORY / "config/grants-mariadb.sql", grants))
    for other in others:
        other.run(change_master(first.address), "START SLAVE")
    first.run("SET GLOBAL rpl_semi_sync_master_enabled = 1, GLOBAL rpl_semi_sync_slave_enabled = 1")
    wait_for(lambda: first.counter("Rpl_semi_sync_master_clients") == str(len(others)), name="semi-sync replicas")
    for other in others:
        in_step(first, other)


def change_master(address: str) -> str:
    return (
        f"CHANGE MASTER TO MASTER_HOST='{address}', MASTER_PORT={PORT}, MASTER_USER='failoverd_repl', "
        f"MASTER_PASSWORD='{REPLICATION_PASSWORD}', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1"
    )


def in_step(source: Server, replica: Server) -> None:
    """Wait until `replica` has applied all of `source`'s."""
    wait_for(
        lambda: source.value("@@gtid_binlog_pos") == replica.value("@@gtid_slave_pos"),
        name=f"{replica.name} to catch up with {source.name}",
    )


def copies(template: Path, root: Path, directory: Path, names: list[str]) -> list[Server]:
    servers = []
    for name in names:
        home = directory / name
        home.mkdir()
        shutil.copytree(template, home / "data", symlinks=True)
        servers.append(Server(name, root, home))
    return servers
