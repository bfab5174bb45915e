"""Record before effect: what was decided is on disk before the world is touched.

    reaction ── entries ──> audit (fsync) ──then──> effects, in order
             └─ what only keeps up or tells (renewals, reports) goes at once

When the audit cannot be written, what closes still happens and what opens does not: a failover without a record is no
failover, but a fence without one is still a fence.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from failoverd import views
from failoverd.audit.inputs import lines
from failoverd.core.effects import (
    Beat,
    Cancel,
    Effect,
    Entry,
    KeepLease,
    Perform,
    Purpose,
    Push,
    Remember,
    RenewGate,
    Swap,
)
from failoverd.core.effects import StepKind as Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from failoverd.core.lease import Memory
    from failoverd.core.machine import Reaction
    from failoverd.ports import AuditSink
    from failoverd.runtime.executor import Worker

AUDIT_WITHIN_MS = 1000
CLOSING_WITHIN_MS = 100  # how long what closes waits for its record
CLOSING = {
    Kind.CLOSE_GATE,
    Kind.MAKE_READ_ONLY,
    Kind.KILL_DATABASE,
    Kind.FREEZE,
    Kind.STOP_SERVICES,
    Kind.RELEASE_STORE,
}

_log = structlog.get_logger(__name__)


def is_at_once(effect: Effect) -> bool:
    """What needs no record: it keeps what was decided before, or only tells."""
    return isinstance(effect, RenewGate | KeepLease | Push | Beat | Cancel) or (
        isinstance(effect, Swap) and effect.purpose is Purpose.RENEW
    )


def closes(effect: Effect) -> bool:
    """What makes things safer, and must not wait long."""
    if isinstance(effect, Perform):
        return effect.step.kind in CLOSING
    return isinstance(effect, Swap) and effect.purpose is Purpose.GIVE_BACK


class Outbox:
    """Takes reactions from the loop and hands their effects to `perform`, each after its records."""

    def __init__(
        self,
        *,
        worker: Worker,
        audit: AuditSink,
        remember: Callable[[Memory], None],
        perform: Callable[[Effect], None],
        refuse: Callable[[Effect, str], None],
    ) -> None:
        views.prepare()
        self._worker = worker
        self._audit = audit
        self._remember = remember
        self._perform = perform
        self._refuse = refuse
        self._waiting: asyncio.Queue[tuple[tuple[Entry, ...], tuple[Effect, ...]]] = asyncio.Queue()
        self._problem = ""  # of the newest batch

    def put(self, reaction: Reaction) -> None:
        """Take one reaction; returns at once."""
        later: list[Effect] = []
        for effect in reaction.effects:
            if is_at_once(effect):
                self._perform(effect)
            else:
                later.append(effect)
        if reaction.entries or later:
            self._waiting.put_nowait((reaction.entries, tuple(later)))

    async def run(self) -> None:
        """Work until cancelled. What has piled up is written in one go, so that a slow disk is asked once for it."""
        while True:
            batch = [await self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            entries = [entry for some, _ in batch for entry in some]
            effects = [effect for _, some in batch for effect in some]
            await self._write_then_act(entries, effects)
            for _ in batch:
                self._waiting.task_done()

    async def written(self) -> str:
        """Wait until all that was put is on disk, or could not be: then why not."""
        await self._waiting.join()
        return self._problem

    async def close(self) -> None:
        """At the end of the daemon: nothing more is begun, and what was noted is on disk, the batch at work first."""
        left = [self._waiting.get_nowait() for _ in range(self._waiting.qsize())]
        entries = [entry for some, _ in left for entry in some]
        memories = [effect.memory for _, some in left for effect in some if isinstance(effect, Remember)]
        try:
            await self._worker.call(lambda: self._write(entries, memories), within_ms=AUDIT_WITHIN_MS)
        except (TimeoutError, OSError) as error:
            _log.error("the last audit records are lost", code="AUDIT_FAILED", reason=str(error) or "too slow")

    async def _write_then_act(self, entries: Sequence[Entry], effects: Sequence[Effect]) -> None:
        memories = [effect.memory for effect in effects if isinstance(effect, Remember)]
        writing = asyncio.ensure_future(
            self._worker.call(lambda: self._write(entries, memories), within_ms=AUDIT_WITHIN_MS)
        )
        await asyncio.wait([writing], timeout=CLOSING_WITHIN_MS / 1000)
        early = [effect for effect in effects if closes(effect)] if not writing.done() else []
        for effect in early:
            self._perform(effect)
        problem = ""
        try:
            await writing
        except TimeoutError:
            problem = f"the audit was not on disk within {AUDIT_WITHIN_MS} ms"
        except OSError as error:
            problem = f"the audit cannot be written: {error}"
        self._problem = problem
        if problem:
            _log.error("audit failed", code="AUDIT_FAILED", reason=problem)
        for effect in effects:
            if effect in early or isinstance(effect, Remember):
                continue
            if problem and not closes(effect):
                self._refuse(effect, problem)
            else:
                self._perform(effect)

    def _write(self, entries: Sequence[Entry], memories: Sequence[Memory]) -> None:
        """In the worker's thread: the term first, since an entry of a term is proof that it was known.

        So are the views that decisions were made on encoded here, and not on the loop.
        """
        if memories:
            self._remember(memories[-1])
        if entries:
            self._audit.append(lines(entries))
