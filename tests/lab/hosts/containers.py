"""One host: its disks (an overlay), its boot (systemd-nspawn), its first process, its power cut, its freeze.

STATE/hosts/H/upper   what the host has written; survives a power cut, goes with `down`
STATE/hosts/H/root    the mounted overlay
RUN/H.pid             nspawn's process id;  RUN/H.console  what the host printed while it booted
"""

from __future__ import annotations

import os
import shlex
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from . import cgroups, disks, layout, network
from .layers import mount_overlay
from .shell import LabError, living, process_state, run, wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

_ENVIRONMENT = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8")


def _place(host: str) -> Path:
    return layout.STATE / "hosts" / host


def insert_disks(host: str, lower: Sequence[Path]) -> None:
    """Give the host empty disks over the layers (topmost first)."""
    place = _place(host)
    for name in ("upper", "work", "root"):
        (place / name).mkdir(parents=True)
    mount_overlay(lower, place / "upper", place / "work", place / "root")


def start(host: str) -> None:
    """Switch the host on; returns when its first process runs."""
    if pid(host) is not None:
        raise LabError(f"{host} runs already")
    root = _place(host) / "root"
    if not os.path.ismount(root):
        raise LabError(f"{host} has no disks: run `lab up` first")
    if network.link_exists(host):  # the dead host's namespace is still being taken apart
        network.remove_link(host)
    group = cgroups.group_of(host)
    cgroups.kill(group)
    wait_for(f"the last run of {host} is gone", lambda: not living(cgroups.processes(group)), 10)
    store = [f"--bind={mail_store()}:/srv/mail"] if host != layout.ARBITER else []
    if disks.is_inserted(host):
        store.append(f"--bind={disks.data(host)}:/var/lib/mysql")
    if disks.is_inserted(f"etcd-{host}"):
        store.append(f"--bind={disks.data(f'etcd-{host}')}:/var/lib/etcd")
    nspawn = cgroups.joining(
        group,
        [
            "nsenter",
            f"--net={network.BRIDGE_NS}",
            "systemd-nspawn",
            "--quiet",
            "--boot",
            "--register=no",
            "--keep-unit",
            "--settings=no",
            f"--directory={root}",
            f"--machine={host}",
            f"--network-bridge={layout.BRIDGE}",
            "--capability=all",
            "--console=pipe",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            *store,
        ],
    )
    console = shlex.quote(str(layout.RUN / f"{host}.console"))
    pid_file = layout.RUN / f"{host}.pid"
    pid_file.unlink(missing_ok=True)
    run(
        "setsid",
        "--fork",
        "sh",
        "-c",
        f'echo $$ >{pid_file}.new; mv {pid_file}.new {pid_file}; exec "$@" </dev/null >>{console} 2>&1',
        "sh",
        *nspawn,
    )
    wait_for(f"{host} switched on", pid_file.exists, 5, every_s=0.01)
    wait_for(f"{host} has its first process (see {layout.RUN / host}.console)", lambda: _has_begun(host), 20, 0.02)


def mail_store() -> Path:
    """Give the mail store that all data nodes share, seen from outside."""
    return disks.data(disks.MAIL) if disks.is_inserted(disks.MAIL) else layout.STATE / "mail"


def _has_begun(host: str) -> bool:
    # Not by `_nspawn`: the shell that becomes nspawn may not have done so yet.
    if process_state(int((layout.RUN / f"{host}.pid").read_text())) in "ZX":
        words = (layout.RUN / f"{host}.console").read_text().strip().splitlines()[-5:]
        raise LabError(f"{host} did not start:\n  " + "\n  ".join(words))
    return pid(host) is not None


def _nspawn(host: str) -> int | None:
    """Give nspawn's process id while it lives."""
    try:
        number = int((layout.RUN / f"{host}.pid").read_text())
        command = Path(f"/proc/{number}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    # An id that another program has got since is not ours; a dead one that nobody has waited for has no command line.
    return number if f"--machine={host}".encode() in command.split(b"\0") else None


def pid(host: str) -> int | None:
    """Give the process id of the host's first process; none when the host is off."""
    nspawn = _nspawn(host)
    if nspawn is None:
        return None
    with suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split():
            for line in Path(f"/proc/{child}/status").read_text().splitlines():
                if line.startswith("NSpid:") and line.split()[-1] == "1":
                    return int(child)
    return None


def running_pid(host: str) -> int:
    """Give the process id of the host's first process, or say that the host is off."""
    number = pid(host)
    if number is None:
        raise LabError(f"{host} is not running")
    return number


def command(host: str, argv: Sequence[str]) -> list[str]:
    """Give the command line that runs a command inside the host."""
    number = str(running_pid(host))
    return [
        "nsenter",
        "-t",
        number,
        "-m",
        "-u",
        "-i",
        "-n",
        "-p",
        "--",
        "env",
        "-i",
        *_ENVIRONMENT,
        f"TERM={os.environ.get('TERM', 'dumb')}",
        *argv,
    ]


def cut_power(host: str) -> None:
    """Power loss: the link goes first so that nothing more is heard, then everything dies at once. Disks stay."""
    network.silence(host)
    doomed = {number for number in (pid(host), _nspawn(host)) if number is not None}
    for number in doomed:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    group = cgroups.group_of(host)
    cgroups.kill(group)
    wait_for(f"{host} is off", lambda: not living(doomed | cgroups.processes(group)), 10, every_s=0.01)
    network.remove_link(host)


def _members(host: str) -> list[int]:
    """Give all processes of the host's process namespace, its first one in front; also what `exec` has put there."""
    first = running_pid(host)
    inside = Path(f"/proc/{first}/ns/pid").stat().st_ino
    found = [first]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != first:
            with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                if (entry / "ns/pid").stat().st_ino == inside:
                    found.append(int(entry.name))
    return found


def freeze(host: str) -> None:
    """Stop every process of the host. What was stopped before is noted: a thaw must not wake it."""
    note = layout.RUN / f"{host}.frozen"
    if note.exists():
        raise LabError(f"{host} is paused already")
    stopped_before = {number for number in _members(host) if process_state(number) == "T"}
    note.write_text(" ".join(map(str, stopped_before)))
    # t: stopped as well, and traced: failoverd's guard holds the database server by a leash (actions/leash.py).
    while awake := [number for number in _members(host) if process_state(number) not in "TtZX"]:
        for number in awake:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGSTOP)
        time.sleep(0.001)  # a process in the kernel stops on its way out


def thaw(host: str) -> None:
    """Continue what `freeze` has stopped."""
    note = layout.RUN / f"{host}.frozen"
    if not note.exists():
        raise LabError(f"{host} is not paused")
    stopped_before = {int(word) for word in note.read_text().split()}
    members = _members(host)
    note.unlink()
    for number in members:
        if number not in stopped_before:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGCONT)


def is_frozen(host: str) -> bool:
    """Tell whether the host is paused."""
    return (layout.RUN / f"{host}.frozen").exists()
