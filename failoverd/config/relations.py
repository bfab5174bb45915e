"""What must hold between the values of a configuration. Each relation is one function; the first that fails speaks.

Safety first: timings and membership that could make two primaries, or one that cannot be replaced, do not load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.config import relations_access, relations_drill
from failoverd.config.error import wrong

if TYPE_CHECKING:
    from failoverd.config.model import Config

LEAST_DATA_NODES = 3  # one lost, one promoted, one that acknowledges the new primary's commits


def check(config: Config, node: str) -> None:
    """Raise `wrong(...)` for the first relation that does not hold. `node` is the reader's own name."""
    _addresses_are_distinct(config)
    _enough_data_nodes(config)
    if config.store.kind == "embedded":
        _store_has_its_arbiter(config)
    _lease_leaves_time(config)
    _bound_holds_the_lease(config)
    _lag_can_be_measured(config)
    _lag_findings_are_in_order(config)
    _flapping_window_is_longer(config)
    _ports_are_gated(config)
    _public_port_is_its_own(config)
    _queue_can_be_handed_on(config)
    _slow_is_no_earlier_than_down(config)
    _fenced_are_data_nodes(config)
    _store_is_kept_from_two(config)
    relations_drill.check(config)
    relations_access.check(config)
    _this_node_is_in_the_file(config, node)
    _queue_asks_mailboxes_that_it_sees(config)


def _addresses_are_distinct(config: Config) -> None:
    seen: dict[str, str] = {}
    for name, member in config.members.items():
        if member.address in seen:
            raise wrong(
                f"is the address of {seen[member.address]} as well",
                "an address of its own for each node",
                key=("nodes", name, "address"),
            )
        seen[member.address] = name
    if config.vip.address in seen:
        raise wrong(
            f"is the address of node {seen[config.vip.address]}", "an address of no node", key=("vip", "address")
        )


def _enough_data_nodes(config: Config) -> None:
    found = sum(member.kind == "data" for member in config.members.values())
    if found < LEAST_DATA_NODES:
        raise wrong(
            f"{found} data nodes are too few: when one is lost, the new primary needs another to acknowledge",
            f"{LEAST_DATA_NODES} or more of kind data",
            key=("nodes",),
        )


def _store_has_its_arbiter(config: Config) -> None:
    arbiters = [name for name, member in config.members.items() if member.kind == "arbiter"]
    if len(arbiters) != 1:
        raise wrong(
            f"{len(arbiters)} arbiters, and the embedded store needs one", "exactly one of kind arbiter", key=("nodes",)
        )
    if config.store.node not in config.members:
        raise wrong("is no node of this file", f"the arbiter, {arbiters[0]}", key=("store", "node"))
    if config.store.node != arbiters[0]:
        raise wrong(
            "is a data node: its loss would take the store along", f"the arbiter, {arbiters[0]}", key=("store", "node")
        )


def _lease_leaves_time(config: Config) -> None:
    """Two renewals may be lost and the demotion still ends before anyone else may begin."""
    lease = config.lease
    needed = lease.renew_ms * 3 + lease.margin_ms + lease.demote_budget_ms
    if needed > lease.ttl_ms:
        raise wrong(
            f"renew x 3 + margin + demote_budget = {lease.renew_ms} x 3 + {lease.margin_ms} + {lease.demote_budget_ms}"
            f" = {needed} ms is more than ttl = {lease.ttl_ms} ms",
            "renew x 3 + margin + demote_budget <= ttl",
            key=("lease",),
        )


def _bound_holds_the_lease(config: Config) -> None:
    """What is acknowledged in the last lease is on the primary alone, and a floor has to be found before it."""
    rpo, ttl_ms = config.rpo, config.lease.ttl_ms
    if rpo.bound_ms is not None and rpo.bound_ms < 2 * ttl_ms:
        raise wrong(
            f"ttl x 2 = {2 * ttl_ms} ms is more than limit = {rpo.bound_ms} ms: "
            "a lost primary may have told clients of a whole lease's writes",
            "ttl x 2 <= limit",
            key=("rpo", "limit"),
        )


def _lag_can_be_measured(config: Config) -> None:
    database = config.database
    if database.max_lag_ms < database.heartbeat_ms * 2:
        raise wrong(
            f"heartbeat x 2 = {database.heartbeat_ms * 2} ms is more than max_lag = {database.max_lag_ms} ms: "
            "no replica would ever be near enough",
            "heartbeat x 2 <= max_lag",
            key=("database", "max_lag"),
        )


