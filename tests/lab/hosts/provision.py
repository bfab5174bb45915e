"""The data layer: what an administrator sets up on each host before failoverd comes, done once and cached.

data-HASH/mail1 … arbiter   what is laid over base and deps on that host
data-HASH/mail              the shared mail store as it is at first (the canary's mailbox)
data-HASH/pki               the lab's CA and certificates
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from . import database, debian, layout, mail, pki, power_switch
from .layers import digest, layer
from .rootfiles import enable, render, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def data(say: Callable[[str], None]) -> Path:
    """Give the data layer."""
    modules = sorted(
        path
        for path in (layout.TREE / "tests/lab/hosts").glob("*.py")
        if path.stem in {"layout", "provision", "rootfiles", "database", "mail", "pki", "power_switch"}
    )
    key = digest(debian.base_key(), *modules, *sorted(layout.FILES.iterdir()), *database.GRANTS)
    return layer("data", key, say, lambda place: _build(place, debian.base(say)))


def _build(place: Path, base_root: Path) -> None:
    pki.build(place / "pki")
    for host in (*layout.HOSTS, layout.SPARE):
        (place / host).mkdir()
    database.build(place, base_root)
    for host in (*layout.HOSTS, layout.SPARE):
        _common(place, host)
    for host in (*layout.DATA_NODES, layout.SPARE):
        mail.configure(place / host, host, place / "pki", base_root)
    mail.build_store(place / "mail")


def _common(place: Path, host: str) -> None:
    """Identity, address, firewall, and what failoverd is given: certificates and passwords."""
    root = place / host
    write(root / "etc/hostname", f"{host}\n")
    # A machine id that stays: an empty one would make every boot a first boot, with all presets applied.
    machine_id = hashlib.sha256(f"failoverd-lab-{host}".encode()).hexdigest()[:32]
    write(root / "etc/machine-id", f"{machine_id}\n")
    (root / "var/log/journal").mkdir(parents=True)
    write(
        root / "etc/systemd/system/lab-address.service", render("lab-address.service", ADDRESS=layout.ADDRESSES[host])
    )
    enable(root, "lab-address.service", "sysinit.target")
    write(root / "usr/sbin/fence_lab", render("fence_lab"), mode=0o755)
    write(root / "etc/failoverd/tls/ca.crt", (place / "pki/ca.crt").read_text())
    write(root / "etc/failoverd/tls/node.crt", (place / f"pki/{host}.crt").read_text())
    write(root / "etc/failoverd/tls/node.key", (place / f"pki/{host}.key").read_text(), mode=0o600)
    secrets = {
        "canary": layout.CANARY_PASSWORD,
        "database": layout.DATABASE_PASSWORD,
        "replication": layout.REPLICATION_PASSWORD,
        "power": power_switch.PASSWORD,
        "drill": layout.DRILL_PASSWORD,
        "drill-accounts": "\n".join(f"{user}:{layout.USER_PASSWORD}" for user in layout.DRILL_USERS),
    }
    for name, password in secrets.items():
        write(root / f"etc/failoverd/secrets/{name}", f"{password}\n", mode=0o600)
    (root / "etc/failoverd/secrets").chmod(0o700)
