"""SMTP as a sender sees it: EHLO, STARTTLS, EHLO, MAIL FROM:<>, RCPT TO the canary, RSET, QUIT. No mail is sent.

RCPT is the point: Postfix looks the recipient up in the SQL maps, and answers 451 when these are out of reach.

aiosmtplib's protocol does the parsing; the probe does the connecting itself (see `link`), because the client class
above it hides the transport until the greeting has come.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

from aiosmtplib.errors import SMTPResponseException, SMTPServerDisconnected
from aiosmtplib.protocol import SMTPProtocol

from failoverd.core.model import Health, Reading
from failoverd.probes.link import Found, Guard, Link, Tls, open_link, shown, tls_context

if TYPE_CHECKING:
    from aiosmtplib.response import SMTPResponse

    from failoverd.ports import Target


class _Smtp(Guard, SMTPProtocol):
    """aiosmtplib's protocol behind the guard."""

    def __init__(self, *, tls_first: bool) -> None:
        SMTPProtocol.__init__(self, loop=asyncio.get_running_loop())
        self.arm(tls_first=tls_first)


class SmtpProbe:
    """Offer a mail to the canary, and do not send it."""

    def __init__(
        self, *, port: int, tls: Tls, ca: str | None, server_name: str, recipient: str, ehlo_name: str
    ) -> None:
        self._port = port
        self._tls = tls
        self._context = None if tls == "none" else tls_context(ca)
        self._server_name = server_name
        self._recipient = recipient.encode("ascii")
        self._ehlo_name = ehlo_name.encode("ascii")

    async def read(self, target: Target) -> Reading:
        """Look once; see `ports.Probe`."""
        try:
            async with open_link("SMTP", target, self._port, self._protocol) as link:
                await self._greet(link)
                await self._ehlo(link)
                if self._tls == "starttls":
                    await self._start_tls(link)
                    await self._ehlo(link)
                await self._offer(link)
                return await self._leave(link)
        except Found as found:
            return found.reading

    def _protocol(self) -> _Smtp:
        return _Smtp(tls_first=self._tls == "implicit")

    async def _greet(self, link: Link[_Smtp]) -> None:
        smtp = link.protocol
        if self._tls == "implicit" and self._context is not None:
            link.stage("NO_GREETING", "accepted the connection, did not answer the TLS handshake")
            smtp.transport = await link.start_tls(self._context, self._server_name)
        try:
            answer = await link.greeting(smtp.read_response(), plain=self._tls != "implicit")
        except SMTPServerDisconnected:
            link.closed("before its greeting")
        except SMTPResponseException as error:
            self._garbage(link, error)
        if answer.code != 220:
            link.failed("NOT_READY", f"greeted with {_said(answer)}")
        link.alive()

    async def _ehlo(self, link: Link[_Smtp]) -> None:
        answer = await self._command(link, "EHLO", b"EHLO", self._ehlo_name)
        if answer.code != 250:
            link.failed("EHLO_REFUSED", f"refused EHLO: {_said(answer)}")

    async def _start_tls(self, link: Link[_Smtp]) -> None:
        link.stage("TIMEOUT_TLS", "answered EHLO, did not finish STARTTLS")
        await link.handshake(self._upgrade(link))

    async def _upgrade(self, link: Link[_Smtp]) -> asyncio.Transport | None:
        if self._context is None:
            raise AssertionError("STARTTLS without a context")
        try:
            await link.protocol.start_tls(self._context, self._server_name)
        except SMTPServerDisconnected:
            link.closed("after STARTTLS")
        except SMTPResponseException as error:
            if error.code < 0:
                self._garbage(link, error)
            link.failed("NO_STARTTLS", f"refused STARTTLS: {error.code} {shown(error.message)}")
        transport = link.protocol.transport  # None when the connection went away during the handshake
        return transport if isinstance(transport, asyncio.Transport) else None

    async def _offer(self, link: Link[_Smtp]) -> None:
        answer = await self._command(link, "MAIL", b"MAIL", b"FROM:<>")
        if answer.code != 250:
            link.failed("MAIL_REFUSED", f"refused MAIL FROM:<>: {_said(answer)}")
        answer = await self._command(link, "RCPT", b"RCPT", b"TO:<" + self._recipient + b">")
        if answer.code in (250, 251):
            return
        if 400 <= answer.code < 500:
            link.failed("RCPT_DEFERRED", f"cannot take mail for the canary now: {_said(answer)}")
        link.failed("RCPT_REFUSED", f"refused mail for the canary: {_said(answer)}")

    async def _leave(self, link: Link[_Smtp]) -> Reading:
        reading = Reading(Health.OK)
        link.attempt.settle(reading)
        for command in (b"RSET", b"QUIT"):
            try:
                await link.protocol.execute_command(command)
            except (SMTPServerDisconnected, SMTPResponseException):
                break  # all that was to be known is known
        return reading

    async def _command(self, link: Link[_Smtp], name: str, *words: bytes) -> SMTPResponse:
        link.stage(f"TIMEOUT_{name}", f"did not answer {name}")
        try:
            return await link.protocol.execute_command(*words)
        except SMTPServerDisconnected:
            link.closed(f"after {name}")
        except SMTPResponseException as error:
            self._garbage(link, error)

    def _garbage(self, link: Link[_Smtp], error: SMTPResponseException) -> NoReturn:
        link.failed("GARBAGE", shown(error.message))


def _said(answer: SMTPResponse) -> str:
    return f"{answer.code} {shown(answer.message)}"
