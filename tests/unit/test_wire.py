"""The codec: what goes in comes out, and what is not ours is refused with the place named."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from failoverd import wire
from failoverd.core.anchor import Anchor, Head
from failoverd.core.gtid import GtidSet
from failoverd.core.model import (
    Claim,
    DatabaseFacts,
    Floor,
    Health,
    Heard,
    Identity,
    Maintenance,
    NodeName,
    Ordered,
    RebuildFacts,
    Record,
    Rejoin,
    Replication,
    Report,
    Request,
    RequestEnded,
    Role,
    Scheduled,
    Thread,
)
from failoverd.core.monitoring import Gauges

names = st.sampled_from([NodeName("mail1"), NodeName("mail2"), NodeName("mail3"), NodeName("arbiter")])
texts = st.text(max_size=20)
numbers = st.integers(0, 2**63 - 1)
intervals = st.lists(st.integers(1, 10**6).flatmap(lambda low: st.tuples(st.just(low), st.integers(low, 2 * 10**6))))
gtids = st.dictionaries(st.sampled_from(["0-1", "0-2", "uuid"]), intervals).map(GtidSet.of)
replications = st.builds(
    Replication,
    source=texts,
    receiver=st.sampled_from(Thread),
    applier=st.sampled_from(Thread),
    received=gtids,
    receiver_error=texts,
    applier_error=texts,
)
databases = st.builds(
    DatabaseFacts,
    version=texts,
    server_id=numbers,
    read_only=st.booleans(),
    holdings=gtids,
    applied=gtids,
    replication=st.none() | replications,
    semi_sync_source=st.booleans(),
    semi_sync_replica=st.booleans(),
    semi_sync_clients=numbers,
    unacknowledged=numbers,
    heartbeat_term=numbers,
    heartbeat_beat=numbers,
    own=gtids,
)
floors = st.builds(Floor, numbers, st.none() | gtids)
reports = st.builds(
    Report,
    sender=names,
    process=texts,
    number=numbers,
    heard=st.lists(st.builds(Heard, names, texts, numbers), max_size=3).map(tuple),
    membership=texts,
    software=texts,
    term=numbers,
    version=numbers,
    lease_over=st.booleans(),
    role=st.sampled_from(Role),
    serving=st.booleans(),
    ready=st.booleans(),
    steady=st.booleans(),
    frozen_term=st.none() | numbers,
    caught_up=st.booleans(),
    beat=numbers,
    database=st.none() | databases,
    claims=st.lists(st.builds(Claim, texts, names, st.sampled_from(Health), numbers, texts, texts), max_size=3).map(
        tuple
    ),
    findings=st.lists(st.tuples(texts, texts), max_size=3).map(tuple),
    rebuilding=st.booleans(),
    rebuild=st.none()
    | st.builds(RebuildFacts, texts, texts, st.booleans(), st.booleans(), *[numbers] * 4, *[texts] * 3),
    rejoin=st.none() | st.builds(Rejoin, texts, names, names, texts, numbers),
    rejoining=texts,
    rejoin_ended=st.none() | st.builds(RequestEnded, texts, st.booleans(), st.booleans(), texts, texts),
    floor=st.none() | floors,
    identity=st.none() | st.builds(Identity, st.tuples(texts, texts), st.tuples(texts, texts)),
    unproven=texts,
    marks=numbers,
    monitoring=st.none()
    | st.builds(
        Gauges,
        st.lists(st.tuples(texts, texts, numbers), max_size=3).map(tuple),
        *[st.none() | numbers] * 4,
        *[st.none() | st.floats(0, 1e6)] * 2,
        st.none() | numbers,
    ),
)
records = st.builds(
    Record,
    version=numbers,
    term=numbers,
    holder=st.none() | names,
    counter=numbers,
    ttl_ms=numbers,
    revoked=st.booleans(),
    successor=st.none() | names,
    began=st.none() | gtids,
    position=st.none() | gtids,
    previous=st.none() | names,
    reason=texts,
    unproven=texts,
    marks=numbers,
    forced=numbers,
    bound_ms=numbers,
    floor=st.none() | floors,
    bounded=numbers,
    request=st.none() | st.builds(Request, texts, names, texts, texts, numbers, st.booleans()),
    paused=texts,
    paused_until_ms=numbers,
    maintenance=st.lists(st.builds(Maintenance, names, texts, texts, numbers), max_size=3).map(tuple),
    acknowledged=numbers,
    acknowledged_by=texts,
    scheduled=st.none() | st.builds(Scheduled, texts, names, texts, texts, numbers, numbers),
    schedule_ended=st.none() | st.builds(RequestEnded, texts, st.booleans(), st.booleans(), texts, texts),
    ordered=st.lists(st.builds(Ordered, texts, texts), max_size=3).map(tuple),
)

REPORT = Report(
    sender=NodeName("mail1"),
    process="p",
    number=7,
    heard=(Heard(NodeName("mail2"), "q", 3),),
    membership="m",
    software="0",
    term=1,
    version=2,
    lease_over=False,
    role=Role.PRIMARY,
    serving=True,
    ready=True,
    steady=True,
    frozen_term=None,
    caught_up=True,
    database=None,
    claims=(Claim("imap", NodeName("mail2"), Health.OK, 0),),
)


@settings(max_examples=60)
@given(reports)
def test_a_report_comes_out_as_it_went_in(report: Report) -> None:
    assert wire.decode_report(wire.encode_report(report)) == report


@settings(max_examples=60)
@given(records)
def test_a_record_comes_out_as_it_went_in(record: Record) -> None:
    assert wire.decode_record(wire.encode_record(record)) == record


def test_what_is_at_its_default_is_left_out_so_that_a_release_before_it_understands() -> None:
    told = json.loads(wire.encode_record(Record(version=3, term=2, holder=NodeName("mail1"))))
    assert told == {"v": 1, "record": {"version": 3, "term": 2, "holder": "mail1"}}
    assert wire.decode_record(json.dumps(told).encode()) == Record(version=3, term=2, holder=NodeName("mail1"))


@pytest.mark.parametrize(
    ("record", "place"),
    [
        (Record(paused_until_ms=-1), "record.paused_until_ms"),
        (Record(maintenance=(Maintenance(NodeName("mail1"), "a", "b", -1),)), "record.maintenance.0.until_ms"),
        (Record(scheduled=Scheduled("s", NodeName("mail1"), "a", "b", 1, 2**63)), "record.scheduled.at_ms"),
        (Record(acknowledged=-2), "record.acknowledged"),
    ],
)
def test_a_moment_or_a_term_that_is_none_is_refused(record: Record, place: str) -> None:
    with pytest.raises(wire.WireError, match=rf"^{place}: -?\d+ is not between"):
        wire.decode_record(wire.encode_record(record))


def report_with(path: str, value: Any) -> bytes:
    """The good report's JSON with one place changed; `...` as value removes the key."""
    message = json.loads(wire.encode_report(REPORT))
    *parents, last = path.split(".")
    at = message
    for key in parents:
        at = at[int(key)] if isinstance(at, list) else at[key]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return json.dumps(message).encode()


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("report.number", "7", "report.number: Input should be a valid integer (got '7')"),
        ("report.number", 7.0, "report.number: Input should be a valid integer (got 7.0)"),
        ("report.number", True, "report.number: Input should be a valid integer (got True)"),
        ("report.number", -1, "report.number: -1 is not between 0 and 2^63 - 1"),
        ("report.term", 2**63, f"report.term: {2**63} is not between 0 and 2^63 - 1"),
        ("report.serving", 1, "report.serving: Input should be a valid boolean (got 1)"),
        ("report.sender", "", "sender: a node's name is empty"),
        ("report.sender", ..., "report.sender: Field required"),
        ("report.surprise", 1, "report.surprise: Unexpected keyword argument"),
        (
            "report.claims.0.health",
            "fine",
            "report.claims.0.health: Input should be 'ok', 'failed' or 'unknown' (got 'fine')",
        ),
        ("report.claims.0.surprise", 1, "report.claims.0.surprise: Unexpected keyword argument"),
        ("report.heard.0.number", None, "report.heard.0.number: Input should be a valid integer (got None)"),
        ("v", 2, "v: Input should be 1 (got 2)"),
        ("v", ..., "v: Field required"),
        ("surprise", 1, "surprise: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_place_is_named(path: str, value: Any, said: str) -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.decode_report(report_with(path, value))
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([["0", [[5, 4]]]], "interval 5-4"),
        ([["0", [[0, 4]]]], "interval 0-4"),
        ([["0", [[1, 2], [3, 4]]]], "not merged"),
        ([["1", [[1, 2]]], ["0", [[1, 2]]]], "out of order"),
        ([["0", [[1, 2]]], ["0", [[1, 2]]]], "repeated"),
        ([["0", []]], "not merged"),
    ],
)
def test_a_set_that_is_not_canonical_is_refused(parts: list[Any], said: str) -> None:
    message = json.loads(wire.encode_record(Record(position=GtidSet.upto({"0": 9}))))
    message["record"]["position"]["parts"] = parts
    with pytest.raises(wire.WireError, match=r"record\.position: ") as caught:
        wire.decode_record(json.dumps(message).encode())
    assert said in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"null", b"[]", b'"report"', b"\xff\xfe", b"[" * 5000, b"1" * 5000])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    for decode in (wire.decode_record, wire.decode_report):
        with pytest.raises(wire.WireError):
            decode(data)


