"""The rebuild of this node's database, a process of its own: how far it says to be, and whether it lives.

It looks at files in memory (rebuild_files), so that a look waits for no disk. Where there is nothing, there was no
rebuild since the boot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from failoverd.core.model import Health, Reading, RebuildFacts
from failoverd.rebuild_files import FILE, is_running, newest

if TYPE_CHECKING:
    from pathlib import Path

    from failoverd.ports import Target

WORDS = 200  # characters of a reason: it goes into every report


class RebuildProbe:
    """Looks into the daemon's runtime directory."""

    def __init__(self, runtime: Path) -> None:
        self._runtime = runtime

    async def read(self, target: Target) -> Reading:  # noqa: ARG002 - it only ever looks at this node
        """Look once; see `ports.Probe`."""
        try:
            running = is_running(self._runtime)  # before the file: who ends in between has told all by then
            told = newest(self._runtime)
        except (OSError, ValueError) as error:
            return Reading(Health.UNKNOWN, "REBUILD_UNSEEN", f"{self._runtime / FILE}: {error}")
        if not told:
            return Reading(Health.OK)
        return Reading(Health.OK, facts=facts_of(told, running=running))


def facts_of(told: dict[str, Any], *, running: bool) -> RebuildFacts:
    """What `failoverd rebuild` told, as a value. What is missing or odd is left out: it is for people to look at."""

    def number(key: str) -> int:
        value = told.get(key)
        return value if isinstance(value, int) and value >= 0 else 0

    ahead = told.get("ahead")
    saved = ", ".join(map(str, ahead)) if isinstance(ahead, list) else str(told.get("saved") or "")
    return RebuildFacts(
        request=str(told.get("request") or ""),
        stage=str(told.get("stage") or ""),
        running=running,
        touched=told.get("touched") is True,
        received=number("bytes"),
        expected=number("of"),
        rate=number("rate"),
        left_s=number("left_s") if told.get("left_s") is not None else None,
        code=str(told.get("code") or ""),
        reason=str(told.get("reason") or "")[:WORDS],
        saved=saved[:WORDS],
    )
