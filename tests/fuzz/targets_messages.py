"""What nodes say to each other and to their store: reports, records, books of alerts, pasts, a rebuild's frames."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import TYPE_CHECKING, Any, cast

import views as stories
from places import AnswerIsNone, asked, directory, parts, place, run
from pydantic import TypeAdapter
from starlette.applications import Starlette
from target import Target

from failoverd import views, wire
from failoverd.core.alerts import Alert
from failoverd.core.findings import Severity
from failoverd.core.model import NodeName, Record
from failoverd.core.telling import EMPTY, Entry, Kind, Message, Voice
from failoverd.https import LinkError, _Connection
from failoverd.notify import circle
from failoverd.notify.shelf import SqliteShelf
from failoverd.notify.teller import Hello
from failoverd.rebuild import RebuildError, protocol
from failoverd.rebuild.local import Standing
from failoverd.rebuild.transfer import _accepted, _fits
from failoverd.runtime import history
from failoverd.runtime.peers import PATH, Peers
from failoverd.tls import common_name

if TYPE_CHECKING:
    import ssl


REPORTS = [wire.encode_report(report) for report in stories.view("mail2").reports]
RECORDS = [wire.encode_record(stories.view("mail2").record or Record()), wire.encode_record(Record())]
MAIL1, MAIL2 = NodeName("mail1"), NodeName("mail2")


def _round(decode: Any, encode: Any) -> Any:
    """What was understood is understood the same once more: nobody writes back what it has not read."""

    def entry(data: bytes) -> object:
        value = decode(data)
        if decode(encode(value)) != value:
            raise AnswerIsNone(f"another one comes back: {value!r}")
        return value

    return entry


# ---- the node's HTTPS server ----------------------------------------------------------------------------------------


def _historian(past: history.Past) -> history.Historian:
    return history.Historian(cluster="lab", own=MAIL1, past=past, nodes={})


def _peers(data: bytes) -> object:
    """`METHOD PATH`, then the body, with the certificate of mail2."""
    line, body = parts(data, 2)
    method, _, path = line.partition(b" ")
    heard: list[object] = []
    peers = Peers(MAIL1, {}, 0, cast("ssl.SSLContext", None), heard.append)
    app = Starlette(routes=[*peers.routes(), *_historian(history.Past()).routes()])
    status, _ = run(
        asked(app, method.decode("latin-1").upper() or "GET", b"/" + path.lstrip(b"/"), body=body, peer=MAIL2)
    )
    if status >= 500:
        raise AnswerIsNone(str(status))
    return status


# ---- their client ---------------------------------------------------------------------------------------------------


class Transport(asyncio.Transport):
    """Takes what is written, and knows that it was ended."""

    def __init__(self) -> None:
        super().__init__()
        self.over = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Drop it."""

    def abort(self) -> None:
        """It is over."""
        self.over = True

    close = abort

    def pause_reading(self) -> None:
        """As a socket's."""

    def resume_reading(self) -> None:
        """As a socket's."""


def _answer(data: bytes) -> object:
    """What a node's server answers, in pieces of changing length."""

    async def told() -> object:
        connection = _Connection()
        transport = Transport()
        connection.connection_made(transport)
        waiting = asyncio.ensure_future(connection.ask(b"GET / HTTP/1.1\r\n\r\n"))
        await asyncio.sleep(0)
        step = 1 + len(data) % 700
        for start in range(0, len(data), step):
            if not transport.over:
                connection.data_received(data[start : start + step])
        if not transport.over:
            connection.eof_received()
        connection.connection_lost(None)
        return await waiting

    return run(told())


# ---- what is understood of it ---------------------------------------------------------------------------------------


def _past(data: bytes) -> object:
    """What another node has noted, as this one puts it together and shows it."""
    known = history.known_of(data)
    return _historian(history.Past()).document({MAIL2: known}, {})


def _past_made() -> list[bytes]:
    lines = [
        ("decision", "let-go", "LET_GO", {}),
        ("step", "close-gate", "", {"number": "1"}),
        ("step-ended", "close-gate", "", {"number": "1", "outcome": "succeeded"}),
        ("term", "mail2 holds term 6", "", {"holder": "mail2", "previous": "mail1"}),
        ("request", "mail2 shall be primary", "", {"request": "a1", "by": "anna"}),
    ]
    past = history.Past()
    past.load()
    records = [
        {"time": "2026-03-01T12:00:00.000Z", "node": "mail2", "term": 5, "kind": kind, "rule": rule, "text": text,
         "code": "", "detail": detail}
        for kind, text, rule, detail in lines
    ]  # fmt: skip
    past.noted(records)
    share = {
        "node": "mail2", "term": 6, "began_ms": 1790000000000, "begun_ms": 1790000000100, "holder": "mail2",
        "previous": "mail1", "let_go": "let-go", "closed_ms": 1790000000010, "opened_ms": 1790000000200,
        "parts": [{"name": "close-gate", "began_ms": 1790000000000, "ended_ms": 1790000000007, "outcome": "succeeded"}],
    }  # fmt: skip
    event = {"at_ms": 1790000000000, "node": "mail2", "kind": "request", "text": "x", "outcome": "done", "id": "a1",
             "by": "anna", "ended_ms": 1790000000400, "result": "y", "code": ""}  # fmt: skip
    return [
        history._KNOWN.dump_json(past.known),
        json.dumps({"shares": [share], "events": [event]}).encode(),
    ]


