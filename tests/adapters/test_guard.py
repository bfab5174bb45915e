"""`failoverd guard` beside a real mariadbd: what becomes of the database when nobody renews the lease any more.

The test is the daemon: it notes leases in a runtime directory of its own, or stops doing so.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pymysql
import pytest
from mariadb_servers import (
    ADDRESSES,
    PASSWORD,
    Server,
    copies,
    hear,
    lay_out,
    make_template,
    private_network,
    wait_for,
)
from postfix_stage import confined

from failoverd.core.lease import Held, Memory
from failoverd.runtime.clock import BootClock
from failoverd.runtime.guard import missing
from failoverd.runtime.persist import LeaseFile, TermFile, boot_id

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

LEASE_MS = 2500
CLOCK = BootClock()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    with private_network() as root:
        yield root, make_template(root, tmp_path_factory.mktemp("template"))


@pytest.fixture
def servers(template: tuple[Path, Path], tmp_path: Path) -> Iterator[list[Server]]:
    """A writable, semi-synchronous source and a replica that acknowledges."""
    root, data = template
    hear()
    made = copies(data, root, tmp_path, list(ADDRESSES)[:2])
    try:
        for server in made:
            server.start()
        lay_out(made)
        yield made
    finally:
        for server in made:
            server.kill()


class Node:
    """One node's runtime directory, with a guard that watches it."""

    def __init__(self, server: Server, config_text: str, directory: Path) -> None:
        self.server = server
        self.runtime = directory / "run"
        self.runtime.mkdir()
        self.lease = LeaseFile(self.runtime, boot_id())
        self.version = 0
        (directory / "secret").write_text(PASSWORD)
        (directory / "secret").chmod(0o600)
        changed = config_text.replace("/run/mysqld/mysqld.sock", server.socket)
        lines = [
            f"  password_file: {directory}/secret" if line.endswith("secrets/database") else line
            for line in changed.splitlines()
        ]
        self.config = config = directory / "guarded.yaml"
        config.write_text("\n".join(lines))
        self.log = directory / "guard.log"
        with self.log.open("ab") as log:
            self.guard = subprocess.Popen(
                [
                    *confined("failoverd-guard.service"),
                    *(sys.executable, "-m", "failoverd", "guard", "--node", "mail1"),
                    *("--config", str(config), "--runtime", str(self.runtime)),
                ],
                stderr=log,
            )
        wait_for(lambda: missing(self.runtime) is None, name=f"the guard: {self.log.read_text()}")

    def renew(self, lasts_ms: int = LEASE_MS) -> int:
        """Note a renewal; its deadline."""
        self.version += 1
        held = Held(3, self.version, CLOCK.now_ms() + lasts_ms)
        self.lease.write(held)
        return held.deadline_ms

    @property
    def pid(self) -> int:
        """The server itself, which `chroot` and `sh` have become."""
        assert self.server.process is not None
        return self.server.process.pid

    def status(self, name: str) -> str:
        """A line of /proc/PID/status of the server."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(line for line in lines if line.startswith(f"{name}:")).split(":")[1].strip()

    def wait_tied(self) -> None:
        """Wait until the guard traces the server."""
        wait_for(lambda: self.status("TracerPid") == str(self.guard.pid), name=f"the leash: {self.log.read_text()}")

    def said(self) -> str:
        """What the guard has told."""
        return self.log.read_text()


@pytest.fixture
def node(servers: list[Server], example: str, tmp_path: Path) -> Iterator[Node]:
    made = Node(servers[0], example, tmp_path)
    try:
        yield made
    finally:
        made.guard.send_signal(signal.SIGCONT)
        made.guard.terminate()
        made.guard.wait(10)


def is_read_only(server: Server) -> bool:
    """Whether it is; who looks is a client as well, and may be ended with the others while that is being done."""
    try:
        return server.variable("read_only") == "ON"
    except pymysql.err.OperationalError:
        return False


def over(deadline_ms: int) -> bool:
    return CLOCK.now_ms() >= deadline_ms


def left_ms(node: Node) -> list[int]:
    """What the leases had left each time the guard took one for not renewed."""
    return [int(found) for found in re.findall(r"has (-?\d+) ms left and was not renewed", node.said())]


def test_a_lease_that_is_renewed_leaves_the_database_alone(node: Node) -> None:
    first_ms = node.renew()
    node.wait_tied()
    last = first_ms

    def later() -> bool:
        nonlocal last
        if last - CLOCK.now_ms() < LEASE_MS - 500:
            last = node.renew()
        return over(first_ms + 2 * LEASE_MS)

    wait_for(later, name="two more leases")
    assert node.server.variable("read_only") == "OFF"
    assert node.status("TracerPid") == str(node.guard.pid)


def test_a_lease_that_nobody_renews_ends_with_a_read_only_database_that_still_runs(node: Node) -> None:
    deadline_ms = node.renew()
    node.wait_tied()
    wait_for(lambda: is_read_only(node.server), name=node.said())
    assert not over(deadline_ms), "read-only came after the deadline"
    wait_for(lambda: over(deadline_ms + 300), name="the lease's end")
    assert node.server.variable("read_only") == "ON"
    assert node.status("TracerPid") == "0"
    assert node.guard.poll() is None


def test_the_moment_is_that_of_the_daemon_that_holds_the_lease(node: Node) -> None:
    """A daemon that was started with another configuration than the guard: the guard comes as late as it does."""
    for budget_ms, lasts_ms in ((100, 900), (60_000, 60_000)):  # by the guard's own: at once, and after 59 s
        node.lease = LeaseFile(node.runtime, boot_id(), budget_ms)
        node.renew(lasts_ms)
        wait_for(lambda: len(left_ms(node)) == node.version, name=node.said())
    first_ms, second_ms = left_ms(node)
    assert first_ms <= 100
    assert second_ms > 50_000


def test_everything_stopped_at_the_deadline_is_ended_by_the_kernel(node: Node) -> None:
    """The frozen host: no process of it runs when the lease ends, and none ever writes again."""
    deadline_ms = node.renew()
    node.wait_tied()
    os.kill(node.pid, signal.SIGSTOP)
    os.kill(node.guard.pid, signal.SIGSTOP)
    assert not over(deadline_ms)
    assert node.server.process is not None
    assert node.guard.wait(10) == -signal.SIGKILL
    assert over(deadline_ms)
    assert node.server.process.wait(10) == -signal.SIGKILL


def test_a_stopped_server_is_ended_at_the_deadline(node: Node) -> None:
    deadline_ms = node.renew()
    node.wait_tied()
    os.kill(node.pid, signal.SIGSTOP)
    assert node.server.process is not None
    assert node.server.process.wait(10) == -signal.SIGKILL
    assert over(deadline_ms)


def test_a_commit_that_nobody_acknowledges_does_not_outlive_the_lease(servers: list[Server], node: Node) -> None:
    """SET read_only waits behind it: the way that a cut-off primary stays writable for many seconds."""
    servers[1].signal(signal.SIGSTOP)
    writing = threading.Thread(target=write_and_be_killed, args=(node.server,), daemon=True)
    writing.start()
    wait_for(
        lambda: any("semi-sync ACK" in (row["State"] or "") for row in node.server.run("SHOW PROCESSLIST")),
        name="a commit that waits",
    )
    deadline_ms = node.renew()
    assert node.server.process is not None
    assert node.server.process.wait(10) == -signal.SIGKILL
    assert over(deadline_ms)
    servers[1].signal(signal.SIGCONT)
    writing.join(10)


def write_and_be_killed(server: Server) -> None:
    try:
        server.run("CREATE DATABASE held_up")
    except pymysql.MySQLError as error:  # the server is killed under it
        print(error)


def test_a_server_on_the_leash_can_be_stopped_and_continued(node: Node) -> None:
    node.renew()
    node.wait_tied()
    os.kill(node.pid, signal.SIGSTOP)
    wait_for(lambda: node.status("State")[0] in "tT", name="it stops")
    node.renew()
    os.kill(node.pid, signal.SIGCONT)
    assert node.server.variable("read_only") == "OFF"
    node.renew()
    node.server.process.terminate()  # type: ignore[union-attr]  # it runs: it has just answered
    assert node.server.process.wait(20) == 0  # type: ignore[union-attr]  # likewise


def test_a_server_that_was_started_again_is_tied_too(node: Node) -> None:
    node.renew()
    node.wait_tied()
    node.server.kill()
    node.renew()
    renewing = threading.Event()

    def keep() -> None:
        while not renewing.wait(0.5):
            node.renew()

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        node.server.start()
        node.wait_tied()
    finally:
        renewing.set()
        keeper.join()


def test_a_lease_that_is_given_back_takes_the_leash_off_once_the_database_is_read_only(node: Node) -> None:
    node.renew()
    node.wait_tied()
    node.lease.clear()
    wait_for(lambda: node.status("TracerPid") == "0", name=node.said())
    assert node.server.variable("read_only") == "ON"


def test_a_guard_that_is_ended_lets_the_server_go(node: Node) -> None:
    deadline_ms = node.renew()
    node.wait_tied()
    node.guard.terminate()
    assert node.guard.wait(10) == 0
    wait_for(lambda: over(deadline_ms + 200), name="the lease's end")
    assert node.server.variable("read_only") == "OFF"
    gone = missing(node.runtime)
    assert gone is not None
    assert gone.code == "GUARD_MISSING"


def test_a_guard_that_was_started_late_ends_what_an_old_lease_left_writable(node: Node) -> None:
    node.guard.terminate()
    node.guard.wait(10)
    node.lease.write(Held(3, 1, CLOCK.now_ms() - 1))
    assert node.server.variable("read_only") == "OFF"
    command = list(map(str, node.guard.args))  # type: ignore[arg-type, union-attr]  # a list of text
    with node.log.open("ab") as log:
        node.guard = subprocess.Popen(command, stderr=log)
    wait_for(lambda: is_read_only(node.server), name=node.said())


def test_without_a_lease_nothing_is_touched(node: Node) -> None:
    node.guard.terminate()
    assert node.guard.wait(10) == 0
    assert node.server.variable("read_only") == "OFF"
    assert node.status("TracerPid") == "0"


def drop(node: Node, state: Path, *more: str) -> int:
    """Run `failoverd drop`; its exit code."""
    failoverd = [sys.executable, "-m", "failoverd"]
    command = [*confined("failoverd-drop.service"), *failoverd, "drop", "--node", "mail1", "--config", str(node.config)]
    directories = ["--runtime", str(node.runtime), "--state", str(state)]
    with node.log.open("ab") as log:
        return subprocess.run([*command, *directories, *more], check=False, stderr=log, timeout=60).returncode


def gate() -> str:
    listed = ["nft", "list", "chain", "inet", "failoverd", "gate"]
    return subprocess.run(listed, check=False, capture_output=True, text=True).stdout


def test_drop_needs_no_daemon_and_can_be_repeated(node: Node, tmp_path: Path) -> None:
    TermFile(tmp_path / "state").keep(Memory(term=3))
    assert drop(node, tmp_path / "state") == 0, node.said()
    assert node.server.variable("read_only") == "ON"
    assert "drop" in gate()
    assert drop(node, tmp_path / "state") == 0
    assert node.server.variable("read_only") == "ON"


def test_drop_touches_nothing_where_no_term_was_ever_seen(node: Node, tmp_path: Path) -> None:
    assert drop(node, tmp_path / "state") == 0
    assert node.server.variable("read_only") == "OFF"


def test_drop_ends_a_server_that_does_not_obey(servers: list[Server], node: Node, tmp_path: Path) -> None:
    TermFile(tmp_path / "state").keep(Memory(term=3))
    servers[0].signal(signal.SIGSTOP)
    assert drop(node, tmp_path / "state") == 0, node.said()
    assert servers[0].process is not None
    assert servers[0].process.wait(10) == -signal.SIGKILL


def test_drop_at_the_leases_end_goes_away_when_a_daemon_renews(node: Node, tmp_path: Path) -> None:
    TermFile(tmp_path / "state").keep(Memory(term=3))
    assert drop(node, tmp_path / "state", "--at-lease-end") == 0, "no lease is noted"
    node.renew()
    node.wait_tied()
    renewing = threading.Event()

    def keep() -> None:
        while not renewing.wait(0.3):
            node.renew()

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        assert drop(node, tmp_path / "state", "--at-lease-end") == 0
        assert node.server.variable("read_only") == "OFF"
    finally:
        renewing.set()
        keeper.join()
    assert drop(node, tmp_path / "state", "--at-lease-end") == 0
    assert node.server.variable("read_only") == "ON"
