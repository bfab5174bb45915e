"""A simulated host: power, clocks, disk, kernel, database, services, and the run of failoverd on it.

Three kinds of standing still: `frozen` is every process of the host, `stopped` only failoverd (kill -STOP), and a call
that the kernel holds up (`hold_up`) is one thread of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sim_clock import Clock
from sim_daemon import Daemon
from sim_database import Database
from sim_kernel import GoneError, Kernel
from sim_rebuild import Rebuild

from failoverd.core.model import NodeKind
from failoverd.runtime.persist import LeaseFile, TermFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from world import World

    from failoverd.core.effects import KeepLease
    from failoverd.core.lease import Held, Memory
    from failoverd.core.machine import Event
    from failoverd.core.model import Node as Member
    from failoverd.core.policy import Policy

    Work = tuple[Callable[..., None], tuple[Any, ...]]

MEMBERSHIP = "digest"
DATABASE_STARTS_MS = 1500
CLOCK_LOOK_MS = 1500  # every 3 s


@dataclass(slots=True)
class Service:
    """A mail service as probes and systemd see it."""

    unit: str
    up: bool = True
    can_start: bool = True
    broken_for_clients: bool = False  # its unit runs, and no client can use it
    slow_ms: int = 0  # how long it lets an observer wait


class Node:
    """One host."""

    def __init__(self, world: World, member: Member, policy: Policy, number: int) -> None:
        self.world = world
        self.member = member
        self.name = member.name
        self.is_data = member.kind is NodeKind.DATA
        self.policy = policy
        self.membership = MEMBERSHIP
        self.powered = True
        self.powered_at = 0
        self.boots = 0
        self.frozen = False
        self.stopped = False
        self.mail: int | None = None  # messages in its queue; None: failoverd is told to leave that alone
        self.mail_held = False
        self.audit_fails = False  # the disk under the audit does not take it
        self.clock = Clock(world, 1000 + 7919 * number)  # no two clocks agree
        self.kernel = Kernel(self)
        self.database = Database(self, server_id=number)
        self.rebuild = Rebuild(self)
        self.services = {name: Service(unit) for name, unit, _ in policy.services}
        self.mounted = False  # the mail store, where it moves with the role
        self.mount_calls = 0  # mount or umount that the kernel has not ended
        self.store_busy = False  # somebody stands in it
        self.told_term = 0  # that its reports speak of, where it is broken
        self.store_refused = False  # its program says that this node cannot have it
        self.unread = False  # its failoverd cannot look at the database, which clients use as before
        self.daemon: Daemon | None = None
        self.runs = 0
        self.calls = 0  # of failoverd into the kernel, under way
        self._wall_due_ms = 0
        self._run_lease: tuple[Held, str] | None = None  # /run/failoverd/lease, and the boot in which it was written
        self._kept_back: list[Work] = []  # while every process stands still
        self._kept_stopped: list[Work] = []  # while failoverd does
        self._directory = world.directory / self.name
        self._directory.mkdir()

    # ---- time -------------------------------------------------------------------------------------------------

    def when_awake(self, delay_ms: int, action: Callable[..., None], *arguments: Any) -> None:
        """Do it after `delay_ms`, or when the host thaws; never when its power is gone by then."""
        self.world.at(delay_ms, self._due, self.boots, action, arguments)

    def _due(self, boot: int, action: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if not self.powered or self.boots != boot:
            return
        if self.frozen:
            self._kept_back.append((action, arguments))
        else:
            action(*arguments)

    def when_running(self, delay_ms: int, action: Callable[..., None], *arguments: Any) -> None:
        """Likewise, of failoverd, which may be stopped."""
        self.world.at(delay_ms, self._due_here, self.boots, action, arguments)

    def _due_here(self, boot: int, action: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if not self.powered or self.boots != boot:
            return
        if self.frozen:
            self._kept_back.append((self.now_or_later, (action, arguments)))
        else:
            self.now_or_later(action, arguments)

    def now_or_later(self, action: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        """Do it, or once failoverd goes on."""
        if self.frozen:
            self._kept_back.append((self.now_or_later, (action, arguments)))
        elif self.stopped:
            self._kept_stopped.append((action, arguments))
        else:
            action(*arguments)

    def hold_up(self) -> None:
        """A call of failoverd into the kernel: the world goes on while it is held up. Raises GoneError."""
        daemon = self.daemon
        held_ms = self.world.chance.hold_up_ms(self) if daemon is not None else 0
        if not held_ms:
            return
        self.world.tell(self.name, f"a call into the kernel is held up for {held_ms} ms")
        until = self.world.now + held_ms
        self.world.run_until(min(until, self.world.end))
        while (self.frozen or self.stopped) and self.world.now < self.world.end:
            self.world.run_until(self.world.now + 1)
        if self.daemon is not daemon or self.world.now >= self.world.end:
            raise GoneError

    def call_ended(self) -> None:
        """A call of failoverd into the kernel came back, or never will."""
        self.calls -= 1
        if not self.calls and self._wall_due_ms:
            due_ms, self._wall_due_ms = self._wall_due_ms, 0
            self.set_wall(due_ms)

    def set_wall(self, by_ms: int) -> None:
        """Somebody sets the wall clock; back only while no thread stands between reading it and using it."""
        if by_ms < 0 and self.calls:
            self._wall_due_ms += by_ms
            return
        self.clock.set_wall(by_ms)
        self.kernel.wall_was_set()
        if self.world.chance.tells_clock and self.daemon is not None:
            self.when_running(CLOCK_LOOK_MS * self.world.chance.scale, self.daemon.look_at_clock)

    # ---- services ---------------------------------------------------------------------------------------------

    def service_works(self, name: str) -> bool:
        """Whether a client inside the host could use it: mail services ask the database."""
        service = self.services[name]
        there = self.mounted or not self.policy.store_moves
        return service.up and not service.broken_for_clients and self.database.answers and there

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
        self.powered = self.frozen = self.stopped = self.mounted = False
        self.mount_calls = 0
        self.daemon = None
        self._kept_back.clear()
        self._kept_stopped.clear()
        self.kernel.reset()
        self.database.stop()
        self.rebuild.end()
        self.database.frozen = False
        self.world.judge.forgot(self)

    def power_on(self) -> None:
        """Boot: the clock starts anew, systemd starts everything."""
        if self.powered:
            return
        self.powered, self.powered_at = True, self.world.now
        self.boots += 1
        self.clock.reboot()
        self.database.start()
        self.rebuild.boot()
        for service in self.services.values():
            service.up = service.can_start and not self.policy.store_moves  # such units are disabled at boot
        self.start_daemon()

    def freeze(self) -> None:
        """Every process stands still; the kernel goes on."""
        if self.powered:
            self.frozen = self.database.frozen = True

    def thaw(self) -> None:
        """They go on where they were, all that was due at once."""
        self.frozen = self.database.frozen = False
        due, self._kept_back = self._kept_back, []
        for action, arguments in due:
            action(*arguments)
        self.database.apply_soon()

    def stop(self) -> None:
        """SIGSTOP to failoverd."""
        self.stopped = self.daemon is not None

    def go_on(self) -> None:
        """SIGCONT."""
        self.stopped = False
        due, self._kept_stopped = self._kept_stopped, []
        for action, arguments in due:
            self.now_or_later(action, arguments)

    def heal(self) -> None:
        """End what is wrong with this host. What its database holds stays as it is."""
        database = self.database
        database.can_start, database.read_only_blocked, database.apply_ms = True, False, 1
        database.disk_hung = database.disk_full = self.audit_fails = False
        self.store_busy = self.store_refused = self.unread = False
        self.told_term = 0
        for service in self.services.values():
            service.can_start = True
            service.up = self.mounted or not self.policy.store_moves
            service.broken_for_clients = False
        if not self.powered:
            self.power_on()
        if self.frozen:
            self.thaw()
        if self.stopped:
            self.go_on()
        if self.membership != MEMBERSHIP:
            self.membership = MEMBERSHIP
            self.kill_daemon()
        database.start()
        self.start_daemon()

    # ---- failoverd --------------------------------------------------------------------------------------------

    @property
    def boot_id(self) -> str:
        """The kernel's name of this boot."""
        return f"boot {self.boots}"

    def start_daemon(self) -> None:
        """Start a new run of failoverd."""
        if self.daemon is None and self.powered:
            self.runs += 1
            self.daemon = Daemon(self, held=self._lease_on_disk(), memory=TermFile(self._directory).memory)
            self.daemon.start()

    def kill_daemon(self) -> None:
        """SIGKILL."""
        self.daemon = None
        self.stopped = False
        self._kept_stopped.clear()

    def remember(self, memory: Memory) -> None:
        """On disk before anything that follows."""
        TermFile(self._directory).keep(memory)

    def keep_lease(self, effect: KeepLease) -> None:
        """For a daemon that is started again. The file is written when somebody is about to read it."""
        self._run_lease = None if effect.held is None else (effect.held, effect.leaving, self.boot_id)

    def _lease_on_disk(self) -> Held | None:
        if self._run_lease is not None:
            held, leaving, boot_id = self._run_lease
            LeaseFile(self._directory, boot_id).write(held, leaving=leaving)
        else:
            LeaseFile(self._directory, self.boot_id).clear()
        held_still = LeaseFile(self._directory, self.boot_id).read()
        return held_still if held_still is not None and held_still.deadline_ms > self.clock.now_ms() else None

    def lease_left_ms(self) -> int:
        """How long this node may take itself for the primary, by its own clock: 0 when it does not."""
        held = self.daemon.state.view.held if self.daemon else None
        if held is None and self.daemon is None and self._run_lease is not None and self._run_lease[2] == self.boot_id:
            held = self._run_lease[0]
        return max(0, held.deadline_ms - self.clock.now_ms()) if held else 0

    def hear(self, event: Event) -> None:
        """Give a message to whatever run of the daemon there is."""
        if self.daemon is not None:
            self.daemon.feed(event)
