"""One seed is one schedule: phase one breaks anything and safety is watched, phase two heals and one primary serves.

    adopted ──── storm: troubles, losses, delays, bad moments ────> healed ──── one serves ────> the end
    0            ~10 s                                              600 s - bound - rest         600 s

Phase two heals everything, or leaves one data node without power where what the other two hold proves that they can
do without it. The bound within which exactly one primary must serve, in leases: one for the last renewal to run out,
one for a node that has just started to count its own, one for a successor that does not take a given term, one for a
round of promises, one for a swap that is not answered; beside it the hold-off, and what steps may take that were
under way and hang until their deadlines.

    tests/simulation/run --seeds 1..300 --hours 50        prints what came of it; a failing seed prints its story
"""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sim_bounded import Bounded
from sim_forced import Forced
from sim_judge import Violation
from sim_orders import Orders
from sim_rare import Rare
from sim_troubles import Troubles
from sim_unproven import Unproven
from sim_weather import Weather
from world import World

from failoverd.core.candidates import change_blockers, failover

if TYPE_CHECKING:
    from sim_node import Node

    from failoverd.core.effects import Entry

LASTS_MS = 600_000  # virtual, a seed
STEPS_MS = 45_000
LEASES = 5
SILENT = {"observed"}


@dataclass
class Seed:
    """What came of one seed. `story` is empty unless it is told."""

    number: int
    virtual_ms: int = 0
    terms: int = 0
    failovers: int = 0
    forced: int = 0
    unproven: int = 0
    within: int = 0
    violation: str = ""
    invariant: str = ""
    story: list[str] = field(default_factory=list)


