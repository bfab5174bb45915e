"""Which differences between two reports of one node are a reason to decide anew."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from views import report

from failoverd.core.hearsay import ANY, SELDOM, says_the_same
from failoverd.core.model import Claim, Health, HostFacts, NodeName, Report

ASKED = frozenset({ANY, *SELDOM.values()})
CLAIMS = tuple(Claim(probe, NodeName("mail2"), Health.OK, 0) for probe in ("imap", "smtp"))
TOLD = replace(report(NodeName("mail1"), NodeName("mail2")), claims=CLAIMS)


@pytest.mark.parametrize(
    "change",
    [
        {"number": TOLD.number + 1},
        {"doing": "freeze"},
        {"rule": "primary-serves"},
        {"host": HostFacts(0.5, 80.0, 70.0, "/")},
        {"claims": tuple(reversed(TOLD.claims))},
    ],
)
def test_what_is_only_shown_is_no_news(change: dict[str, object]) -> None:
    assert says_the_same(TOLD, replace(TOLD, **change), ASKED)


@pytest.mark.parametrize(
    "change",
    [
        {"ready": not TOLD.ready},
        {"process": "mail1#2"},
        {"frozen_term": 7},
        {"database": None},
        {"lease_over": True},
        {"claims": (replace(TOLD.claims[0], health=Health.FAILED, failures=1), *TOLD.claims[1:])},
    ],
)
def test_what_rules_ask_is_news_whatever_was_asked(change: dict[str, object]) -> None:
    assert not says_the_same(TOLD, replace(TOLD, **change), frozenset({ANY}))


@pytest.mark.parametrize(("name", "answer"), SELDOM.items())
def test_what_few_questions_ask_is_news_where_one_did(name: str, answer: str) -> None:
    other = replace(TOLD, **{name: {"version": TOLD.version + 1, "hears": ("mail3",)}[name]})
    assert says_the_same(TOLD, other, ASKED - {answer})
    assert not says_the_same(TOLD, other, frozenset({ANY, answer}))


def test_a_field_that_nobody_thought_of_counts() -> None:
    names = [f.name for f in fields(Report) if f.name != "claims"]
    shown = {name for name in names if says_the_same(TOLD, replace(TOLD, **{name: "another"}), frozenset())}
    assert shown == {
        *SELDOM,
        "number",
        "heard",
        "software",
        "vip",
        "host",
        "units",
        "rule",
        "doing",
        "beat",
        "rebuild",
        "floor",
        "monitoring",
    }
