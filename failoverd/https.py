"""Kept HTTPS connections to one other node, for the two clients in the lease's way: the store's and the peers'.

Why not httpx here: a request of it that is cancelled during the TLS handshake (a node that accepts and never answers)
leaves its socket to the garbage collector, and a round trip costs several times the CPU. This is one asyncio protocol
around httptools, whose connection is aborted, with a reset, as soon as a request on it did not end well:

    request ── idle connection, or a new one ── write ── answer complete ── idle again
       └ deadline over, cancelled, lost, malformed ──> abort: no socket, task or timer is left
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httptools

from failoverd.credentials import newest

if TYPE_CHECKING:
    import ssl

IDLE_S = 10.0  # half of what the server keeps an idle connection for
AGE_S = 3600.0  # of any connection; and none is used again that was made with credentials that were replaced
KEPT = 2  # idle connections
_ANSWER_LIMIT = 512 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER for 0 s: nothing stays in the kernel for a peer that is gone


class LinkError(Exception):
    """No answer: nothing is known about what the other side did. The text says what happened here."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response that arrived whole."""

    status: int
    body: bytes


class _Connection(asyncio.Protocol):
    """One connection; at most one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.usable = False
        self.idle_since = self.made = 0.0
        self.context: ssl.SSLContext | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
        self._answer: asyncio.Future[Answer] | None = None

    async def ask(self, message: bytes) -> Answer:
        """Send the request `message` and wait for its answer, for as long as the caller lets it. Raises LinkError."""
        if self.transport is None or not self.usable:
            raise LinkError("the connection was lost at once")
        self._body = b""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(message)
        try:
            return await self._answer
        finally:
            self._answer = None

    def abort(self) -> None:
        """End it now, at both ends."""
        self.usable = False
        if self.transport is not None:
            with contextlib.suppress(OSError):
                raw: socket.socket | None = self.transport.get_extra_info("socket")
                if raw is not None:
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.transport.abort()

    def _fail(self, reason: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(LinkError(reason))
        self.abort()

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"a stream's transport was expected, not {type(transport).__name__}")
        self.transport = transport
        self.usable = True

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self.abort()  # it says something without having been asked
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"its answer is no HTTP: {error}")

    def eof_received(self) -> None:
        self._fail("the other side closed the connection without an answer")

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"connection lost: {exc}" if exc else "the other side closed the connection without an answer")

    # httptools' callbacks

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > _ANSWER_LIMIT:
            self._fail(f"its answer is longer than {_ANSWER_LIMIT} bytes")

    def on_message_complete(self) -> None:
        if self._answer is not None and not self._answer.done():
            self.usable = self.usable and self._parser.should_keep_alive()
            self._answer.set_result(Answer(self._parser.get_status_code(), self._body))


class Link:
    """Requests to one node. As many connections as requests at once; afterwards KEPT of them stay."""

    def __init__(self, address: str, port: int, ssl_context: ssl.SSLContext) -> None:
        self._address = address
        self._port = port
        self._ssl_context = ssl_context
        host = f"[{address}]" if ":" in address else address
        self._host = f"host: {host}:{port}\r\n"
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()

    async def request(
        self, method: str, path: str, *, deadline_ms: int, body: bytes = b"", headers: str = ""
    ) -> Answer:
        """Ask and return the answer within `deadline_ms`, connecting included. Raises LinkError, and only that.

        `headers` are whole lines, each with its CRLF.
        """
        length = f"content-length: {len(body)}\r\n" if body else ""
        message = f"{method} {path} HTTP/1.1\r\n{self._host}{headers}{length}\r\n".encode() + body
        try:
            async with asyncio.timeout(deadline_ms / 1000):
                return await self._ask(message, deadline_ms)
        except TimeoutError:
            raise LinkError(f"no answer within {deadline_ms} ms") from None
        except OSError as error:  # refused, no route, and every ssl.SSLError
            raise LinkError(f"{type(error).__name__}: {error}".removesuffix(": ")) from error

    async def _ask(self, message: bytes, deadline_ms: int) -> Answer:
        connection = self._kept() or await self._connect(deadline_ms)
        self._busy.add(connection)
        try:
            answer = await connection.ask(message)
        except BaseException:
            connection.abort()
            raise
        finally:
            self._busy.discard(connection)
        if connection.usable and len(self._idle) < KEPT:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
        else:
            connection.abort()
        return answer

    def _kept(self) -> _Connection | None:
        now, context = asyncio.get_running_loop().time(), newest(self._ssl_context)
        while self._idle:
            connection = self._idle.pop()
            young = now - connection.idle_since < IDLE_S and now - connection.made < AGE_S
            if connection.usable and young and connection.context is context:
                return connection
            connection.abort()
        return None

    async def _connect(self, deadline_ms: int) -> _Connection:
        loop, context = asyncio.get_running_loop(), newest(self._ssl_context)
        _, connection = await loop.create_connection(
            _Connection,
            self._address,
            self._port,
            ssl=context,
            # A cancelled handshake is aborted at once, but for the moment before it begins: that one by its own bound.
            ssl_handshake_timeout=deadline_ms / 1000,
        )
        connection.context, connection.made = context, loop.time()
        return connection

    def close(self) -> None:
        """End every connection; requests under way fail."""
        for connection in (*self._idle, *self._busy):
            connection.abort()
        self._idle.clear()
