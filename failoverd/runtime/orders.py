"""Operators' orders beside a switchover: pause, maintenance, acknowledge, schedule; and what became of each.

    asked ──refused? with its codes──> core/orders.py ──> the record ──(`--wait`)──> every node heard has read it

One at a time on one node: the next is taken when the store has the one before, or did not take it in time.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from failoverd.core import candidates, machine, orders
from failoverd.core.model import Maintenance, NodeName, Scheduled
from failoverd.runtime import document as doc
from failoverd.runtime import status
from failoverd.runtime.moment import iso

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from failoverd.core.model import Rejected
    from failoverd.core.view import View
    from failoverd.ports import Clock
    from failoverd.runtime.daemon import Daemon

    Final = Callable[[machine.State, int], doc.Event | None]
    Begin = Callable[[str, str, Final, str], None]

SEEN_WITHIN_MS = 10_000  # a node that is heard reports several times in this, and reads the store as often
PAUSE_UNSEEN = "PAUSE_UNSEEN"


class Orders:
    """`begin` keeps a request's events until its final one; `given_up` is that of one whose end nobody has seen."""

    def __init__(
        self, daemon: Daemon, clock: Clock, begin: Begin, given_up: Callable[[int, bool], doc.Event | None]
    ) -> None:
        self._daemon = daemon
        self._clock = clock
        self._begin = begin
        self._given_up = given_up

    def pause(self, by: str, reason: str, *, for_ms: int, wait: bool) -> doc.Accepted | doc.Refused:
        """Put into the store that nothing may act by itself, or that it may again (no reason)."""
        view = self._view()
        until_ms = self._until(view, for_ms)
        paused = f"{by}: {reason}" if reason else ""
        order = machine.PauseAsked(paused, by, until_ms)
        text = f"accepted: {by} {'pauses' if reason else 'resumes'}{_until_words(until_ms)}"
        done = f"paused by {paused}{_until_words(until_ms)}" if paused else "the cluster goes on"
        return self._ask(order, text, done, [orders.moment_rejection(view, until_ms)], wait=wait)

    def maintenance(self, node: str, by: str, reason: str, *, on: bool, for_ms: int) -> doc.Accepted | doc.Refused:
        """Begin maintenance of a node, say it anew, or end it."""
        view, name = self._view(), NodeName(node)
        until_ms = self._until(view, for_ms)
        wanted = Maintenance(name, by, reason, until_ms) if on else None
        why = [orders.maintenance_rejection(view, node, wanted), orders.moment_rejection(view, until_ms)]
        text = f"accepted: {by} {'begins' if on else 'ends'} maintenance of {node}{_until_words(until_ms)}"
        done = f"{node} is in maintenance{_until_words(until_ms)}" if on else f"{node} is in maintenance no more"
        return self._ask(machine.MaintenanceAsked(name, by, wanted), text, done, why)

    def acknowledge(self, by: str, reason: str) -> doc.Accepted | doc.Refused:
        """The changes of primary up to now are known, and no reason to wait any more."""
        view = self._view()
        order = machine.AcknowledgeAsked(view.record.term if view.record else 0, by, reason)
        done = f"the changes of primary up to term {order.term} do not count any more"
        return self._ask(order, f"accepted: {orders.in_words(order)}", done, [orders.acknowledge_rejection(view)])

    def schedule(self, target: str, by: str, reason: str, at_ms: int) -> doc.Accepted | doc.Refused:
        """Have a switchover to `target` begin at `at_ms`, since 1970."""
        view = self._view()
        scheduled = Scheduled(uuid.uuid4().hex[:12], NodeName(target), by, reason, view.highest_term, at_ms)
        why = [orders.schedule_rejection(view, target), orders.moment_rejection(view, max(1, at_ms))]
        text = f"accepted: {target} shall be primary from {iso(at_ms)} on"
        now = candidates.planned_rejection(view, target)
        if now is not None:
            text += f"; it would be dropped as it is now: {now.code}, {now.reason}"
        done = f"{target} becomes primary at {iso(at_ms)}"
        return self._ask(machine.ScheduleAsked(by, scheduled), text, done, why)

    def cancel(self, by: str) -> doc.Accepted | doc.Refused:
        """Forget the switchover that is scheduled."""
        view = self._view()
        known = view.record.scheduled if view.record else None
        order = machine.ScheduleAsked(by, None, known.id if known else "")
        target = known.target if known else ""
        done = f"the switchover to {target} is not scheduled any more"
        text = f"accepted: {by} cancels the switchover to {target}"
        return self._ask(order, text, done, [orders.cancel_rejection(view)])

    # ---- how each goes on -------------------------------------------------------------------------------------

    def _view(self) -> View:
        return self._daemon.state.view.at(self._clock.now_ms())

    def _until(self, view: View, for_ms: int) -> int:
        """The end of what lasts `for_ms` from now; 0: none. One that is not known is refused by what looks at it."""
        return (view.wall_ms() or 0) + for_ms if for_ms else 0

    def _ask(
        self, order: machine.Order, text: str, done: str, why: Iterable[Rejected | None], *, wait: bool = False
    ) -> doc.Accepted | doc.Refused:
        refused = self._refusals(why)
        if refused:
            return doc.Refused(reasons=refused)
        record = self._daemon.state.view.record
        if record is not None and not orders.stands(record, order):
            self._daemon.feed(order)  # first: who follows it must find it in the state
        accepted = doc.Accepted(id=uuid.uuid4().hex[:12])
        self._begin(accepted.id, text, _Ending(order, done, wait, self._given_up), order.by)
        return accepted

    def _refusals(self, why: Iterable[Rejected | None]) -> tuple[doc.Reason, ...]:
        state, error = self._daemon.state, self._daemon.store_error
        found = [doc.Reason(code="BLK_STORE", reason=f"the store does not answer: {error}")] if error else []
        missing = orders.store_rejection(self._view())
        found += [status.reason_of(known) for known in (missing, *why) if known is not None]
        if state.order is not None:
            text = f"{orders.in_words(state.order)}, and the store has not taken that yet"
            found.append(doc.Reason(code="BLK_REQUEST", reason=text))
        return tuple(found)


