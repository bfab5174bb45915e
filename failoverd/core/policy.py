"""The operator's thresholds. A policy that would break a safety relation cannot be built.

Durations are integers of milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass


class PolicyError(ValueError):
    """Timings that break a safety relation; the text names both sums."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the rules compare with. `services` maps a service to (unit, consecutive failures that count)."""

    services: tuple[tuple[str, str, int], ...]
    database_unit: str
    database_failures: int
    ttl_ms: int = 3000
    renew_ms: int = 500
    margin_ms: int = 300
    demote_budget_ms: int = 1000
    heartbeat_ms: int = 500
    max_lag_ms: int = 5000
    switchover_lag_ms: int = 1500  # in a planned switchover clients wait while the new primary catches up
    lag_warn_ms: int = 500
    lag_alarm_ms: int = 5000
    report_ms: int = 500  # how often a report is pushed when nothing changed
    report_max_age_ms: int = 2000  # an older one says nothing any more
    acknowledgements: int = 1  # replicas that acknowledge a commit: MariaDB's semi-sync knows one
    failovers: int = 3
    window_ms: int = 3_600_000
    hold_off_ms: int = 10_000
    restart_settle_ms: int = 3000  # after a unit's restart, before it is judged again
    restart_look_ms: int = 6000  # and judged as seen before it, at the latest: an interval and the longest look
    steady_ms: int = 5000  # well for so long: every observer has ended the look it was at, and begun and ended another
    restart_memory_ms: int = 600_000  # one restart of a unit in this time, the next failure steps down
    request_ms: int = 30_000  # a switchover that its holder could not begin by then is dropped
    shared_disk: str = ""  # the write probe of what all data nodes share, and within what time all have found a trouble
    shared_disk_ms: int = 2000
    go_on_after_ms: int | None = None  # without an acknowledgement for so long, writes go on unproven; None: never
    bound_ms: int | None = (
        None  # commits wait for no replica, and a failover loses no more than the last so much; None: they do
    )
    writes_stuck_ms: int = 5000  # without one acknowledged commit, a primary that others could replace lets go
    fenced: tuple[str, ...] = ()  # the nodes that a fence agent can switch off
    fence_required: bool = False  # no takeover of a lost primary before its power-off is confirmed
    drain_ms: int = 0  # how long a planned switchover waits for the mail queue to run empty; 0: it does not
    rejoin_automatic: bool = False  # a node whose database must be made anew does so by itself
    fence_ms: int = 10_000  # how long all levels of agents together may take
    store_moves: bool = False  # the mail store is the primary's only: taken and released with the role
    store_ms: int = 10_000  # how long one taking or releasing of it may take
    store_unfenced: tuple[str, ...] = ()  # whose power no agent cuts, though two users at once would destroy the store

    def __post_init__(self) -> None:
        """Refuse what would let a holder stop later than a candidate starts."""
        for name in ("ttl_ms", "renew_ms", "margin_ms", "demote_budget_ms", "heartbeat_ms", "report_ms"):
            if getattr(self, name) <= 0:
                raise PolicyError(f"{name} is {getattr(self, name)}: must be above 0")
        spent = 3 * self.renew_ms + self.margin_ms + self.demote_budget_ms
        if self.bound_ms is not None and self.bound_ms < 2 * self.ttl_ms:
            raise PolicyError(
                f"ttl x 2 = {2 * self.ttl_ms} ms is above bound = {self.bound_ms} ms: "
                "what is acknowledged in the last lease must be within the bound"
            )
        if spent > self.ttl_ms:
            raise PolicyError(
                f"renew x 3 + margin + demote_budget = {spent} ms is above ttl = {self.ttl_ms} ms: "
                "three renewals must be able to fail before the holder has to let go"
            )

    @property
    def step_down_before_ms(self) -> int:
        """How long before its deadline a holder that cannot renew begins to let go."""
        return self.demote_budget_ms

    @property
    def lapse_ms(self) -> int:
        """After this long without a renewal, a holder that follows the rules has begun to let go."""
        return self.ttl_ms - self.margin_ms - self.demote_budget_ms
