"""Performs the machine's steps on a simulated node, each with a small latency, and always answers.

What a step does happens at its end, whether or not its daemon still lives: SQL that was sent is not called back. An
answer reaches only the run of the daemon that asked. The gate is production's, on a simulated kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim_kernel import GoneError

from failoverd.actions.gate import KernelGate
from failoverd.core.effects import Beat, Lane, RenewGate, Step, StepKind
from failoverd.core.machine import StepEnded
from failoverd.core.model import NodeName, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim_daemon import Daemon
    from sim_node import Node

    Ready = Callable[[], bool]

POLL_MS = 10
TAKES_MS = {
    StepKind.CLOSE_GATE: 5,
    StepKind.OPEN_GATE: 10,
    StepKind.FREEZE: 30,
    StepKind.BECOME_SOURCE: 30,
    StepKind.MAKE_WRITABLE: 10,
    StepKind.STOP_WAITING: 10,
    StepKind.WRITE_JOURNAL: 5,
    StepKind.MAKE_READ_ONLY: 40,
    StepKind.BREAK_LOCKS: 20,
    StepKind.KILL_DATABASE: 100,
    StepKind.FOLLOW: 60,
    StepKind.RESTART_UNIT: 500,
    StepKind.PROVE: 150,
    StepKind.HAND_ON: 800,
    StepKind.RELEASE: 400,
    StepKind.DRAIN: 5,
    StepKind.START_SERVICES: 300,
    StepKind.STOP_SERVICES: 200,
    StepKind.START_REBUILD: 50,
}
MOUNT_TAKES_MS = {StepKind.TAKE_STORE: 100, StepKind.RELEASE_STORE: 300}  # what is not written yet is written
VIP = "10.89.1.10"
DATABASE_RESTARTS_MS = 1500


class _ThreadClock:
    """The clocks as the gate's thread reads them: it may stand still right after."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def now_ms(self) -> int:
        """CLOCK_BOOTTIME."""
        now_ms = self._node.clock.now_ms()
        self._node.hold_up()
        return now_ms

    def wall_ns(self) -> int:
        """The wall clock."""
        wall_ns = self._node.clock.wall_ns()
        self._node.hold_up()
        return wall_ns


