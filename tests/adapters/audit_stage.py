"""Audits as a cluster writes them: mail1 loses its power in the simulated world, and mail2 takes over."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from world import World

from failoverd.audit import inputs
from failoverd.audit.file import AuditFile

if TYPE_CHECKING:
    from pathlib import Path

    from failoverd.core.effects import Entry

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class _WorldClock:
    def __init__(self, world: World) -> None:
        self._world = world

    def now_ms(self) -> int:
        """The world's."""
        return self._world.now


def write(directory: Path, name: str = "mail2") -> list[dict[str, Any]]:
    """Write the audit of `name` into `directory`; its records."""

    def told(_now: int, node: str, entry: Entry) -> None:
        if node == name:
            audit.append(inputs.lines([entry]))

    world = World(told=told)
    clock = _WorldClock(world)
    path = directory / "audit.jsonl"
    audit = AuditFile(path, name, clock, wall=lambda: NOON + timedelta(milliseconds=world.now))
    world.lay_out()
    for node in world.nodes:
        node.start_daemon()
    world.run_until(3000)
    world.node("mail1").power_off()
    world.run_until(12_000)
    audit.close()
    return [json.loads(line) for line in path.read_text().splitlines()]


def rewrite(directory: Path, records: list[dict[str, Any]]) -> None:
    """Put these in the place of what was written."""
    lines = [json.dumps(record, separators=(",", ":")) + "\n" for record in records]
    (directory / "audit.jsonl").write_text("".join(lines))
