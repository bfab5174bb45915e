"""The arbiter, and with it the store, cannot be reached: nothing may happen, and that has to be shown."""

from failoverd.drill.scenarios.network_isolation import isolated
from failoverd.drill.scenarios.scenario import Scenario

SCENARIO = Scenario(
    name="arbiter-loss",
    about="the node that keeps the store is cut off",
    target="arbiter",
    moves=False,
    by="fault",
    expects="the primary goes on by the promises of all other data nodes, and clients notice nothing",
    fault=isolated,
)
