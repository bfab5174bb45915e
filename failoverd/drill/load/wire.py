"""One connection, plain or TLS, from the plain one to TLS in its middle: just enough to speak a protocol by hand.

Not asyncio's streams and TLS: those keep a buffer of 256 KiB for each connection, 125 MiB for 500 people, and cost
several times as much of the processor. Nothing here waits without end: callers set deadlines, and what a server sends
unasked is read no further than HIGH.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, cast

from failoverd.drill.load.answers import AnswerError

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_LINE = 16 * 1024
HIGH = 256 * 1024
CHUNK = 64 * 1024


class Wire(asyncio.Protocol):
    """Made by `connect`. Raises AnswerError("failed") where the connection has ended, or makes no sense."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._plain = bytearray()  # received and decrypted, not yet read
        self._tls: ssl.SSLObject | None = None
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._agreed = False  # the handshake is over
        self._waiting: asyncio.Future[None] | None = None
        self._ended = ""  # why nothing comes any more
        self._paused = False
        self.on_arrival: Callable[[], None] | None = None

    @classmethod
    async def connect(cls, address: str, port: int) -> Wire:
        """Connect to an address (no name: nothing is looked up). Raises OSError."""
        _, wire = await asyncio.get_running_loop().create_connection(cls, address, port)
        return wire

    async def secure(self, context: ssl.SSLContext, server_name: str) -> None:
        """Go on in TLS, with a server that proves its name. Raises OSError (ssl.SSLError) or AnswerError."""
        if self._plain:  # sent before there was a key, to be taken for what the server said after
            raise AnswerError("failed", "the server goes on in the clear after STARTTLS")
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=server_name)
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                await self._more()
            else:
                break
        self._agreed = True
        self._flush()
        self._decrypt()

    # ---- asyncio.Protocol -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There is one."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Something has come."""
        if self._tls is None:
            self._plain += data
        else:
            self._in.write(data)
            if self._agreed:
                self._decrypt()
        if len(self._plain) > HIGH and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """Nothing more will come: what has come can still be read."""
        self._ended = self._ended or "closed by the server"
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._ended = self._ended or str(exc or "closed")
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
        if self.on_arrival is not None:
            self.on_arrival()

    def _decrypt(self) -> None:
        assert self._tls is not None  # noqa: S101 - callers have looked
        try:
            while data := self._tls.read(CHUNK):
                self._plain += data
            self._ended = self._ended or "closed by the server"
        except ssl.SSLWantReadError:
            self._flush()  # a new key may want an answer
        except ssl.SSLError as error:
            self._ended = self._ended or (error.reason or "TLS")

    def _flush(self) -> None:
        if self._out.pending and self._transport is not None:
            self._transport.write(self._out.read())

    # ---- for who speaks a protocol ----------------------------------------------------------------------------------

    @property
    def ended(self) -> str:
        """Why nothing comes any more; "": more may come."""
        return self._ended

    def send(self, data: bytes) -> None:
        """Send it: a command or a message, so nothing that would have to be held back."""
        if self._ended or self._transport is None:
            raise AnswerError("failed", self._ended or "not connected")
        if self._tls is None:
            self._transport.write(data)
            return
        try:
            while data:
                data = data[self._tls.write(data) :]
        except ssl.SSLError as error:
            raise AnswerError("failed", error.reason or "TLS") from None
        self._flush()

    def next_line(self) -> bytes | None:
        """Return a line without its end, if one has come."""
        end = self._plain.find(b"\n")
        if end < 0:
            if len(self._plain) > LONGEST_LINE:
                raise AnswerError("failed", "a line without an end")
            return None
        line = bytes(self._plain[:end]).rstrip(b"\r")
        self._taken(end + 1)
        return line

    async def line(self) -> bytes:
        """Return the next line without its end."""
        while (line := self.next_line()) is None:
            await self._more()
        return line

    async def exactly(self, size: int) -> bytes:
        """Return so many bytes, less than HIGH."""
        if size >= HIGH:
            raise AnswerError("failed", f"{size} bytes in one piece")
        while len(self._plain) < size:
            await self._more()
        data = bytes(self._plain[:size])
        self._taken(size)
        return data

    def _taken(self, size: int) -> None:
        del self._plain[:size]
        if self._paused and len(self._plain) < HIGH // 2 and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    async def _more(self) -> None:
        """Wait until something has come."""
        if self._ended:
            raise AnswerError("failed", self._ended)
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def close(self) -> None:
        """End it, after what was sent."""
        self.on_arrival = None
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End it at once: a server that takes nothing is not waited for."""
        self.on_arrival = None
        if self._transport is not None:
            self._transport.abort()
