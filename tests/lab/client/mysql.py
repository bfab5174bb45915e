"""The MariaDB protocol as far as a client needs it to log in and to run one statement.

By hand, because a library that blocks would need a thread for each attempt that hangs in an outage, and because
the referee logs in by its Unix identity, which the usual library does not speak.
Packets: 3 bytes length, 1 byte number, payload. See https://mariadb.com/kb/en/clientserver-protocol/.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from .wire import ProtocolError

if TYPE_CHECKING:
    from .wire import Wire

_LONG_PASSWORD, _CONNECT_WITH_DB, _PROTOCOL_41, _TRANSACTIONS, _SECURE_CONNECTION, _PLUGIN_AUTH = (
    0x1,
    0x8,
    0x200,
    0x2000,
    0x8000,
    0x80000,
)
_UTF8MB4 = 45
_OK, _END, _ERROR = 0x00, 0xFE, 0xFF
_QUERY, QUIT = 3, b"\x01\x00\x00\x00\x01"


async def log_in(wire: Wire, user: str, password: str = "", database: str = "") -> None:
    """Authenticate by native password, or by Unix identity where the server asks for that."""
    wire.stage = "greeting"
    number, greeting = await _packet(wire)
    rest = greeting[greeting.index(b"\0", 1) + 1 :]  # after the server's version
    salt = rest[4:12] + rest[31:43]
    flags = _LONG_PASSWORD | _PROTOCOL_41 | _TRANSACTIONS | _SECURE_CONNECTION | _PLUGIN_AUTH
    if database:
        flags |= _CONNECT_WITH_DB
    proof = _native_password(password, salt)
    wire.stage = "log-in"
    await _send(
        wire,
        number + 1,
        b"".join(
            (
                flags.to_bytes(4, "little"),
                (1 << 24).to_bytes(4, "little"),
                bytes([_UTF8MB4]),
                bytes(23),
                user.encode(),
                b"\0",
                bytes([len(proof)]),
                proof,
                database.encode() + b"\0" if database else b"",
                b"mysql_native_password\0",
            )
        ),
    )
    number, answer = await _packet(wire)
    if answer[0] == _END:  # the server wants another method
        method, _, salt = answer[1:].partition(b"\0")
        if method == b"mysql_native_password":
            reply = _native_password(password, salt[:20])
        elif method == b"unix_socket":
            reply = b""
        else:
            raise ProtocolError(f"the server asks for the log-in method {method.decode()}")
        await _send(wire, number + 1, reply)
        _, answer = await _packet(wire)
    if answer[0] != _OK:
        raise ProtocolError(f"log-in refused, packet {answer[0]:#x}")


async def run(wire: Wire, statement: str) -> list[list[str | None]]:
    """Run one statement; give its rows, none when it has no result."""
    await _send(wire, 0, bytes([_QUERY]) + statement.encode())
    _, answer = await _packet(wire)
    if answer[0] == _OK:
        return []
    while (await _packet(wire))[1][0] != _END:  # the columns' descriptions
        pass
    rows = []
    while True:
        _, row = await _packet(wire)
        if row[0] == _END and len(row) < 9:
            return rows
        rows.append(_values(row))


async def _packet(wire: Wire) -> tuple[int, bytes]:
    head = await wire.exactly(4)
    payload = await wire.exactly(int.from_bytes(head[:3], "little"))
    if payload[0] == _ERROR:
        code, text = int.from_bytes(payload[1:3], "little"), payload[3:].decode(errors="replace")
        raise ProtocolError(f"{code} {text[6:] if text.startswith('#') else text}")
    return head[3], payload


async def _send(wire: Wire, number: int, payload: bytes) -> None:
    await wire.send(len(payload).to_bytes(3, "little") + bytes([number]) + payload)


def _native_password(password: str, salt: bytes) -> bytes:
    """SHA1(password) XOR SHA1(salt + SHA1(SHA1(password))); nothing for no password."""
    if not password:
        return b""
    once = hashlib.sha1(password.encode()).digest()  # noqa: S324  # the protocol's own choice
    mask = hashlib.sha1(salt + hashlib.sha1(once).digest()).digest()  # noqa: S324  # likewise
    return bytes(a ^ b for a, b in zip(once, mask, strict=True))


def _values(row: bytes) -> list[str | None]:
    """Read length-encoded texts; the lab asks for nothing longer than 64 KiB."""
    values: list[str | None] = []
    at = 0
    while at < len(row):
        size = row[at]
        at += 1
        if size == 0xFB:
            values.append(None)
            continue
        if size == 0xFC:
            size = int.from_bytes(row[at : at + 2], "little")
            at += 2
        values.append(row[at : at + size].decode())
        at += size
    return values
