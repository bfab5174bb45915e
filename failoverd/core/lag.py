"""Lag as a finding: raised once, resolved once.

Lag is counted in heartbeats (`View.lag_ms`), so that it is a multiple of `heartbeat`, and one heartbeat of it is
noise: the primary's row is read and told at other moments than the replica's. A single reading over a limit may be
noise as well, so that it takes a few in a row; and more of them to take it back, since a replica that catches up in
bursts would otherwise raise it again and again.

A lag that is not known changes nothing: it has not become better.
"""

from __future__ import annotations

from dataclasses import dataclass

from failoverd.core.policy import Policy

RAISE_AFTER = 3  # readings in a row over a limit
LOWER_AFTER = 10  # readings in a row below it
LEVELS = ("", "LAG_WARN", "LAG_ALARM")


@dataclass(frozen=True, slots=True)
class Lag:
    """`level` is the finding's place in LEVELS. `run` readings in a row said `towards`, or still further away."""

    level: int = 0
    towards: int = 0
    run: int = 0

    @property
    def code(self) -> str:
        """The finding, or nothing."""
        return LEVELS[self.level]


NO_LAG = Lag()


def limit_ms(level: int, policy: Policy) -> int:
    """Above which lag a finding of this level is raised."""
    return (0, policy.lag_warn_ms, policy.lag_alarm_ms)[level]


def after(before: Lag, lag_ms: int | None, policy: Policy) -> Lag:
    """Fold one more reading."""
    if lag_ms is None:
        return before
    now = sum(lag_ms > limit_ms(level, policy) for level in (1, 2))
    if now == before.level:
        return before if not before.run else Lag(before.level)
    worse = now > before.level
    goes_on = before.run > 0 and (before.towards > before.level) == worse
    nearest = min if worse else max  # what all readings of the run agree on
    towards = nearest(before.towards, now) if goes_on else now
    run = before.run + 1 if goes_on else 1
    if run >= (RAISE_AFTER if worse else LOWER_AFTER):
        return Lag(towards)
    return Lag(before.level, towards, run)
