"""The server's side of MySQL's client protocol, as much of it as pymysql speaks: greet, log in, answer a query.

Packets are those of the manual's "Client/Server Protocol": a handshake of version 10, caching_sha2_password (the whole
password over the Unix socket at an account's first login, its scramble afterwards), COM_QUERY, COM_QUIT, text results.
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

Row = dict[str, object]
PLUGIN = b"caching_sha2_password"
# LONG_PASSWORD, FOUND_ROWS, LONG_FLAG, CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, MULTI_STATEMENTS,
# MULTI_RESULTS, PLUGIN_AUTH, CONNECT_ATTRS, PLUGIN_AUTH_LENENC
CAPABILITIES = 0x1 | 0x2 | 0x4 | 0x8 | 0x200 | 0x2000 | 0x8000 | 0x10000 | 0x20000 | 0x80000 | 0x100000 | 0x200000
UTF8MB4 = 255
AUTOCOMMIT = 2  # the server's status
COM_QUIT, COM_QUERY = 1, 3
LONGLONG, VAR_STRING = 8, 253
FAST_AUTH, FULL_AUTH = b"\x01\x03", b"\x01\x04"


class SqlError(Exception):
    """What the server refuses a statement with."""

    def __init__(self, number: int, text: str, state: str = "HY000") -> None:
        super().__init__(text)
        self.number = number
        self.text = text
        self.state = state


class Wire:
    """One accepted connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._sequence = 0
        self._unsent = b""

    def greet(
        self, number: int, version: str, password_of: Callable[[str], str | None], cached: set[str]
    ) -> str | None:
        """Log a client in; its user's name, or None after a refusal."""
        nonce = bytes(byte or 1 for byte in os.urandom(20))
        self._send(
            b"\x0a"
            + version.encode()
            + b"\0"
            + struct.pack("<I", number)
            + nonce[:8]
            + b"\0"
            + struct.pack("<HBHHB", CAPABILITIES & 0xFFFF, UTF8MB4, AUTOCOMMIT, CAPABILITIES >> 16, len(nonce) + 1)
            + b"\0" * 10
            + nonce[8:]
            + b"\0"
            + PLUGIN
            + b"\0"
        )
        answer = self._receive()
        user_raw, _, rest = answer[32:].partition(b"\0")
        user, scramble = user_raw.decode(), rest[1 : 1 + rest[0]]
        password = password_of(user)
        if user in cached and password is not None:
            known = scramble == _scramble(password, nonce)
            if known:
                self._send(FAST_AUTH)
        else:
            self._send(FULL_AUTH)
            known = self._receive().rstrip(b"\0").decode() == password
        if not known:
            self.error(SqlError(1045, f"Access denied for user '{user}'@'localhost' (using password: YES)", "28000"))
            return None
        cached.add(user)
        self.ok()
        return user

    def query(self) -> str | None:
        """Return the next statement, None when the client is gone."""
        self._sequence = 0
        packet = self._receive()
        if not packet or packet[0] == COM_QUIT:
            return None
        assert packet[0] == COM_QUERY, f"command {packet[0]}: the dialect sends queries only"
        return packet[1:].decode()

    def ok(self, affected: int = 0) -> None:
        """Answer with OK_Packet."""
        self._send(b"\x00" + _length(affected) + b"\0" + struct.pack("<HH", AUTOCOMMIT, 0))

    def error(self, error: SqlError) -> None:
        """Answer with ERR_Packet."""
        self._send(b"\xff" + struct.pack("<H", error.number) + b"#" + error.state.encode() + error.text.encode())

    def rows(self, names: list[str], rows: list[Row]) -> None:
        """Answer with a text result set."""
        # In one go, as a server does: whoever sees its first byte may read it to the end.
        end = b"\xfe" + struct.pack("<HH", 0, AUTOCOMMIT)
        self._add(_length(len(names)))
        for name in names:
            integer = all(isinstance(row[name], int) for row in rows)
            kind = LONGLONG if rows and integer else VAR_STRING
            texts = [b"def", b"", b"", b"", name.encode(), name.encode()]
            self._add(
                b"".join(map(_text, texts)) + b"\x0c" + struct.pack("<HIBHB", UTF8MB4, 1024, kind, 0, 0) + b"\0\0"
            )
        self._add(end)
        for row in rows:
            self._add(b"".join(b"\xfb" if row[n] is None else _text(str(row[n]).encode()) for n in names))
        self._send(end)

    def _add(self, payload: bytes) -> None:
        self._unsent += struct.pack("<I", len(payload))[:3] + bytes([self._sequence]) + payload
        self._sequence = (self._sequence + 1) % 256

    def _send(self, payload: bytes) -> None:
        self._add(payload)
        whole, self._unsent = self._unsent, b""
        self._socket.sendall(whole)

    def _receive(self) -> bytes:
        header = self._exactly(4)
        if len(header) < 4:
            return b""
        self._sequence = (header[3] + 1) % 256
        return self._exactly(int.from_bytes(header[:3], "little"))

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                more = self._socket.recv(count - len(data))
            except OSError:
                more = b""
            if not more:
                return b""
            data += more
        return data


def _scramble(password: str, nonce: bytes) -> bytes:
    """XOR(SHA256(password), SHA256(SHA256(SHA256(password)), nonce))."""
    once = hashlib.sha256(password.encode()).digest()
    mask = hashlib.sha256(hashlib.sha256(once).digest() + nonce).digest()
    return bytes(a ^ b for a, b in zip(once, mask, strict=True))


def _length(number: int) -> bytes:
    if number < 251:
        return bytes([number])
    return b"\xfc" + struct.pack("<H", number)


def _text(data: bytes) -> bytes:
    return _length(len(data)) + data
