"""What goes wrong in one seed: one method a kind, each with its own end. What people do is in sim_operators.

A seed knows a few of the kinds (swarm testing), each with a weight. Most troubles end by themselves; some last until
everything is healed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim_operators import Operators

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim_node import Node
    from sim_weather import Weather
    from world import World

    from failoverd.core.effects import Swap
    from failoverd.core.model import Record

PREFIX = "kind_"
LASTS = 0.07  # how many troubles last until everything is healed


class Troubles(Operators):
    """Draws and makes them until `until`."""

    def __init__(self, world: World, weather: Weather, until: int) -> None:
        super().__init__(world, weather)
        random = weather.random
        self._until = until
        kinds = [name for name in dir(self) if name.startswith(PREFIX)]
        chosen = random.sample(kinds, random.choice((2, 3, 4, 6, 9, len(kinds))))
        self._kinds: list[Callable[[], None]] = [getattr(self, name) for name in chosen]
        self._weights = [random.choice((1, 1, 2, 5)) for _ in chosen]
        self._gap_ms = weather.policy.ttl_ms * 2 ** random.uniform(-2.5, 2)
        self._burst = random.choice((0.0, 0.3, 0.6))
        weather.strike = self.strike
        weather.ask = self.kind_promote
        world.agents.manner = lambda: random.choice(weather.agents)

    def begin(self) -> None:
        """From now on something happens."""
        self._next()

    def _next(self) -> None:
        gap_ms = self._random.expovariate(1 / self._gap_ms)
        if self._random.random() < self._burst:
            gap_ms *= 0.1
        self._world.at(max(1, round(gap_ms)), self._happen)

    def _happen(self) -> None:
        if self._world.now < self._until:
            self._random.choices(self._kinds, self._weights)[0]()
            self._next()

    def _ends(self, end: Callable[..., None], *arguments: Any) -> None:
        if self._random.random() >= LASTS:
            self._world.at(self._weather.span_ms(), end, *arguments)

    # ---- hosts and processes ----------------------------------------------------------------------------------

    def kind_power_cut(self) -> None:
        """A host loses its power."""
        self._power_cut(self._node())

    def _power_cut(self, node: Node) -> None:
        self._say(f"power of {node.name} is cut")
        node.power_off()
        self._ends(node.power_on)
        if self._random.random() < 0.3:
            self._world.at(self._weather.span_ms(), self.confirm, node)

    def kind_daemon_killed(self) -> None:
        """SIGKILL to failoverd; systemd starts it, sooner or later."""
        self._kill_daemon(self._node())

    def _kill_daemon(self, node: Node) -> None:
        self._say(f"failoverd of {node.name} is killed")
        node.kill_daemon()
        if self._random.random() < 0.7:
            node.when_awake(200, node.start_daemon)
        else:
            self._ends(node.start_daemon)

    def kind_host_frozen(self) -> None:
        """Every process of a host stands still."""
        self._freeze(self._node())

    def _freeze(self, node: Node) -> None:
        self._say(f"{node.name} freezes")
        node.freeze()
        self._ends(node.thaw)

    def kind_daemon_stopped(self) -> None:
        """SIGSTOP to failoverd."""
        self._stop_daemon(self._node())

    def _stop_daemon(self, node: Node) -> None:
        self._say(f"failoverd of {node.name} is stopped")
        node.stop()
        self._ends(node.go_on)

    def kind_wall_clock(self) -> None:
        """Somebody sets a wall clock."""
        node = self._node()
        by_ms = round(self._random.choice((-1, 1)) * self._random.choice((0.2, 1, 3, 1000)) * self._weather.span_ms())
        self._say(f"wall clock of {node.name} is set by {by_ms} ms")
        node.set_wall(by_ms)

    # ---- network ----------------------------------------------------------------------------------------------

    def kind_unplugged(self) -> None:
        """A cable is out."""
        node = self._node()
        self._say(f"cable of {node.name} is out")
        self._world.network.unplug(node.name)
        self._ends(self._world.network.plug, node.name)

    def kind_one_way(self) -> None:
        """One node no longer hears another."""
        sender, receiver = self._node(), self._random.choice(self._world.nodes)
        if sender is not receiver:
            self._cut(sender.name, receiver.name)

    def _cut(self, sender: str, receiver: str) -> None:
        self._say(f"{receiver} no longer hears {sender}")
        self._world.network.cut(sender, receiver)
        self._ends(self._world.network.mend, sender, receiver)

    def kind_cut_both_ways(self) -> None:
        """Two nodes no longer hear each other."""
        one, other = self._random.sample(self._world.nodes, 2)
        self._part([[one.name], [other.name]])

    def kind_partition(self) -> None:
        """Any shape."""
        sides: list[list[str]] = [[], [], []]
        parts = self._random.choice((2, 2, 2, 3))
        for node in self._world.nodes:
            sides[self._random.randrange(parts)].append(node.name)
        self._part(sides)

    def kind_bridge(self) -> None:
        """One node hears all, the others only it."""
        bridge = self._random.choice(self._world.nodes)
        self._part([[node.name] for node in self._world.nodes if node is not bridge])

    def kind_slow_way(self) -> None:
        """A way, most often one to or from the store, is slow for a long time: its load has one direction."""
        one = self._node().name
        other = self._random.choice(["arbiter", "arbiter", *(node.name for node in self._world.nodes)])
        sender, receiver = self._random.choice(((one, other), (other, one)))
        if one != other:
            more_ms = round(self._weather.policy.ttl_ms * self._random.choice((0.03, 0.08, 0.12, 0.15, 0.3, 0.7)))
            self._say(f"what {receiver} hears of {sender} is {more_ms} ms late")
            self._world.network.slow_down(sender, receiver, more_ms)
            self._world.at(4 * self._weather.span_ms(), self._world.network.slow_down, sender, receiver, 0)

    def kind_late_answers(self) -> None:
        """What the store answers the primary comes late, and some time after that the primary stands still.

        Nothing but the kernel ends its lease then, at the moment that it was told last.
        """
        primary = self._world.serving()
        if primary is None:
            return
        ttl_ms = self._weather.policy.ttl_ms
        more_ms = round(ttl_ms * self._random.choice((0.08, 0.12, 0.15)))
        self._say(f"what {primary.name} hears of the store is {more_ms} ms late")
        self._world.network.slow_down("arbiter", primary.name, more_ms)
        self._world.at(round(ttl_ms * self._random.uniform(0.5, 1.5)), self._stands_still, primary)
        self._world.at(2 * ttl_ms, self._world.network.slow_down, "arbiter", primary.name, 0)

    def _stands_still(self, node: Node) -> None:
        if self._weather.storm and node.powered:
            self._random.choice((self._freeze, self._stop_daemon, self._kill_daemon))(node)

    def _part(self, sides: list[list[str]]) -> None:
        self._say("parted: " + " | ".join(",".join(side) for side in sides if side))
        for sender, receiver in self._world.network.part(sides):
            self._world.at(self._weather.span_ms(), self._world.network.mend, sender, receiver)

    # ---- store ------------------------------------------------------------------------------------------------

    def kind_store_down(self) -> None:
        """It does not answer."""
        self._say("the store does not answer")
        self._world.store.down = True
        self._ends(self._store_up)

    def _store_up(self) -> None:
        self._world.store.down = False

    def kind_store_old(self) -> None:
        """An administrator restores it from a copy of an earlier term, and sees the mistake later.

        Not one of the same term: a store that loses swaps which it has acknowledged in this term is no store, and
        rule 6 does not speak of it.
        """
        store = self._world.store
        old = [record for record in store.history if record.term < store.record.term]
        if store.newest is None and old:
            record = self._random.choice(old[-5:])
            self._say(f"the store is restored from a copy of term {record.term}")
            store.replace(record)
            self._world.at(self._weather.span_ms(), store.put_back)

    def kind_takeover_late(self) -> None:
        """The next takeover is decided, and its host stands still before it is sent; another node takes the term.

        Before it goes on, the store is put back to the copy that it decided on.
        """
        if self._weather.storm:
            self._weather.recorded = self._recorded_late

    def _recorded_late(self, node: Node, _: Swap) -> int:
        self._weather.recorded = lambda _node, _swap: 0
        copy, ttl_ms = self._world.store.record, self._weather.policy.ttl_ms
        still_ms = round(ttl_ms * self._random.uniform(2.5, 6))
        self._say(f"{node.name} stands still between its takeover and the sending")
        node.freeze()
        self._world.at(still_ms, node.thaw)
        self._world.at(still_ms - ttl_ms // 4, self._put_copy, copy)
        return round(ttl_ms * self._random.choice((0.02, 0.1, 0.3)))

    def _put_copy(self, copy: Record) -> None:
        store = self._world.store
        if self._weather.storm and store.newest is None and copy.term < store.record.term:
            self._say(f"the store is restored from the copy of term {copy.term} that stood last")
            store.replace(copy)
            self._world.at(self._weather.span_ms(), store.put_back)

    # ---- databases, disks, services ---------------------------------------------------------------------------

    def kind_database_killed(self) -> None:
        """The server crashes."""
        node = self._data_node()
        self._say(f"database of {node.name} crashes")
        node.kill_database()
        if self._random.random() < 0.2:
            node.database.can_start = False
            self._world.at(self._weather.span_ms(), self._start_database, node)

    def _start_database(self, node: Node) -> None:
        node.database.can_start = True
        if node.powered:
            node.database.start()

    def kind_crash_in_commit(self) -> None:
        """The primary's server, its host, or all data hosts go down while replicas have what no client was told of."""
        primary = self._world.serving()
        if primary is not None:
            gone = self._random.choice((self._crash, self._power_cut, self._all_power_cut))
            primary.database.before_ack = lambda: gone(primary) if self._weather.storm else None

    def _crash(self, node: Node) -> None:
        self._say(f"database of {node.name} crashes in a commit")
        node.kill_database()

    def _all_power_cut(self, _: Node) -> None:
        for node in self._world.data_nodes:
            if node.powered:
                self._power_cut(node)

    def kind_relay_log_gone(self) -> None:
        """A replica is behind, and its server or only its replication is started anew: its relay log is thrown away.

        Most often the primary is what ails: it does not reach the other replica either, or is about to go.
        """
        primary = self._world.serving()
        if primary is None:
            return
        behind, other = self._random.sample([node for node in self._world.data_nodes if node is not primary], 2)
        self._lag(behind)
        if self._random.random() < 0.5:
            self._cut(primary.name, other.name)
        if self._random.random() < 0.5:
            self._world.at(self._weather.span_ms(), self._goes, primary)
        self._world.at(self._weather.span_ms(), self._relay_log_gone, behind)

    def _goes(self, primary: Node) -> None:
        if self._weather.storm and primary.powered:
            self._power_cut(primary)

    def _relay_log_gone(self, node: Node) -> None:
        if not self._weather.storm:
            return
        if self._random.random() < 0.5:
            self._say(f"somebody restarts the replication of {node.name}")
            node.database.restart_replication()
        else:
            self._say(f"database of {node.name} crashes with a relay log")
            node.kill_database()

    def kind_lag(self) -> None:
        """An applier is slow."""
        self._lag(self._data_node())

    def _lag(self, node: Node) -> None:
        database = node.database
        database.apply_ms = self._weather.span_ms()
        self._say(f"{database.name} applies slowly: {database.apply_ms} ms")
        self._ends(setattr, database, "apply_ms", 1)

    def kind_read_only_blocked(self) -> None:
        """SET GLOBAL read_only does not come back."""
        database = self._data_node().database
        self._say(f"read_only of {database.name} does not come back")
        database.read_only_blocked = True
        self._ends(setattr, database, "read_only_blocked", False)

    def kind_disk(self) -> None:
        """A disk hangs, is full, or does not take the audit."""
        node = self._data_node()
        fault = self._random.choice(("disk_hung", "disk_full", "audit_fails"))
        self._say(f"{fault} on {node.name}")
        owner = node if fault == "audit_fails" else node.database
        setattr(owner, fault, True)
        self._ends(setattr, owner, fault, False)

    def kind_service(self) -> None:
        """A mail service dies, cannot be started, or works for nobody."""
        node = self._data_node()
        service = self._random.choice(list(node.services.values()))
        fault = self._random.choice(("dies", "cannot be started", "works for nobody"))
        self._say(f"{service.unit} of {node.name} {fault}")
        service.up = fault == "works for nobody"
        service.can_start = fault != "cannot be started"
        service.broken_for_clients = fault == "works for nobody"
        self._ends(self._mend_service, service)

    @staticmethod
    def _mend_service(service: Any) -> None:
        service.up = service.can_start = True
        service.broken_for_clients = False

    # ---- bad moments ------------------------------------------------------------------------------------------

    def strike(self, node: Node) -> None:
        """Something begins on this node: the moment when it hurts most."""
        if not self._weather.storm or not node.powered:
            return
        match self._random.choice(("power", "kill", "freeze", "deaf", "mute", "kill deaf")):
            case "power":
                self._power_cut(node)
            case "kill":
                self._kill_daemon(node)
            case "freeze":
                self._freeze(node)
            case "deaf":
                self._cut("arbiter", node.name)
            case "kill deaf":
                for other in self._world.nodes:
                    if other is not node:
                        self._cut(other.name, node.name)
                self._kill_daemon(node)
            case _:
                self._cut(node.name, "arbiter")
