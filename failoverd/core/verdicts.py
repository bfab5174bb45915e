"""What probes and observers say: verdicts on services, and what counts as down on this node itself."""

from __future__ import annotations

from enum import Enum

from failoverd.core.health import Sighting
from failoverd.core.known import Known, remembered
from failoverd.core.mail_store import StoreState
from failoverd.core.model import Claim, Health, HostFacts, NodeName, QueueFacts, SettingsFacts, UnitFacts, VipFacts
from failoverd.core.monitoring import FINDING, PROBES, Gauges, gauges
from failoverd.core.quorum import Tally, Vote, tally

DISK_FAILURES = 2
SETTINGS_PROBE = "settings"
STORE_PROBE = "store"
STUCK_MS = 60_000  # how long others are preferred to a node whose promotion failed


class Verdict(Enum):
    """What a quorum of observers agrees on. DEGRADED: some say down, too few to act on."""

    UP = "up"
    DOWN = "down"
    DEGRADED = "degraded"
    UNKNOWN = "unknown"


class Verdicts(Known):
    """A view's predicates on health."""

    def votes(self, service: str, target: NodeName) -> dict[NodeName, Vote]:
        """Each observer's vote on "`service` of `target` is down". Observers are all the other members."""
        needed = next((failures for name, _, failures in self.policy.services if name == service), 1)
        votes: dict[NodeName, Vote] = {}
        for observer in self.nodes:
            if observer.name == target:
                continue
            claim: Sighting | Claim | None
            if observer.name == self.me.name:
                claim = self.sighting(service, target)
            else:
                report = self.fresh.get(observer.name)
                alike = report is not None and self.alike(report)
                claim = report.claims_by_name.get((service, target)) if report and alike else None
            if claim is None or claim.health is Health.UNKNOWN:
                votes[observer.name] = Vote.UNKNOWN  # its own network may be the broken part
            elif claim.health is Health.OK:
                votes[observer.name] = Vote.NO
            else:
                votes[observer.name] = Vote.YES if claim.failures >= needed else Vote.UNKNOWN
        return votes

    def verdict(self, service: str, target: NodeName) -> Verdict:
        """What the observers agree on for one service of one node."""
        votes = self.votes(service, target).values()
        match tally(votes, len(self.nodes) - 1):
            case Tally.WON:
                return Verdict.DOWN
            case Tally.LOST:
                return Verdict.DEGRADED if Vote.YES in votes else Verdict.UP
            case Tally.PENDING:
                return Verdict.DEGRADED if Vote.YES in votes else Verdict.UNKNOWN

    @property
    def database_failing(self) -> bool:
        """This node's own database did not answer so many times in a row that it counts."""
        seen = self.sighting("database", self.me.name)
        return seen is not None and seen.failures >= self.policy.database_failures

    def service_failing_here(self, service: str, unit: str) -> str:
        """Why `service` of this node counts as down, in words, or "" while it does not."""
        if service == "database":
            seen = self.sighting("database", self.me.name)
            return seen.observation.reading.reason if seen and self.database_failing else ""
        own = self.sighting(f"unit:{unit}", self.me.name)
        if own is not None and own.failures >= 2:  # once may be the blink of somebody else's restart
            return own.observation.reading.reason
        if self.verdict(service, self.me.name) is Verdict.DOWN:
            agreeing = [name for name, vote in self.votes(service, self.me.name).items() if vote is Vote.YES]
            return f"{service} fails for {', '.join(agreeing)}"
        return ""

    @property
    @remembered
    def cold(self) -> bool:
        """The mail store moves and is not here, or what works on it was started just now: its silence says nothing."""
        if not self.policy.store_moves:
            return False
        in_use = self.mail_store is StoreState.IN_USE
        return not (in_use and self.reached(self.mail_store_ms + self.policy.restart_settle_ms))

    def mail_store_left(self) -> bool:
        """Nothing here is on a mail store that another node may take."""
        return not self.policy.store_moves or self.mail_store is StoreState.RELEASED

    @property
    @remembered
    def _silent(self) -> frozenset[str]:
        """The probes of this node that find nothing while it is cold."""
        if not self.cold:
            return frozenset()
        services = {probe for name, unit, _ in self.policy.services for probe in (name, f"unit:{unit}")}
        return frozenset({*services, self.policy.shared_disk})

    @property
    @remembered
    def failing_here(self) -> tuple[tuple[str, str, str], ...]:
        """(service, unit, why) of what counts as down on this node."""
        # The database first: the mail services ask it, and a restart of theirs would not help them.
        watched = [("database", self.policy.database_unit), *((name, unit) for name, unit, _ in self.policy.services)]
        silent = self._silent
        found = ((name, unit, self.service_failing_here(name, unit)) for name, unit in watched if name not in silent)
        # A disk before all: what hangs on it is not helped by a restart, and a restart would hang as well.
        disks = ((seen.observation.probe, "", seen.observation.reading.reason) for seen in self.failing_disks)
        return (*disks, *((name, unit, why) for name, unit, why in found if why))

    @property
    def failing_disks(self) -> tuple[Sighting, ...]:
        """The write probes of this node's mounts that failed twice in a row: once may be the blink of a busy disk.

        Of what all share only once the others have had the time to find it, too: first to know is not worst off.
        """
        shared, shared_ms = self.policy.shared_disk, self.policy.shared_disk_ms
        return tuple(
            seen
            for seen in self.looks.failing
            if seen.observation.probe.startswith("disk:")
            and seen.observation.probe not in self._silent
            and seen.observation.target == self.me.name
            and seen.failures >= DISK_FAILURES
            and (seen.observation.probe != shared or self.reached(seen.since_ms + shared_ms))
        )

    @property
    def database_disk_failing(self) -> bool:
        """A disk that only this node has cannot be written to: its binary log may end in the middle of an event."""
        return any(seen.observation.probe != self.policy.shared_disk for seen in self.failing_disks)

    @property
    @remembered
    def ready(self) -> bool:
        """This node's own services answer its own probes, so that it could serve."""
        if self.database is None or self.database_failing or self.stuck_lately():
            return False
        names = [STORE_PROBE] if self.cold else [name for name, _, _ in self.policy.services]
        seen = [self.sighting(name, self.me.name) for name in names]
        return all(sight is not None and sight.failures == 0 for sight in seen)

    @property
    def steady(self) -> bool:
        """Ready, and for so long that a node which suffered from the same trouble would know that it is over."""
        services = {STORE_PROBE} if self.cold else {name for name, _, _ in self.policy.services}
        steady_ms = self.policy.steady_ms
        seen = [
            sight
            for sight in self.looks
            if sight.observation.target == self.me.name
            and (sight.observation.probe in services or sight.observation.probe.startswith("disk:"))
            and sight.observation.probe not in self._silent
        ]
        return self.ready and all(not sight.failures and self.reached(sight.since_ms + steady_ms) for sight in seen)

    def stuck_lately(self) -> bool:
        """A step of this node's promotion failed again and again, not long ago: another one may do better."""
        return self.stuck is not None and not self.reached(self.stuck.at_ms + STUCK_MS)

    @property
    def findings_of_probes(self) -> tuple[tuple[str, str], ...]:
        """(code, reason) of what this node's own probes find wrong with it."""
        found: list[tuple[str, str]] = []
        for seen in self.looks.failing:
            if seen.observation.target == self.me.name and seen.observation.probe not in self._silent:
                facts = seen.observation.reading.facts
                if seen.observation.probe in PROBES and seen.health is Health.UNKNOWN:
                    continue  # nobody knows whether it still is so: `check` has it among what is not seen
                if isinstance(facts, (SettingsFacts, *FINDING)):
                    found += facts.found
                else:
                    found.append((seen.observation.reading.code, seen.observation.reading.reason))
        return tuple(found)

    @property
    def settings(self) -> SettingsFacts | None:
        """This node's database's settings, as last seen."""
        seen = self.sighting(SETTINGS_PROBE, self.me.name)
        facts = seen.observation.reading.facts if seen else None
        return facts if isinstance(facts, SettingsFacts) else None

    @property
    def monitoring(self) -> Gauges | None:
        """What monitoring last measured on this node."""
        seen = (self.sighting(probe, self.me.name) for probe in sorted(PROBES))
        return gauges(sight.observation.reading.facts for sight in seen if sight is not None)

    @property
    def host(self) -> HostFacts | None:
        """What the host probe last measured."""
        seen = self.sighting("host", self.me.name)
        facts = seen.observation.reading.facts if seen else None
        return facts if isinstance(facts, HostFacts) else None

    @property
    def vip(self) -> VipFacts | None:
        """Where the virtual IP was last seen from here."""
        seen = self.sighting("vip", self.me.name)
        facts = seen.observation.reading.facts if seen else None
        return facts if isinstance(facts, VipFacts) else None

    @property
    def queue(self) -> QueueFacts | None:
        """What was last seen in this node's mail queue."""
        seen = self.sighting("queue", self.me.name)
        facts = seen.observation.reading.facts if seen else None
        return facts if isinstance(facts, QueueFacts) else None

    @property
    def units(self) -> tuple[UnitFacts, ...]:
        """The states of this node's units, as last seen."""
        found = (seen.observation.reading.facts for seen in self.sightings)
        return tuple(facts for facts in found if isinstance(facts, UnitFacts))
