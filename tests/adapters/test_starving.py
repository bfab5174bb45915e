"""Real daemons, an arbiter and a holder, whose log nobody reads and whose disks hang: the lease goes on.

One network namespace has all nodes' addresses on one interface. There is no database and no mail service: the holder
was given its lease before it started, as one that was restarted, and only renews it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mariadb_servers import private_network, wait_for
from node_certificates import Authority
from postfix_stage import confined

from failoverd.core.lease import Held, Memory
from failoverd.core.model import NodeName, Record
from failoverd.runtime.clock import BootClock
from failoverd.runtime.persist import LeaseFile, TermFile, boot_id
from failoverd.stores.embedded import EmbeddedStore
from failoverd.tls import client_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.root

CLOCK = BootClock()
TTL_MS = 6000
MAIL1 = NodeName("mail1")
SEVERAL = 8  # renewals; a node whose loop waits for a disk or a reader makes one more at most
PATIENCE_S = 40.0


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


class Disk:
    """A mounted ext4 that can hang."""

    def __init__(self, directory: Path, name: str) -> None:
        self.place = Path(tempfile.mkdtemp(prefix=f"failoverd-{name}-"))
        image = directory / f"{name}.image"
        with image.open("wb") as made:
            made.truncate(16 << 20)
        run("mkfs.ext4", "-q", str(image))
        run("mount", "-o", "loop", str(image), str(self.place))

    def hang(self) -> None:
        """Whoever writes waits."""
        run("fsfreeze", "-f", str(self.place))

    def heal(self) -> None:
        """And is answered."""
        with contextlib.suppress(subprocess.CalledProcessError):  # it did not hang
            run("fsfreeze", "-u", str(self.place))

    def close(self) -> None:
        """Take it out."""
        self.heal()
        run("umount", "--lazy", str(self.place))
        self.place.rmdir()


@dataclass
class Node:
    """One daemon and where it keeps its things."""

    name: str
    config: Path
    state: Path
    runtime: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self, stderr: int) -> None:
        """Start it; its log goes to `stderr`."""
        rights = confined("failoverd.service")
        command = [*rights, sys.executable, "-m", "failoverd", "run", "--node", self.name, "--config", str(self.config)]
        # No systemd of this machine is asked for anything.
        environment = os.environ | {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"}
        directories = ["--state", str(self.state), "--runtime", str(self.runtime)]
        self.process = subprocess.Popen([*command, *directories], stderr=stderr, env=environment)

    @property
    def pid(self) -> int:
        """Its process."""
        assert self.process is not None
        assert self.process.poll() is None, "the daemon has ended"
        return self.process.pid

    def audit(self) -> list[dict[str, Any]]:
        """Its records as they are on its disk."""
        text = (self.state / "audit/audit.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    def end(self) -> None:
        """Kill it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()


@dataclass
class Pair:
    """The arbiter and the holder, each with its state on a disk of its own."""

    arbiter: Node
    holder: Node
    disks: dict[str, Disk]
    written: Path  # a path that the holder's write probe looks at
    ask: Callable[[], Record]

    def counter(self) -> int:
        """How many renewals the store has seen."""
        return self.ask().counter

    def wait_renewed(self, times: int) -> None:
        """Wait for so many more renewals."""
        since = self.counter()
        wait_for(lambda: self.counter() >= since + times, seconds=PATIENCE_S, name=f"{times} renewals")

    def cause_a_record(self) -> None:
        """Let something change that the holder records: what its write probe finds."""
        if self.written.exists():
            self.written.rename(self.written.with_name("away"))
        else:
            self.written.with_name("away").rename(self.written)


