"""What a user does, three times: insert a row, hand over a mail, store a mail. Each over a new connection.

Each returns as soon as the server has said yes: SQL OK to the commit, SMTP 250 after DATA, IMAP OK to APPEND.
From then on the cluster answers for it, and the lab looks for it at the end.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import mysql
from .wire import ProtocolError, TlsWire, Wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass(frozen=True, slots=True)
class Service:
    """Whom to talk to, and as whom."""

    address: str
    sql_user: str
    sql_password: str
    recipients: tuple[str, ...]
    imap_users: tuple[str, ...]
    imap_password: str


async def sql(wire: Wire, service: Service, ident: str) -> None:
    """Insert a row, committed by itself."""
    await wire.connect((service.address, 3306))
    await mysql.log_in(wire, service.sql_user, service.sql_password, "app")
    wire.stage = "commit"
    at_ms = time.time_ns() // 1_000_000
    await mysql.run(wire, f"INSERT INTO writes VALUES ('{ident}', {at_ms})")  # noqa: S608  # both of our own making


async def smtp(wire: Wire, service: Service, ident: str) -> None:
    """Deliver a mail as another company's server would: port 25, pipelined, no authentication."""
    await wire.connect((service.address, 25))
    wire.stage = "greeting"
    await _smtp_answer(wire, b"220")
    wire.stage = "EHLO"
    await wire.send(b"EHLO client.lab.test\r\n")
    await _smtp_answer(wire, b"250")
    wire.stage = "MAIL, RCPT, DATA"
    recipient = _turn(service.recipients, ident)
    await wire.send(f"MAIL FROM:<sender@client.test>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode())
    await _smtp_answer(wire, b"250")
    await _smtp_answer(wire, b"250")
    await _smtp_answer(wire, b"354")
    wire.stage = "end of data"
    await wire.send(_message(ident, recipient) + b".\r\n")
    await _smtp_answer(wire, b"250")


async def imap(wire: TlsWire, service: Service, ident: str) -> None:
    """Store a mail in one's own mailbox, over TLS."""
    await wire.connect((service.address, 993))
    await wire.handshake()
    wire.stage = "greeting"
    if not (greeting := await wire.line()).startswith(b"* OK"):
        raise ProtocolError(greeting.decode(errors="replace"))
    wire.stage = "LOGIN"
    user = _turn(service.imap_users, ident)
    await wire.send(f'a LOGIN {user} "{service.imap_password}"\r\n'.encode())
    await _imap_answer(wire, b"a")
    wire.stage = "APPEND"
    message = _message(ident, user)
    await wire.send(f"b APPEND INBOX {{{len(message)}+}}\r\n".encode() + message + b"\r\n")
    await _imap_answer(wire, b"b")


EXCHANGES: dict[str, tuple[type[Wire], Callable[..., Awaitable[None]], bytes]] = {
    "sql": (Wire, sql, mysql.QUIT),
    "smtp": (Wire, smtp, b"QUIT\r\n"),
    "imap": (TlsWire, imap, b"z LOGOUT\r\n"),
}


def _turn(users: tuple[str, ...], ident: str) -> str:
    """Whose turn it is: the last part of an id is a number that grows by three from attempt to attempt."""
    return users[int(ident.rpartition("-")[2]) % len(users)]


async def _smtp_answer(wire: Wire, wanted: bytes) -> None:
    """Read one reply of as many lines as it has."""
    while (line := await wire.line())[3:4] == b"-":
        pass
    if not line.startswith(wanted):
        raise ProtocolError(line.decode(errors="replace"))


async def _imap_answer(wire: Wire, tag: bytes) -> None:
    """Read up to the tagged reply."""
    while not (line := await wire.line()).startswith(tag + b" "):
        if line.startswith(b"* BYE"):
            raise ProtocolError(line.decode(errors="replace"))
    if not line.startswith(tag + b" OK"):
        raise ProtocolError(line.decode(errors="replace"))


def _message(ident: str, recipient: str) -> bytes:
    return (
        f"From: <sender@client.test>\r\nTo: <{recipient}>\r\nSubject: {ident}\r\n"
        f"Message-ID: <{ident}@client.test>\r\nDate: Mon, 01 Jan 2024 00:00:00 +0000\r\n"
        f"\r\nThe lab's client wrote this as {ident}.\r\n"
    ).encode()
