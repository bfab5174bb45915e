"""Freshness of reports and suspicion of services; the time is an argument.

**Age without a common clock.** A report says which of *my* reports its sender had last heard. I know when I sent that
one, so the report cannot be older than the time since: delay and duplication in the network cannot make it look fresh.

    me    ──#7 (at t0)──>  peer
    me    <──"heard #7"──  peer          at t1:  age <= t1 - t0
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from failoverd.core.model import Claim, Health, NodeName, Observation, Report

KEPT_SENDINGS = 64  # at two reports a second and more at changes, far longer than a report may age


@dataclass(frozen=True, slots=True)
class Sendings:
    """When this run of the daemon sent which of its reports: (number, moment), each number the one before plus 1."""

    process: str
    log: tuple[tuple[int, int], ...] = ()

    @property
    def last(self) -> int:
        """Number of the newest report, 0 before the first."""
        return self.log[-1][0] if self.log else 0

    def sent(self, now_ms: int) -> Sendings:
        """One more report, at `now_ms`."""
        return Sendings(self.process, (*self.log, (self.last + 1, now_ms))[-KEPT_SENDINGS:])

    def sent_ms(self, number: int) -> int | None:
        """When report `number` was sent; None when that is not known any more."""
        back = self.last - number  # numbers have no gaps, so that this is the place
        return self.log[-1 - back][1] if 0 <= back < len(self.log) else None


def born_after_ms(report: Report, me: NodeName, sendings: Sendings) -> int | None:
    """The moment, by this node's clock, before which `report` cannot have been made; None when nothing bounds it."""
    for heard in report.heard:
        if heard.node == me and heard.process == sendings.process:
            return sendings.sent_ms(heard.number)
    return None


@dataclass(frozen=True, slots=True)
class Sighting:
    """This node's last observation of one probe of one node, and how many have failed in a row up to it."""

    observation: Observation
    failures: int
    since_ms: int  # when the present state (failing or not) began

    @property
    def health(self) -> Health:
        """What the last observation found."""
        return self.observation.reading.health

    def claim(self) -> Claim:
        """The same as told to others."""
        seen = self.observation
        return Claim(
            seen.probe, seen.target, seen.reading.health, self.failures, seen.reading.code, seen.reading.reason
        )


def sighted(before: Sighting | None, observation: Observation) -> Sighting:
    """Fold one more observation. UNKNOWN neither adds to a suspicion nor clears it: we could not look."""
    health = observation.reading.health
    if before is None:
        return Sighting(observation, int(health is Health.FAILED), observation.ended_ms)
    if health is Health.UNKNOWN:
        return Sighting(observation, before.failures, before.since_ms)
    failures = before.failures + 1 if health is Health.FAILED else 0
    began = failures == 1 or (failures == 0 and before.failures > 0)
    return Sighting(observation, failures, observation.ended_ms if began else before.since_ms)


class Sightings(tuple[Sighting, ...]):  # noqa: SLOT001 - what was worked out has to be kept somewhere
    """The sightings of a view, oldest look first, with what is asked of them often worked out once."""

    @cached_property
    def by_name(self) -> dict[tuple[str, NodeName], Sighting]:
        """By probe and target, in this order. Not to be changed."""
        return {(seen.observation.probe, seen.observation.target): seen for seen in self}

    @cached_property
    def failing(self) -> tuple[Sighting, ...]:
        """Those that fail now."""
        return tuple(seen for seen in self if seen.failures)

    def and_now(self, seen: Sighting) -> Sightings:
        """The same with a newer look in the place of the former one, at the end."""
        name = (seen.observation.probe, seen.observation.target)
        by_name = self.by_name.copy()
        before = by_name.pop(name, None)
        by_name[name] = seen
        after = Sightings(by_name.values())
        after.by_name = by_name
        if not seen.failures and (before is None or not before.failures):
            after.failing = self.failing
        return after
