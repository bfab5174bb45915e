"""Whoever dies, at whatever step: the cluster ends with one primary by itself, and nothing acknowledged is lost."""

from __future__ import annotations

import pytest
from story import Story

from failoverd.core.plan import PLANS
from failoverd.core.rules import Decision

PROMOTION = [kind.value for kind in PLANS[Decision.SERVE] if kind.value != "restart-unit"]
DEMOTION = ["close-gate", "make-read-only"]


# Without the old primary nobody knows what mail2 acknowledged and forgot where it died before it was one itself: its
# server throws its relay log away (tests/scenarios/replica-restarts-frozen.txt).
@pytest.mark.parametrize(
    ("step", "back"),
    [
        (step, back)
        for step in PROMOTION
        for back in ("mail1", "mail2")
        if step != "apply-relay-log" and (step, back) != ("freeze", "mail2")
    ],
)
def test_the_new_primary_dies_during_its_promotion(step: str, back: str) -> None:
    Story().tell(
        f"> power-cut mail1\n> until {step} mail2\n> power-cut mail2\n> wait 4s\n> power-on {back}\n"
        "> until-served\n> wait 2s\n"
    )


@pytest.mark.parametrize("step", [step for step in PROMOTION if step != "apply-relay-log"])
def test_failoverd_of_the_new_primary_restarts_during_its_promotion(step: str) -> None:
    Story().tell(
        f"> power-cut mail1\n> until {step} mail2\n> restart-failoverd mail2\n> until primary mail2\n> wait 2s\n"
    )


@pytest.mark.parametrize("fault", ["power-cut", "restart-failoverd", "freeze", "unplug", "kill-database"])
@pytest.mark.parametrize("victim", ["mail1", "mail2"])
@pytest.mark.parametrize("rule", ["giving-back mail1", "receive-given mail2", "primary-serves mail2"])
def test_a_fault_during_a_switchover(rule: str, victim: str, fault: str) -> None:
    Story().tell(f"> promote mail2\n> until {rule}\n> {fault} {victim}\n> until-served\n> wait 2s\n")


@pytest.mark.parametrize("at", ["0.02", "0.05", "0.5", "1.3", "2.6"])
@pytest.mark.parametrize("fault", ["store-down", "power-cut arbiter", "power-cut mail3", "freeze arbiter"])
def test_a_second_fault_after_the_power_cut(fault: str, at: str) -> None:
    Story().tell(f"> power-cut mail1\n> wait {at}s\n> {fault}\n> wait 5s\n")
