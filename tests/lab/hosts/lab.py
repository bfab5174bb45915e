"""The whole lab as one object: what the program `lab`, the demo and the tests use.

lab = Lab(say=print)
lab.up()
lab.exec("mail1", "systemctl", "is-active", "mariadb")   # -> CompletedProcess, raises LabError on failure
lab.kill("mail1"); lab.boot("mail1")
with lab.client_network():                               # sockets made here belong to the client host
    socket.create_connection(("10.89.1.100", 993))
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from . import bare as no_failoverd
from . import cgroups, cluster, containers, debian, etcd, faults, layout, network, pressure, provision, venv
from . import disks as own_disks
from .layers import clear_half_built, unmount_below
from .shell import LabError, living, run, wait_for

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator


def _silent(_: str) -> None:
    """Say nothing."""


def _unchanged(text: str) -> str:
    """Give the shipped configuration as it is."""
    return text


def _edit(path: Path, change: Callable[[str], str]) -> None:
    if path.exists():
        path.write_text(change(path.read_text()))


def _insert_own_disks(*, with_etcd: bool) -> None:
    """Put on file systems of their own what a row of the fault matrix lets a disk do something to."""
    own_disks.insert(own_disks.MAIL, layout.STATE / "mail")
    for host in layout.DATA_NODES:
        own_disks.insert(host, layout.STATE / "hosts" / host / "root/var/lib/mysql")
    for host in etcd.MEMBERS if with_etcd else ():
        own_disks.insert(etcd.disk(host), layout.STATE / "hosts" / host / f"root{etcd.HOME}")


class Lab:
    """Four hosts and a client, on this machine, as root. Any number of objects may stand for the one lab."""

    def __init__(self, say: Callable[[str], None] = _silent) -> None:
        self._say = say
        self._usual = False

    # ---- the whole -------------------------------------------------------------------------------------------

    def up(
        self,
        *,
        failoverd: bool = True,
        disks: bool = False,
        configure: Callable[[str], str] = _unchanged,
        installed: bool = True,
        prepared: bool = True,
        store: str = "embedded",
    ) -> None:
        """Start from clean: all hosts booted, the mail cluster laid out and serving, failoverd adopting it.

        With `disks`, databases and mail store each have a file system of their own (see disks.py). `configure` gets
        the text of failoverd's configuration and gives what the hosts shall have. Not `installed`: no program,
        unit or configuration of failoverd is there, and root of each host has ssh to the others. Nor `prepared`: no
        certificate, password, account or table either. `store` is failoverd's: with "etcd", members run on three hosts.
        """
        with_etcd = store == "etcd"
        self._usual = failoverd and installed and prepared and not disks and not with_etcd and configure is _unchanged
        with self._lock():
            self._clean()
            data, lower = self._layers()
            over, lower = ([self._copy_source()], lower) if installed else ([], [self._ssh(), lower[-1]])
            over += [self._etcd_client()] if with_etcd else []
            layout.STATE.mkdir(parents=True, exist_ok=True)
            network.up()
            run("cp", "-a", str(data / "mail"), str(layout.STATE / "mail"))
            (layout.STATE / "pki").symlink_to(data / "pki")
            for host in layout.HOSTS:
                containers.insert_disks(host, [*over, data / host, *lower])
                if not prepared:
                    no_failoverd.strip(layout.STATE / "hosts" / host / "root")
                file = layout.STATE / "hosts" / host / "root/etc/failoverd/failoverd.yaml"
                _edit(file, configure)
                if with_etcd:
                    _edit(file, etcd.configured)
            if with_etcd:
                etcd.install(over[-1], layout.STATE / "pki")
            if disks:
                _insert_own_disks(with_etcd=with_etcd)
            with ThreadPoolExecutor() as pool:
                list(pool.map(self._boot, layout.HOSTS))
                self._say("four hosts are on; waiting for their services")
                store_laid_out = pool.submit(etcd.Etcd(self).lay_out) if with_etcd else None
                cluster.lay_out(self, pool)
                self._say("mail1 is primary with the virtual IP, mail2 and mail3 replicate; every mail service answers")
                if not prepared:
                    no_failoverd.forget_failoverd(self)
                if store_laid_out is not None:
                    store_laid_out.result()
                    self._say(f"etcd has its members on {', '.join(etcd.MEMBERS)}, and a user for the cluster")
                if failoverd and installed:
                    cluster.start_failoverd(self, pool)

    def down(self) -> None:
        """End everything and remove all but the cache."""
        with self._lock():
            self._clean()
        for name in ("lock", "build.lock"):
            (layout.RUN / name).unlink(missing_ok=True)
        with suppress(OSError):
            layout.RUN.rmdir()

    def build(self) -> None:
        """Build the layers that are missing, so that the next `up` need not; a lab that runs is not touched."""
        self._layers()

    def root(self) -> Path:
        """Give the directory of the cached base root; build it where it is missing."""
        with self._lock("build.lock"):
            clear_half_built()
            debian.install_outside_packages(self._say)
            return debian.base(self._say)

    @property
    def is_usual(self) -> bool:
        """Whether this object has put up the four hosts as they are without any option, and no fifth one since."""
        return self._usual

    def is_up(self) -> bool:
        """Tell whether the lab stands, whatever has become of single hosts."""
        return network.is_up()

    def add_spare(self) -> None:
        """Switch on one more mail server, as an administrator has set it up before failoverd comes to it."""
        host = layout.SPARE
        self._usual = False
        with self._lock():
            data, lower = self._layers()
            containers.insert_disks(host, [layout.STATE / "source", data / host, *lower])
            self._boot(host)
        self.wait_booted(host)
        # What Debian's package does at its installation, and the cached root is spared.
        self.exec(host, "mariadb-install-db", "--user=mysql", "--datadir=/var/lib/mysql", "--skip-test-db")
        self.exec(host, "systemctl", "restart", "mariadb")

    # ---- one host --------------------------------------------------------------------------------------------

    def boot(self, host: str, *, wait: bool = True) -> None:
        """Switch a host on with its disks as they were; wait until its systemd has started all it wants to."""
        with self._lock():
            self._check(host)
            self._boot(host)
        if wait:
            self.wait_booted(host)

    def kill(self, host: str) -> None:
        """Cut the host's power: its link first, then everything at once. Its disks stay."""
        with self._lock():
            self._check(host)
            containers.running_pid(host)
            containers.cut_power(host)
            (layout.RUN / f"{host}.frozen").unlink(missing_ok=True)

    def pause(self, host: str) -> None:
        """Freeze every process of the host; its kernel goes on answering ARP, ping and TCP handshakes."""
        with self._lock():
            self._check(host)
            containers.freeze(host)

    def resume(self, host: str) -> None:
        """Thaw a paused host."""
        with self._lock():
            self._check(host)
            containers.thaw(host)

    def cut(self, host: str) -> None:
        """Pull the host's cable at the switch; its carrier stays. Holds across boots."""
        with self._lock():
            self._check(host)
            faults.cut(host)

    def heal(self, host: str) -> None:
        """Plug the host's cable in again."""
        with self._lock():
            self._check(host)
            faults.heal(host)

    def deny(self, host: str, *peers: str) -> None:
        """Let the host no longer hear these peers (names, `vip`, `client` or addresses). Ends with a reboot."""
        with self._lock():
            self._check(host)
            faults.deny(host, list(peers))

    def allow(self, host: str) -> None:
        """Let the host hear everybody again."""
        with self._lock():
            self._check(host)
            faults.allow(host)

    def push(self) -> None:
        """Copy the tree's failoverd into the running hosts and restart it there: quicker than `up`."""
        with self._lock():
            running = [host for host in layout.HOSTS if containers.pid(host) is not None]
            for host in running:
                venv.copy_source(self.path(host, "/"))
                venv.copy_unit_and_config(self.path(host, "/"))
                if etcd.is_installed():
                    _edit(self.path(host, "/etc/failoverd/failoverd.yaml"), etcd.configured)
            for host in running:
                self.exec(host, "systemctl", "daemon-reload")
                self.exec(host, "systemctl", "try-restart", "failoverd.service")

    # ---- looking and doing -----------------------------------------------------------------------------------

    def pid(self, host: str) -> int | None:
        """Give the outside id of the host's first process; none when the host is off."""
        self._check(host)
        return containers.pid(host)

    def path(self, host: str, inside: str) -> Path:
        """Give the outside path of a file inside a running host (its /run and /tmp included)."""
        return Path(f"/proc/{containers.running_pid(host)}/root") / inside.lstrip("/")

    def command(self, host: str, *command: str) -> list[str]:
        """Give the command line that runs a command inside a host, for subprocess or asyncio."""
        self._check(host)
        return containers.command(host, command)

    def exec(
        self,
        host: str,
        *command: str,
        stdin: str = "",
        check: bool = True,
        timeout_s: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside a host to its end and keep what it prints."""
        return run(*self.command(host, *command), stdin=stdin, check=check, timeout_s=timeout_s)

    def sql(self, host: str, statements: str, *, timeout_s: float = 30.0) -> list[list[str]]:
        """Run SQL as the administrator on the host's own server; rows of text."""
        client = ("mariadb", "--batch", "--skip-column-names")
        printed = self.exec(host, *client, stdin=statements, timeout_s=timeout_s).stdout
        return [line.split("\t") for line in printed.splitlines()]

    def client_command(self, *command: str) -> list[str]:
        """Give the command line that runs a command on the client host: its network, this machine's files."""
        if not network.CLIENT_NS.exists():
            raise LabError("the lab is not up")
        return ["nsenter", f"--net={network.CLIENT_NS}", "--", *command]

    @contextmanager
    def client_network(self) -> Iterator[None]:
        """Let the calling thread make its sockets on the client host (10.89.1.200)."""
        with network.namespace(network.CLIENT_NS):
            yield

    @contextmanager
    def host_network(self, host: str) -> Iterator[None]:
        """Let the calling thread make its sockets on a running host."""
        with network.namespace(f"/proc/{containers.running_pid(host)}/ns/net"):
            yield

    @property
    def ca(self) -> Path:
        """The certificate of the lab's CA."""
        return self.pki / "ca.crt"

    @property
    def pki(self) -> Path:
        """The directory with ca.crt, ca.key, NODE.crt, NODE.key, mail.crt and mail.key."""
        return layout.STATE / "pki"

    def wait_booted(self, host: str, deadline_s: float = 60.0) -> str:
        """Wait until the host's systemd has started what it wants to; give its state (running or degraded)."""
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            state = self.exec(
                host, "systemctl", "is-system-running", "--wait", check=False, timeout_s=deadline_s
            ).stdout.strip()
            if state in {"running", "degraded"}:
                return state
            time.sleep(0.05)  # its systemd does not listen yet
        raise LabError(f"{host} has not booted after {deadline_s:g} s")

    @property
    def mail_store(self) -> Path:
        """The mail store that the data nodes share, seen from outside."""
        return containers.mail_store()

    @property
    def has_disks(self) -> bool:
        """Whether databases and mail store have file systems of their own."""
        return own_disks.is_inserted(own_disks.MAIL)

    @property
    def etcd(self) -> etcd.Etcd | None:
        """The etcd that is the store of this lab; none where the arbiter's failoverd is."""
        return etcd.Etcd(self) if etcd.is_installed() else None

    # ---- inside ----------------------------------------------------------------------------------------------

    def _boot(self, host: str) -> None:
        containers.start(host)
        if faults.is_cut(host):
            network.leave(host)

    @staticmethod
    def _check(host: str) -> None:
        if host not in (*layout.HOSTS, layout.SPARE):
            raise LabError(f"there is no host {host!r}; there are {', '.join(layout.HOSTS)}")
        if not network.is_up():
            raise LabError("the lab is not up: run `lab up`")

    @contextmanager
    def _lock(self, name: str = "lock") -> Iterator[None]:
        """Let one verb at a time change the lab, and one build the cache, which a running lab need not wait for."""
        if os.geteuid() != 0:
            raise LabError("the lab needs root")
        layout.RUN.mkdir(parents=True, exist_ok=True)
        with (layout.RUN / name).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._say("waiting for another `lab` to finish")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _layers(self) -> tuple[Path, list[Path]]:
        """Give the data layer and the layers below it, topmost first; build what is missing."""
        with self._lock("build.lock"), ThreadPoolExecutor() as pool:
            clear_half_built()
            debian.install_outside_packages(self._say)
            base = debian.base(self._say)
            building = pool.submit(venv.deps, self._say)
            data = provision.data(self._say)
            deps = building.result()
        if deps is None:
            self._say("note: the tree has no failoverd package to install yet")
        return data, [*([deps] if deps else []), base]

    def _ssh(self) -> Path:
        with self._lock("build.lock"):
            return no_failoverd.ssh(self._say)

    def _etcd_client(self) -> Path:
        with self._lock("build.lock"):
            return etcd.client(self._say)

    def _copy_source(self) -> Path:
        """Make the topmost layer from the tree."""
        place = layout.STATE / "source"
        place.mkdir(parents=True)
        if (layout.TREE / "failoverd").exists():
            venv.copy_source(place)
            venv.compile_source(place)
        for missing in venv.copy_unit_and_config(place):
            self._say(f"note: the tree has no {missing} yet")
        return place

    def _clean(self) -> None:
        """End and remove whatever an earlier run has left, however it ended."""
        own_disks.release_all()
        cgroups.kill(layout.CGROUP)
        everywhere = {number for number in _in_network(network.CLIENT_NS) if number != os.getpid()}
        for number in everywhere:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        wait_for(
            "all processes of the lab are gone",
            lambda: not living(cgroups.processes(layout.CGROUP) | everywhere),
            15,
            every_s=0.01,
        )
        unmount_below(layout.STATE)
        network.down()
        cgroups.remove(layout.CGROUP)
        pressure.remove_all()
        if layout.STATE.exists():
            shutil.rmtree(layout.STATE)
        for host in (*layout.HOSTS, layout.SPARE):
            shutil.rmtree(f"/run/systemd/nspawn/propagate/{host}", ignore_errors=True)
            for kind in ("pid", "console", "frozen", "cut"):
                (layout.RUN / f"{host}.{kind}").unlink(missing_ok=True)


def _in_network(namespace: Path) -> set[int]:
    """Find the processes in a network namespace."""
    found: set[int] = set()
    if not namespace.exists():
        return found
    wanted = namespace.stat().st_ino
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if (entry / "ns/net").stat().st_ino == wanted:
                    found.add(int(entry.name))
    return found
