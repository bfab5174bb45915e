"""One replica receives nothing from the primary any more, and everything else of it works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.core.model import NodeName
from failoverd.drill.model import Fault
from failoverd.drill.scenarios.scenario import TABLE, Scenario

if TYPE_CHECKING:
    from failoverd.config import Config
    from failoverd.drill.model import Cast

LIMIT_S = 600


def _fault(config: Config, cast: Cast) -> Fault:
    others = [config.nodes[NodeName(name)].address for name in cast.data_nodes if name != cast.target]
    from_others = [f"ip saddr {address} tcp sport {config.database.port} drop" for address in others]
    to_others = [f"ip daddr {address} tcp dport {config.database.port} drop" for address in others]
    return Fault(
        node=cast.target,
        words=f"{cast.target} receives nothing from the primary's database",
        inject=(TABLE.put(from_others, to_others),),
        undo=(TABLE.take,),
        gone=(TABLE.gone,),
        limit_s=LIMIT_S,
    )


SCENARIO = Scenario(
    name="replication-break",
    about="a replica receives nothing from the primary",
    target="replica",
    moves=False,
    by="fault",
    expects="the primary goes on with the other replica, and this one is named and catches up by itself",
    fault=_fault,
)
