"""Stories: a few commands and what came of them, in one text file each, read in review like prose.

    # The primary loses its power.
    > power-cut mail1
       5.24 mail2     primary-lapsing: prepare
       …

Lines that begin with `>` are commands, with `#` the narrator; all else is written by `pytest --regenerate`. Each story
begins with a running cluster adopted and ends by itself: everything is healed, and within a bound exactly one primary
must serve, with every other data node following it (or fenced, because it holds something extra).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from faults import Faults
from sim_chance import Latencies
from world import POLICY, World

from failoverd.core import candidates, forced, orders, rejoin
from failoverd.core.machine import (
    AcknowledgeAsked,
    Asked,
    Confirmed,
    MaintenanceAsked,
    PauseAsked,
    RejoinAsked,
    ScheduleAsked,
)
from failoverd.core.model import Maintenance, NodeName, Rejoin, Request, Role, Scheduled

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim_node import Node

    from failoverd.core.effects import Entry
    from failoverd.core.machine import Order
    from failoverd.core.model import Rejected
    from failoverd.core.view import View

SETTLE_MS = 60_000
UNTIL_MS = 30_000
THE_END = "# The end: everything is healed."
SILENT = {"observed", "step", "take-over", "give-back"}  # said by what follows


@dataclass
class Story(Faults):
    """One story at work. `seed`: with drawn latencies, so that only its end can be compared."""

    seed: int | None = None
    lines: list[str] = field(default_factory=list)
    rules: set[str] = field(default_factory=set)
    terms: set[int] = field(default_factory=set)
    world: World = field(init=False)
    begun: bool = False

    def __post_init__(self) -> None:
        """Make the world."""
        self.world = World(Latencies(self.seed) if self.seed is not None else None, told=self._told)
        self.world.tell = self.say
        self.commands: dict[str, Callable[..., None]] = {
            name[3:].replace("_", "-"): getattr(self, name) for name in dir(self) if name.startswith("do_")
        }

    def tell(self, text: str) -> str:
        """Run the commands in `text` and return it with what came of them."""
        commands = [line for line in text.splitlines() if line.startswith(("#", ">")) and line != THE_END]
        for line in commands:
            if line.startswith("#"):
                self.lines += ["", line] if self.lines and not self.lines[-1].startswith("#") else [line]
                continue
            name, *arguments = line[1:].split()
            if not self.begun and name not in ("policy", "fresh"):
                self.do_begin()
            self.lines.append(line)
            self.commands[name](*arguments)
        self.lines += ["", THE_END]
        self._settle()
        return "\n".join(self.lines) + "\n"

    # ---- telling ----------------------------------------------------------------------------------------------

    def say(self, who: str, text: str) -> None:
        """One line."""
        self.lines.append(f"  {self.world.now / 1000:7.2f}  {who:<8} {text}")

    def _told(self, _now: int, name: str, entry: Entry) -> None:
        match entry.kind:
            case "decision":
                self.rules.add(entry.rule)
                if self.begun:
                    self.say(name, f"{entry.rule}: {entry.text.split(':')[0]}")
            case "term":
                if entry.term not in self.terms and self.begun:
                    detail = dict(entry.detail)
                    self.say("-", f"TERM {entry.term}: {entry.text.split()[0]}, by {detail['reason']}")
                self.terms.add(entry.term)
            case "step-ended" if entry.text.endswith("succeeded"):
                pass
            case kind if kind not in SILENT and self.begun:
                self.say(name, f"{kind}: {entry.code + ' ' if entry.code else ''}{entry.text}")
            case _:
                pass

    # ---- beginning and end ------------------------------------------------------------------------------------

    def do_begin(self) -> None:
        """Adopt the running cluster, silently, and let it run for three seconds."""
        self.world.lay_out()
        for node in self.world.nodes:
            node.start_daemon()
        self.world.run_until(3000)
        assert self.primaries() == ["mail1"], f"adopted: {self.primaries()}"
        self.begun = True

    def do_fresh(self) -> None:
        """Begin before failoverd has ever run."""
        self.begun = True
        self.world.lay_out()
        for node in self.world.nodes:
            node.start_daemon()

    def primaries(self) -> list[str]:
        """Who takes itself for the primary, and serves."""
        serving = self.world.serving()
        return [serving.name] if serving is not None and not serving.kernel.unenforced else []

    def healthy(self) -> bool:
        """One primary that clients can use, and every other data node in its place."""
        primary = self.world.serving()
        if primary is None or primary.kernel.unenforced:
            return False
        others = [node for node in self.world.data_nodes if node is not primary]
        if self.world.clients.silent_ms() > 200 and not all(self._rejoins(node) for node in others):
            return False  # where nobody is there to acknowledge, writes wait
        return all(self._in_place(node, primary) for node in others)

    def _in_place(self, node: Node, primary: Node) -> bool:
        if node.daemon is None or node.kernel.lets_through or not node.database.read_only:
            return False
        if self._rejoins(node):
            return True
        return node.database.source == primary.name and node.database.stream is not None and not node.database.relay

    @staticmethod
    def _rejoins(node: Node) -> bool:
        rule = node.daemon.state.rule if node.daemon is not None else None
        return rule is not None and rule.id == "needs-rejoin"

    def _settle(self) -> None:
        self.world.heal()
        reached = self.world.run_until(self.world.now + SETTLE_MS, self.healthy)
        self.world.run_until(self.world.now + 1000)  # long enough for a switchover under way
        reached = reached and self.world.run_until(self.world.now + SETTLE_MS, self.healthy)
        assert reached, "not healed:\n" + "\n".join(self.lines[-60:]) + "\n" + self.state()
        primary = self.world.serving()
        assert primary is not None
        self.world.judge.check_promoted(primary)
        self.lines.append("")
        for node in self.world.nodes:
            if node.daemon is not None:
                report = node.daemon.state
                rule = report.rule.id if report.rule else ""
                self.lines.append(f"  {node.name:<8} term {report.view.highest_term}  {rule}")
        given_up = self.world.judge.given_up.difference(t.made for t in primary.database.log)
        lost = f"{len(given_up)}, given up by anna" if self.world.judge.forced else "0"
        if self.world.judge.within:
            lost = f"{len(given_up)}, within the bound"
        longest = max((outage.lasted for outage in self.world.clients.outages), default=0)
        self.lines.append(f"  clients  longest outage {longest / 1000:.2f} s, acknowledged writes lost: {lost}")

    def state(self) -> str:
        """What each node thinks, for a failure's report."""
        return "\n".join(
            f"{n.name}: {n.daemon.state.rule and n.daemon.state.rule.id} gate={n.kernel.lets_through} "
            f"read_only={n.database.read_only} source={n.database.source} log={len(n.database.log)} "
            f"election={candidates.failover(n.daemon.state.view)} "
            f"blockers={candidates.change_blockers(n.daemon.state.view)}"
            for n in self.world.nodes
            if n.daemon
        )

    # ---- time -------------------------------------------------------------------------------------------------

    def do_wait(self, seconds: str) -> None:
        """`wait 3s`."""
        self.world.run_until(self.world.now + round(float(seconds.removesuffix("s")) * 1000))

    def do_until(self, what: str, who: str) -> None:
        """`until primary mail2`, `until RULE NODE`, `until STEP NODE` (a step that runs): at most 30 s."""
        begun = max(self.world.judge.holders)

        def reached() -> bool:
            if what == "primary":
                other = self.seed is not None and max(self.world.judge.holders) > begun and self.primaries() != []
                return other or self.primaries() == [who]
            daemon = self.world.node(who).daemon
            if daemon is None:
                return False
            running = {step.kind.value for step in daemon.state.progress.running}
            return what in running or (daemon.state.rule is not None and daemon.state.rule.id == what)

        assert self.world.run_until(self.world.now + UNTIL_MS, reached), f"never: {what} {who}\n{self.state()}"

    def do_until_served(self) -> None:
        """Until some node serves as the primary, and clients see it."""
        reached = self.world.run_until(self.world.now + UNTIL_MS, lambda: bool(self.primaries()))
        assert reached, f"nobody serves\n{self.state()}"

    def do_policy(self, *settings: str) -> None:
        """`policy window_ms=20000 fenced=mail1,mail2`: before the beginning, or for whoever is started again."""
        found: dict[str, object] = {}
        for key, _, value in (setting.partition("=") for setting in settings):
            found[key] = tuple(value.split(",")) if key == "fenced" else None if value == "none" else int(value)
        for node in self.world.nodes:
            node.policy = replace(POLICY, **found)  # type: ignore[arg-type] # by name

    # ---- operators --------------------------------------------------------------------------------------------

    def do_promote(self, target: str, at: str = "arbiter") -> None:
        """`promote mail2`: what failoverctl on the arbiter (or another node) would do."""
        daemon = self.world.node(at).daemon
        if daemon is None:
            self.say("operator", "failoverd does not run there")
            return
        refused = candidates.planned_rejection(daemon.state.view, target)
        if refused is not None:
            self.say("operator", f"refused: {refused.code}: {refused.reason}")
            return
        term = daemon.state.view.highest_term
        request = Request(f"r{self.world.now}", NodeName(target), "anna", "maintenance", term)
        daemon.feed(Asked(request))

    def do_force(self, target: str, at: str = "arbiter") -> None:
        """`force mail2`: promote --force --allow-data-loss --reason "they are gone"."""
        daemon = self.world.node(at).daemon
        assert daemon is not None
        view = daemon.state.view.at(daemon.node.clock.now_ms())
        refused = forced.rejections(view, target)
        for why in refused:
            self.say("operator", f"refused: {why.code}: {why.reason}")
        if refused:
            return
        for why in forced.passed(view, target):
            self.say("operator", f"goes past {why.code}: {why.reason}")
        for lost in forced.may_be_lost(view, target):
            self.say("operator", f"gives up {lost}")
        term = view.highest_term
        daemon.feed(
            Asked(Request(f"r{self.world.now}", NodeName(target), "anna", "they are gone", term, allow_loss=True))
        )

    def do_rejoin(self, name: str, donor: str = "", at: str = "arbiter") -> None:
        """`rejoin mail1`: what failoverctl there would ask for."""
        daemon = self.world.node(at).daemon
        assert daemon is not None
        view = daemon.state.view.at(daemon.node.clock.now_ms())
        refused = rejoin.rejections(view, name, donor)
        for why in refused:
            self.say("operator", f"refused: {why.code}: {why.reason}")
        if not refused:
            given = NodeName(donor) if donor else rejoin.donor_for(view, NodeName(name))
            assert given is not None
            daemon.feed(RejoinAsked(Rejoin(f"r{self.world.now}", NodeName(name), given, "anna", view.highest_term)))

    def do_pause(self, at: str = "arbiter") -> None:
        """`pause`: nothing acts by itself any more."""
        self._pause(at, "anna: maintenance")

    def do_resume(self, at: str = "arbiter") -> None:
        """It does again."""
        self._pause(at, "")

    def do_pause_for(self, seconds: str, at: str = "arbiter") -> None:
        """`pause-for 5s`: and it does again then."""
        self._order(at, lambda view: (PauseAsked("anna: maintenance", "anna", _after(view, seconds)), None))

    def _pause(self, at: str, paused: str) -> None:
        self._order(at, lambda _view: (PauseAsked(paused, "anna"), None))

    def do_maintenance(self, name: str, switch: str, seconds: str = "", at: str = "arbiter") -> None:
        """`maintenance mail3 on 5s`, or `on` until `off`."""
        node = NodeName(name)

        def made(view: View) -> tuple[Order, Rejected | None]:
            until_ms = _after(view, seconds) if seconds else 0
            wanted = Maintenance(node, "anna", "a disk", until_ms) if switch == "on" else None
            return MaintenanceAsked(node, "anna", wanted), orders.maintenance_rejection(view, name, wanted)

        self._order(at, made)

    def do_acknowledge(self, at: str = "arbiter") -> None:
        """`acknowledge`: the changes of primary up to now do not count any more."""

        def made(view: View) -> tuple[Order, Rejected | None]:
            assert view.record is not None
            return AcknowledgeAsked(view.record.term, "anna", "a bad cable"), orders.acknowledge_rejection(view)

        self._order(at, made)

    def do_schedule(self, target: str, seconds: str, at: str = "arbiter") -> None:
        """`schedule mail2 5s`: what promote --at would do."""

        def made(view: View) -> tuple[Order, Rejected | None]:
            wanted = Scheduled("s1", NodeName(target), "anna", "a kernel", view.highest_term, _after(view, seconds))
            return ScheduleAsked("anna", wanted), orders.schedule_rejection(view, target)

        self._order(at, made)

    def do_cancel(self, at: str = "arbiter") -> None:
        """`cancel`: not after all."""
        self._order(at, lambda view: (ScheduleAsked("anna", None, "s1"), orders.cancel_rejection(view)))

    def do_set_clock(self, name: str, seconds: str) -> None:
        """`set-clock mail1 3600s`: somebody sets its wall clock forward."""
        self.world.node(name).set_wall(round(float(seconds.removesuffix("s")) * 1000))

    def _order(self, at: str, made: Callable[[View], tuple[Order, Rejected | None]]) -> None:
        daemon = self.world.node(at).daemon
        assert daemon is not None
        view = daemon.state.view.at(daemon.node.clock.now_ms())
        order, why = made(view)
        refused = orders.store_rejection(view) or why
        if refused is not None:
            self.say("operator", f"refused: {refused.code}: {refused.reason}")
            return
        daemon.feed(order)

    def do_confirm_fenced(self, name: str, at: str = "arbiter") -> None:
        """`confirm-fenced mail1`: an operator has looked, it has no power."""
        daemon = self.world.node(at).daemon
        assert daemon is not None
        view = daemon.state.view.at(daemon.node.clock.now_ms())
        refused = candidates.confirm_rejection(view, name)
        if refused is not None:
            self.say("operator", f"refused: {refused.code}: {refused.reason}")
            return
        daemon.feed(Confirmed(NodeName(name), view.highest_term, "anna", "I have looked"))

    def do_status(self) -> None:
        """Each node's role and rule, as `failoverctl status` has them."""
        for node in self.world.nodes:
            state = node.daemon.state if node.daemon else None
            self.say(node.name, f"{Role.FENCED.value if state is None else state.rule and state.rule.id}")


def _after(view: View, seconds: str) -> int:
    """So long from now, by the wall clock of whoever is asked."""
    now_ms = view.wall_ms()
    assert now_ms is not None
    return now_ms + round(float(seconds.removesuffix("s")) * 1000)
