"""Findings: what each code says wherever it is found, and what is compared between nodes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from views import NOW, view

from failoverd.core.errant import Journal
from failoverd.core.findings import FINDINGS, SETTINGS, Severity, blocking, compared
from failoverd.core.health import Sighting
from failoverd.core.model import Health, Identity, NodeName, Observation, Reading, SettingsFacts

M1, M2, M3 = NodeName("mail1"), NodeName("mail2"), NodeName("mail3")


def one(server: str, domain: str = "0") -> Identity:
    return Identity(("server_id", server), ("gtid_domain_id", domain))


OWN = ("SET_SERVER_ID", "server_id = 2 is mail3's as well; allowed: one of its own")


@pytest.mark.parametrize(
    ("others", "holder", "found"),
    [
        ({M1: one("1"), M3: one("3")}, M1, ()),
        ({M1: one("1"), M3: one("2")}, M1, (OWN,)),
        ({M3: one("2")}, None, (OWN,)),
        ({M1: one("1", "7")}, M1, (("SET_DOMAIN", "gtid_domain_id = 0; allowed: 7, as on mail1"),)),
        ({M1: one("1"), M3: one("3", "7")}, M1, ()),  # mail3 says it of itself
        ({M1: one("1"), M3: one("3", "7")}, M2, ()),  # this node is right: it is the primary
        ({M1: one("1", "7")}, None, ()),
        ({M1: Identity()}, M1, ()),  # a dialect that knows no such thing
        ({}, M1, ()),
    ],
)
def test_compared(
    others: dict[NodeName, Identity], holder: NodeName | None, found: tuple[tuple[str, str], ...]
) -> None:
    assert compared(one("2"), others, holder) == found


def test_two_that_know_no_identity_do_not_share_one() -> None:
    assert compared(Identity(), {M1: Identity()}, M1) == ()


def read(*found: tuple[str, str], **reading: Any) -> Sighting:
    facts = SettingsFacts(found, one("2"), Journal())
    seen = Reading(Health.FAILED if found else Health.OK, found[0][0] if found else "", "all of it", facts)
    return Sighting(Observation("settings", M2, replace(seen, **reading), NOW - 100, 5), int(bool(found)), NOW - 100)


def test_a_node_tells_every_setting_and_what_does_not_go_with_the_others() -> None:
    both = (("SET_SYNC_BINLOG", "sync_binlog = 0"), ("SET_NET_TIMEOUT", "60 s"))
    known = view(reports={"mail3": {"identity": one("2")}})
    known = replace(known, sightings=(*known.sightings, read(*both)))
    assert known.findings == (*both, OWN)


def test_a_reading_that_did_not_come_takes_no_finding_away() -> None:
    """The probe gives what was found last with it."""
    late = replace(read(("SET_FILTER", "x")), failures=1)
    late = replace(late, observation=replace(late.observation, reading=replace(
        late.observation.reading, health=Health.UNKNOWN, code="DB_HUNG", reason="no answer")))  # fmt: skip
    known = view()
    assert replace(known, sightings=(*known.sightings, late)).findings == (("SET_FILTER", "x"),)


def test_the_first_that_blocks_is_named() -> None:
    assert blocking([("SET_NET_TIMEOUT", "60 s"), ("SET_FILTER", "x"), ("SET_DOMAIN", "y")]) == ("SET_FILTER", "x")
    assert blocking([("SET_NET_TIMEOUT", "60 s"), ("LAG_ALARM", ""), ("IMAP_REFUSED", "")]) is None


@pytest.mark.parametrize("code", FINDINGS)
def test_every_finding_says_what_it_means_and_the_way_out(code: str) -> None:
    known = FINDINGS[code]
    assert isinstance(known.severity, Severity)
    for text in (known.meaning, known.fix):
        assert text
        assert text == text.strip()
        assert "\n" not in text
        assert not text.endswith(".")


def test_settings_have_their_prefix() -> None:
    assert all(code.startswith("SET_") == (code in SETTINGS) for code in FINDINGS)
