"""One connection, plain or TLS, with just enough to speak a protocol by hand.

asyncio's streams and its TLS transport cost several times as much for each connection, and sixty new connections a
second beside four hosts on two cores must not be what the hosts wait for. TLS sessions are resumed if the server can.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from typing import Self


class ProtocolError(Exception):
    """The server said no, or something else than the protocol allows; its text is what the record keeps."""


class Wire:
    """A stream socket that never blocks. `stage` names what is awaited, so that a time-out can say it."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)  # its parameter has no name
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._buffer = bytearray()
        self.stage = "connect"

    @classmethod
    def tcp(cls) -> Self:
        """Make one for TCP; nothing is sent before `connect`."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(sock)

    @classmethod
    def unix(cls) -> Self:
        """Make one for a socket in the file system."""
        return cls(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))

    def listener(self) -> int:
        """The process that listens on the Unix socket, by its number here."""
        pid, _, _ = struct.unpack("3i", self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(pid)

    async def connect(self, address: tuple[str, int] | str) -> None:
        """Connect to (address, port), or to the socket at this path."""
        await self._loop.sock_connect(self._sock, address)

    async def line(self) -> bytes:
        """Read one line, without its end."""
        while (end := self._buffer.find(b"\n")) < 0:
            await self._fill()
        text = bytes(self._buffer[:end]).rstrip(b"\r")
        del self._buffer[: end + 1]
        return text

    async def exactly(self, size: int) -> bytes:
        """Read this many bytes."""
        while len(self._buffer) < size:
            await self._fill()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def send(self, data: bytes) -> None:
        """Send it all."""
        await self._loop.sock_sendall(self._sock, data)

    def bid_farewell(self, data: bytes) -> None:
        """Send a last word if the socket takes it at once, then close: nobody waits for a goodbye."""
        with contextlib.suppress(OSError):
            self._sock.send(data)
        self.close()

    def close(self) -> None:
        """Close. Idempotent."""
        self._sock.close()

    async def _fill(self) -> None:
        self._buffer += await self._receive()

    async def _receive(self) -> bytes:
        data = await self._loop.sock_recv(self._sock, 65536)
        if not data:
            raise ProtocolError("closed by the server")
        return data


class TlsWire(Wire):
    """The same through TLS. The server's certificate is not the client's question: failoverd's probes ask it."""

    _context: ssl.SSLContext | None = None
    _session: ssl.SSLSession | None = None

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        if TlsWire._context is None:
            TlsWire._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            TlsWire._context.check_hostname = False
            TlsWire._context.verify_mode = ssl.CERT_NONE
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = TlsWire._context.wrap_bio(self._in, self._out, session=TlsWire._session)

    async def handshake(self) -> None:
        """Agree on keys, with those of an earlier connection if the server remembers it."""
        self.stage = "TLS handshake"
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                self._in.write(await super()._receive())
            else:
                await self._flush()
                return

    async def send(self, data: bytes) -> None:
        """Encrypt and send it all."""
        self._tls.write(data)
        await self._flush()

    def bid_farewell(self, data: bytes) -> None:
        """Send a last word and close; a session that the server gave is kept for the next connection."""
        TlsWire._session = self._tls.session or TlsWire._session
        self._tls.write(data)
        super().bid_farewell(self._out.read())

    async def _flush(self) -> None:
        if self._out.pending:
            await super().send(self._out.read())

    async def _receive(self) -> bytes:
        while True:
            try:
                data = self._tls.read(65536)
            except ssl.SSLWantReadError:
                self._in.write(await super()._receive())
                continue
            if not data:
                raise ProtocolError("closed by the server")
            return data
