"""Hosts as an administrator has them before failoverd comes: the mail cluster serves, nothing of failoverd is there.

What a bare host has beside the base layer: its own data layer without /etc/failoverd, and sshd, by which root of each
host may work on every other, as administrators have it.
"""

from __future__ import annotations

import inspect
import shutil
from typing import TYPE_CHECKING

from . import debian, layout, venv
from .layers import digest, layer, overlay, run_in_root
from .rootfiles import enable, write
from .shell import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .lab import Lab

# What config/grants-*.sql made in the data layer. Replicas get an account as an administrator would have named it.
_ACCOUNT = f"'replica'@'10.89.1.%' IDENTIFIED BY '{layout.REPLICATION_PASSWORD}'"
_ITS_OWN = f"CREATE USER {_ACCOUNT}; GRANT REPLICATION SLAVE ON *.* TO 'replica'@'10.89.1.%';"
_USE_IT = "STOP SLAVE; CHANGE MASTER TO MASTER_USER = 'replica'; START SLAVE;"
_NOT_YET = f"""
DROP DATABASE failoverd;
DROP USER 'failoverd'@'localhost', 'failoverd_drill'@'localhost', '{layout.REPLICATION_USER}'@'10.89.1.%';
"""
_INSTALL = """
apt-get -qq update
apt-get -qq -y --no-install-recommends install openssh-server openssh-client >/dev/null
apt-get clean
rm -rf /var/lib/apt/lists/*
ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys
"""


def ssh(say: Callable[[str], None]) -> Path:
    """Give the layer with sshd; every host has the same keys."""
    key = digest(debian.base_key(), _INSTALL, inspect.getsource(_build), layout.ADDRESSES)
    return layer("ssh", key, say, lambda place: _build(place, debian.base(say)))


def _build(place: Path, base_root: Path) -> None:
    (place / "root/.ssh").mkdir(parents=True, mode=0o700)
    with overlay([base_root], place) as root:
        run_in_root(root, _INSTALL, *venv.machine_settings(), timeout_s=300)
        host_key = (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]
        known = "".join(f"{name},{at} {' '.join(host_key)}\n" for name, at in layout.ADDRESSES.items())
        write(root / "root/.ssh/known_hosts", known)
        enable(root, "ssh.service", where="/lib/systemd/system")


def strip(root: Path) -> None:
    """Take away from a host's disks what stands there for failoverd."""
    shutil.rmtree(root / "etc/failoverd")


def forget_failoverd(lab: Lab) -> None:
    """Take failoverd's accounts and tables out of the database; replicas follow, by an account of their own."""
    first, *replicas = layout.DATA_NODES
    lab.sql(first, _ITS_OWN)
    for replica in replicas:
        wait_for(f"{replica} has the account", lambda replica=replica: _knows_it(lab, replica), 20)  # type: ignore[misc]
        lab.sql(replica, _USE_IT)
    lab.sql(first, _NOT_YET)


def _knows_it(lab: Lab, replica: str) -> bool:
    return lab.sql(replica, "SELECT COUNT(*) FROM mysql.user WHERE user = 'replica'") == [["1"]]
