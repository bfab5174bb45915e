"""The primary's database server is killed and does not start again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.drill.scenarios.scenario import Scenario
from failoverd.drill.scenarios.service_death import killed

if TYPE_CHECKING:
    from failoverd.config import Config
    from failoverd.drill.model import Cast, Fault


def _fault(config: Config, cast: Cast) -> Fault:
    return killed(config.database.unit, cast.target)


SCENARIO = Scenario(
    name="database-crash",
    about="the primary's database is killed and does not start again",
    target="primary",
    moves=True,
    by="fault",
    expects="the heir is primary with every commit that was acknowledged",
    fault=_fault,
)