class Executor:
    """One run of the daemon's executor."""

    def __init__(self, node: Node, daemon: Daemon) -> None:
        self._node = node
        self._world = node.world
        self._daemon = daemon
        self._running: dict[int, Step] = {}
        self._until_ms = 0
        self._term = 0
        self._beating = False
        self._opened = False  # by this run, and not closed since
        self._renewing = False
        if node.is_data:
            clock = _ThreadClock(node)
            self._gate = KernelGate(
                interface="wire0",
                vip=VIP,
                prefix=24,
                own_address=node.member.address,
                cluster_addresses=[member.address for member in self._world.members],
                ports=[25, 143],
                clock=clock,
                ruleset=node.kernel,
                held_address=node.kernel,
                wall_ns=clock.wall_ns,
            )
            self._gate.install()

    # ---- what the machine asks for ----------------------------------------------------------------------------

    def perform(self, step: Step, until_ms: int) -> None:
        """Start a step; `until_ms` is the lease's deadline, for a gate that opens."""
        if step.term < self._term:
            self._deliver(StepEnded(step, Outcome.FAILED, "STEP_OF_OLD_TERM", f"term {step.term} is over"))
            return
        self._term, self._until_ms = step.term, until_ms
        self._running[step.number] = step
        self._world.at(step.deadline_ms, self._late, step)
        closings = self._gate.closings if step.lane is Lane.KERNEL else 0
        self._node.when_running(self._world.chance.latency(TAKES_MS.get(step.kind, 5)), self._begin, step, closings)
        self._world.chance.step_begins(self._node, step)

    def cancel(self, step: Step) -> None:
        """SQL is cut off, an agent ended; what the kernel or systemd was told, it does."""
        if step.lane in (Lane.DATABASE, Lane.FENCE, Lane.QUEUE, Lane.MOUNT, Lane.SERVICES):
            self._end(step, Outcome.UNKNOWN, "STEP_CANCELLED", "no longer needed")

    def renew_gate(self, effect: RenewGate) -> None:
        """Move the open gate's bound. The newest wins."""
        self._until_ms = max(self._until_ms, effect.until_ms)
        if not self._renewing:
            self._renewing = True
            self._node.when_running(1, self._renew, effect, self._gate.closings)

    def beat(self, effect: Beat) -> None:
        """Write the heartbeat row, unless the last one still waits."""
        if self._beating:
            return
        self._beating = True
        self._world.at(self._node.policy.heartbeat_ms, self._beaten, False)
        self._node.database.commit(self._beaten, heartbeat=(effect.term, effect.beat))

    def _beaten(self, _: bool) -> None:
        self._beating = False

    # ---- steps ------------------------------------------------------------------------------------------------

    def _deliver(self, event: StepEnded) -> None:
        self._daemon.feed(event)

    def _late(self, step: Step) -> None:
        self._end(step, Outcome.UNKNOWN, "STEP_TIMEOUT", f"not ended within {step.deadline_ms} ms")

    def _end(self, step: Step, outcome: Outcome, code: str = "", reason: str = "") -> None:
        if self._running.pop(step.number, None) is None:
            return
        database = self._node.database
        readable = step.lane is Lane.DATABASE and database.answers and outcome is Outcome.SUCCEEDED
        self._deliver(StepEnded(step, outcome, code, reason, database.facts() if readable else None))

    def _begin(self, step: Step, closings: int) -> None:  # noqa: C901 - one case a lane
        if step.number not in self._running and step.lane is not Lane.KERNEL:
            return  # cancelled, or late: the socket is shut
        match step.lane:
            case Lane.KERNEL:
                self._kernel(step, closings)
            case Lane.UNITS:
                self._units(step)
            case Lane.STORE:
                self._end(step, Outcome.SUCCEEDED)
            case Lane.FENCE:
                self._fence(step)
            case Lane.DRAIN | Lane.QUEUE:
                self._mail(step)
            case Lane.MOUNT:
                self._mount(step)
            case Lane.SERVICES:
                self._services(step)
            case Lane.DATABASE if not self._node.database.up:
                self._end(step, Outcome.FAILED, "DB_REFUSED", "the server does not answer")
            case Lane.DATABASE:
                self._sql(step)

    def _kernel(self, step: Step, closings: int) -> None:
        self._node.calls += 1
        try:
            if step.kind is StepKind.CLOSE_GATE:
                self._opened = False
                result = self._gate.close()
            else:
                self._opened = True
                result = self._gate.open(until_ms=self._until_ms, announce=False, closings=closings)
        except GoneError:
            return
        finally:
            self._node.call_ended()
        self._end(step, result.outcome, result.code, result.reason)

    def _renew(self, effect: RenewGate, closings: int) -> None:
        self._node.calls += 1
        try:
            if self._opened and effect.term >= self._term:  # closed meanwhile stays closed
                self._gate.open(until_ms=self._until_ms, announce=False, closings=closings)
        except GoneError:
            return
        finally:
            self._node.call_ended()
            self._renewing = False

    def _fence(self, step: Step) -> None:
        target = NodeName(step.target or "")

        def answered(outcome: Outcome, code: str, reason: str) -> None:
            self._end(step, outcome, code, reason)

        self._world.agents.power_off(target, step.deadline_ms, answered)

    def _mail(self, step: Step) -> None:
        """What waits goes to the primary, which delivers it, if it takes it."""
        if step.kind is StepKind.DRAIN:
            self._end(step, Outcome.SUCCEEDED, reason="nothing was being delivered")
            return
        node, to = self._node, self._world.node(str(step.target))
        node.mail_held = step.kind is StepKind.HAND_ON
        if step.kind is StepKind.RELEASE:
            self._end(step, Outcome.SUCCEEDED, reason=f"{node.mail} held, {node.mail} released")
        elif not self._world.network.connected(node, to) or not to.service_works("smtp"):
            self._end(step, Outcome.FAILED, "QUEUE_LEFT", f"{node.mail} held, {node.mail} left; {to.name}: refused")
        else:
            count, node.mail, node.mail_held = node.mail, 0, False
            self._end(step, Outcome.SUCCEEDED, reason=f"{count} held, {count} handed on")

    def _mount(self, step: Step) -> None:
        """What the kernel was told it does, whoever has ended meanwhile."""
        node = self._node
        if node.mount_calls:
            self._end(step, Outcome.UNKNOWN, "STORE_MOUNT_RUNS", "an earlier mount or umount has not ended")
        elif step.kind is StepKind.RELEASE_STORE and node.store_busy and node.mounted:
            self._end(step, Outcome.FAILED, "STORE_BUSY", "/srv/mail is in use by bash[4711]")
        elif step.kind is StepKind.TAKE_STORE and node.store_refused:
            self._end(
                step, Outcome.FAILED, "STORE_HOOK_REFUSED", "/etc/failoverd/mail-store take: exit 2: no path to it"
            )
        elif step.kind is StepKind.TAKE_STORE and not self._daemon.lease_lasts():
            self._end(
                step, Outcome.UNKNOWN, "STORE_LATE", f"the lease of term {step.term} was over before it was taken"
            )
        else:
            node.mount_calls += 1
            node.when_awake(self._world.chance.latency(MOUNT_TAKES_MS[step.kind]), self._mount_ended, step)

    def _mount_ended(self, step: Step) -> None:
        node = self._node
        node.mount_calls -= 1
        node.mounted = step.kind is StepKind.TAKE_STORE
        if not node.mounted:
            self._end(step, Outcome.SUCCEEDED)
            return
        self._world.judge.mounted(node)
        if self._daemon.lease_lasts():
            self._end(step, Outcome.SUCCEEDED)
        else:
            self._end(
                step, Outcome.UNKNOWN, "STORE_LATE", f"the lease of term {step.term} was over before it was taken"
            )

    def _services(self, step: Step) -> None:
        for service in self._node.services.values():
            service.up = service.can_start and step.kind is StepKind.START_SERVICES
        bad = [service.unit for service in self._node.services.values() if not service.up]
        if bad and step.kind is StepKind.START_SERVICES:
            self._end(step, Outcome.FAILED, "UNIT_JOB_FAILED", f"start of {bad[0]}: failed")
        else:
            self._end(step, Outcome.SUCCEEDED)

    def _units(self, step: Step) -> None:
        node = self._node
        match step.kind:
            case StepKind.KILL_DATABASE if node.database.disk_hung:
                self._end(step, Outcome.FAILED, "UNIT_FAILED", "the server waits for its disk and does not die")
            case StepKind.KILL_DATABASE:
                node.database.read_only_blocked = False
                node.kill_database(restart_ms=DATABASE_RESTARTS_MS)
                self._end(step, Outcome.SUCCEEDED)
            case StepKind.START_REBUILD:
                node.rebuild.start(step.request, step.target)
                self._end(step, Outcome.SUCCEEDED)
            case StepKind.RESTART_UNIT:
                if node.restart_unit(step.unit):
                    self._end(step, Outcome.SUCCEEDED)
                else:
                    self._end(step, Outcome.FAILED, "UNIT_FAILED", f"{step.unit} does not start")
            case _:
                bad = [name for name in node.services if not node.service_works(name)]
                if bad or not node.kernel.reachable:
                    self._end(step, Outcome.FAILED, "PROVE_FAILED", f"through the VIP: {', '.join(bad) or 'gate shut'}")
                else:
                    self._end(step, Outcome.SUCCEEDED)

    def _sql(self, step: Step) -> None:  # noqa: C901 - one case a statement
        database = self._node.database
        if database.disk_hung:  # no statement comes back
            self._node.when_running(POLL_MS * 10, self._begin, step, 0)
            return
        match step.kind:
            case StepKind.AWAIT_POSITION:
                wanted = step.position
                self._when(step, lambda: wanted is None or database.facts().position.covers(wanted))
                return
            case StepKind.APPLY:
                self._when(step, lambda: not database.relay)
                return
            case StepKind.AWAIT_REPLICA:
                self._when(step, lambda: bool(self._world.replicas_of(database)))
                return
            case StepKind.WRITE_JOURNAL:
                database.commit(lambda done: self._end(step, Outcome.SUCCEEDED if done else Outcome.FAILED))
                return
            case StepKind.MAKE_READ_ONLY:
                database.kill_clients()
                self._when(step, self._obeys_read_only)
                return
            case StepKind.FREEZE:
                database.freeze()
            case StepKind.BECOME_SOURCE:
                database.become_source()
            case StepKind.STOP_WAITING:
                self._world.judge.stops_waiting(self._node)
                database.stop_waiting()
            case StepKind.MAKE_WRITABLE:
                database.make_writable(step.term)
            case StepKind.FOLLOW:
                database.follow(self._world.name_of(step.address))
            case _:
                raise AssertionError(f"{step.kind} is no step of the database lane")
        self._end(step, Outcome.SUCCEEDED)

    def _obeys_read_only(self) -> bool:
        """SET GLOBAL read_only waits behind commits that wait for an acknowledgement."""
        database = self._node.database
        if database.waiting or database.read_only_blocked:
            return False
        database.read_only = True
        return True

    def _when(self, step: Step, ready: Ready) -> None:
        if step.number not in self._running:
            return
        if not self._node.database.up:
            self._end(step, Outcome.FAILED, "DB_REFUSED", "the server stopped")
        elif ready():
            self._end(step, Outcome.SUCCEEDED)
        else:
            self._node.when_running(POLL_MS, self._when, step, ready)
