"""While a drill runs: do real clients suffer, and is the load still below its ceiling.

What real clients see is told by the cluster's own looks, which go the same way as they do. The time between injection
and the new primary is what the drill is about, and not counted here: the observation has a limit of its own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from failoverd.drill import DrillError, preflight
from failoverd.drill.model import PhaseName

if TYPE_CHECKING:
    from failoverd.config import Config
    from failoverd.drill.collecting import Collector
    from failoverd.drill.generator import Generator
    from failoverd.drill.local import LocalDaemon
    from failoverd.runtime.document import NodeStatus, StatusDocument

LOOK_S = 1.0
EXPECTED = frozenset({PhaseName.INJECT, PhaseName.OBSERVE})


class Watcher:
    """Beside the phases, from the baseline to the load's end."""

    def __init__(
        self, config: Config, daemon: LocalDaemon, generator: Generator, found: Collector, *, wanted: int
    ) -> None:
        self._abort, self._load = config.drill.abort, config.drill.load
        self._daemon, self._generator, self._found = daemon, generator, found
        self._wanted = wanted
        self._down_s = 0.0

    async def watch(self) -> None:
        """Return never. Raises DrillError (DRILL_CLIENTS_SUFFER)."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                status = await self._daemon.status()
            except DrillError:  # nothing is known of clients for this second: that is no suffering
                continue
            self._found.saw(status)
            if self._found.phase() in EXPECTED:
                # Everybody's sessions are gone for a moment, real people's as well: a load that shrank along with them
                # would spare the new primary what it is to be shown to bear.
                self._down_s = 0.0
                continue
            await self._keep_below(status)
            self._look(status)

    def _look(self, status: StatusDocument) -> None:
        primary = _primary(status)
        bad = ["nobody serves"] if primary is None else _down(primary)
        self._down_s = self._down_s + LOOK_S if bad else 0.0
        if self._down_s * 1000 > self._abort.down_ms:
            raise DrillError("DRILL_CLIENTS_SUFFER", f"for {self._down_s:.0f} s: {', '.join(bad)}")
        for node in status.nodes:
            for mean in node.monitoring.latency if node.monitoring is not None else ():
                if mean.node == status.holder and mean.mean_ms > self._abort.latency_ms:
                    words = f"{mean.service} takes {mean.mean_ms} ms on average; allowed: {self._abort.latency_ms}"
                    raise DrillError("DRILL_CLIENTS_SUFFER", words)
        errors = self._found.recent_errors_percent()
        if errors is not None and errors > self._abort.errors_percent:
            words = f"{errors:.1f} % of the load's operations failed lately; allowed: {self._abort.errors_percent:g} %"
            raise DrillError("DRILL_CLIENTS_SUFFER", words)

    async def _keep_below(self, status: StatusDocument) -> None:
        primary = _primary(status)
        gauges = primary.monitoring if primary is not None else None
        allowed = preflight.most_users(
            wanted=self._wanted,
            own=self._generator.sessions,
            connections=gauges.imap_connections if gauges is not None else None,
            share_percent=self._load.share_percent,
            least=self._load.least,
        )
        await self._generator.limit(allowed)


def _primary(status: StatusDocument) -> NodeStatus | None:
    return next((node for node in status.nodes if node.name == status.holder), None)


def _down(node: NodeStatus) -> list[str]:
    return [f"{name} is down on {node.name}" for name, service in node.services.items() if service.verdict == "down"]
