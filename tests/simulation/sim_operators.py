"""What people do in one seed, knowing or not: administrators' hands, and what operators ask of failoverd.

An operator asks any node that answers, as failoverctl does, and what its prechecks refuse is not asked. Nobody ever
confirms a power-off that is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.core import candidates, orders
from failoverd.core.machine import Asked, Confirmed, PauseAsked
from failoverd.core.model import NodeName, Request

if TYPE_CHECKING:
    from sim_node import Node
    from sim_weather import Weather
    from world import World

    from failoverd.core.view import View


class Operators:
    """The kinds of trouble that have a person in them, and what all kinds choose from."""

    def __init__(self, world: World, weather: Weather) -> None:
        self._world = world
        self._weather = weather
        self._random = weather.random

    def _say(self, text: str) -> None:
        self._world.tell("trouble", text)

    def _node(self) -> Node:
        """Any host; the primary more often, since most depends on it."""
        serving = self._world.serving()
        if serving is not None and self._random.random() < 0.4:
            return serving
        return self._random.choice(self._world.nodes)

    def _data_node(self) -> Node:
        node = self._node()
        return node if node.is_data else self._random.choice(self._world.data_nodes)

    # ---- people -----------------------------------------------------------------------------------------------

    def kind_hand(self) -> None:
        """An administrator's hand.

        Whoever clears read_only on a server that clients reach, and that does not wait for a replica (it was started
        just now), tells them himself that their writes are safe: not done here, since nobody else can answer for it.
        """
        node = self._data_node()
        what = self._random.choice(("sets read_only", "clears read_only", "deletes the address"))
        self._say(f"somebody {what} on {node.name}")
        if what == "deletes the address":
            node.kernel.drop_address()
        elif what == "clears read_only":
            if node.database.semi_sync_source or not node.kernel.lets_through:
                node.database.read_only = False
        elif not node.database.waiting:  # else it waits behind commits that wait
            node.database.read_only = True

    def kind_membership(self) -> None:
        """A node runs with another configuration for a while."""
        node = self._node()
        self._say(f"{node.name} is restarted with another configuration")
        self._with_membership(node, "another")
        self._world.at(self._weather.span_ms(), self._with_membership, node, "digest")

    @staticmethod
    def _with_membership(node: Node, digest: str) -> None:
        node.membership = digest
        node.kill_daemon()
        node.start_daemon()

    def kind_promote(self) -> None:
        """An operator asks for another primary."""
        at, view = self._asked_node()
        target = self._data_node().name
        if at is None or view is None or candidates.planned_rejection(view, target) is not None:
            return
        self._say(f"anna on {at.name} asks for {target} as primary")
        request = Request(f"r{self._world.now}", NodeName(target), "anna", "maintenance", view.highest_term)
        at.hear(Asked(request))

    def kind_pause(self) -> None:
        """An operator pauses the cluster, and resumes it later."""
        self._pause("anna: maintenance")
        self._world.at(2 * self._weather.span_ms(), self._pause, "")

    def _pause(self, paused: str) -> None:
        at, view = self._asked_node()
        if at is not None and view is not None and orders.store_rejection(view) is None:
            self._say(f"anna on {at.name} {'pauses' if paused else 'resumes'}")
            at.hear(PauseAsked(paused, "anna"))

    def resume(self) -> None:
        """Again and again: a pause may have been on its way to the store."""
        if self._world.store.record.paused:
            self._pause("")
        self._world.at(self._weather.policy.ttl_ms, self.resume)

    def confirm(self, off: Node) -> None:
        """An operator has looked: the host is off. Nothing else is ever confirmed."""
        at, view = self._asked_node()
        if off.powered or at is None or view is None or candidates.confirm_rejection(view, off.name) is not None:
            return
        self._say(f"anna on {at.name} confirms that {off.name} has no power")
        at.hear(Confirmed(off.member.name, view.highest_term, "anna", "I have looked"))

    def _asked_node(self) -> tuple[Node | None, View | None]:
        able = [n for n in self._world.nodes if n.daemon is not None and not n.frozen and not n.stopped]
        if not able:
            return None, None
        node = self._random.choice(able)
        assert node.daemon is not None
        return node, node.daemon.state.view.at(node.clock.now_ms())
