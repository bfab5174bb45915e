"""The events of one request: kept from its beginning, told to whoever asks, whenever."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from failoverd.runtime.document import Event


class EventLog:
    """The events of one request, for any number of readers, each from the first on."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._more = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Whether the final event is there."""
        return bool(self._events) and self._events[-1].final

    def append(self, event: Event) -> None:
        """Add an event; nothing follows the final one."""
        if self.ended:
            raise ValueError(f"{event.text!r} after the final event")
        self._events.append(event)
        more, self._more = self._more, asyncio.Event()
        more.set()

    async def follow(self) -> AsyncIterator[Event]:
        """Yield every event up to the final one, waiting for those to come."""
        given = 0
        while True:
            more = self._more
            for event in self._events[given:]:
                yield event
            given = len(self._events)
            if self.ended:
                return
            if more is self._more:
                await more.wait()
