"""A planned switchover: nothing is broken. What an upgrade of the primary costs clients."""

from failoverd.drill.scenarios.scenario import Scenario

SCENARIO = Scenario(
    name="switchover",
    about="the role is handed to another node, as for an upgrade",
    target="nobody",
    moves=True,
    by="switchover",
    expects="the heir is primary, and nothing acknowledged is lost",
    fault=lambda _config, _cast: None,
)
