"""The cluster's two messages as strict JSON: the store's `Record` and the nodes' `Report`.

Why strict: a node that half-understands a record would write back what it does not know of, and one that guesses at
a report would vote on a guess. So every message names its version, an unknown key or a wrong type refuses the whole
message, and the refusal names the place: `report.claims.2.failures: Input should be a valid integer`.

    {"v": 1, "record": {…}}        {"v": 1, "report": {…}}        {"v": 1, "anchors": [{…}, …]}

What is at its default is left out. So a release that adds a field with a default speaks with the one before it until
the field is used for the first time: nodes are upgraded one after the other, and only then is what is new asked for.

The dataclasses of core.model stay plain; pydantic reads their annotations. What a type cannot say (numbers within
64 bits, intervals in order) is checked by `_check` right after.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from failoverd.core.anchor import Anchor  # noqa: TC001 - pydantic reads the annotations when the classes are made
from failoverd.core.gtid import GtidSet
from failoverd.core.model import Record, Report  # noqa: TC001 - likewise

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION: Final = 1
RECORD_LIMIT = 64 * 1024  # bytes; a record is about 0.5 KB, a GtidSet of many sources some KB
REPORT_LIMIT = 256 * 1024  # bytes; a report of four nodes is about 3 KB
ANCHORS_LIMIT = 480 * 1024  # bytes; an anchor is some 0.5 KB, and of 500 there is room in one answer
HEADS_MOST = 16
_INT64 = 2**63 - 1  # SQLite's and etcd's integers
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


class WireError(Exception):
    """A message that is not one of ours; its text names the place and says what is wrong there."""


class _Message(BaseModel):
    # Nested plain dataclasses take this configuration over: strict types, no unknown keys, at every level.
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    v: Literal[1]


_M = TypeVar("_M", bound=_Message)


class _RecordMessage(_Message):
    record: Record


class _StampedMessage(_RecordMessage):
    stamp: str


class _ReportMessage(_Message):
    report: Report


class _AnchorsMessage(_Message):
    anchors: tuple[Anchor, ...]


def encode_record(record: Record) -> bytes:
    """JSON of a record. Raises WireError when it is over RECORD_LIMIT."""
    return _bounded(_dump(_RecordMessage(v=VERSION, record=record)), RECORD_LIMIT, "record")


def decode_record(data: bytes) -> Record:
    """The record in `data`. Raises WireError."""
    return _checked(_load(_RecordMessage, _bounded(data, RECORD_LIMIT, "record"), "record").record)


def _checked(record: Record) -> Record:
    _check(_numbers_of_record(record), _sets_of_record(record))
    _check_names(holder=record.holder, successor=record.successor, previous=record.previous)
    return record


def encode_stamped(record: Record, stamp: str) -> bytes:
    """JSON of a record as one writer wrote it once: `stamp` tells its bytes from all others. Raises WireError."""
    return _bounded(_dump(_StampedMessage(v=VERSION, record=record, stamp=stamp)), RECORD_LIMIT, "record")


def decode_stamped(data: bytes) -> tuple[Record, str]:
    """The record in `data`, and its stamp. Raises WireError."""
    message = _load(_StampedMessage, _bounded(data, RECORD_LIMIT, "record"), "record")
    return _checked(message.record), message.stamp


def encode_report(report: Report) -> bytes:
    """JSON of a report. Raises WireError when it is over REPORT_LIMIT."""
    return _bounded(_dump(_ReportMessage(v=VERSION, report=report)), REPORT_LIMIT, "report")


def decode_report(data: bytes) -> Report:
    """The report in `data`. Raises WireError."""
    report = _load(_ReportMessage, _bounded(data, REPORT_LIMIT, "report"), "report").report
    _check(_numbers_of_report(report), _sets_of_report(report))
    _check_names(sender=report.sender)
    return report


def encode_anchors(anchors: tuple[Anchor, ...]) -> bytes:
    """JSON of anchors. Raises WireError when it is over ANCHORS_LIMIT."""
    return _bounded(_dump(_AnchorsMessage(v=VERSION, anchors=anchors)), ANCHORS_LIMIT, "anchors")


def decode_anchors(data: bytes) -> tuple[Anchor, ...]:
    """The anchors in `data`. Raises WireError."""
    anchors = _load(_AnchorsMessage, _bounded(data, ANCHORS_LIMIT, "anchors"), "anchors").anchors
    _check(_numbers_of_anchors(anchors), iter(()))
    for index, anchor in enumerate(anchors):
        place = f"anchors.{index}"
        names = [head.node for head in anchor.heads]
        if not anchor.by or len(names) > HEADS_MOST or len(set(names)) != len(names) or "" in names:
            raise WireError(f"{place}: nodes without a name, named twice, or more than {HEADS_MOST}")
        if not all(_HASH.fullmatch(head.hash) for head in anchor.heads):
            raise WireError(f"{place}: a hash is not 64 hexadecimal digits")
    return anchors


def _dump(message: _Message) -> bytes:
    return message.__pydantic_serializer__.to_json(message, exclude_defaults=True)


def _bounded(data: bytes, limit: int, what: str) -> bytes:
    if len(data) > limit:
        raise WireError(f"{what}: {len(data)} bytes, more than the {limit} allowed")
    return data


def _load(model: type[_M], data: bytes, what: str) -> _M:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        # The first error alone: one place to look at, whatever else is wrong with a message of another kind.
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or what
        given = (
            ""
            if first["type"] in {"missing", "extra_forbidden", "unexpected_keyword_argument"}
            else f" (got {_short(first['input'])})"
        )
        raise WireError(f"{place}: {first['msg']}{given}") from None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _check(numbers: Iterator[tuple[str, int]], sets: Iterator[tuple[str, GtidSet]]) -> None:
    for place, number in numbers:
        if not 0 <= number <= _INT64:
            raise WireError(f"{place}: {number} is not between 0 and 2^63 - 1")
    for place, gtids in sets:
        try:
            canonical = GtidSet.of({source: list(intervals) for source, intervals in gtids.parts})
        except ValueError as error:
            raise WireError(f"{place}: {error}") from None
        if canonical != gtids:
            raise WireError(f"{place}: sources or intervals repeated, out of order or not merged")


def _check_names(**names: str | None) -> None:
    for place, name in names.items():
        if name == "":
            raise WireError(f"{place}: a node's name is empty")


def _numbers_of_record(record: Record) -> Iterator[tuple[str, int]]:
    yield "record.version", record.version
    yield "record.term", record.term
    yield "record.counter", record.counter
    yield "record.ttl_ms", record.ttl_ms
    yield "record.marks", record.marks
    yield "record.forced", record.forced
    yield "record.bound_ms", record.bound_ms
    yield "record.bounded", record.bounded
    if record.floor is not None:
        yield "record.floor.at_ms", record.floor.at_ms
    yield "record.paused_until_ms", record.paused_until_ms
    yield "record.acknowledged", record.acknowledged
    yield "record.moves", record.moves
    for index, worked_on in enumerate(record.maintenance):
        yield f"record.maintenance.{index}.until_ms", worked_on.until_ms
    if record.scheduled is not None:
        yield "record.scheduled.term", record.scheduled.term
        yield "record.scheduled.at_ms", record.scheduled.at_ms


def _numbers_of_anchors(anchors: tuple[Anchor, ...]) -> Iterator[tuple[str, int]]:
    for index, anchor in enumerate(anchors):
        yield f"anchors.{index}.term", anchor.term
        yield f"anchors.{index}.at_ms", anchor.at_ms
        for head in anchor.heads:
            yield f"anchors.{index}.heads", head.seq


def _sets_of_record(record: Record) -> Iterator[tuple[str, GtidSet]]:
    if record.began is not None:
        yield "record.began", record.began
    if record.position is not None:
        yield "record.position", record.position
    if record.floor is not None and record.floor.position is not None:
        yield "record.floor.position", record.floor.position


def _gauges_of_report(report: Report) -> Iterator[tuple[str, int]]:
    for name in ("imap_connections", "logins_accepted", "logins_refused", "deliveries", "slow_queries"):
        yield f"report.monitoring.{name}", getattr(report.monitoring, name, None) or 0


def _numbers_of_report(report: Report) -> Iterator[tuple[str, int]]:
    yield from _gauges_of_report(report)
    yield "report.number", report.number
    yield "report.term", report.term
    yield "report.version", report.version
    if report.frozen_term is not None:
        yield "report.frozen_term", report.frozen_term
    yield "report.asks_ms", report.asks_ms
    yield "report.beat", report.beat
    yield "report.marks", report.marks
    yield "report.moves", report.moves
    if report.floor is not None:
        yield "report.floor.at_ms", report.floor.at_ms
    if report.promised is not None:
        yield "report.promised.number", report.promised.number
    for index, heard in enumerate(report.heard):
        yield f"report.heard.{index}.number", heard.number
    for index, claim in enumerate(report.claims):
        yield f"report.claims.{index}.failures", claim.failures
    if report.rebuild is not None:
        yield "report.rebuild.received", report.rebuild.received
        yield "report.rebuild.expected", report.rebuild.expected
        yield "report.rebuild.rate", report.rebuild.rate
        yield "report.rebuild.left_s", report.rebuild.left_s or 0
    if report.rejoin is not None:
        yield "report.rejoin.term", report.rejoin.term
    if report.database is not None:
        yield "report.database.server_id", report.database.server_id
        yield "report.database.semi_sync_clients", report.database.semi_sync_clients
        yield "report.database.unacknowledged", report.database.unacknowledged
        yield "report.database.heartbeat_term", report.database.heartbeat_term
        yield "report.database.heartbeat_beat", report.database.heartbeat_beat


def _sets_of_report(report: Report) -> Iterator[tuple[str, GtidSet]]:
    if report.floor is not None and report.floor.position is not None:
        yield "report.floor.position", report.floor.position
    if report.database is None:
        return
    yield "report.database.holdings", report.database.holdings
    yield "report.database.applied", report.database.applied
    yield "report.database.own", report.database.own
    if report.database.replication is not None:
        yield "report.database.replication.received", report.database.replication.received
