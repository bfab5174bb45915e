"""Everything that one seed draws: timings, clock rates, what the network does, and how badly.

*One unit.* A seed has a scale: every timing of the policy, every interval of probes and clients, and every fault is
so many times longer than by default. The safety argument knows ratios only, and a seed of longer leases costs less.

*Swarm.* A seed has its own few kinds of trouble and none of the others. With all kinds in each seed no run would get
far enough for the rare ones.

*Near the timeouts.* Delays and outages are drawn as parts of a lease, mostly close to one of its timeouts, and some
are longer than all of them.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from sim_chance import Chance
from sim_clock import MILLION
from world import POLICY

from failoverd.core.effects import Purpose

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sim_node import Node
    from world import World

    from failoverd.core.effects import Step, Swap
    from failoverd.core.policy import Policy

SCALES = (1, 2, 3, 4, 6, 6, 8, 8, 10, 10)
SPANS = (0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0, 1.0, 1.1, 1.3, 1.7, 2.2, 3.5, 6.0)  # in leases
ON_TIME = ((1,), (1,), (2,), (2,), (2,), (3,), (3,), (5,), (8,), (15,))
AT_HOME = (1,)
FACTORS = (0.5, 0.8, 1, 1, 1.2, 1.5, 2, 5)
ROUNDING = 0.0015  # milliseconds and whole-number rates, as a part of a lease
TIMES = (
    "ttl_ms",
    "renew_ms",
    "margin_ms",
    "demote_budget_ms",
    "heartbeat_ms",
    "max_lag_ms",
    "switchover_lag_ms",
    "report_ms",
    "report_max_age_ms",
    "restart_settle_ms",
    "restart_look_ms",
    "writes_stuck_ms",
)
STORE_SEEDS = 8  # of so many seeds two have a mail store that moves with the role
AGENTS = ("works", "works", "fails", "fails-though-it-worked", "hangs")

REJOIN_SHARE = 0.5  # of the seeds in which a node makes itself anew; drawn apart: all others stay as they were


class Weather(Chance):
    """The chance of one seed. `storm` is on during phase one."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random = Random(seed)  # noqa: S311 - a schedule, no secret
        self._draw = random.random
        self.storm = False
        self.scale = random.choice(SCALES)
        self.writes_ms = 500 * self.scale
        self.pump_ms = 1000 * self.scale
        self.sparse = 4
        self.tells_clock = False  # an event more is another schedule: only where orders need it (sim_orders)
        self.policy = self._policy()
        self.agents = random.choice((AGENTS, ("works",), ("hangs", "works")))
        if self.policy.store_moves:  # where nobody takes over without the fence, one that fails would end the story
            self.agents = ("works",)
        self._network()
        self.slow_step = self._perhaps(0.3, 0.1)  # a step takes up to several leases
        self.slow_store = self._perhaps(0.2, 0.2)
        self.held_up = self._perhaps(0.35, 0.01)  # a call into the kernel
        self.worst_moment = self._perhaps(0.4, 0.2)  # a step begins, or a swap has happened
        self.strike: Callable[[Node], None] = lambda _node: None  # what happens at a bad moment
        self.ask: Callable[[], None] = lambda: None  # an operator moves the role
        self.given_back: Callable[[Node], None] = lambda _node: None  # the store was just told of a term's end
        self.recorded: Callable[[Node, Swap], int] = lambda _node, _swap: 0  # a takeover is decided and not sent yet

    def _perhaps(self, probability: float, most: float) -> float:
        """Nothing, or a probability up to `most`, small ones as often as large ones."""
        return most * 10 ** -self.random.uniform(0, 1.5) if self.random.random() < probability else 0.0

    def _policy(self) -> Policy:
        random, k = self.random, self.scale
        defaults = POLICY
        fenced = ("mail1", "mail2", "mail3") if random.random() < 0.4 else ()
        drawn = replace(
            defaults,
            **{name: getattr(defaults, name) * k for name in TIMES},
            failovers=1000,  # a budget would end most seeds early: flap control has stories of its own
            hold_off_ms=random.choice((0, 1, 3)) * defaults.ttl_ms * k,
            restart_memory_ms=random.choice((5, 200)) * defaults.ttl_ms * k,
            request_ms=random.choice((1, 10)) * defaults.ttl_ms * k,
            fenced=fenced,
            fence_required=bool(fenced) and random.random() < 0.3,
            fence_ms=random.choice((1000, 3000, 10_000)),
            rejoin_automatic=Random(f"rejoin {self.seed}").random() < REJOIN_SHARE,  # noqa: S311 - no secret
        )
        match self.seed % STORE_SEEDS:  # not drawn: all other seeds stay as they were
            case 0:  # for one node at a time: only a fence makes sure
                return replace(drawn, store_moves=True, fenced=("mail1", "mail2", "mail3"), fence_required=True)
            case 1:  # one that several nodes may have mounted at once
                return replace(drawn, store_moves=True)
            case _:
                return drawn

    def _network(self) -> None:
        lost, late, twice = self._perhaps(0.5, 0.3), self._perhaps(0.5, 0.3), self._perhaps(0.3, 0.3)
        self._lost_below = lost
        self._late_below = lost + late
        self._twice_below = lost + late + twice

    # ---- clocks -----------------------------------------------------------------------------------------------

    def set_clocks(self, world: World) -> None:
        """Rates that differ by as much as the margin allows for, and no more."""
        ttl_ms, margin_ms = self.policy.ttl_ms, self.policy.margin_ms
        ratio = ttl_ms / (ttl_ms - margin_ms) - ROUNDING
        most = (ratio - 1) / (ratio + 1)
        rates = self.random.choice(((most, -most), (most, -most), (0.0, most, -most, self.random.uniform(-most, most))))
        for node in world.nodes:
            drift = self.random.choice(rates)
            node.clock.rate = round(MILLION * (1 + drift))

    # ---- durations --------------------------------------------------------------------------------------------

    def span_ms(self) -> int:
        """How long a fault or a delay lasts."""
        part = self.random.choice(SPANS) * self.random.uniform(0.9, 1.1)
        return max(1, round(self.policy.ttl_ms * part))

    def latency(self, base_ms: int) -> int:
        """See Chance."""
        if self.storm and self.slow_step and self._draw() < self.slow_step:
            return base_ms + self.span_ms()
        return max(1, round(base_ms * FACTORS[int(self._draw() * 8)]))

    def deliveries(self, *, local: bool) -> Sequence[int]:
        """See Chance."""
        if local:
            return AT_HOME
        drawn = self._draw()
        if not self.storm or drawn >= self._twice_below:
            return ON_TIME[int(self._draw() * 10)]
        if drawn < self._lost_below:
            return ()
        if drawn < self._late_below:
            return (self.span_ms(),)
        return (ON_TIME[int(self._draw() * 10)][0], self.span_ms())

    def store_takes_ms(self) -> int:
        """See Chance."""
        if self.storm and self.slow_store and self._draw() < self.slow_store:
            return self.span_ms()
        return 0

    def hold_up_ms(self, node: Node) -> int:
        """See Chance. Sometimes it is not one thread that stands still but all of failoverd, or the whole host."""
        if not self.storm or not self.held_up or self._draw() >= self.held_up:
            return 0
        held_ms = self.span_ms()
        what = self.random.choice(("thread", "process", "host"))
        alone = what == "thread"  # the rest of the daemon could hand the role over meanwhile
        if self.random.random() < (0.8 if alone else 0.3):
            node.world.at(self.random.randrange(1, held_ms // (3 if alone else 1) + 2), self.ask)
        match what:
            case "process" if not node.stopped:
                node.stop()
                node.world.at(held_ms, node.go_on)
            case "host" if not node.frozen:
                node.freeze()
                node.world.at(held_ms, node.thaw)
            case _:
                pass
        return held_ms

    # ---- bad moments ------------------------------------------------------------------------------------------

    def takeover_recorded(self, node: Node, swap: Swap) -> int:
        """See Chance."""
        return self.recorded(node, swap) if self.storm else 0

    def power_was_cut(self, node: Node) -> None:
        """See Chance. An operator finds the host off, and switches it on."""
        after_ms = self.span_ms() if self.storm else self.policy.ttl_ms
        node.world.at(after_ms, node.power_on)

    def step_begins(self, node: Node, step: Step) -> None:  # noqa: ARG002 - any step is a bad moment
        """See Chance."""
        if self.storm and self.worst_moment and self._draw() < self.worst_moment:
            node.world.at(int(self._draw() * 60), self.strike, node)

    def swap_happened(self, caller: Node, swap: Swap) -> None:
        """See Chance."""
        if self.storm and swap.purpose is Purpose.GIVE_BACK:
            self.given_back(caller)
        if swap.purpose is Purpose.RENEW or not self.storm or not self.worst_moment:
            return
        if self._draw() < self.worst_moment:
            caller.world.at(0, self.strike, caller)
