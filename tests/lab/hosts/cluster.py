"""From four booted hosts to a mail cluster in service, and to failoverd watching it."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from . import database, layout, network
from .rootfiles import enable
from .shell import LabError, run, wait_for

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from .lab import Lab

_BANNERS = {25: b"220", 587: b"220", 143: b"* OK"}


def lay_out(lab: Lab, pool: Executor) -> None:
    """Make mail1 the primary as an administrator would by hand, and wait until every service of every node answers."""
    list(pool.map(lambda host: _wait_for_database(lab, host), layout.DATA_NODES))
    first, *replicas = layout.DATA_NODES
    lab.sql(first, database.BECOME_PRIMARY)
    lab.exec(first, "ip", "address", "replace", f"{layout.VIP}/{layout.PREFIX}", "dev", "host0")
    lab.exec(first, "arping", "-q", "-A", "-c", "1", "-I", "host0", layout.VIP, check=False)
    replicating = [pool.submit(_wait_for_replication, lab, replica) for replica in replicas]
    answering = [pool.submit(_wait_for_banner, host, port) for host in layout.DATA_NODES for port in _BANNERS]
    encrypted = [pool.submit(_wait_for_imaps, lab, host) for host in layout.DATA_NODES]
    for future in (*replicating, *answering, *encrypted):
        future.result()
    wait_for("both replicas acknowledge", lambda: _status(lab, first, "Rpl_semi_sync_master_clients") == "2", 10)


def _wait_for_database(lab: Lab, host: str) -> None:
    wait_for(f"MariaDB of {host} has its socket", lambda: lab.path(host, database.SOCKET).exists(), 60, every_s=0.02)
    wait_for(
        f"MariaDB of {host} answers",
        lambda: lab.exec(host, "mariadb-admin", "--silent", "ping", check=False).returncode == 0,
        30,
    )


def _wait_for_replication(lab: Lab, host: str) -> None:
    def running() -> bool:
        shown = lab.exec(host, "mariadb", "-e", "SHOW SLAVE STATUS\\G").stdout
        return "Slave_IO_Running: Yes" in shown and "Slave_SQL_Running: Yes" in shown

    wait_for(f"{host} replicates", running, 20)


def _status(lab: Lab, host: str, name: str) -> str:
    return lab.sql(host, f"SHOW GLOBAL STATUS LIKE '{name}'")[0][1]


def _wait_for_banner(host: str, port: int) -> None:
    def greeted() -> bool:
        try:
            with network.namespace(network.CLIENT_NS):
                connection = socket.create_connection((layout.ADDRESSES[host], port), timeout=2)
            with connection:
                return connection.recv(200).startswith(_BANNERS[port])
        except OSError:
            return False

    wait_for(f"{host} answers on port {port}", greeted, 30)


def _wait_for_imaps(lab: Lab, host: str) -> None:
    context = ssl.create_default_context(cafile=str(lab.ca))

    def greeted() -> bool:
        try:
            with network.namespace(network.CLIENT_NS):
                connection = socket.create_connection((layout.ADDRESSES[host], 993), timeout=2)
            with connection, context.wrap_socket(connection, server_hostname=layout.MAIL_NAME) as secure:
                return secure.recv(200).startswith(b"* OK")
        except OSError:
            return False

    wait_for(f"{host} answers on port 993 with the lab's certificate", greeted, 30)


def start_failoverd(lab: Lab, pool: Executor) -> None:
    """Enable and start failoverd on all hosts at the same time, as a first roll-out on a running cluster."""
    unit = "failoverd.service"
    if not lab.path(layout.ARBITER, f"/etc/systemd/system/{unit}").exists():
        return
    for host in layout.HOSTS:
        enable(lab.path(host, "/"), unit)
        enable(lab.path(host, "/"), "failoverd-guard.service")
        enable(lab.path(host, "/"), "failoverd-helper.service")
        enable(lab.path(host, "/"), "failoverd-gate.service", "sysinit.target")
    for host in layout.DATA_NODES:
        enable(lab.path(host, "/"), "failoverd-donor.service")
        enable(lab.path(host, "/"), "failoverd-rebuild.service")

    def start(host: str) -> str:
        units = (unit, "failoverd-donor.service") if host in layout.DATA_NODES else (unit,)
        done = run(*lab.command(host, "systemctl", "start", *units), check=False, timeout_s=60)
        return "" if done.returncode == 0 else f"{host}: {done.stderr.strip()}"

    failed = [words for words in pool.map(start, layout.HOSTS) if words]
    if failed:
        raise LabError(
            "the cluster stands, but failoverd did not start (lab exec H journalctl -u failoverd):\n  "
            + "\n  ".join(failed)
        )
