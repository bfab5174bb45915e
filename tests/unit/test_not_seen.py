"""What monitoring cannot look at is `Not seen` in `failoverctl check`: no finding, and no sign that one is over."""

from __future__ import annotations

from dataclasses import replace

import pytest
from control_stage import HEALTHY
from views import NOW, view

from failoverd.core.findings import Severity
from failoverd.core.health import sighted
from failoverd.core.model import Claim, Health, NodeName, Observation, Reading
from failoverd.core.monitoring import LoginFacts
from failoverd.runtime import fitness
from failoverd.runtime.alerting import look_of

ME = NodeName("mail2")
FOUND = (("MON_AUTH_SOURCE", "60 from 192.0.2.9"),)
BAD = Reading(Health.FAILED, FOUND[0][0], FOUND[0][1], LoginFacts(0, 60, 0, 0.0, FOUND))
BLIND = Reading(Health.UNKNOWN, "MON_NO_JOURNAL", "the journal is not read: journalctl ended with 1")


def looked(reading: Reading) -> Observation:
    return Observation("logins", ME, reading, NOW - 100, 5)


@pytest.mark.parametrize("before", [None, sighted(None, looked(BAD))])
def test_of_this_node_it_is_not_seen_and_what_was_found_before_is_told_no_more(before: object) -> None:
    known = view("mail2")
    known = replace(known, sightings=(*known.sightings, sighted(before, looked(BLIND))))  # type: ignore[arg-type]
    assert known.findings_of_probes == ()
    checked = fitness.check(known, HEALTHY)
    assert ("mail2", BLIND.code, BLIND.reason) in {(why.node, why.code, why.reason) for why in checked.unseen}
    (alert,) = [alert for alert in look_of(HEALTHY, checked, None, frozenset()).unseen if alert.code == BLIND.code]
    assert (alert.node, alert.severity) == ("mail2", Severity.WARNS)
    assert alert.meaning
    assert alert.fix


def test_of_another_node_its_report_says_so() -> None:
    blind = Claim("logins", NodeName("mail1"), Health.UNKNOWN, 3, BLIND.code, BLIND.reason)
    checked = fitness.check(view("mail2", {"mail1": {"claims": (blind,)}}), HEALTHY)
    assert ("mail1", BLIND.code) in {(why.node, why.code) for why in checked.unseen}


def test_what_works_is_seen() -> None:
    known = view("mail2")
    known = replace(known, sightings=(*known.sightings, sighted(None, looked(BAD))))
    assert known.findings_of_probes == FOUND
    assert not {why.code for why in fitness.check(known, HEALTHY).unseen} & {BAD.code, BLIND.code}
