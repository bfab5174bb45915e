"""A service that was restarted is judged by looks that began after it, once there are enough, and not for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from views import NOW, POLICY, TERM, claim, sighting, view

from failoverd.core import rules
from failoverd.core.effects import Step, StepKind
from failoverd.core.known import Restart
from failoverd.core.machine import State, StepEnded, step
from failoverd.core.model import NodeName, Outcome
from failoverd.core.plan import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from failoverd.core.view import View

M2, M3 = NodeName("mail2"), NodeName("mail3")
IMAP_DOWN = (sighting("unit:dovecot.service", "mail1", 2), sighting("database", "mail1"))
RESTARTED_MS = NOW - POLICY.restart_settle_ms
TOLD = ((M2, 5), (M3, 4), (NodeName("arbiter"), 0))


def settled(now: Mapping[str, int], *, ended_ms: int = RESTARTED_MS, **changes: Any) -> View:
    """mail1 when imap was restarted, and each observer's failures in a row are these now."""
    said = {name: {"claims": (claim("imap", "mail1", failures),)} for name, failures in now.items()}
    tried = Restart("imap", ended_ms - 500, ended_ms, worked=True, failures_told=TOLD)
    return view("mail1", said, restarts=(tried,), **changes)


@pytest.mark.parametrize(
    ("known", "rule"),
    [
        # what they say is of before: both still look, since it has greeted and is slow
        (settled({"mail2": 5, "mail3": 4}), "primary-serves"),
        # a look was under way as it was restarted
        (settled({"mail2": 6, "mail3": 5}), "primary-serves"),
        (settled({"mail2": 7, "mail3": 5}), "primary-serves"),  # one of three is no majority
        (settled({"mail2": 7, "mail3": 6}), "own-service-step-down"),
        (settled({"mail2": 7, "mail3": 6}, ended_ms=RESTARTED_MS + 1), "primary-serves"),  # it settles first
        (settled({"mail2": 0, "mail3": 0}), "primary-serves"),  # well again
        # its observers are silent, or the counts began anew: not for ever
        (settled({"mail2": 5, "mail3": 4}, ended_ms=NOW - POLICY.restart_look_ms + 1), "primary-serves"),
        (settled({"mail2": 5, "mail3": 4}, ended_ms=NOW - POLICY.restart_look_ms), "own-service-step-down"),
        # the unit has ended again, as this node itself saw: no need of others
        (settled({"mail2": 5, "mail3": 4}, sightings=IMAP_DOWN), "own-service-step-down"),
        (
            settled({}, sightings=(sighting("unit:dovecot.service", "mail1", 2, ended_ms=RESTARTED_MS + 4),)),
            "primary-serves",
        ),
    ],
)
def test_a_service_is_judged_after_its_restart_by_looks_that_began_after_it(known: View, rule: str) -> None:
    assert rules.decide(known).id == rule


def test_how_often_it_had_failed_is_kept_as_the_restart_ends() -> None:
    doing = Step(StepKind.RESTART_UNIT, TERM, 4, 9000, service="imap", unit="dovecot.service")
    said = {"mail2": {"claims": (claim("imap", "mail1", 5),)}, "mail3": {"claims": (claim("smtp", "mail1", 9),)}}
    known = view("mail1", said, restarts=(Restart("imap", NOW - 500, None, worked=False),))
    state = State(view=known, software="0", progress=Progress(key=("serve", TERM), running=(doing,)))
    after = step(state, StepEnded(doing, Outcome.SUCCEEDED), NOW).state.view
    assert after.restarts == (Restart("imap", NOW - 500, NOW, worked=True, failures_told=((M2, 5),)),)
