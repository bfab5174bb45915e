"""The advisory probes of a node by the configuration, a part of its schedule (see core/monitoring.py).

    every node   latency                              data node   logins, sessions, processes, statements

None of them is hurried: `prompt` is off, and what is slow has seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.core.model import NodeKind
from failoverd.ports import Target
from failoverd.probes.journal import Journal
from failoverd.probes.latency import Latencies, LatencyProbe
from failoverd.probes.logins import LoginsProbe, MailTally
from failoverd.probes.maillog import WORDS
from failoverd.probes.processes import ProcessesProbe
from failoverd.probes.sessions import SessionsProbe
from failoverd.probes.statements import StatementsProbe
from failoverd.runtime.prober import Scheduled

if TYPE_CHECKING:
    from failoverd.config import Config
    from failoverd.core.model import Observation
    from failoverd.ports import Clock, Database, Probe

DEADLINE_MS = 5000
SESSIONS_INTERVAL_MS = 30_000  # a program is started


class Watching:
    """What one node watches beside what a failover is decided on."""

    def __init__(self, config: Config, database: Database | None, clock: Clock) -> None:
        self._config = config
        self._me = Target(config.this.name, config.this.address)
        limit = config.monitoring.latency
        self._latencies = Latencies(limit, config.services, clock) if limit is not None else None
        self._entries = [*self._everywhere()]
        if config.this.kind is NodeKind.DATA:
            self._entries += self._data_node(database)

    @property
    def entries(self) -> list[Scheduled]:
        """For the prober, whoever is primary."""
        return list(self._entries)

    def note(self, seen: Observation) -> None:
        """An observation of any probe. Called from the prober's thread."""
        if self._latencies is not None:
            self._latencies.note(seen)

    def _everywhere(self) -> list[Scheduled]:
        return [self._entry("latency", LatencyProbe(self._latencies))] if self._latencies is not None else []

    def _data_node(self, database: Database | None) -> list[Scheduled]:
        config, limits = self._config, self._config.monitoring
        imap, smtp = config.mail.imap, config.mail.smtp
        imap_unit, smtp_unit = imap.unit if imap else "", smtp.unit if smtp else ""
        canary = imap.user if imap else ""
        found = []
        if limits.journal:
            members = [config.vip.address, *(node.address for node in config.nodes.values())]
            tally = MailTally(imap_unit, smtp_unit, canary, members, limits.auth_failures, limits.auth_source)
            units = [unit for unit in (imap_unit, smtp_unit) if unit]
            found.append(self._entry("logins", LoginsProbe(Journal(units, tally.hear, words=WORDS), tally)))
        if limits.gauges is not None and imap is not None:
            probe = SessionsProbe(DEADLINE_MS, canary)
            found.append(self._entry("sessions", probe, max(SESSIONS_INTERVAL_MS, limits.interval_ms)))
        if limits.postfix_cpu is not None or limits.memory is not None or limits.gauges is not None:
            processes = ProcessesProbe(smtp_unit, imap_unit, limits.postfix_cpu, limits.memory)
            found.append(self._entry("processes", processes))
        if limits.slow_queries is not None and database is not None:
            statements = StatementsProbe(database.beside(), limits.slow_queries, deadline_ms=DEADLINE_MS)
            found.append(self._entry("statements", statements))
        return found

    def _entry(self, name: str, probe: Probe, interval_ms: int = 0) -> Scheduled:
        every_ms = interval_ms or self._config.monitoring.interval_ms
        return Scheduled(name, probe, self._me, every_ms, DEADLINE_MS, prompt=False)
