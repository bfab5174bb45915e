"""The base layer: Debian 12 with what a mail host runs, and what the machine itself needs to run such hosts.

The lists and the function that builds are part of the base's hash: a change of theirs costs a build of a minute.
"""

from __future__ import annotations

import inspect
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from . import cgroups, layout
from .layers import digest, layer
from .shell import run

if TYPE_CHECKING:
    from collections.abc import Callable

OUTSIDE_PACKAGES = {  # what the machine itself needs: a program, and the package that brings it
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "arping": "iputils-arping",
    "ip": "iproute2",
    "openssl": "openssl",
    "nsenter": "util-linux",
}
HOST_PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "iproute2",
    "nftables",
    "iputils-arping",
    "iputils-ping",
    "procps",
    "e2fsprogs",
    "mariadb-server",
    "mariadb-backup",
    "postfix",
    "postfix-mysql",
    "dovecot-imapd",
    "dovecot-lmtpd",
    "dovecot-mysql",
    "etcd-server",
    "python3",
    "python3-venv",
    "ca-certificates",
    "openssl",
    "curl",
)
# Left out of every boot: nothing in the lab needs them, and each costs time on two cores.
MASKED_UNITS = (
    "getty.target",
    "console-getty.service",
    "systemd-logind.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-pstore.service",
    "remote-fs.target",
    "e2scrub_reap.service",
    "e2scrub_all.timer",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "fstrim.timer",
    "systemd-firstboot.service",
    "systemd-random-seed.service",
    "systemd-binfmt.service",
    "systemd-journal-catalog-update.service",
    "systemd-update-done.service",
    "ldconfig.service",
    "systemd-hwdb-update.service",
    "systemd-sysusers.service",
    "systemd-network-generator.service",
    "systemd-user-sessions.service",
    "dev-hugepages.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "dev-mqueue.mount",
    "sys-fs-fuse-connections.mount",
    "systemd-tmpfiles-clean.timer",
    "modprobe@.service",
)
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")


def install_outside_packages(say: Callable[[str], None]) -> None:
    """Install what the machine itself lacks, by the program that would be missed."""
    missing = sorted({package for program, package in OUTSIDE_PACKAGES.items() if not shutil.which(program)})
    if not missing:
        return
    say(f"installing {' '.join(missing)}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", timeout_s=180, env=env)
    run("apt-get", "install", "-y", "--no-install-recommends", *missing, timeout_s=300, env=env)


def base_key() -> str:
    """Hash what shapes the base."""
    return digest(
        layout.ADDRESSES,
        layout.VIP,
        layout.CLIENT,
        layout.VMAIL_ID,
        HOST_PACKAGES,
        MASKED_UNITS,
        inspect.getsource(_build_base),
    )


def base(say: Callable[[str], None]) -> Path:
    """Debian with the packages; services that no host always wants are off."""
    return layer("base", base_key(), say, _build_base)


def _build_base(place: Path) -> None:
    sources = [str(SOURCES)] if SOURCES.exists() else []
    run(
        *cgroups.joining(
            layout.BUILD_CGROUP,
            [
                "mmdebstrap",
                "--variant=minbase",
                f"--include={','.join(HOST_PACKAGES)}",
                '--aptopt=Acquire::Languages "none"',
                "--dpkgopt=force-unsafe-io",
                *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "info")),
                "bookworm",
                str(place),
                *sources,
            ],
        ),
        timeout_s=900,
    )
    units = place / "etc/systemd/system"
    for unit in MASKED_UNITS:
        _link(units / unit, "/dev/null")
    shutil.rmtree(units / "timers.target.wants", ignore_errors=True)
    for name in ("etcd", "mariadb", "dovecot", "postfix", "e2scrub_reap"):
        (units / f"multi-user.target.wants/{name}.service").unlink(missing_ok=True)
    _link(units / "default.target", "/lib/systemd/system/multi-user.target")
    shutil.rmtree(place / "var/lib/mysql")
    run("chroot", str(place), "install", "-d", "-o", "mysql", "-g", "mysql", "-m", "0755", "/var/lib/mysql")
    run("chroot", str(place), "groupadd", "--gid", str(layout.VMAIL_ID), "vmail")
    run(
        "chroot",
        str(place),
        "useradd",
        "--uid",
        str(layout.VMAIL_ID),
        "--gid",
        "vmail",
        "--no-create-home",
        "--home-dir",
        "/srv/mail",
        "--shell",
        "/usr/sbin/nologin",
        "vmail",
    )
    (place / "srv/mail").mkdir(parents=True)
    hosts = {**layout.ADDRESSES, layout.MAIL_NAME: layout.VIP, "client": layout.CLIENT}
    (place / "etc/hosts").write_text(
        "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in hosts.items())
    )
    # There is no name server on the lab's wire: a look-up must fail at once, not after its time-out.
    switch = place / "etc/nsswitch.conf"
    lines = switch.read_text().splitlines(keepends=True)
    switch.write_text("".join("hosts: files\n" if line.startswith("hosts:") else line for line in lines))
    (place / "etc/resolv.conf").unlink(missing_ok=True)
    (place / "etc/resolv.conf").write_text("")
    journal = place / "etc/systemd/journald.conf.d/lab.conf"
    journal.parent.mkdir(parents=True, exist_ok=True)
    journal.write_text("[Journal]\nStorage=persistent\nSystemMaxUse=64M\nSystemMaxFileSize=8M\nRateLimitBurst=0\n")


def _link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