def test_a_record_is_no_report() -> None:
    with pytest.raises(wire.WireError, match=r"report: Field required"):
        wire.decode_report(wire.encode_record(Record()))


def test_size_is_limited_both_ways() -> None:
    with pytest.raises(wire.WireError, match=r"record: \d+ bytes, more than the 65536 allowed"):
        wire.encode_record(Record(reason="x" * wire.RECORD_LIMIT))
    with pytest.raises(wire.WireError, match=r"report: \d+ bytes"):
        wire.encode_report(replace(REPORT, findings=(("A", "x" * wire.REPORT_LIMIT),)))
    with pytest.raises(wire.WireError, match=r"report: \d+ bytes"):
        wire.decode_report(b" " * (wire.REPORT_LIMIT + 1))


ANCHOR = Anchor(3, NodeName("mail1"), "begin", 1_700_000_000_000, (Head(NodeName("mail1"), 9, "0f" * 32),))


def test_anchors_come_out_as_they_went_in() -> None:
    told = (ANCHOR, replace(ANCHOR, moment="end", heads=()))
    assert wire.decode_anchors(wire.encode_anchors(told)) == told


@pytest.mark.parametrize(
    ("anchor", "said"),
    [
        (replace(ANCHOR, term=-1), "anchors.0.term: -1 is not between"),
        (replace(ANCHOR, by=NodeName("")), "nodes without a name"),
        (replace(ANCHOR, heads=ANCHOR.heads * 2), "named twice"),
        (replace(ANCHOR, heads=(replace(ANCHOR.heads[0], hash="0F" * 32),)), "not 64 hexadecimal digits"),
        (replace(ANCHOR, heads=(replace(ANCHOR.heads[0], seq=2**63),)), f"heads: {2**63} is not between"),
    ],
)
def test_an_anchor_that_is_none_is_refused(anchor: Anchor, said: str) -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.decode_anchors(wire.encode_anchors((anchor,)))
    assert said in str(caught.value)


def test_a_moment_that_is_none_is_refused() -> None:
    with pytest.raises(wire.WireError, match="moment"):
        wire.decode_anchors(wire.encode_anchors((ANCHOR,)).replace(b'"begin"', b'"middle"'))
