"""One run of failoverd on a simulated node: feeds events to the production machine and performs its effects.

    event ──> machine.step ──> entries ──> audit (2 ms, or a disk that does not take them) ──> effects
                          └──> what only keeps up or tells goes at once

Which effects wait for their record, and which go ahead of one that is long in coming, is production's
`runtime.outbox`. Threads, sockets and the asyncio loop are not simulated.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sim_executor import Executor
from sim_probes import Probes

from failoverd.core import machine, rejoin
from failoverd.core.effects import (
    Beat,
    Cancel,
    Effect,
    KeepLease,
    Perform,
    Purpose,
    Push,
    Remember,
    RenewGate,
    StepKind,
    Swap,
)
from failoverd.core.health import Sendings
from failoverd.core.lease import unanswered
from failoverd.core.machine import ClockSet, Event, Reaction, Reported, State, StepEnded, StoreSeen, Swapped, Ticked
from failoverd.core.model import Outcome
from failoverd.core.view import View
from failoverd.runtime.outbox import AUDIT_WITHIN_MS, CLOSING_WITHIN_MS, closes, is_at_once

if TYPE_CHECKING:
    from sim_node import Node

    from failoverd.core.lease import Held, Memory
    from failoverd.core.model import Record

AUDIT_MS = 2  # a record is on disk before its effects begin
STORE_ASK_MS = 650  # a watch that tells nothing for so long is asked about
OPENING = {StepKind.OPEN_GATE, StepKind.MAKE_WRITABLE, StepKind.TAKE_STORE, StepKind.START_SERVICES}


class Daemon:
    """What `held` and `memory` say is what it found on its disk."""

    def __init__(self, node: Node, *, held: Held | None, memory: Memory) -> None:
        self.node = node
        self.world = node.world
        self._scale = node.world.chance.scale
        self.executor = Executor(node, self)
        view = View(
            me=node.member,
            nodes=self.world.members,
            policy=node.policy,
            membership=node.membership,
            now_ms=node.clock.now_ms(),
            sendings=Sendings(f"{node.name}#{node.runs}"),
            highest_term=memory.term,
            memory=memory,
            rejoin=memory.rejoin,
            rejoin_failed=rejoin.failed_before(memory, node.clock.now_ms()),
            takeover_sent=unanswered(memory),
            held=held,
            epoch_ms=node.clock.epoch_ms,
        )
        self.state = State(view=view, software="0.1.0")
        self._woken_ms = 0  # when the machine wants to be woken, by the node's clock
        self._wake_at = 0  # when the only timer is due
        self._timer_at = 0  # for when the newest one was set
        self._waiting: list[Reaction] = []  # for their records
        self._writing = False

    def start(self) -> None:
        """Begin to look, and take the first step."""
        Probes(self).start()
        self.node.when_running(AUDIT_MS, self.node.rebuild.tell)
        self.node.when_running(AUDIT_MS, self._read_store)
        self.feed(Ticked())

    def look_at_clock(self) -> None:
        """As production does every few seconds."""
        epoch_ms = self.node.clock.epoch_ms
        if epoch_ms != self.state.view.epoch_ms:
            self.feed(ClockSet(epoch_ms))

    @property
    def lives(self) -> bool:
        """Whether this is the run that its host has now."""
        return self.node.daemon is self

    def lease_lasts(self) -> bool:
        """Whether the lease is held, and not being given back."""
        view = self.state.view
        held = view.held if view.leaving is None else None
        return held is not None and self.node.clock.now_ms() < held.deadline_ms

    # ---- events -----------------------------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        """Step the machine. Where the host or the daemon stands still, its events wait."""
        node = self.node
        if node.daemon is not self:
            return
        if node.frozen or node.stopped:
            node.now_or_later(self.feed, (event,))
            return
        judge, before = self.world.judge, self.state.view.record
        kind = type(event)
        if (kind is StoreSeen or kind is Swapped) and event.record is not None:  # type: ignore[union-attr] # both have one
            judge.reached(node, event.record)  # type: ignore[union-attr] # likewise
        reaction = machine.step(self.state, event, node.clock.now_ms())
        self.state = reaction.state
        after = reaction.state.view.record
        if after is not before:
            judge.took_record(node, before, after)
        if reaction.effects or reaction.entries:
            for entry in reaction.entries:
                self.world.told(node.name, entry)
            judge.asked(node, reaction.effects, reaction.entries)
            self._put(reaction)
        self._set_timer()

    def _set_timer(self) -> None:
        node = self.node
        state = self.state
        view = state.view
        wake_ms = machine.next_wake_ms(state)
        if wake_ms == self._woken_ms and self.world.now < self._wake_at:
            return  # the quiet goes on, and its end is timed
        self._woken_ms = wake_ms
        if wake_ms == view.now_ms + machine.TICK_MS:
            wake_ms = view.now_ms + machine.TICK_MS * self._scale
        self._wake_at = wake_at = max(self.world.now + 1, node.clock.true_time(wake_ms))
        if not self.world.now < self._timer_at <= wake_at:
            self._timer_at = wake_at
            self.world.at(wake_at - self.world.now, self._tick, wake_at)

    def _tick(self, at: int) -> None:
        if at != self._timer_at or self.node.daemon is not self:
            return  # another timer was set since
        if self._wake_at > at:
            self._timer_at = self._wake_at
            self.world.at(self._wake_at - at, self._tick, self._wake_at)
        else:
            self.feed(Ticked())

    # ---- the outbox -------------------------------------------------------------------------------------------

    def _put(self, reaction: Reaction) -> None:
        later = False
        for effect in reaction.effects:
            if is_at_once(effect):
                self._perform(effect)
            else:
                later = True
        if later or reaction.entries:
            self._waiting.append(reaction)
            if not self._writing:
                self._write()

    def _write(self) -> None:
        """What has piled up is written in one go."""
        batch, self._waiting = self._waiting, []
        effects = [e for reaction in batch for e in reaction.effects if not is_at_once(e)]
        self._writing = True
        node = self.node
        if node.database.disk_hung:
            node.when_running(CLOSING_WITHIN_MS, self._perform_all, [e for e in effects if closes(e)])
            node.when_running(AUDIT_WITHIN_MS, self._not_written, [e for e in effects if not closes(e)])
        elif node.database.disk_full or node.audit_fails:
            node.when_running(AUDIT_MS, self._remember, effects)  # its place is taken already, and it comes first
            node.when_running(AUDIT_MS, self._perform_all, [e for e in effects if closes(e)])
            node.when_running(AUDIT_MS, self._not_written, [e for e in effects if not closes(e)])
        else:
            takes_ms = self.world.chance.latency(AUDIT_MS)
            for effect in effects:
                if isinstance(effect, Swap) and effect.purpose is Purpose.TAKE_OVER:
                    takes_ms += self.world.chance.takeover_recorded(node, effect)
            node.when_running(takes_ms, self._written, effects)

    def _remember(self, effects: list[Effect]) -> None:
        for effect in effects:
            if self.lives and isinstance(effect, Remember):
                self.node.remember(effect.memory)

    def _written(self, effects: list[Effect]) -> None:
        if not self.lives:
            return
        self._remember(effects)
        self._perform_all([effect for effect in effects if not isinstance(effect, Remember)])
        self._go_on_writing()

    def _not_written(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Swap):
                self.feed(Swapped(effect, Outcome.UNKNOWN, None))
            elif isinstance(effect, Perform):
                self.feed(StepEnded(effect.step, Outcome.FAILED, "AUDIT_FAILED", "the audit cannot be written"))
        self._go_on_writing()

    def _go_on_writing(self) -> None:
        self._writing = False
        if self._waiting and self.lives:
            self._write()

    def _perform_all(self, effects: list[Effect]) -> None:
        for effect in effects:
            self._perform(effect)

    # ---- effects ----------------------------------------------------------------------------------------------

    def _perform(self, effect: Effect) -> None:  # noqa: C901 - one case an effect
        if not self.lives:
            return
        match effect:
            case Push(report):
                node, send = self.node, self.world.network.send
                event = Reported(replace(report, term=node.told_term) if node.told_term else report)
                for other in self.world.nodes:
                    if other is not node:
                        send(node, other, other.hear, event)
            case Swap():
                self.world.store.swap(self.node, effect, self._swapped)
            case Perform(step) if step.kind in OPENING and not self.state.view.i_hold():
                self.feed(StepEnded(step, Outcome.FAILED, "STEP_OF_OLD_TERM", "the role was given back meanwhile"))
            case Perform(step):
                self.world.judge.acted(self.node, step)
                held = self.state.view.valid
                self.executor.perform(step, held.deadline_ms if held else 0)
            case Cancel(step):
                self.executor.cancel(step)
            case RenewGate():
                self.executor.renew_gate(effect)
            case KeepLease():
                self.node.keep_lease(effect)
            case Beat():
                self.executor.beat(effect)
            case _:
                raise AssertionError(f"{effect} is kept before")

    def _swapped(self, swap: Swap, won: bool | None, record: Record | None) -> None:
        outcome = Outcome.UNKNOWN if won is None else Outcome.SUCCEEDED if won else Outcome.FAILED
        self.feed(Swapped(swap, outcome, record))

    # ---- the store --------------------------------------------------------------------------------------------

    def _read_store(self) -> None:
        if not self.lives:
            return
        ask_ms = STORE_ASK_MS * self._scale
        heard = self.state.view.store_heard_ms
        if heard is None or self.node.clock.now_ms() - heard >= ask_ms:
            self.world.store.read(self.node, self.store_seen)
        self.node.when_running(ask_ms // 2, self._read_store)

    def store_seen(self, record: Record) -> None:
        """A read was answered, or the watch told of a change."""
        self.feed(StoreSeen(record))
