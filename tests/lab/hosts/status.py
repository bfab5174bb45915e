"""What `lab status` shows: one line a host, and one for etcd where it is the store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from . import containers, database, faults, layout, network
from .shell import LabError

if TYPE_CHECKING:
    from .lab import Lab

_UNITS = ("mariadb", "dovecot", "postfix@-", "failoverd")


def show(lab: Lab) -> str:
    """Give a table of all hosts."""
    if not network.is_up():
        return "the lab is not up"
    with ThreadPoolExecutor() as pool:
        rows = [
            ("host", "address", "state", "pid", "vip", "database", *_UNITS, "faults"),
            *pool.map(lambda host: _row(lab, host), layout.HOSTS),
        ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if lab.etcd is not None:
        lines.append("etcd  " + ", ".join(f"{host} {state}" for host, state in lab.etcd.states().items()))
    return "\n".join(lines)


def _row(lab: Lab, host: str) -> tuple[str, ...]:
    number = containers.pid(host)
    network_faults = ["cut"] if faults.is_cut(host) else []
    if number is None:
        return (host, layout.ADDRESSES[host], "off", "-", "-", "-", *("-" for _ in _UNITS), " ".join(network_faults))
    network_faults += [f"deaf to {address}" for address in faults.denied(host)]
    known = (host, layout.ADDRESSES[host], "paused" if containers.is_frozen(host) else "on", str(number))
    if containers.is_frozen(host):
        return (*known, "-", "-", *("-" for _ in _UNITS), " ".join(network_faults))
    addresses = lab.exec(host, "ip", "-4", "-o", "address", "show", "dev", "host0", check=False).stdout
    units = lab.exec(host, "systemctl", "is-active", *_UNITS, check=False).stdout.split()
    return (
        *known,
        "yes" if f" {layout.VIP}/" in addresses else "-",
        _database(lab, host),
        *units[: len(_UNITS)],
        " ".join(network_faults),
    )


def _database(lab: Lab, host: str) -> str:
    if host == layout.ARBITER or not lab.path(host, database.SOCKET).exists():
        return "-"
    try:
        read_only = lab.sql(host, "SELECT @@read_only", timeout_s=3)[0][0]
        shown = lab.exec(host, "mariadb", "-e", "SHOW SLAVE STATUS\\G", timeout_s=3).stdout
    except LabError:
        return "no answer"
    words = dict(line.strip().split(": ", 1) for line in shown.splitlines() if ": " in line.strip())
    if not words:
        return "read-only" if read_only == "1" else "writable"
    threads = f"{words.get('Slave_IO_Running', '?')}/{words.get('Slave_SQL_Running', '?')}"
    return f"{'read-only' if read_only == '1' else 'writable'} from {words.get('Master_Host', '?')} {threads}"
