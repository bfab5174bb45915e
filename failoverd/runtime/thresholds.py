"""The configuration's thresholds, as the core compares with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.core.policy import Policy

if TYPE_CHECKING:
    from failoverd.config import Config

STEADY_MS = 5000  # long enough for the looks at disks
LOOK_MS = 3000  # after a restart: as long as it settles


def policy_of(config: Config) -> Policy:
    """The thresholds that the core compares with."""
    return Policy(
        services=tuple((name, service.unit, service.failures) for name, service in config.services.items()),
        database_unit=config.database.unit,
        database_failures=config.database.failures,
        ttl_ms=config.lease.ttl_ms,
        renew_ms=config.lease.renew_ms,
        margin_ms=config.lease.margin_ms,
        demote_budget_ms=config.lease.demote_budget_ms,
        heartbeat_ms=config.database.heartbeat_ms,
        max_lag_ms=config.database.max_lag_ms,
        lag_warn_ms=config.database.lag_warn_ms,
        lag_alarm_ms=config.database.lag_alarm_ms,
        shared_disk=f"disk:{config.mail_store.path}",
        shared_disk_ms=config.disks.interval_ms + config.disks.deadline_ms,
        steady_ms=max([STEADY_MS, *(s.interval_ms + s.patience_ms for s in config.services.values())]),
        restart_look_ms=max([LOOK_MS, *(s.interval_ms + s.patience_ms for s in config.services.values())]),
        failovers=config.flapping.failovers,
        window_ms=config.flapping.window_ms,
        hold_off_ms=config.flapping.hold_off_ms,
        drain_ms=config.queue.drain_ms if config.queue.kind == "postfix" else 0,
        go_on_after_ms=config.rpo.go_on_after_ms,
        bound_ms=config.rpo.bound_ms,
        rejoin_automatic=config.rejoin.automatic and config.database.dialect == "mariadb",
        fenced=tuple(config.fencing.nodes),
        fence_required=config.fencing.required,
        fence_ms=config.fencing.timeout_ms,
        store_moves=config.mail_store.moves,
        store_ms=config.mail_store.timeout_ms,
        store_unfenced=_unfenced(config),
    )


def _unfenced(config: Config) -> tuple[str, ...]:
    """Whose power no agent cuts, where it may keep a file system mounted that no other node may mount then."""
    mount = config.mail_store.mount
    if mount is None or not mount.alone:
        return ()
    data = (name for name, member in config.members.items() if member.kind == "data")
    return tuple(name for name in data if name not in config.fencing.nodes)
