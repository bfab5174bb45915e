"""A drill that should have been is told: by failoverctl check on its node, and by the alerts of the whole cluster."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from test_node_controller import Node, story

from failoverd.actions.units import Units
from failoverd.config import load
from failoverd.config.drill import Drill, DrillSchedule
from failoverd.core.alerts import standing
from failoverd.core.findings import Severity
from failoverd.drill_files import DIRECTORY, LAST
from failoverd.runtime.alerting import look_of
from failoverd.runtime.drilling import Drilling

if TYPE_CHECKING:
    from pathlib import Path

    from failoverd.core.alerts import Look
    from failoverd.runtime.document import CheckDocument


def test_it_is_in_the_check_of_its_node_and_among_the_alerts_that_others_tell(
    config_file: Path, tmp_path: Path
) -> None:
    found: list[tuple[CheckDocument, Look]] = []

    async def tell(node: Node) -> None:
        schedule = DrillSchedule(node="arbiter", scenario="switchover")
        drill = Drill(enabled=True, schedule=schedule)
        config = load(config_file, "arbiter").model_copy(update={"drill": drill})
        (tmp_path / DIRECTORY).mkdir()
        (tmp_path / DIRECTORY / LAST).write_text(json.dumps({"ended": "2020-01-01T01:00:00.000Z"}))
        drilling = Drilling(config, Units(), tmp_path, tmp_path)
        node.controller._refused = drilling.refused
        await drilling.start()
        async with asyncio.timeout(10):
            while not drilling.refused():  # noqa: ASYNC110 - what is waited for is a thread's
                await asyncio.sleep(0.01)
        await drilling.stop()
        status, check = node.controller.status(), node.controller.check()
        found.append((check, look_of(status, check, None, frozenset())))

    story(config_file, tmp_path, tell)
    check, look = found[0]
    (told,) = (finding for finding in check.findings if finding.code == "DRILL_OVERDUE")
    assert (told.node, told.blocks, told.page) == ("arbiter", False, "runbooks/codes/DRILL_OVERDUE.md")
    assert told.reason.startswith("no drill has passed for ")
    assert [alert.code for alert in look.own] == ["DRILL_OVERDUE"], "what only this node can know it tells the others"
    alert = standing(look)[look.own[0].key]
    assert (alert.severity, alert.node) == (Severity.WARNS, "arbiter")