class Simulation:
    """One seed at work."""

    def __init__(self, number: int, *, told: bool = False) -> None:
        self.seed = Seed(number)
        self.weather = Weather(number)
        self._unproven = Unproven(self.weather)
        self._bounded = Bounded(self.weather)
        self._orders = Orders(self.weather)
        policy = self.weather.policy
        self.world = World(self.weather, policy, told=self._told if told else None)
        if told:
            self.world.tell = self._say
        self.weather.set_clocks(self.world)
        self.bound_ms = LEASES * policy.ttl_ms + policy.hold_off_ms + STEPS_MS
        self._healed_at = LASTS_MS - self.bound_ms - 2 * policy.ttl_ms
        self._troubles = Troubles(self.world, self.weather, self._healed_at)
        self._rare = Rare(self.world, self.weather, self._troubles, self._healed_at)
        self._forced = Forced(self.world, self.weather, self._healed_at)
        self._left_out: Node | None = None

    def run(self) -> Seed:
        """Let it happen."""
        world, seed = self.world, self.seed
        world.end = LASTS_MS
        self._say_policy()
        try:
            self._live()
        except Violation as violation:
            seed.invariant, seed.violation = violation.invariant, str(violation)
        except AssertionError as error:
            seed.invariant, seed.violation = "assertion", f"assertion: {error}"
        seed.virtual_ms = world.now
        seed.terms = world.judge.term
        seed.failovers = world.judge.failovers
        seed.forced = world.judge.forced
        seed.unproven = world.judge.unproven
        seed.within = world.judge.within
        return seed

    def _live(self) -> None:
        world = self.world
        world.lay_out()
        for node in world.nodes:
            node.start_daemon()
        if not world.run_until(15_000 * self.weather.scale, lambda: world.judge.term == 1):
            world.judge.violated("liveness", "the running cluster was not adopted")
        world.run_until(world.now + self.weather.policy.ttl_ms)
        self.weather.storm = True
        if not (self._rare.alone or self._unproven.alone or self._bounded.alone):
            self._troubles.begin()
        self._rare.begin()
        if self.weather.policy.store_moves:
            self._move_store()
        self._forced.begin()
        self._unproven.begin(world, self._healed_at)
        self._bounded.begin(world, self._healed_at)
        self._orders.begin(world, self._healed_at)
        world.at(self._healed_at - world.now, self._heal)
        world.run_until(self._healed_at)
        if not world.run_until(self._healed_at + self.bound_ms, self._served):
            world.judge.violated("liveness", f"nobody serves {self.bound_ms} ms after the healing\n{self.state()}")
        self._say("judge", f"{self._serving_name()} serves {world.now - self._healed_at} ms after the healing")
        world.run_until(LASTS_MS)
        if not self._served() and not world.run_until(LASTS_MS + self.bound_ms, self._served):
            world.judge.violated("liveness", f"nobody serves any more\n{self.state()}")
        primary = world.serving()
        if primary is not None:
            world.judge.check_promoted(primary)

    def _move_store(self) -> None:
        """A mail store that moves is to be moved often: an operator asks for it now and then."""
        if self.weather.storm:
            self.weather.ask()
            self.world.at(2 * self.weather.policy.ttl_ms, self._move_store)

    def _heal(self) -> None:
        world = self.world
        self.weather.storm = False
        left_out = self.weather.random.choice([*world.data_nodes, None, None, None])
        if left_out is not None and self._can_do_without(left_out):
            self._left_out = left_out
        self._say(
            "judge", f"everything is healed, without {left_out.name if self._left_out and left_out else 'nobody'}"
        )
        world.heal()
        if self._left_out is not None:
            self._left_out.power_off()
            world.at(self.weather.policy.ttl_ms, self._troubles.confirm, self._left_out)
        self._troubles.resume()

    def _can_do_without(self, left_out: Node) -> bool:
        """Whether the other two have a history that is the holder's: then two of three prove what was acknowledged."""
        store = self.world.store
        holder = (store.newest or store.record).holder
        if (store.newest or store.record).unproven and left_out is self.world.node(str(holder)):
            return False
        held = self.world.node(str(holder)).database
        history = [t.made for t in held.log]
        for node in self.world.data_nodes:
            if node is left_out:
                continue
            database = node.database
            if left_out is self.world.node(str(holder)) and not self._has_caught_up(node):
                return False
            mine = [t.made for t in (*database.log, *database.relay)]
            if history[: len(mine)] != mine or (database is not held and database.source != holder):
                return False
        return True

    @staticmethod
    def _has_caught_up(node: Node) -> bool:
        """Whether it knows, and still will when all is healed, that it has what it acknowledged.

        Of the server as it is now: that it was started since, its daemon may not have seen yet.
        """
        if not node.database.up or node.daemon is None:
            return False
        return node.daemon.state.view.memory.caught_up == node.database.facts().run

    def _served(self) -> bool:
        primary = self.world.serving()
        through = sum(node.kernel.lets_through for node in self.world.data_nodes)
        return primary is not None and through == 1 and not primary.kernel.unenforced

    # ---- telling ----------------------------------------------------------------------------------------------

    def _serving_name(self) -> str:
        primary = self.world.serving()
        return primary.name if primary else "nobody"

    def _say(self, who: str, text: str) -> None:
        self.seed.story.append(f"{self.world.now / 1000:9.3f}  {who:<8} {text}")

    def _say_policy(self) -> None:
        policy, weather = self.weather.policy, self.weather
        rates = ", ".join(f"{node.name} {node.clock.rate / 1e6:.4f}" for node in self.world.nodes)
        self._say("seed", f"ttl {policy.ttl_ms} ms, hold-off {policy.hold_off_ms} ms, fenced {policy.fenced}")
        self._say("seed", f"clock rates: {rates}")
        self._say("seed", f"held up {weather.held_up:.4f}, bad moments {weather.worst_moment:.4f}")

    def _told(self, _now: int, name: str, entry: Entry) -> None:
        if entry.kind not in SILENT:
            self._say(name, f"[{entry.term}] {entry.kind}: {entry.code + ' ' if entry.code else ''}{entry.text}")

    def state(self) -> str:
        """What each node thinks, for a failure's report."""
        return (
            "\n".join(
                f"{n.name}: {n.daemon.state.rule and n.daemon.state.rule.id} term={n.daemon.state.view.highest_term} "
                f"gate={n.kernel.lets_through} read_only={n.database.read_only} up={n.database.up} "
                f"source={n.database.source} log={len(n.database.log)} relay={len(n.database.relay)} "
                f"doing={[s.kind.value for s in n.daemon.state.progress.running]} "
                f"election={failover(n.daemon.state.view)} blockers={change_blockers(n.daemon.state.view)}"
                for n in self.world.nodes
                if n.daemon
            )
            + f"\nstore: {self.world.store.record}"
        )


def simulate(number: int, *, told: bool = False) -> Seed:
    """Run one seed. The same number is the same schedule, told or not."""
    gc.set_threshold(50_000, 20, 50)  # values by the million, few of them in cycles
    return Simulation(number, told=told).run()
