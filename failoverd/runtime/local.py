"""What this node works with, by the configuration: for the daemon, and for what acts beside it or without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.actions.gate import KernelGate
from failoverd.actions.handon import MEMORY, TOOLS, HandOn, Postfix
from failoverd.actions.mailstore import SharedStore
from failoverd.actions.mailstore_hook import StoreHook
from failoverd.actions.mount import MountedStore
from failoverd.actions.queue import PostfixQueue
from failoverd.core.model import NodeName
from failoverd.databases import DATABASES
from failoverd.fencing import FENCES
from failoverd.fencing.agent import Device
from failoverd.runtime.clock import BootClock

if TYPE_CHECKING:
    from pathlib import Path

    from failoverd.config import Config, FenceDevice
    from failoverd.ports import Database, Fence, MovedStore


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


def queue_of(config: Config, state: Path) -> tuple[PostfixQueue, HandOn] | None:
    """The mail queue and what hands it on; None where failoverd is to leave it alone. Below `state` it remembers."""
    smtp = config.mail.smtp
    if config.queue.kind == "none" or smtp is None:
        return None
    directory = state / "queue"
    directory.mkdir(mode=0o700, exist_ok=True)
    postfix = Postfix(
        spool=config.queue.spool,
        config=str(config.queue.config),
        directory=directory,
        port=smtp.port,
        tls=smtp.tls,
        ca=str(smtp.ca) if smtp.ca else "",
        server_name=smtp.server_name or "",
        ehlo=config.this.name,
        tools=TOOLS,
    )
    queue = PostfixQueue(config.queue.spool, directory / MEMORY, config=postfix.config, postsuper=TOOLS["postsuper"])
    return queue, HandOn(postfix)


def mail_store_of(config: Config, runtime: Path) -> MovedStore | None:
    """The mail store, where it moves with the role. Its lock is for every daemon of this boot, and for what drops."""
    store = config.mail_store
    if store.program is not None:
        return StoreHook(str(store.program), cluster=config.cluster, me=config.this.name)
    if store.mount is None:
        return None
    mount, lock = store.mount, runtime / "mail-store.lock"
    return MountedStore(str(store.path), source=mount.source, type=mount.type, options=mount.options, lock=lock)


def locks_of(config: Config) -> SharedStore:
    """The locks that lost nodes leave in the mail store."""
    me = config.this.name
    return SharedStore(str(config.mail_store.path), me=me, others=(name for name in config.nodes if name != me))


def levels_of(config: Config) -> dict[NodeName, list[list[Device]]]:
    """Each node's fence devices, in levels."""
    return {
        NodeName(name): [[_device(device) for device in level] for level in levels]
        for name, levels in config.fencing.nodes.items()
    }


def fence_of(config: Config) -> Fence | None:
    """The fence agents, where there are any."""
    levels = levels_of(config)
    return FENCES["agent"](levels) if levels else None


def _device(given: FenceDevice) -> Device:
    secrets = {name: secret.get_secret_value() for name, secret in given.secrets.items()}
    return Device(given.agent, given.options, secrets)
