"""IMAP as a client sees it: TLS, login and SELECT of the canary's mailbox.

A login alone is not enough: Dovecot answers it with OK while the mail store is broken, and then fails at SELECT.

aioimaplib does the commands, held by a guard (see `link`): by itself it waits for ever when the server closes, greets
with BYE or sends what it cannot parse, and it writes passwords into debug lines and exceptions. It is therefore given
a placeholder, and the password goes into the line on its way to the wire.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from aioimaplib.aioimaplib import (  # type: ignore[import-untyped]  # it comes without types
    NONAUTH,
    Command,
    IMAP4ClientProtocol,
    quoted,
)

from failoverd.core.model import Health, Reading
from failoverd.probes.link import Found, Guard, Link, Tls, open_link, shown, tls_context

if TYPE_CHECKING:
    from failoverd.ports import Target

_PLACEHOLDER = "the password goes here"
_LOST = "connection lost"  # a command's result when its connection is over; the server's are single words
_UNSAFE = re.compile(r"[\x00\r\n]")


class _Imap(Guard, IMAP4ClientProtocol):  # type: ignore[misc]  # likewise
    """aioimaplib's protocol, made honest: every wait ends when the connection does, and nothing is logged."""

    pending_sync_command: Command | None

    def __init__(self, password: str, *, tls_first: bool) -> None:
        loop = asyncio.get_running_loop()
        IMAP4ClientProtocol.__init__(self, loop)
        self.arm(tls_first=tls_first)
        self.greeted: asyncio.Future[bytes] = loop.create_future()
        self._begun = b""
        self._password = password

    def feed(self, data: bytes) -> None:
        """Take the greeting here (the library starts a task for it whose errors nobody sees), the rest there."""
        if not self.greeted.done():
            line, end, data = (self._begun + data).partition(b"\r\n")
            if not end:
                self._begun = line
                return
            self.greeted.set_result(line)
            self.state = NONAUTH
        if data:
            super().feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """End whoever waits."""
        super().connection_lost(exc)
        if not self.greeted.done():
            self.greeted.set_result(b"")
        self._end_command()

    def send(self, line: str, scrub: str | None = None) -> None:
        """Write a command's line, with the password in its place. The library's own method would log it."""
        if self.over or self.broken:
            self._end_command()
            return
        if scrub is not None:
            line = line.replace(quoted(_PLACEHOLDER), quoted(self._password))
        self.transport.write(f"{line}\r\n".encode())

    def _end_command(self) -> None:
        command, self.pending_sync_command = self.pending_sync_command, None
        if command is not None:
            command.close(b"", _LOST)

    def leftover(self) -> bool:
        """Whether something came that no command had asked for and no line end has finished."""
        return bool(self.incomplete_line)


class ImapProbe:
    """Log in, SELECT, log out."""

    def __init__(
        self,
        *,
        port: int,
        tls: Tls,
        ca: str | None,
        server_name: str,
        user: str,
        password: str,
        mailbox: str = "INBOX",
    ) -> None:
        for word in (user, password, mailbox):
            if _UNSAFE.search(word):
                raise ValueError("user, password and mailbox must not contain line ends or NUL")
        self._port = port
        self._tls = tls
        self._context = None if tls == "none" else tls_context(ca)
        self._server_name = server_name
        self._user = user
        self._password = password
        self._mailbox = mailbox

    async def read(self, target: Target) -> Reading:
        """Look once; see `ports.Probe`."""
        try:
            async with open_link("IMAP", target, self._port, self._protocol) as link:
                await self._greet(link)
                await self._login(link)
                return await self._select(link)
        except Found as found:
            return found.reading

    def _protocol(self) -> _Imap:
        return _Imap(self._password, tls_first=self._tls == "implicit")

    async def _greet(self, link: Link[_Imap]) -> None:
        imap = link.protocol
        if self._tls == "implicit" and self._context is not None:
            link.stage("NO_GREETING", "accepted the connection, did not answer the TLS handshake")
            imap.transport = await link.start_tls(self._context, self._server_name)
        line = await link.greeting(imap.greeted, plain=self._tls != "implicit")
        if not line:
            link.closed("before its greeting")
        word = line[:6].upper()
        if word.startswith(b"* BYE"):
            link.failed("NOT_READY", f"greeted with {shown(line)}")
        if not word.startswith(b"* OK"):
            link.failed("GARBAGE", f"greeted with {shown(line)}")
        if self._tls == "starttls" and self._context is not None:
            link.stage("TIMEOUT_TLS", "sent a greeting, did not answer STARTTLS")
            answer = await imap.execute(Command("STARTTLS", imap.new_tag(), loop=imap.loop))
            self._check(link, answer, "NO_STARTTLS", "refused STARTTLS")
            if imap.leftover():
                link.failed("GARBAGE", "sent plain text after it had agreed to TLS")
            link.stage("TIMEOUT_TLS", "agreed to TLS, did not finish the handshake")
            imap.transport = await link.start_tls(self._context, self._server_name)

    async def _login(self, link: Link[_Imap]) -> None:
        link.alive()
        link.stage("TIMEOUT_LOGIN", "sent a greeting, did not answer LOGIN")
        try:
            answer = await link.protocol.login(quoted(self._user), _PLACEHOLDER)
        except UnicodeDecodeError:  # the library reads capabilities in its answer
            link.failed("GARBAGE", "answered LOGIN with what is no text")
        self._check(link, answer, "LOGIN_REFUSED", "refused the login")

    async def _select(self, link: Link[_Imap]) -> Reading:
        link.stage("TIMEOUT_SELECT", f"logged in, did not answer SELECT {self._mailbox}")
        answer = await link.protocol.select(quoted(self._mailbox))
        self._check(link, answer, "SELECT_FAILED", f"logged in, refused SELECT {self._mailbox}")
        reading = Reading(Health.OK)
        link.attempt.settle(reading)
        await link.protocol.logout()  # however it ends
        return reading

    def _check(self, link: Link[_Imap], answer: Any, kind: str, words: str) -> None:  # noqa: ANN401 - untyped library
        if answer.result == "OK":
            return
        if answer.result == _LOST:
            said = [shown(line) for line in answer.lines if bytes(line).upper().startswith(b"BYE")]
            link.closed(" ".join([_WHEN[kind], *said]))
        text = b" ".join(bytes(line) for line in answer.lines[-1:])
        link.failed(kind, f"{words}: {shown(text, self._password, quoted(self._password))}")


_WHEN = {
    "NO_STARTTLS": "after STARTTLS",
    "LOGIN_REFUSED": "after LOGIN",
    "SELECT_FAILED": "after SELECT",
}
