"""The history document is read back as it was written, and what is missing is named."""

from __future__ import annotations

import json

import pytest
from pydantic import TypeAdapter

from failoverd.runtime.document import DocumentError, Reason, from_json
from failoverd.runtime.document_history import Change, HistoryDocument, PastEvent, Phase

PHASE = Phase(name="open-gate", node="mail2", began_ms=120, ended_ms=None, outcome="under-way")
CHANGE = Change(
    id="term-7",
    term=7,
    kind="failover",
    previous="mail1",
    holder="mail2",
    by="failoverd",
    reason="its lease ran out",
    rule="primary-lost-by-quorum",
    began="2026-03-01T12:00:00.000Z",
    ended=None,
    outcome="under-way",
    outage_ms=None,
    phases=(PHASE,),
)
EVENT = PastEvent(
    time="2026-03-01T12:00:00.000Z",
    node="mail2",
    kind="request",
    text="mail2 shall be primary",
    outcome="refused",
    code="BLK_LAG",
)
DOCUMENT = HistoryDocument(
    cluster="lab",
    node="mail2",
    changes=(CHANGE,),
    events=(EVENT,),
    unseen=(Reason(code="BLK_UNREACHABLE", reason="no answer", node="mail3"),),
)


def test_it_is_read_back_as_it_was_written() -> None:
    assert from_json(HistoryDocument, TypeAdapter(HistoryDocument).dump_json(DOCUMENT)) == DOCUMENT


@pytest.mark.parametrize("missing", ["changes", "cluster", "node"])
def test_what_is_missing_is_named(missing: str) -> None:
    value = json.loads(TypeAdapter(HistoryDocument).dump_json(DOCUMENT))
    del value[missing]
    with pytest.raises(DocumentError, match=rf"HistoryDocument\.{missing}: missing"):
        from_json(HistoryDocument, json.dumps(value).encode())
