"""A cluster of real MariaDB servers, each with its failoverd donor, for the tests of a rebuild.

The servers run outside the lab's root (its loader, its libraries), so that every path is the same for them, for
mariadb-backup and for failoverd. There is no systemd here: `systemctl` is a script that stops and starts the node's
real server, and keeps to the condition of systemd/mariadb.service.d/failoverd.conf.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mariadb_servers import (
    ADDRESSES,
    PASSWORD,
    PORT,
    REPLICATION_PASSWORD,
    REPOSITORY,
    Server,
    in_step,
    wait_for,
)

from failoverd.databases.mariadb import MariaDb
from failoverd.rebuild import CODES

if TYPE_CHECKING:
    from pathlib import Path

    from node_certificates import Authority, Files

    from failoverd.ports import Result

Nodes = tuple["NodeStage", "NodeStage", "NodeStage"]
LOST = "row {}; it's\nlost"
SYSTEMCTL = """#!/bin/sh
# systemctl stop|start UNIT, for one server
alive() { [ -n "$pid" ] && [ -d /proc/$pid ] && ! grep -q '^State:.Z' /proc/$pid/status; }
pid=$(cat @HOME@/pid 2>/dev/null)
case $1 in
stop)
  alive || exit 0
  kill -TERM "$pid"
  for _ in $(seq 600); do alive || exit 0; sleep 0.05; done
  exit 1 ;;
start)
  alive && exit 0
  [ -e @STATE@/rebuild/hold ] && exit 0
  rm -f @HOME@/mysqld.sock
  setsid sh -c '@COMMAND@' </dev/null >>@HOME@/console.log 2>&1 &
  for _ in $(seq 600); do [ -S @HOME@/mysqld.sock ] && exit 0; sleep 0.05; done
  exit 1 ;;
esac
"""


def loaded(root: Path, program: str) -> str:
    """How a program of the lab's root is run from outside of it."""
    libraries = f"{root}/usr/lib/x86_64-linux-gnu"
    return f"{root}/usr/lib64/ld-linux-x86-64.so.2 --library-path {libraries} {root}{program}"


@dataclass
class Outside(Server):
    """A server that sees the machine as it is."""

    command: str = ""

    def chroot(self, command: str) -> list[str]:
        """In place of the root: the same paths, of this machine."""
        mariadbd = loaded(self.root, "/usr/sbin/mariadbd")
        outside = command.replace("/usr/sbin/mariadbd", "MARIADBD").replace("/mnt", str(self.directory))
        messages = f" --lc-messages-dir={self.root}/usr/share/mysql"
        self.command = "exec " + outside.replace("MARIADBD", mariadbd) + messages
        return ["sh", "-c", self.command]

    def kill(self) -> None:
        """Also one that `systemctl` has started."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            os.kill(int((self.directory / "pid").read_text()), signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
        self.process = None

    def answers(self) -> bool:
        """Not of a process of the test's own where systemctl started it."""
        return self.process is None or super().answers()


