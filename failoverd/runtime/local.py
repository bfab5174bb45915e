"""This node's own database and gate, as the configuration has them: for the daemon, and for what drops without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.actions.gate import KernelGate
from failoverd.databases import DATABASES
from failoverd.runtime.clock import BootClock

if TYPE_CHECKING:
    from failoverd.config import Config
    from failoverd.ports import Database


def database_of(config: Config) -> Database:
    """The local server; `beside` for whoever must not be ended with it."""
    sql = config.database
    return DATABASES[sql.dialect](
        socket=str(sql.socket),
        user=sql.user,
        password=sql.password.get_secret_value(),
        replication_user=sql.replication_user,
        replication_password=sql.replication_password.get_secret_value(),
        replication_port=sql.port,
    )


def gate_of(config: Config) -> KernelGate:
    """The kernel's part of the lease; nothing is touched yet."""
    return KernelGate(
        interface=config.vip.interface,
        vip=config.vip.address,
        prefix=config.vip.prefix,
        own_address=config.this.address,
        cluster_addresses=[node.address for node in config.nodes.values()],
        ports=list(config.gate.ports),
        clock=BootClock(),
    )
