"""What a decision was made from is kept as it was: written and read again it is the same view, and decides the same."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from views import POLICY, lost, record, view

from failoverd import views as kept
from failoverd.core import rules
from failoverd.core.gtid import GtidSet
from failoverd.core.model import HostFacts, Report
from failoverd.core.policy import Policy
from failoverd.core.view import View

st.register_type_strategy(Policy, st.sampled_from([POLICY, replace(POLICY, bound_ms=30_000, fenced=("mail1",))]))
st.register_type_strategy(float, st.floats(allow_nan=False))
st.register_type_strategy(
    GtidSet,
    st.dictionaries(st.text(max_size=4), st.integers(1, 2**63)).map(GtidSet.upto),
)


def again(known: View) -> View:
    return kept.decode(kept.encode(known))


@settings(max_examples=150, suppress_health_check=list(HealthCheck), deadline=None)
@given(st.from_type(View))
def test_any_view_is_read_as_it_was_written(known: View) -> None:
    """Of every field and every value that the types allow: also of those that are added after this was written."""
    read = again(known)
    assert read == known
    assert kept.encode(read) == kept.encode(known)  # so that its digest names it


@pytest.mark.parametrize(
    "known",
    [view("mail1"), view("mail2"), view("arbiter"), lost("mail2"), lost("mail3"), view(record=None, watch=None)],
    ids=["primary", "replica", "arbiter", "lost", "lost-third", "store-unread"],
)
def test_it_decides_as_it_did(known: View) -> None:
    read = again(known)
    assert read == known
    assert rules.decide(read).id == rules.decide(known).id


def test_what_was_worked_out_is_not_kept() -> None:
    known = view("mail2")
    before = kept.encode(known)
    rules.decide(known)
    assert known._answers
    assert kept.encode(known) == before
    assert "_answers" not in json.loads(before)


def test_a_text_that_is_no_unicode_is_refused_in_words() -> None:
    with pytest.raises(kept.ViewError, match="cannot be written as JSON"):
        kept.encode(view(record=record(paused="a byte of a program: \udcff")))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"record": {"term": "five"}}, r"record\.term: Input should be a valid integer"),
        ({"of_tomorrow": 1}, "of_tomorrow: Extra inputs are not permitted"),
        ({"policy": {"services": [], "database_unit": "x", "database_failures": 3, "ttl_ms": 1}}, "policy: .*ttl"),
    ],
)
def test_what_is_no_view_is_refused_with_the_place(change: dict[str, Any], words: str) -> None:
    with pytest.raises(kept.ViewError, match=words):
        kept.decode(json.dumps(json.loads(kept.encode(view("mail2"))) | change).encode())


def test_an_input_of_an_earlier_version_is_read_though_it_lacks_what_was_added() -> None:
    given = json.loads(kept.encode(view("mail2")))
    optional = [field.name for field in fields(View) if field.init and field.name not in ("me", "nodes", "policy")]
    for name in optional:
        if name in ("membership", "now_ms", "sendings"):
            continue
        kept.decode(json.dumps({key: value for key, value in given.items() if key != name}).encode())


def test_there_is_no_place_for_a_secret() -> None:
    """A view knows what probes, peers and the store told, and the thresholds: no secret of the configuration."""
    names: set[str] = set()

    def walk(value: object) -> None:
        if isinstance(value, dict):
            names.update(value)
            for part in value.values():
                walk(part)
        elif isinstance(value, list):
            for part in value:
                walk(part)

    full = lost("mail2", database=None, reports={"mail3": {"host": HostFacts(0.1, 50.0, 50.0, "/")}})
    walk(json.loads(kept.encode(full)))
    walk({field.name: 0 for kind in (View, Policy, Report) for field in fields(kind)})
    suspicious = {
        n for n in names if any(word in n.lower() for word in ("password", "secret", "key", "token", "passwd"))
    }
    assert not suspicious
