"""The primary is cut off from everybody: clients, the other nodes, the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.core.model import NodeName
from failoverd.drill.model import Fault
from failoverd.drill.scenarios.scenario import Scenario, cut_off

if TYPE_CHECKING:
    from failoverd.config import Config
    from failoverd.drill.model import Cast

LIMIT_S = 600


def isolated(config: Config, cast: Cast) -> Fault:
    """Cut the target off, but for `drill.management` and the coordinator's own connection to its agent."""
    put, take, gone = cut_off(
        coordinator=config.nodes[NodeName(cast.coordinator)].address,
        port=config.drill.port,
        management=[str(network) for network in config.drill.management or ()],
    )
    return Fault(
        node=cast.target,
        words=f"{cast.target} is cut off from everybody",
        inject=(put,),
        undo=(take,),
        gone=(gone,),
        limit_s=LIMIT_S,
    )


SCENARIO = Scenario(
    name="network-isolation",
    about="the primary is cut off from clients, nodes and store",
    target="primary",
    moves=True,
    by="fault",
    expects="the heir is primary once the lease is over, and the old one serves nobody",
    fault=isolated,
)
