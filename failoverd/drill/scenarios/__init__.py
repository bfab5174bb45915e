"""What can be practised: one file each. See scenario.py for what one is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.drill.scenarios import (
    arbiter_loss,
    database_crash,
    disk_failure,
    network_isolation,
    primary_crash,
    replication_break,
    service_death,
    service_hang,
    switchover,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from failoverd.drill.scenarios.scenario import Scenario

SCENARIOS: Mapping[str, Scenario] = {
    module.SCENARIO.name: module.SCENARIO
    for module in (
        switchover,
        primary_crash,
        service_death,
        service_hang,
        disk_failure,
        network_isolation,
        replication_break,
        database_crash,
        arbiter_loss,
    )
}