@dataclass
class NodeStage:
    """One node: its server, its certificate, its configuration, its programs, its donor."""

    name: str
    server: Outside
    config: Path
    programs: Path
    state: Path
    runtime: Path
    log: Path
    files: Files
    donor: subprocess.Popen[bytes] | None = field(default=None)
    view: MariaDb | None = None

    @property
    def data(self) -> Path:
        """The server's."""
        return self.server.directory / "data"

    @property
    def database(self) -> MariaDb:
        """Failoverd's own view of the server."""
        if self.view is None:
            self.view = MariaDb(self.server.socket, "failoverd", PASSWORD, "failoverd_repl", REPLICATION_PASSWORD, PORT)
        return self.view

    def arguments(self, *words: str) -> list[str]:
        """`failoverd WORDS` as on that node."""
        places = {"--config": self.config, "--programs": self.programs, "--state": self.state}
        given = [f"{name}={path}" for name, path in places.items()]
        node = [f"--node={self.name}", f"--runtime={self.runtime}"]
        return [sys.executable, "-m", "failoverd", words[0], *given, *node, *words[1:]]

    def serve(self) -> None:
        """Start the donor, and wait until it listens."""
        with self.log.open("ab") as log:
            self.donor = subprocess.Popen(self.arguments("donor"), cwd=REPOSITORY, stdout=log, stderr=log)
        wait_for(self._listens, name=f"donor of {self.name}")

    def _listens(self) -> bool:
        assert self.donor is not None
        assert self.donor.poll() is None, self.log.read_text()
        found = subprocess.run(["ss", "-Hltn", f"src {ADDRESSES[self.name]}:7401"], capture_output=True, check=True)
        return bool(found.stdout.strip())

    def rebuild(self, *words: str) -> Run:
        """Start `failoverd rebuild` there."""
        pipe = subprocess.PIPE
        return Run(subprocess.Popen(self.arguments("rebuild", *words), cwd=REPOSITORY, stdout=pipe, stderr=pipe))

    def end(self) -> None:
        """Everything of it."""
        if self.view is not None:
            self.view.close()
        if self.donor is not None:
            self.donor.kill()
            self.donor.wait()
        self.server.kill()


