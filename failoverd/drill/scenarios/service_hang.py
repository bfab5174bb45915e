"""A mail service of the primary accepts and never answers: all its processes are stopped, none is dead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.drill.model import Fault
from failoverd.drill.scenarios.scenario import Scenario, started
from failoverd.drill.scenarios.service_death import mail_unit

if TYPE_CHECKING:
    from failoverd.config import Config
    from failoverd.drill.model import Cast

LIMIT_S = 1800
# A process that is stopped has T in its state; a unit that was started anew has none.
_NONE_STOPPED = (
    "procs=/sys/fs/cgroup$(systemctl show --property=ControlGroup --value '{unit}')/cgroup.procs; "
    "for pid in $(cat \"$procs\"); do ! grep -q '^State:.T' /proc/$pid/status || exit 1; done"
)


def _fault(config: Config, cast: Cast) -> Fault:
    unit = mail_unit(config)
    return Fault(
        node=cast.target,
        words=f"{unit} on {cast.target} hangs",
        inject=(("systemctl", "kill", "--kill-whom=all", "--signal=SIGSTOP", unit),),
        undo=(("systemctl", "kill", "--kill-whom=all", "--signal=SIGCONT", unit), started(unit)),
        gone=(("systemctl", "is-active", "--quiet", unit), ("sh", "-ec", _NONE_STOPPED.format(unit=unit))),
        limit_s=LIMIT_S,
    )


SCENARIO = Scenario(
    name="service-hang",
    about="a mail service of the primary accepts connections and answers none",
    target="primary",
    moves=None,
    by="fault",
    expects="clients are served again: by a restart of the service, or by the heir",
    fault=_fault,
)
