"""What operators command of a daemon, and what everybody may see of it: made, and put together.

A part of the assembly: everything is handed to what needs it, and no part looks another one up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from failoverd.actions.units import Units
from failoverd.core.model import NodeKind
from failoverd.runtime import guard, host
from failoverd.runtime.access import Access
from failoverd.runtime.alerting import Alerting
from failoverd.runtime.control import ControlServer
from failoverd.runtime.controller import NodeController
from failoverd.runtime.drilling import Drilling
from failoverd.runtime.logging import hide
from failoverd.runtime.public import PublicServer
from failoverd.runtime.public_shown import Shown
from failoverd.runtime.reloading import Part, Reloader
from failoverd.runtime.remote import RemoteServer
from failoverd.runtime.thresholds import policy_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from failoverd.config import Config
    from failoverd.core.model import Node
    from failoverd.runtime.assembly import Directories
    from failoverd.runtime.beside import Beside
    from failoverd.runtime.clock import BootClock
    from failoverd.runtime.daemon import Daemon
    from failoverd.runtime.helped import Helper
    from failoverd.runtime.history import Historian
    from failoverd.runtime.prober import Prober
    from failoverd.runtime.recording import Recording
    from failoverd.runtime.schedule import Schedule
    from failoverd.runtime.systemd import Notifier
    from failoverd.runtime.trust import Trust
    from failoverd.runtime.witness import Witness


def shown(
    config: Config,
    clock: BootClock,
    daemon: Daemon,
    missing: Missing,
    historian: Historian,
    *,
    witness: Witness,
    trust: Trust,
    reloading: Reloading,
    directories: Directories,
) -> tuple[ControlServer, RemoteServer, PublicServer, Alerting, Drilling, Reloader]:
    """What operators command, and what everybody may see."""
    drilling = Drilling(config, Units(), directories.state, directories.runtime)
    controller = NodeController(
        daemon,
        config,
        clock,
        refused=lambda: (
            *missing.now(),
            *access.refused(),
            *remote.refused(),
            *public.refused(),
            *reloader.refused(),
            *drilling.refused(),
            *witness.refused(),
            *trust.refused(),
        ),
        historian=historian,
        copied=witness.copied,
    )
    alerting = Alerting(config, clock, daemon, controller, trust.outgoing, recorded=witness.recorded)
    shown = Shown(config, clock, daemon, controller, lambda: (alerting.queued, alerting.dropped), trust=trust)
    public = PublicServer(shown, admission=trust.admission("http"))
    parts = (
        Part("beside", reloading.beside),  # before the probes, which ask the helper
        Part("services", reloading.probes),
        Part("alerts", alerting.reload),
        Part("http", lambda new: lambda: public.reload(new)),
        Part("access", lambda new: lambda: control.reload(new.access)),
        Part("peer", trust.prepare),
        Part("drill", drilling.reload),
        Part("requests", lambda new: lambda: controller.reload(new)),
    )
    reloader = Reloader(
        config,
        reloading.path,
        daemon,
        parts=parts,
        policy_of=policy_of,
        begins=reloading.notifier.reloading,
        ends=lambda: reloading.notifier.ready(f"{config.this.name} of {config.cluster}"),
    )
    routes = [
        *alerting.control_routes(),
        *reloader.control_routes(),
        *drilling.control_routes(),
        *witness.control_routes(),
    ]
    access = Access(config.access)
    control = ControlServer(
        missing.directory / "control.sock", controller, routes, access, admission=trust.admission("control")
    )
    remote = RemoteServer(config, control.door, admission=trust.admission("remote"))
    trust.look_at(public.lives)
    trust.look_at(remote.lives)
    return control, remote, public, alerting, drilling, reloader


@dataclass(frozen=True, slots=True)
class Reloading:
    """What another configuration changes beside what is shown: secrets to hide, and the probes."""

    path: Path
    notifier: Notifier
    schedule: Schedule
    prober: Prober
    daemon: Daemon
    others: Beside | None

    def beside(self, _: Config) -> Callable[[], Awaitable[None] | None]:
        """Have guard and helper take the same file."""
        return self.others.reloaded if self.others is not None else lambda: None

    def probes(self, config: Config) -> Callable[[], None]:
        """Make the probes that are new, in a thread. What it returns lets the prober take them."""
        hide(config.secrets)  # before anything of it can be logged
        schedule = self.schedule.reloaded(config)

        def take() -> None:
            self.schedule.take(schedule)
            self.prober.set_schedule(self.schedule.of(self.daemon.state.view.holder))

        return take


class Missing:
    """What keeps this node from all the protection it could have: told at the start, and what guard and audit say."""

    def __init__(
        self,
        at_start: tuple[host.Refused, ...],
        me: Node,
        directory: Path,
        recording: Recording,
        helper: Helper | None,
    ) -> None:
        self._at_start = at_start
        self._helper = helper
        self._guarded = me.kind is NodeKind.DATA
        self.directory = directory
        self._recording = recording

    def now(self) -> tuple[host.Refused, ...]:
        """As of now."""
        missing = (
            guard.missing(self.directory) if self._guarded else None,
            self._helper.missing() if self._helper is not None else None,
        )
        found = (*self._at_start, *self._recording.refused())
        return (*found, *(refused for refused in missing if refused is not None))
