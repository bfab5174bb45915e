"""A simulated host: power, clock, disk, kernel gate, database, services, and the run of failoverd on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sim_database import Database
from sim_executor import DATABASE_STARTS_MS, Executor
from sim_gate import Gate, Service
from sim_probes import Probes

from failoverd.core import machine
from failoverd.core.effects import (
    Beat,
    Cancel,
    Effect,
    KeepLease,
    KeepTerm,
    Perform,
    Push,
    RenewGate,
    Swap,
)
from failoverd.core.health import Sendings
from failoverd.core.machine import Event, Reported, State, StoreSeen, Swapped, Ticked
from failoverd.core.model import NodeKind, Outcome
from failoverd.core.view import View

if TYPE_CHECKING:
    from collections.abc import Callable

    from world import World

    from failoverd.core.lease import Held
    from failoverd.core.model import Node as Member
    from failoverd.core.model import Record
    from failoverd.core.policy import Policy

MEMBERSHIP = "digest"
AUDIT_MS = 2  # a record is on disk before its effects begin
STORE_TIMEOUT_MS = 500
STORE_ASK_MS = 650  # a watch that tells nothing for so long is asked about


@dataclass(eq=False)
class Node:
    """One host. What `disk_…` says survives its power, what `run_…` says a restart of the daemon only."""

    world: World
    member: Member
    policy: Policy
    number: int
    membership: str = MEMBERSHIP
    powered: bool = True
    frozen: bool = False
    clock_offset: int = 0
    disk_term: int = 0
    run_lease: Held | None = None
    daemon: Daemon | None = None
    runs: int = 0
    kept_back: list[Callable[[], None]] = field(default_factory=list)  # while every process stands still

    def __post_init__(self) -> None:
        """Put its parts together."""
        self.name = self.member.name
        self.clock_offset = 1000 + 7919 * self.number  # no two clocks agree
        self.database = Database(self.world, self.name, server_id=self.number)
        self.gate = Gate(self.now_ms)
        self.services = {name: Service(unit) for name, unit, _ in self.policy.services}

    @property
    def is_data(self) -> bool:
        """Whether it holds mail."""
        return self.member.kind is NodeKind.DATA

    def now_ms(self) -> int:
        """Its own CLOCK_BOOTTIME."""
        return self.world.now + self.clock_offset

    def when_awake(self, delay_ms: int, action: Callable[..., None], *arguments: Any) -> None:
        """Do it after `delay_ms`, or when the host thaws; never when its power is gone by then."""
        boot = self.clock_offset

        def due() -> None:
            if not self.powered or self.clock_offset != boot:
                return
            if self.frozen:
                self.kept_back.append(due)
            else:
                action(*arguments)

        self.world.at(delay_ms, due)

    # ---- services ---------------------------------------------------------------------------------------------

    def service_works(self, name: str) -> bool:
        """Whether a client inside the host could use it: mail services ask the database."""
        service = self.services[name]
        return service.up and not service.broken_for_clients and self.database.up

    def unit_runs(self, unit: str) -> bool:
        """What systemd says."""
        if unit == self.policy.database_unit:
            return self.database.up
        return any(service.up for service in self.services.values() if service.unit == unit)

    def restart_unit(self, unit: str) -> bool:
        """Restart and wait for the job; False when it fails."""
        if unit == self.policy.database_unit:
            self.database.stop()
            self.database.start()
            return self.database.up
        for service in self.services.values():
            if service.unit == unit:
                service.up = service.can_start
        return self.unit_runs(unit)

    def kill_database(self, restart_ms: int = DATABASE_STARTS_MS) -> None:
        """The server process dies; systemd starts it again."""
        self.database.stop()
        self.when_awake(restart_ms, self.database.start)

    # ---- power ------------------------------------------------------------------------------------------------

    def power_off(self) -> None:
        """Everything stops at once; disks stay as they are."""
        self.powered, self.frozen, self.daemon, self.run_lease = False, False, None, None
        self.kept_back.clear()
        self.gate.close()
        self.database.stop()
        self.database.frozen = False

    def power_on(self) -> None:
        """Boot: the clock starts anew, systemd starts everything."""
        if self.powered:
            return
        self.powered = True
        self.clock_offset = 1000 - self.world.now
        self.database.start()
        for service in self.services.values():
            service.up = service.can_start
        self.start_daemon()

    def freeze(self) -> None:
        """Every process stands still; the kernel goes on."""
        self.frozen = self.database.frozen = True

    def thaw(self) -> None:
        """They go on where they were, all that was due at once."""
        self.frozen = self.database.frozen = False
        due, self.kept_back = self.kept_back, []
        for action in due:
            action()
        self.database.apply_soon()

    def heal(self) -> None:
        """End what is wrong with this host. What its database holds stays as it is."""
        self.database.can_start, self.database.read_only_blocked, self.database.apply_ms = True, False, 1
        for service in self.services.values():
            service.up = service.can_start = True
            service.broken_for_clients = False
        if not self.powered:
            self.power_on()
        if self.frozen:
            self.thaw()
        if self.membership != MEMBERSHIP:
            self.membership = MEMBERSHIP
            self.kill_daemon()
        self.database.start()
        self.start_daemon()

    def start_daemon(self) -> None:
        """Start a new run of failoverd."""
        if self.daemon is None and self.powered:
            self.runs += 1
            self.daemon = Daemon(self)
            self.daemon.start()

    def kill_daemon(self) -> None:
        """SIGKILL."""
        self.daemon = None

    def hear(self, event: Event) -> None:
        """Give a message to whatever run of the daemon there is."""
        if self.daemon is not None:
            self.daemon.feed(event)


class Daemon:
    """One run of failoverd on a node: feeds events to the production machine and performs its effects."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.world = node.world
        self.executor = Executor(node, self.feed)
        held = node.run_lease
        view = View(
            me=node.member,
            nodes=self.world.members,
            policy=node.policy,
            membership=node.membership,
            now_ms=node.now_ms(),
            sendings=Sendings(f"{node.name}#{node.runs}"),
            highest_term=node.disk_term,
            held=held if held is not None and held.deadline_ms > node.now_ms() else None,
        )
        self.state = State(view=view, software="0.1.0")
        self._wake = 0

    def start(self) -> None:
        """Begin to look, and take the first step."""
        Probes(self).start()
        self.node.when_awake(AUDIT_MS, self._read_store)
        self.feed(Ticked())

    @property
    def lives(self) -> bool:
        """Whether this is the run that its host has now."""
        return self.node.daemon is self

    def feed(self, event: Event) -> None:
        """Step the machine. A frozen host's events wait for the thaw."""
        if not self.lives:
            return
        if self.node.frozen:
            self.node.kept_back.append(lambda: self.feed(event))
            return
        reaction = machine.step(self.state, event, self.node.now_ms())
        self.state = reaction.state
        for entry in reaction.entries:
            self.world.told(self.node.name, entry)
        for effect in reaction.effects:
            self._begin(effect)
        self._wake += 1
        wait_ms = max(1, machine.next_wake_ms(self.state) - self.node.now_ms())
        self.world.at(wait_ms, self._tick, self._wake)

    def _tick(self, wake: int) -> None:
        if wake == self._wake:
            self.feed(Ticked())

    def _begin(self, effect: Effect) -> None:
        match effect:
            case KeepTerm(term):
                self.node.disk_term = max(self.node.disk_term, term)
            case KeepLease(held):
                self.node.run_lease = held
            case _:
                self.node.when_awake(AUDIT_MS, self._perform, effect)

    def _perform(self, effect: Effect) -> None:
        if not self.lives:
            return
        match effect:
            case Swap():
                self._swap(effect)
            case Perform(step):
                held = self.state.view.valid
                self.executor.perform(step, held.deadline_ms if held else 0)
            case Cancel(step):
                self.executor.cancel(step)
            case RenewGate():
                self.executor.renew_gate(effect)
            case Beat():
                self.executor.beat(effect)
            case Push(report):
                for other in self.world.members:
                    if other.name != self.node.name:
                        self.world.send(self.node.name, other.name, self.world.node(other.name).hear, Reported(report))
            case _:
                raise AssertionError(f"{effect} is kept at once")

    # ---- the store --------------------------------------------------------------------------------------------

    def _swap(self, swap: Swap) -> None:
        def answered(won: bool | None, record: Record | None) -> None:
            outcome = Outcome.UNKNOWN if won is None else Outcome.SUCCEEDED if won else Outcome.FAILED
            self.feed(Swapped(swap, outcome, record))

        self.world.store.swap(self.node.name, swap.expected_version, swap.record, answered)

    def _read_store(self) -> None:
        if not self.lives:
            return

        def answered(record: Record | None) -> None:
            if record is not None:
                self.feed(StoreSeen(record))

        heard = self.state.view.store_heard_ms
        if heard is None or self.node.now_ms() - heard >= STORE_ASK_MS:
            self.world.store.read(self.node.name, answered)
        self.node.when_awake(STORE_ASK_MS // 2, self._read_store)
