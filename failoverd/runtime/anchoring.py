"""Puts where the audits stand into the store, as a term begins here and as it ends: see core/anchor.py.

Beside everything else and after it: nothing waits for an anchor, and one that the store does not take is put again
later, for as long as it is of use.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from failoverd.core import anchor
from failoverd.ports import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from failoverd.core.machine import State
    from failoverd.core.model import NodeName
    from failoverd.ports import Store

LOOK_S = 0.5
AGAIN_S = 2.0
AGAIN_MOST_S = 60.0
SHOWN_AFTER = 3  # attempts: a store that is away for a moment is nobody's trouble

_log = structlog.get_logger(__name__)


class Anchoring:
    """`heads` gives this node's own head, with all that was decided until then, and those of its copies."""

    def __init__(
        self,
        own: NodeName,
        state: Callable[[], State],
        store: Store,
        heads: Callable[[], Awaitable[tuple[anchor.Head, ...]]],
        epoch_ms: Callable[[], int],
    ) -> None:
        self._own = own
        self._state = state
        self._store = store
        self._heads = heads
        self._epoch_ms = epoch_ms
        self._held_term = 0
        self._put: tuple[int, anchor.Moment] | None = None
        self.problem = ""  # why the newest could not be put, once that has lasted

    async def run(self) -> None:
        """Work until cancelled."""
        attempts, again_s = 0, AGAIN_S
        while True:
            due = self._due()
            if due is None:
                attempts, again_s, self.problem = 0, AGAIN_S, ""
                await asyncio.sleep(LOOK_S)
                continue
            try:
                await self._anchor(*due)
            except (StoreUnavailableError, OSError) as error:  # TimeoutError is one
                attempts += 1
                if attempts >= SHOWN_AFTER:
                    self.problem = f"term {due[0]}, {due[1]}: {error or 'the copies were not read in time'}"
                await asyncio.sleep(again_s)
                again_s = min(again_s * 2, AGAIN_MOST_S)

    def _due(self) -> tuple[int, anchor.Moment] | None:
        view = self._state().view
        if view.held is not None:
            self._held_term = max(self._held_term, view.held.term)
        return anchor.due(view, self._held_term, self._put)

    async def _anchor(self, term: int, moment: anchor.Moment) -> None:
        heads = await self._heads()
        await self._store.put_anchor(anchor.Anchor(term, self._own, moment, self._epoch_ms(), heads))
        self._put = (term, moment)
        _log.info("anchored", term=term, moment=moment, seq=heads[0].seq, hash=heads[0].hash)
