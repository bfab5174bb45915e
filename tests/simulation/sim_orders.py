"""Operators who pause until a time, put nodes into maintenance, acknowledge and schedule; and whose clocks are wrong.

A share of the seeds knows this, drawn apart from all else, as in sim_rare: the schedules of the other seeds stay as
they were. Half of these operators ask whatever the prechecks say. In half of the seeds the budget of failovers is
small, so that only an acknowledgement lets the next one be made. Ends and due times are named by the wall clock of
whatever node is asked, and somebody sets that of one or another: an order ends too early or too late then, and nothing
else.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from failoverd.core import orders
from failoverd.core.machine import AcknowledgeAsked, MaintenanceAsked, Order, PauseAsked, ScheduleAsked
from failoverd.core.model import Maintenance, Scheduled

if TYPE_CHECKING:
    from sim_node import Node
    from sim_weather import Weather
    from world import World

    from failoverd.core.model import Rejected
    from failoverd.core.view import View

SHARE = 0.3
SMALL_BUDGET = 0.5
WINDOW = 20  # in leases


class Orders:
    """Draws whether, and asks again and again until `until`; after that it ends what still stands."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather
        self._random = random = Random(f"orders {weather.seed}")  # noqa: S311 - a schedule, no secret
        self._on = weather.tells_clock = random.random() < SHARE
        self._ttl_ms = weather.policy.ttl_ms
        if self._on and random.random() < SMALL_BUDGET:
            weather.policy = replace(weather.policy, failovers=2, window_ms=WINDOW * self._ttl_ms)

    def begin(self, world: World, until: int) -> None:
        """From now on it happens."""
        self._world, self._until = world, until
        if self._on:
            self._later(1, 4, self._happen)

    def _later(self, least: float, most: float, action: object) -> None:
        self._world.at(round(self._ttl_ms * self._random.uniform(least, most)), action)  # type: ignore[arg-type] # a method of this class

    def _happen(self) -> None:
        if self._world.now >= self._until:
            self._end()
            return
        random = self._random
        kind = random.choice(
            (self._pause, self._maintain, self._maintain, self._acknowledge, self._schedule, self._clock)
        )
        kind()
        self._later(0.3, 4, self._happen)

    # ---- what is asked ----------------------------------------------------------------------------------------

    def _pause(self) -> None:
        at, view = self._asked_node()
        if at is None or view is None:
            return
        paused = "anna: moving the rack" if self._random.random() < 0.6 else ""
        self._ask(at, view, PauseAsked(paused, "anna", self._soon(view) if paused else 0), None)

    def _maintain(self) -> None:
        at, view = self._asked_node()
        if at is None or view is None:
            return
        node = self._random.choice(self._world.nodes).member.name
        until_ms = self._soon(view) if self._random.random() < 0.8 else 0
        wanted = Maintenance(node, "anna", "a disk", until_ms) if self._random.random() < 0.7 else None
        why = orders.maintenance_rejection(view, node, wanted)
        self._ask(at, view, MaintenanceAsked(node, "anna", wanted), why)

    def _acknowledge(self) -> None:
        at, view = self._asked_node()
        if at is not None and view is not None and view.record is not None:
            order = AcknowledgeAsked(view.record.term, "anna", "a bad cable")
            self._ask(at, view, order, orders.acknowledge_rejection(view))

    def _schedule(self) -> None:
        at, view = self._asked_node()
        if at is None or view is None:
            return
        known = view.record.scheduled if view.record is not None else None
        if known is not None and self._random.random() < 0.3:
            self._ask(at, view, ScheduleAsked("anna", None, known.id), orders.cancel_rejection(view))
            return
        target = self._random.choice(self._world.data_nodes).member.name
        wanted = Scheduled(f"s{self._world.now}", target, "anna", "a kernel", view.highest_term, self._soon(view))
        self._ask(at, view, ScheduleAsked("anna", wanted), orders.schedule_rejection(view, target))

    def _clock(self) -> None:
        """Somebody sets a wall clock, by some leases or by far more."""
        node = self._random.choice(self._world.nodes)
        by_ms = round(self._random.choice((-300, -2, -0.5, 0.5, 2, 300)) * self._ttl_ms)
        self._world.tell("trouble", f"wall clock of {node.name} is set by {by_ms} ms")
        node.set_wall(by_ms)

    def _soon(self, view: View) -> int:
        return (view.wall_ms() or 0) + round(self._ttl_ms * self._random.uniform(0.5, 8))

    def _ask(self, at: Node, view: View, order: Order, why: Rejected | None) -> None:
        """Half of them take no for an answer."""
        refused = orders.store_rejection(view) or why or at.daemon is None or at.daemon.state.order
        if refused and self._random.random() < 0.5:
            return
        self._world.tell("trouble", f"on {at.name}: {orders.in_words(order)}")
        at.hear(order)

    def _asked_node(self) -> tuple[Node | None, View | None]:
        able = [n for n in self._world.nodes if n.daemon is not None and not n.frozen and not n.stopped]
        if not able:
            return None, None
        node = self._random.choice(able)
        assert node.daemon is not None
        return node, node.daemon.state.view.at(node.clock.now_ms())

    # ---- the end ----------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """Again and again: an order may have been on its way to the store. A pause is ended by whoever heals."""
        at, view = self._asked_node()
        if at is not None and view is not None and at.daemon is not None and at.daemon.state.order is None:
            working, record = self._world.store.record.maintenance, view.record
            if working:
                at.hear(MaintenanceAsked(working[0].node, "anna", None))
            elif record is not None and orders.acknowledge_rejection(view) is None:
                at.hear(AcknowledgeAsked(record.term, "anna", "all is healed"))
        self._world.at(self._ttl_ms // 3, self._end)