@pytest.fixture
def pair(example: str, tmp_path: Path) -> Iterator[Pair]:
    disks = {name: Disk(tmp_path, name) for name in ("arbiter", "mail1")}
    written = tmp_path / "written"
    written.mkdir()
    authority = Authority(tmp_path)
    addresses = {"mail1": "10.89.1.11", "mail2": "10.89.1.12", "arbiter": "10.89.1.14"}
    files = {name: authority.node(name, address) for name, address in addresses.items()}

    def node(name: str) -> Node:
        mine = files[name]
        text = re.sub(r"ca: \S+/tls/ca.crt", f"ca: {mine.ca}", example)
        text = text.replace("ttl: 3s", f"ttl: {TTL_MS}ms")
        text = text.replace("write: [/var/lib/mysql, /srv/mail]", f"write: [{written}]")
        text = text.replace("{directory: /var/lib/failoverd/audit,", f"{{directory: {disks[name].place}/audit,")
        before, _, rest = text.partition("peer:\n")
        after = rest[rest.index("\n\n") :]
        peer = f"peer:\n  port: 7400\n  ca: {mine.ca}\n  certificate: {mine.certificate}\n  key: {mine.key}"
        mine.key.chmod(0o600)
        config = tmp_path / f"{name}.yaml"
        config.write_text(before + peer + after)
        runtime = tmp_path / f"{name}.run"
        runtime.mkdir()
        return Node(name, config, disks[name].place, runtime)

    arbiter, holder = node("arbiter"), node("mail1")
    other = files["mail1"]  # nobody else may make it the primary
    context = client_context(ca=other.ca, certificate=other.certificate, key=other.key)

    # One connection for all that is asked: a node that makes one for each is shown out (PEER_LIMIT).
    runner = asyncio.Runner()
    store = EmbeddedStore("https://10.89.1.14:7400", context, 2000, cluster="lab")

    def asked(work: Callable[[EmbeddedStore], Any]) -> Any:
        return runner.run(work(store))

    def reachable() -> bool:
        with contextlib.suppress(Exception):
            return bool(asked(lambda store: store.read()) is not None)
        return False

    with private_network(), (tmp_path / "log").open("ab") as log:
        run("ip", "link", "add", "host0", "type", "veth", "peer", "name", "switch0")
        run("ip", "link", "set", "host0", "up")
        run("ip", "address", "add", "10.89.1.14/32", "dev", "host0")
        try:
            arbiter.start(log.fileno())
            wait_for(reachable, seconds=PATIENCE_S, name=f"the arbiter: {(tmp_path / 'log').read_text()}")
            record = Record(term=1, holder=MAIL1, counter=1, ttl_ms=TTL_MS)
            won, stored = asked(lambda store: store.compare_and_swap(0, record))
            assert won
            TermFile(holder.state).keep(Memory(term=1, holder=MAIL1, ttl_ms=TTL_MS))
            LeaseFile(holder.runtime, boot_id()).write(Held(1, stored.version, CLOCK.now_ms() + TTL_MS))
            yield Pair(arbiter, holder, disks, written, lambda: asked(lambda store: store.read()))
        finally:
            runner.run(store.close())
            runner.close()
            for disk in disks.values():
                disk.heal()
            for started in (holder, arbiter):
                started.end()
            for disk in disks.values():
                disk.close()


@pytest.fixture
def full_pipe() -> Iterator[int]:
    """A pipe that nobody reads, filled to its last byte: what a stopped journald is."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 256)
    os.set_blocking(writing, True)
    yield writing
    os.close(writing)
    os.close(reading)


def test_a_log_that_nobody_reads_and_an_audit_that_hangs_hold_up_no_renewal(pair: Pair, full_pipe: int) -> None:
    pair.holder.start(full_pipe)
    pair.wait_renewed(2)
    pair.disks["mail1"].hang()
    before = pair.holder.audit()
    pair.cause_a_record()
    pair.wait_renewed(SEVERAL)
    pair.cause_a_record()
    pair.wait_renewed(SEVERAL)
    assert pair.holder.audit() == before, "the audit's disk took a record: it did not hang"
    pair.disks["mail1"].heal()
    wait_for(
        lambda: any(line.get("code") == "DISK_IO" for line in pair.holder.audit()[len(before) :]),
        seconds=PATIENCE_S,
        name="the record that waited",
    )
    pair.wait_renewed(2)


def test_an_arbiter_whose_store_hangs_goes_on_answering_what_needs_no_disk(pair: Pair, full_pipe: int) -> None:
    pair.holder.start(full_pipe)
    pair.wait_renewed(2)
    pair.disks["arbiter"].hang()
    stuck = wait_for_standstill(pair)
    assert pair.ask() == stuck, "read, from memory"
    pair.disks["arbiter"].heal()
    wait_for(lambda: pair.counter() > stuck.counter or pair.ask().revoked, seconds=PATIENCE_S, name="the swap's end")


def wait_for_standstill(pair: Pair) -> Record:
    """The record when it has not changed for four renewals' time."""
    last, since = pair.ask(), CLOCK.now_ms()
    end = time.monotonic() + PATIENCE_S
    while CLOCK.now_ms() - since < 2000:
        assert time.monotonic() < end, "the store goes on: its disk does not hang"
        now = pair.ask()
        if now != last:
            last, since = now, CLOCK.now_ms()
        time.sleep(0.05)
    return last


def test_after_a_gap_longer_than_the_lease_the_role_is_dropped_before_anything_is_looked_at(
    pair: Pair, tmp_path: Path
) -> None:
    with (tmp_path / "holder.log").open("ab") as log:
        pair.holder.start(log.fileno())
    pair.wait_renewed(2)
    os.kill(pair.holder.pid, signal.SIGSTOP)
    counter, version = pair.counter(), pair.ask().version
    held = LeaseFile(pair.holder.runtime, boot_id()).read()
    assert held is not None
    wait_for(lambda: CLOCK.now_ms() > held.deadline_ms + TTL_MS // 2, seconds=PATIENCE_S, name="the lease's end")
    known = len(pair.holder.audit())
    os.kill(pair.holder.pid, signal.SIGCONT)
    wait_for(
        lambda: any(line.get("text") == "close-gate: succeeded" for line in pair.holder.audit()[known:]),
        seconds=PATIENCE_S,
        name="the gate closed",
    )
    kinds = [line["kind"] for line in pair.holder.audit()[known:]]
    assert "gap" in kinds[:2]
    assert "lease-ended" in kinds[:2]
    assert LeaseFile(pair.holder.runtime, boot_id()).read() is None
    assert (pair.counter(), pair.ask().version) == (counter, version), "a lease that has ended is not revived"
    rules = subprocess.run(["nft", "list", "chain", "inet", "failoverd", "gate"], check=True, capture_output=True)
    assert b"accept" not in rules.stdout
