"""What failoverctl is told and prints: documents of a daemon, this version's or another's, and of other nodes."""

from __future__ import annotations

import io
import json
import socket
import threading
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import control_stage as told
from pydantic import TypeAdapter
from target import Target

from failoverd.ctl import alone_peers, check, history, table
from failoverd.runtime import document as doc
from failoverd.runtime.document import DocumentError, from_json
from failoverd.runtime.document_history import HistoryDocument

if TYPE_CHECKING:
    from collections.abc import Callable


def _printed(kind: Any, show: Callable[[Any], object]) -> Callable[[bytes], object]:
    """Read a document and print it: whatever stands in it, lines for a terminal come out."""

    def entry(data: bytes) -> object:
        document = from_json(kind, data)
        file = io.StringIO()
        with redirect_stdout(file):
            lines = show(document)
            if lines is not None:
                print("\n".join(lines))
        printed = file.getvalue()
        printed.encode()
        assert "\x1b" not in printed, printed
        return printed

    return entry


def _status(document: doc.StatusDocument) -> None:
    from failoverd.ctl import printed  # noqa: PLC0415 - as failoverctl does

    printed.screen(lambda console: table.draw(console, document))


def _history(document: HistoryDocument) -> None:
    history._list(document, document.changes, document.events, everything=True)
    for change in document.changes:
        history._show(change)
    for past in document.events:
        history._show_event(past)


def _made(*documents: Any) -> Callable[[], list[bytes]]:
    return lambda: [TypeAdapter(type(document)).dump_json(document) for document in documents]


def _node(data: bytes) -> object:
    """What another node's public listener says, as `failoverctl status` hears it where no daemon answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                with listener.accept()[0] as accepted:
                    accepted.settimeout(5)
                    accepted.recv(65536)
                    accepted.sendall(data)
            except OSError:
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        heard = alone_peers.ask("mail2", "127.0.0.1", listener.getsockname()[1], 2.0, tls=False)
    thread.join()
    alone_peers.worth(heard)
    if heard.status is not None:
        json.dumps(heard.raw)
        _printed(doc.StatusDocument, _status)(TypeAdapter(doc.StatusDocument).dump_json(heard.status))
    return heard.why


def _node_made() -> list[bytes]:
    body = TypeAdapter(doc.StatusDocument).dump_json(told.HEALTHY)
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return [head + body, chunked, b"HTTP/1.1 403 No\r\n\r\n", b"HTTP/1.1 301 Moved\r\nlocation: http://x/\r\n\r\n"]


_EVENT = doc.Event(elapsed_ms=12, node="mail1", text="close-gate")

TARGETS = [
    Target(
        "status-document",
        "a daemon's status",
        _printed(doc.StatusDocument, _status),
        _made(told.HEALTHY, told.DEGRADED, told.BLOCKED, told.PAUSED, told.UNPROVEN, told.BOUNDED, told.CONDEMNED),
        (DocumentError,),
        32 * 1024,
    ),
    Target(
        "check-document",
        "a daemon's findings",
        _printed(doc.CheckDocument, check._lines),
        _made(told.FIT, told.WARNED, told.UNFIT, told.UNSEEN),
        (DocumentError,),
    ),
    Target(
        "history-document",
        "a daemon's past",
        _printed(HistoryDocument, _history),
        _made(told.PAST),
        (DocumentError,),
    ),
    Target(
        "event-lines",
        "the events of a request",
        lambda data: [from_json(doc.Event, line) for line in data.splitlines()],
        _made(_EVENT),
        (DocumentError,),
    ),
    Target("node-status", "another node's public listener", _node, _node_made),
]