def _lag_findings_are_in_order(config: Config) -> None:
    """Lag is counted in heartbeats, and one of them is noise: the two rows are not read at one moment."""
    database = config.database
    if database.lag_warn_ms < database.heartbeat_ms:
        raise wrong(
            f"is below heartbeat = {database.heartbeat_ms} ms, and no lag that small can be measured",
            "heartbeat <= lag_warn",
            key=("database", "lag_warn"),
        )
    if database.lag_alarm_ms <= database.lag_warn_ms:
        raise wrong(
            f"is not above lag_warn = {database.lag_warn_ms} ms",
            "lag_warn < lag_alarm",
            key=("database", "lag_alarm"),
        )


def _flapping_window_is_longer(config: Config) -> None:
    flapping = config.flapping
    if flapping.hold_off_ms > flapping.window_ms:
        raise wrong(
            f"hold_off = {flapping.hold_off_ms} ms is more than window = {flapping.window_ms} ms",
            "hold_off <= window",
            key=("flapping", "hold_off"),
        )


def _ports_are_gated(config: Config) -> None:
    """A service that can be reached around the gate can be reached without the lease."""
    ports: dict[tuple[str, ...], int] = {("database", "port"): config.database.port}
    ports |= {("services", kind, "port"): service.port for kind, service in config.services.items()}
    for key, port in ports.items():
        if port not in config.gate.ports:
            raise wrong(
                "is not among gate.ports: it could be reached without the lease", "a port of gate.ports", key=key
            )
    if config.peer.port in config.gate.ports:
        raise wrong("is among gate.ports, which are for clients", "a port of its own", key=("peer", "port"))
    if config.peer.rebuild_port in (config.peer.port, *config.gate.ports):
        raise wrong(
            "is peer.port, or among gate.ports, which are for clients",
            "a port of its own",
            key=("peer", "rebuild_port"),
        )


def _public_port_is_its_own(config: Config) -> None:
    """Health is asked of every node, with the lease or without; a mail proxy is sent only where the lease is needed."""
    http = config.http
    if http.enabled and http.port in (config.peer.port, config.peer.rebuild_port, *config.gate.ports):
        raise wrong(
            "is a port of peer, or among gate.ports, which are closed on replicas",
            "a port of its own",
            key=("http", "port"),
        )
    for protocol, port in http.mail:
        if port is not None and port not in config.gate.ports:
            raise wrong(
                "is not among gate.ports: it could be reached without the lease",
                "a port of gate.ports",
                key=("http", "mail", protocol),
            )


def _queue_can_be_handed_on(config: Config) -> None:
    """The mail goes to the primary's SMTP; and a gate that is not renewed any more must not close while it drains."""
    queue, lease = config.queue, config.lease
    if queue.kind == "none":
        return
    if config.mail.smtp is None:
        raise wrong("needs services.smtp: mail is handed on to the primary by it", "none", key=("queue", "kind"))
    needed = queue.drain_ms + lease.renew_ms + lease.margin_ms
    if needed > lease.ttl_ms:
        raise wrong(
            f"drain + renew + margin = {needed} ms is more than ttl = {lease.ttl_ms} ms: the gate would close before",
            "drain + renew + margin <= ttl",
            key=("queue", "drain"),
        )


def _slow_is_no_earlier_than_down(config: Config) -> None:
    for kind, service in config.services.items():
        if service.patience_ms < service.deadline_ms:
            raise wrong(
                f"patience = {service.patience_ms} ms is less than deadline = {service.deadline_ms} ms",
                "patience >= deadline",
                key=("services", kind, "patience"),
            )


def _fenced_are_data_nodes(config: Config) -> None:
    """Only a data node can be a lost primary."""
    data = [name for name, member in config.members.items() if member.kind == "data"]
    for name in config.fencing.nodes:
        if name not in data:
            raise wrong(f"{name} is no data node of this file", ", ".join(data), key=("fencing", "nodes", name))


def _store_is_kept_from_two(config: Config) -> None:
    """Where only the fencing of a lost primary makes its end certain, it has to be waited for."""
    mount = config.mail_store.mount
    if mount is not None and mount.exclusive == "fencing" and not config.fencing.required:
        raise wrong(
            f"needs fencing.required: true: a lost primary may still have {mount.type} mounted when its lease is over",
            "fencing.required: true, or exclusive: device where the device has a lock of its own",
            key=("mail_store", "mount", "exclusive"),
        )


def _this_node_is_in_the_file(config: Config, node: str) -> None:
    if node not in config.members:
        raise wrong(
            f"this node is called {node!r} (its hostname, or --node), and no node of this file is",
            ", ".join(config.members),
            key=("nodes",),
        )


def _queue_asks_mailboxes_that_it_sees(config: Config) -> None:
    """Whether a message has been delivered is asked of the mailboxes, by a node that is no primary."""
    if config.queue.kind != "none" and config.mail_store.moves:
        raise wrong(
            "asks the mailboxes what they have, and mail_store moves with the role: this node would not see them",
            "none",
            key=("queue", "kind"),
        )
