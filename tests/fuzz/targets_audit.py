"""The audit as it is read: by the daemon at its start, by `audit show`, `verify`, `export`, `history` and `explain`."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import views as stories
from places import place
from target import Target

from failoverd.audit import reading, table, verify
from failoverd.audit.copies import Copies, RefusedError
from failoverd.audit.file import AuditDamagedError, AuditFile
from failoverd.audit.inputs import InputError, _Packing, input_of
from failoverd.ctl import explaining
from failoverd.runtime import history

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = reading.NAME
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


class _Still:
    def now_ms(self) -> int:
        """Always the same."""
        return 1000


def _made() -> list[bytes]:
    where = place("audit-made")
    audit = AuditFile(where / NAME, "mail2", _Still())
    view = stories.view("mail2")
    packed = _Packing().pack(view)
    audit.append(
        [
            {"kind": "decision", "rule": "let-go", "text": "LET_GO", "input": {"software": "0.1.0", **packed}},
            {"kind": "step", "text": "close-gate", "detail": {"number": "1", "request": "a1"}},
            {"kind": "step-ended", "text": "close-gate", "detail": {"number": "1", "outcome": "succeeded"}},
            {"kind": "term", "term": 6, "text": "mail2 holds it", "detail": {"holder": "mail2", "previous": "mail1"}},
            {"kind": "request", "text": "mail1 shall be primary", "detail": {"request": "a1", "by": "anna"}},
            {"kind": "result", "text": "it is", "detail": {"request": "a1", "outcome": "done"}},
        ]
    )
    audit.close()
    whole = (where / NAME).read_bytes()
    return [whole, *whole.splitlines(keepends=True)]


def _records(data: bytes) -> list[Mapping[str, object]]:
    where = place("audit")
    (where / NAME).write_bytes(data)
    return [read.record for read in reading.records(where) if read.record is not None]


def _verified(data: bytes) -> object:
    where = place("audit")
    (where / NAME).write_bytes(data)
    return list(verify.verify(where, verify.Verified(), NOW))


def _opened(data: bytes) -> object:
    """A daemon starts on it, and goes on writing."""
    where = place("audit")
    (where / NAME).write_bytes(data)
    audit = AuditFile(where / NAME, "mail2", _Still())
    try:
        audit.append([{"kind": "step", "text": "x"}])
    finally:
        audit.close()
    last = list(reading.records(where))[-1]
    assert last.record is not None, "what was just written is not read"
    assert last.record["seq"] == audit.sequence
    return audit.sequence


def _told(data: bytes) -> object:
    """History as a node without its daemon tells it."""
    where = place("audit")
    (where / NAME).write_bytes(data)
    document = history.alone(where, "mail2")
    return document.changes, document.events


def _exported(data: bytes) -> object:
    file = io.StringIO()
    table.write(_records(data), file)
    return file.getvalue()


def _explained(data: bytes) -> object:
    """Each record's input, and what `explain` makes of some of them."""
    records = [dict(record) for record in _records(data)]
    for index in range(len(records)):
        try:
            input_of(records, index)
        except InputError:
            continue
    for event in ("1", "term-6", "a1", "term-6-undone-1"):
        try:
            explaining._past(iter(records), event)
        except explaining.NotExplainedError:
            continue
    return len(records)


def _wanted(data: bytes) -> object:
    wanted = reading.Wanted(node="mail2", since=NOW, term=6, request="a1")
    return [wanted.has(record) for record in _records(data)]


def _copied(data: bytes) -> object:
    """Lines that another node sends to be kept, the first half before the rest: they follow, differ, or leave out."""
    copies = Copies(place("copies"), ["mail2"], free_least=0)
    lines = data.splitlines(keepends=True)
    for part in (lines[: len(lines) // 2], lines, lines[:1]):
        copies.take("mail2", b"".join(part), 1)
    return copies.versions("mail2")


TARGETS = [
    Target("audit-copy", "another node's audit, sent to be kept", _copied, _made, (RefusedError,), 64 * 1024),
    Target("audit-lines", "lines of the audit", _wanted, _made),
    Target("audit-verify", "the audit's files, where somebody has edited them", _verified, _made, (), 64 * 1024),
    Target("audit-open", "the audit's file at a daemon's start", _opened, _made, (AuditDamagedError,), 64 * 1024),
    Target("audit-history", "the audit, as `history` reads it", _told, _made),
    Target("audit-export", "the audit, as CSV", _exported, _made),
    Target("audit-explain", "inputs of the audit's records", _explained, _made, (), 64 * 1024),
]
