"""A mail service of the primary dies and does not start again: a broken configuration, a bad package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.drill.model import Fault
from failoverd.drill.scenarios.scenario import Scenario, started, unstartable

if TYPE_CHECKING:
    from failoverd.config import Config
    from failoverd.drill.model import Cast

LIMIT_S = 1800


def mail_unit(config: Config) -> str:
    """Return the unit that is hit: IMAP's, or where there is no IMAP, SMTP's."""
    return next(service.unit for service in (config.mail.imap, config.mail.smtp) if service is not None)


def _fault(config: Config, cast: Cast) -> Fault:
    return killed(mail_unit(config), cast.target)


def killed(unit: str, node: str) -> Fault:
    """Kill a unit's processes and let it not start again."""
    put, take = unstartable(unit)
    return Fault(
        node=node,
        words=f"{unit} on {node} is dead and does not start",
        inject=(put, ("systemctl", "kill", "--kill-whom=all", "--signal=SIGKILL", unit)),
        undo=(take, ("systemctl", "reset-failed", unit), started(unit)),
        gone=(("systemctl", "is-active", "--quiet", unit),),
        limit_s=LIMIT_S,
    )


SCENARIO = Scenario(
    name="service-death",
    about="a mail service of the primary is killed and does not start again",
    target="primary",
    moves=True,
    by="fault",
    expects="the heir is primary, by a switchover that loses nothing",
    fault=_fault,
)