class Run:
    """A rebuild at work."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.said: list[dict[str, Any]] = []
        self.errors = ""

    def until(self, stage: str) -> dict[str, Any]:
        """Read its progress up to the first line of that stage."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(json.loads(line))
            if self.said[-1]["stage"] == stage:
                return self.said[-1]
        raise AssertionError((stage, self.said, self.end()))

    def end(self, *, seconds: float = 120) -> int:
        """Wait for its end; its exit code."""
        out, errors = self.process.communicate(timeout=seconds)
        self.said += [json.loads(line) for line in out.splitlines()]
        self.errors += errors.decode()
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL, and no word more."""
        self.process.kill()
        self.process.communicate()

    def line(self, stage: str) -> dict[str, Any]:
        """The last line of a stage."""
        return [said for said in self.said if said["stage"] == stage][-1]


def make_programs(home: Path, state: Path, server: Outside) -> Path:
    """The node's programs: the lab root's, and its systemctl."""
    directory = home / "bin"
    directory.mkdir()
    defaults = f"--defaults-file={home}/my.cnf --lc-messages-dir={server.root}/usr/share/mysql"
    scripts = {
        name: f'#!/bin/sh\nexec {loaded(server.root, f"/usr/bin/{name}")} "$@"\n'
        for name in ("mariadb-backup", "mbstream", "mariadb-binlog", "mariadb")
    }
    scripts["mariadbd"] = f'#!/bin/sh\nexec {loaded(server.root, "/usr/sbin/mariadbd")} {defaults} "$@"\n'
    texts = {"@HOME@": str(home), "@STATE@": str(state), "@COMMAND@": server.command}
    scripts["systemctl"] = SYSTEMCTL
    for name, text in scripts.items():
        for old, new in texts.items():
            text = text.replace(old, new)  # noqa: PLW2901 - one after the other
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    return directory


def make_node(server: Outside, files: Files, example: str) -> NodeStage:
    """Everything of one node but the running donor; the server has been started."""
    home = server.directory
    state, runtime = home / "state", home / "run"
    replaced = {
        "/run/mysqld/mysqld.sock": server.socket,
        "rebuild: {data: /var/lib/mysql": f"rebuild: {{data: {home}/data",
        "ahead: /var/lib/failoverd/ahead": f"ahead: {home}/ahead",
        "/var/lib/failoverd/audit": f"{home}/audit",
    }
    for old, new in replaced.items():
        assert old in example
        example = example.replace(old, new)
    lines = []
    for line in example.splitlines():
        key = line.strip().partition(": ")[0]
        given = {"ca": files.ca, "certificate": files.certificate, "key": files.key}.get(key)
        lines.append(f"  {key}: {given}" if given and line.startswith("  ") and line[2] != " " else line)
    config = home / "failoverd.yaml"
    config.write_text("\n".join(lines) + "\n")
    files.key.chmod(0o600)
    programs = make_programs(home, state, server)
    return NodeStage(server.name, server, config, programs, state, runtime, home / "donor.log", files)


def ok(result: Result) -> None:
    assert not result.code, result


def fail_over(old: NodeStage, new: NodeStage, third: NodeStage, *, rows: int = 3) -> None:
    """`old` writes what nobody acknowledges, and loses its power; `new` is promoted, `third` follows it."""
    for other in (new, third):
        in_step(old.server, other.server)
        other.server.run("STOP SLAVE")
    old.server.run("SET GLOBAL rpl_semi_sync_master_enabled = 0")
    old.server.run("CREATE TABLE app.lost (id INT PRIMARY KEY, text VARCHAR(100)) ENGINE=InnoDB")
    for number in range(rows):
        with contextlib.closing(old.server.connect()) as connection:
            connection.cursor().execute("INSERT INTO app.lost VALUES (%s, %s)", (number, LOST.format(number)))
    old.server.kill()
    ok(new.database.become_source(deadline_ms=8000))
    ok(third.database.follow(address=new.server.address, deadline_ms=8000))
    ok(new.database.await_replica(deadline_ms=8000))
    ok(new.database.make_writable(term=2, deadline_ms=8000))
    new.server.run("INSERT INTO app.writes VALUES ('after', 0)")
    in_step(new.server, third.server)


def fill(server: Server, megabytes: int) -> None:
    """Data that do not compress away."""
    server.run("CREATE TABLE IF NOT EXISTS app.bulk (id INT AUTO_INCREMENT PRIMARY KEY, text MEDIUMTEXT) ENGINE=InnoDB")
    for _ in range(megabytes):
        server.run("INSERT INTO app.bulk (text) SELECT REPEAT(MD5(RAND()), 32768)")


def certificates(authority: Authority) -> dict[str, Files]:
    return {name: authority.node(name, address) for name, address in ADDRESSES.items()}


def lost_rows(node: NodeStage) -> list[tuple[int, str]]:
    return [(row["id"], row["text"]) for row in node.server.run("SELECT * FROM app.lost ORDER BY id")]


def apply_sql(node: NodeStage, sql: Path) -> None:
    with sql.open("rb") as text:
        command = [str(node.programs / "mariadb"), "--no-defaults", f"--socket={node.server.socket}", "--user=root"]
        subprocess.run(command, stdin=text, check=True)


def same_data(one: NodeStage, other: NodeStage) -> None:
    tables = "mail.domains, mail.users, app.writes, failoverd.journal"
    assert one.server.run(f"CHECKSUM TABLE {tables}") == other.server.run(f"CHECKSUM TABLE {tables}")


def refused(run: Run, code: str) -> str:
    assert run.end() == 3, (run.said, run.errors)
    assert run.said[-1]["code"] == code, run.said
    assert code in CODES
    assert code in run.errors
    return str(run.said[-1]["reason"])


def mariabackups(node: NodeStage) -> list[str]:
    found = subprocess.run(["pgrep", "-f", f"mariadb-backup.*{node.server.socket}"], capture_output=True, check=False)
    return found.stdout.decode().split()


def conversation(node: NodeStage, files: Files | None) -> ssl.SSLSocket:
    """Connect to a node's donor as whoever has those files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if files is not None:
        context.load_cert_chain(files.certificate, files.key)
    plain = socket.create_connection((ADDRESSES[node.name], 7401), timeout=10)
    return context.wrap_socket(plain)


def held_back(node: NodeStage) -> contextlib.closing[Any]:
    """A session that holds up the node's applier; its receiver goes on."""
    session = node.server.connect()
    session.cursor().execute("LOCK TABLES app.writes READ")
    return contextlib.closing(session)
