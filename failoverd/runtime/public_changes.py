"""How often the primary changed since this daemon started: the one thing that is counted between two scrapes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from failoverd.core.changes import ADOPTION
from failoverd.core.forced import was_forced

if TYPE_CHECKING:
    from failoverd.core.model import Record
    from failoverd.runtime.daemon import Daemon

KINDS = ("switchover", "failover", "forced", "adoption")


class Changes:
    """Counts the terms that begin while it watches. Of several between two looks at the store only the last is seen."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._term: int | None = None
        self._watching: asyncio.Task[None] | None = None
        self.seen = dict.fromkeys(KINDS, 0)

    def start(self) -> None:
        """Begin to count."""
        self._watching = asyncio.ensure_future(self._watch())

    async def stop(self) -> None:
        """Count no more."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def _watch(self) -> None:
        changed = asyncio.Event()
        self._daemon.watchers.add(changed)
        try:
            while True:
                self.look(self._daemon.state.view.record)
                await changed.wait()
                changed.clear()
        finally:
            self._daemon.watchers.discard(changed)

    def look(self, record: Record | None) -> None:
        """Count the record's term, unless it is the first that was seen, or no newer one."""
        if record is None or (self._term is not None and record.term <= self._term):
            return
        if self._term is not None:
            self.seen[kind_of(record)] += 1
        self._term = record.term


def kind_of(record: Record) -> str:
    """How the term of a record began."""
    if record.reason == ADOPTION:
        return "adoption"
    if was_forced(record.reason):
        return "forced"
    asked = record.request is not None and record.request.target == record.holder
    return "switchover" if asked else "failover"
