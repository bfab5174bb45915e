"""The lean client of the scale benchmark: many kept TLS connections and timers in one thread, one epoll, no tasks.

    Wire.at(when, call)         a timer
    Exchange.ask(bytes)         one HTTP/1.1 request; the answer's pieces, then its end, come by callback
                                a watch is an answer that does not end

What is measured is etcd, so this costs as little as Python lets it: non-blocking sockets under OpenSSL, httptools, and
nothing between them.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import selectors
import socket
import ssl
import time
from typing import TYPE_CHECKING, Protocol

import httptools

if TYPE_CHECKING:
    from collections.abc import Callable

# What httpx sends for failoverd/stores/etcd_link.py.
_HEADERS = (
    "Accept: */*\r\nAccept-Encoding: identity\r\nConnection: keep-alive\r\n"
    "User-Agent: failoverd\r\nContent-Type: application/json\r\n"
)
_PIECE = 32 * 1024


class Listener(Protocol):
    """Who is told of an exchange."""

    def piece(self, exchange: Exchange, data: bytes) -> None:
        """Tell of a part of the answer's body."""
        ...

    def answered(self, exchange: Exchange, status: int) -> None:
        """Tell that the answer is complete; the connection may be used again."""
        ...

    def broken(self, exchange: Exchange, why: str) -> None:
        """Tell that the connection is gone. Never told of one that was aborted here."""
        ...


class Wire:
    """The loop. Times are seconds of time.monotonic()."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.handshakes = 0
        self._selector = selectors.EpollSelector()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, when_s: float, call: Callable[[], None]) -> None:
        """Call it then. It looks for itself whether there is still a reason."""
        heapq.heappush(self._timers, (when_s, next(self._order), call))

    def watch_socket(self, sock: socket.socket | int, events: int, call: Callable[[], None]) -> None:
        """Call it whenever the socket is ready for `events`."""
        self._selector.register(sock, events, call)

    def change_socket(self, sock: socket.socket, events: int, call: Callable[[], None]) -> None:
        """Wait for other events of it."""
        self._selector.modify(sock, events, call)

    def forget_socket(self, sock: socket.socket) -> None:
        """Wait for it no more."""
        self._selector.unregister(sock)

    def run(self, goes_on: Callable[[], bool]) -> None:
        """Work for as long as `goes_on` says so, asked before each round."""
        timers = self._timers
        while goes_on():
            now_s = time.monotonic()
            while timers and timers[0][0] <= now_s:
                heapq.heappop(timers)[2]()
            wait_s = max(0.0, timers[0][0] - time.monotonic()) if timers else 1.0
            for key, _ in self._selector.select(min(wait_s, 1.0)):
                key.data()

    def close(self) -> None:
        """Forget everything."""
        self._selector.close()


class Exchange:
    """One connection, made when it is first needed, and at most one request on it at a time."""

    def __init__(self, wire: Wire, where: tuple[str, int], listener: Listener) -> None:
        self.where = where
        self.busy = False
        self.idle_since_s = 0.0
        self._wire = wire
        self.listener = listener
        self._head = (f"Host: {where[0]}:{where[1]}\r\n" + _HEADERS).encode()
        self._sock: socket.socket | None = None
        self._waiting = b""
        self._parser: httptools.HttpResponseParser | None = None
        self._ready = False

    @property
    def open(self) -> bool:
        """Whether there is a connection, or one is being made."""
        return self._sock is not None

    def ask(self, path: bytes, body: bytes, token: bytes = b"") -> None:
        """Send a request."""
        if self.busy:
            raise AssertionError("one request at a time")
        self.busy = True
        authorization = b"authorization: " + token + b"\r\n" if token else b""
        head = b"POST " + path + b" HTTP/1.1\r\n" + self._head + authorization
        message = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        if self._sock is None:
            self._connect(message)
        elif self._ready:
            self._write(message)
        else:
            raise AssertionError("not connected, and not busy")

    def abort(self) -> None:
        """End the connection now. Nobody is told."""
        self.busy = self._ready = False
        if self._sock is not None:
            with contextlib.suppress(KeyError):
                self._wire.forget_socket(self._sock)
            self._sock.close()
            self._sock = None

    def _connect(self, message: bytes) -> None:
        raw = socket.socket()
        raw.setblocking(False)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if raw.connect_ex(self.where) not in {0, errno.EINPROGRESS}:
            raw.close()
            self._wire.at(0.0, lambda: self._broken("refused"))
            return
        self._waiting = message
        self._parser = httptools.HttpResponseParser(self)
        self._sock = raw
        self._wire.watch_socket(raw, selectors.EVENT_WRITE, self._connected)

    def _connected(self) -> None:
        raw = self._sock
        if raw is None:
            return
        self._wire.forget_socket(raw)
        try:
            self._sock = self._wire.context.wrap_socket(
                raw, do_handshake_on_connect=False, server_hostname=self.where[0]
            )
        except OSError as error:
            self._sock = None
            raw.close()
            self._broken(f"connect: {error}")
            return
        self._wire.watch_socket(self._sock, selectors.EVENT_READ, self._shake)
        self._shake()

    def _shake(self) -> None:
        sock = self._sock
        if sock is None:
            return
        try:
            sock.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return  # a client's few KB fit into the socket: it only ever waits for the other side
        except OSError as error:
            self._broken(f"handshake: {error}")
        else:
            self._wire.handshakes += 1
            self._ready = True
            self._wire.change_socket(sock, selectors.EVENT_READ, self._read)
            self._write(self._waiting)
            self._waiting = b""

    def _write(self, message: bytes) -> None:
        assert self._sock is not None
        try:
            if self._sock.send(message) != len(message):
                self._broken("a request did not fit into the socket")  # some KB into an empty one: the peer is stuck
        except OSError as error:
            self._broken(f"write: {error}")

    def _read(self) -> None:
        sock = self._sock
        while sock is not None and self._sock is sock:
            try:
                data = sock.recv(_PIECE)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                self._broken(f"read: {error}")
                return
            if not data:
                self._broken("closed by etcd")
                return
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserError as error:
                self._broken(f"no HTTP: {error}")
                return
            if self._sock is sock and not sock.pending():  # type: ignore[attr-defined] - under TLS by now
                return

    def _broken(self, why: str) -> None:
        self.abort()
        self.listener.broken(self, why)

    # httptools' callbacks

    def on_body(self, data: bytes) -> None:
        """Pass it on."""
        self.listener.piece(self, data)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self.busy:  # not aborted by what it said
            self.busy = False
            self.idle_since_s = time.monotonic()
            self.listener.answered(self, self._parser.get_status_code())
