"""SMTP submission as a mail program speaks it: encrypted, logged in, one message (RFC 5321, 6409)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from failoverd.drill.load.answers import DONE, GO_ON, AnswerError, smtp_line, smtp_outcome
from failoverd.drill.load.wire import Wire

if TYPE_CHECKING:
    from failoverd.drill.load.service import Account, Service

MOST_LINES = 200  # of one reply
OUR_NAME = b"[127.0.0.1]"  # an address literal is what a client without a name of its own says


class Smtp:
    """One session. Raises AnswerError or OSError; deadlines are the caller's."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.in_doubt = False  # a message was sent, and nothing was said to it yet

    @classmethod
    async def connected(cls, service: Service) -> Smtp:
        """Connect, up to TLS and the greeting."""
        wire = await Wire.connect(service.address, service.port)
        try:
            if service.tls == "implicit":
                await wire.secure(service.context, service.server_name)
            self = cls(wire)
            await self._reply(DONE)
            await self.command(b"EHLO " + OUR_NAME)
            if service.tls == "starttls":
                await self.command(b"STARTTLS")
                await wire.secure(service.context, service.server_name)
                await self.command(b"EHLO " + OUR_NAME)
        except BaseException:
            wire.abort()
            raise
        return self

    async def log_in(self, account: Account) -> None:
        """AUTH PLAIN."""
        secret = base64.b64encode(f"\0{account.name}\0{account.password}".encode())
        await self.command(b"AUTH PLAIN " + secret)

    async def submit(self, sender: str, recipient: str, message: bytes) -> None:
        """Hand over a message; when this returns, the server has taken responsibility. `message`: lines end in CRLF."""
        await self.command(f"MAIL FROM:<{sender}>".encode())
        await self.command(f"RCPT TO:<{recipient}>".encode())
        await self.command(b"DATA", GO_ON)
        self.wire.send(message.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        self.in_doubt = True
        await self._reply(DONE)

    async def quit(self) -> None:
        """Say goodbye and wait for the answer."""
        await self.command(b"QUIT")
        self.wire.close()

    def leave(self) -> None:
        """Say goodbye and wait for nothing."""
        try:
            self.wire.send(b"QUIT\r\n")
        except AnswerError:
            self.wire.abort()
        else:
            self.wire.close()

    async def command(self, line: bytes, wanted: int = DONE) -> None:
        """Give one, and see it answered as is `wanted`. Raises AnswerError by the reply's code."""
        self.wire.send(line + b"\r\n")
        await self._reply(wanted)

    async def _reply(self, wanted: int) -> None:
        for _ in range(MOST_LINES):
            line = await self.wire.line()
            code, last = smtp_line(line)
            if last:
                self.in_doubt = False
                outcome = smtp_outcome(code, wanted)
                if outcome != "ok":
                    raise AnswerError(outcome, line[:80].decode("ascii", "replace"))
                return
        raise AnswerError("failed", "a reply without an end")
