"""Whoever dies, at whatever step: the cluster ends with one primary by itself, and nothing acknowledged is lost."""

from __future__ import annotations

import pytest
from story import Story

from failoverd.core import mail_store
from failoverd.core.plan import PLANS
from failoverd.core.rules import Decision

ELSEWHERE = {
    "restart-unit",
    "release-queue",
    "stop-waiting",
    *(kind.value for kind in mail_store.STEPS),
}  # not of every promotion
PROMOTION = [kind.value for kind in PLANS[Decision.SERVE] if kind.value not in ELSEWHERE]
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


MOVES = "> policy store_moves=1\n"
ALONE = "> policy store_moves=1 fence_required=1 fenced=mail1,mail2,mail3\n"


@pytest.mark.parametrize("policy", [MOVES, ALONE], ids=["shared", "for one"])
@pytest.mark.parametrize("fault", ["power-cut", "restart-failoverd", "freeze", "unplug", "kill-database"])
@pytest.mark.parametrize(
    "moment",
    ["stop-services mail1", "release-store mail1", "take-store mail2", "start-services mail2", "primary-serves mail2"],
)
def test_a_fault_while_the_mail_store_moves(moment: str, fault: str, policy: str) -> None:
    victim = moment.split()[1]
    Story().tell(f"{policy}> promote mail2\n> until {moment}\n> {fault} {victim}\n> until-served\n> wait 2s\n")


@pytest.mark.parametrize("step", ["take-store", "start-services"])
@pytest.mark.parametrize("fault", ["power-cut", "restart-failoverd", "freeze"])
def test_a_fault_while_the_mail_store_of_a_lost_primary_is_taken(step: str, fault: str) -> None:
    Story().tell(f"{MOVES}> power-cut mail1\n> until {step} mail2\n> {fault} mail2\n> wait 4s\n> power-on mail1\n")


# Those whose hosts stood still or were cut off have forgotten nothing when they are back, and would elect one of them.
@pytest.mark.parametrize(
    "gone", [("power-cut", "power-on"), ("freeze", "thaw"), ("unplug", "plug")], ids=lambda g: g[0]
)
@pytest.mark.parametrize("back", ["mail2", "both"])
@pytest.mark.parametrize("at", ["0", "0.002", "0.01", "0.5", "3"])
@pytest.mark.parametrize("fault", ["power-cut", "restart-failoverd", "freeze", "unplug", "kill-database"])
def test_a_fault_while_a_primary_goes_on_without_a_replica(
    fault: str, at: str, back: str, gone: tuple[str, str]
) -> None:
    goes, returns = gone
    again = "".join(f"> {returns} {name}\n" for name in ("mail2", "mail3") if back in (name, "both"))
    Story().tell(
        f"> policy go_on_after_ms=8000\n> {goes} mail2\n> {goes} mail3\n> until stop-waiting mail1\n"
        f"> wait {at}s\n> {fault} mail1\n> wait 0.1s\n{again}> wait 12s\n"
    )