_ALERT = Alert(code="LAG_WARN", severity=Severity.WARNS, node="mail2", reason="behind")
_ENTRY = Entry(level=1, alert=_ALERT, by="mail1", since_ms=1, told_ms=2)
_MESSAGE = Message(id="x", kind=Kind.FIRING, key="k", level=1, alert=_ALERT, since_ms=1)


_HELLO = Hello(
    "mail2", Voice.SILENT, busy=False, digest="d", own=(_ALERT,), entries={"k": _ENTRY}, told=[("k", "r", 1)]
)


def _hello(data: bytes) -> object:
    """Another node's book, merged into this one's, told and named."""
    hello = circle.understood(data, "mail2")
    if hello is None:
        return None
    told = {(key, receiver): level for key, receiver, level in hello.told or []}
    return circle.digest(EMPTY.merged(hello.entries or {}, told))


def _shelf(data: bytes) -> object:
    """Bodies of rows as they lie in the file: an entry, then a message."""
    entry, message = parts(data, 2)
    where = place("shelf")
    shelf = SqliteShelf(where)
    shelf.keep(EMPTY)
    execute = shelf._connection.execute
    for statement, body in (("INSERT INTO entry VALUES ('k', ?)", entry),
                            ("INSERT INTO queue (receiver, body, queued_ms) VALUES ('r', ?, 1)", message)):  # fmt: skip
        execute(statement, (body.decode("utf-8", "replace"),))
    shelf.close()
    again = SqliteShelf(where)
    again.close()
    return again.book


def _certificate(data: bytes) -> object:
    """A subject as Python's TLS gives it."""
    names = [part.split(b"=", 1) for part in data.split(b",") if b"=" in part]
    subject = tuple((((k.decode("latin-1"), v.decode("latin-1"))),) for k, v in names)
    return common_name({"subject": subject})


# ---- a rebuild's frames ---------------------------------------------------------------------------------------------


class _Socket:
    """Gives what it has, in pieces."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def recv_into(self, buffer: memoryview) -> int:
        """As a socket's."""
        piece = self._data[: min(len(buffer), 1000)]
        buffer[: len(piece)] = piece
        self._data = self._data[len(piece) :]
        return len(piece)


def _frames(data: bytes) -> object:
    """A conversation as the rebuild reads it: an answer, then data up to an end."""
    reader = protocol.Reader(cast("ssl.SSLSocket", _Socket(data)))
    answer = _accepted(reader.message(protocol.ANSWER))
    estimate = answer.get("bytes")
    if isinstance(estimate, int):
        _fits(estimate, directory())
    Standing.of(answer)
    got = 0
    while True:
        kind, payload = reader.frame()
        if kind == protocol.END:
            return _accepted(protocol.parsed(payload))
        got += len(payload)


def _question(data: bytes) -> object:
    """What a donor is asked."""
    return protocol.Reader(cast("ssl.SSLSocket", _Socket(data))).message(protocol.ASK)


def _frame(kind: bytes, payload: bytes) -> bytes:
    return struct.pack("!cI", kind, len(payload)) + payload


_STANDING = Standing("10.11.6", read_only=True, binlog_state="0-1-500", replicates_from="10.0.0.1", data="/d").message()
_ANSWER = _frame(protocol.ANSWER, json.dumps(_STANDING | {"bytes": 1 << 20}).encode())
_END = _frame(protocol.END, b'{"bytes": 3, "state_before": "0-1-500", "state_after": "0-1-500"}')

TARGETS = [
    Target(
        "report",
        "another node's report",
        _round(wire.decode_report, wire.encode_report),
        lambda: REPORTS,
        (wire.WireError,),
    ),
    Target(
        "record",
        "the store's record",
        _round(wire.decode_record, wire.encode_record),
        lambda: RECORDS,
        (wire.WireError,),
    ),
    Target(
        "view",
        "the input of a decision, from the audit or the control socket",
        _round(views.decode, views.encode),
        lambda: [views.encode(stories.view("mail2")), views.encode(stories.view("arbiter"))],
        (views.ViewError,),
        64 * 1024,
    ),
    Target(
        "peer-request",
        "requests of a member to the node's HTTPS server",
        _peers,
        lambda: [b"POST " + PATH.encode() + b"\n" + report for report in REPORTS] + [b"GET /peer/v1/history\n"],
    ),
    Target(
        "node-answer",
        "the HTTP answer of another node",
        _answer,
        lambda: [
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 412 No\r\ncontent-length: 1\r\n\r\nx",
        ],
        (LinkError,),
    ),
    Target("peer-past", "what another node has noted of the past", _past, _past_made, (history.NotUnderstoodError,)),
    Target("alerts-hello", "another node's book of alerts", _hello, lambda: [TypeAdapter(Hello).dump_json(_HELLO)]),
    Target(
        "alerts-shelf",
        "rows of the queue of alerts",
        _shelf,
        lambda: [TypeAdapter(Entry).dump_json(_ENTRY) + b"\n" + TypeAdapter(Message).dump_json(_MESSAGE)],
    ),
    Target("certificate-name", "the subject of a certificate", _certificate, lambda: [b"commonName=mail1,O=lab"]),
    Target(
        "donor-answer",
        "what a donor sends to a rebuild",
        _frames,
        lambda: [_ANSWER + _frame(protocol.DATA, b"abc") + _frame(protocol.ALIVE, b"") + _END],
        (RebuildError, OSError),
    ),
    Target(
        "donor-question",
        "what a donor is asked",
        _question,
        lambda: [_frame(protocol.ASK, b'{"what": "backup", "from_primary": true}')],
        (RebuildError, OSError),
    ),
]
