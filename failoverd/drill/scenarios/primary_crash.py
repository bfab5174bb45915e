"""The primary's power is cut by its fence agent: what a dead machine looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.core.model import NodeName
from failoverd.drill.model import OURSELVES, Fault
from failoverd.drill.scenarios.scenario import Scenario

if TYPE_CHECKING:
    from failoverd.config import Config
    from failoverd.drill.model import Cast, Command

LIMIT_S = 1800  # without its coordinator: by then the machine has power again


def _power(action: str, node: str) -> Command:
    return (OURSELVES, "drill-power", action, node)


def _fault(_config: Config, cast: Cast) -> Fault:
    return Fault(
        node=cast.coordinator,  # whoever has no power cannot give it to itself
        words=f"{cast.target} has no power",
        inject=(_power("off", cast.target),),
        undo=(_power("on", cast.target),),
        gone=(_power("is-on", cast.target),),
        limit_s=LIMIT_S,
    )


def _refuses(config: Config, target: str) -> tuple[str, str] | None:
    if not config.fencing.nodes.get(NodeName(target)):
        return "DRILL_NO_FENCE", f"fencing.nodes has no agent for {target}: its power cannot be cut, nor given back"
    return None


SCENARIO = Scenario(
    name="primary-crash",
    about="the primary loses its power, cut by its fence agent",
    target="primary",
    moves=True,
    by="power",
    expects="the heir is primary once the lease is over or the power is confirmed to be off",
    fault=_fault,
    refuses=_refuses,
)