@dataclass
class _Ending:
    """The final event of an order: the store has it, and where that was asked for every node that is heard."""

    order: machine.Order
    done: str
    wait: bool
    given_up: Callable[[int, bool], doc.Event | None]
    version: int = 0  # of the first record that was seen to say so
    since_ms: int = 0

    def __call__(self, state: machine.State, elapsed_ms: int) -> doc.Event | None:
        """None while it goes on."""
        view = state.view
        record = view.record
        if self.version:
            return self._seen(view, elapsed_ms)
        if record is not None and orders.stands(record, self.order):
            self.version, self.since_ms = record.version, elapsed_ms
            return self._seen(view, elapsed_ms) if self.wait else self._final(view, elapsed_ms, self.done)
        why = orders.overtaken(view, record, self.order) if record is not None else None
        if why is not None and state.order is None:
            return self._final(view, elapsed_ms, why.reason, code=why.code)
        return self.given_up(elapsed_ms, state.order is None)

    def _seen(self, view: View, elapsed_ms: int) -> doc.Event | None:
        """A node's reports name the newest version of the record that it has read, and it goes by that one."""
        others = [node.name for node in view.nodes if node.name != view.me.name]
        late = [name for name in others if name in view.fresh and view.fresh[name].version < self.version]
        silent = [name for name in others if name not in view.fresh]
        unheard = f"; not heard, so not known: {', '.join(silent)}" if silent else ""
        if not late:
            return self._final(view, elapsed_ms, f"{self.done}; every node that is heard has seen it{unheard}")
        if elapsed_ms - self.since_ms < SEEN_WITHIN_MS:
            return None
        text = f"{self.done}; not seen yet by {', '.join(late)}{unheard}"
        return self._final(view, elapsed_ms, text, code=PAUSE_UNSEEN)

    def _final(self, view: View, elapsed_ms: int, text: str, code: str = "") -> doc.Event:
        return doc.Event(elapsed_ms=elapsed_ms, node=view.me.name, text=text, code=code, final=True, succeeded=not code)


def _until_words(until_ms: int) -> str:
    return f" until {iso(until_ms)}" if until_ms else ""
