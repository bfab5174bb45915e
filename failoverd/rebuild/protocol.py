"""What donor and rebuild say to each other, over mutual TLS: frames of one letter, a length, and that many bytes.

    rebuild ── ASK {"what": "standing"} ──>  ANSWER {…}
    rebuild ── ASK {"what": "backup"} ────>  ANSWER {…}, then DATA and ALIVE in any order, then END {…}

An end of its own kind, since a stream that just stops must not pass for a whole one. ALIVE, since mariadb-backup may be
silent for long, and a donor that is gone is silent as well. Anything that the asking side sends after ASK, and its end,
ends the backup.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import time
from typing import TYPE_CHECKING

from failoverd.rebuild import RebuildError

if TYPE_CHECKING:
    import ssl

ASK, ANSWER, DATA, ALIVE, END = b"Q", b"A", b"D", b"L", b"E"
CHUNK = 256 * 1024  # bytes of one DATA frame at most
PIPE = 1 << 20  # bytes of the pipes to and from MariaDB's programs: the most that Linux gives without a privilege
MESSAGE = 64 * 1024  # bytes of any other
ALIVE_S = 2.0  # between two signs of life
STALL_S = 30.0  # without one: the donor is gone
SLOW_S = 120.0  # nothing taken: whoever asked is gone, or its disk stands still
HANDSHAKE_S = 5.0
POSITION = re.compile(r"(?:[0-9]{1,10}-[0-9]{1,10}-[0-9]{1,20}(?:,|$))*")  # of MariaDB, as it goes from node to node
_HEADER = struct.Struct("!cI")


def send(connection: ssl.SSLSocket, kind: bytes, payload: bytes | memoryview = b"") -> None:
    """Send one frame. Raises OSError."""
    connection.sendall(_HEADER.pack(kind, len(payload)))
    if payload:
        connection.sendall(payload)


def tell(connection: ssl.SSLSocket, kind: bytes, message: dict[str, object]) -> None:
    """Send a message as JSON. Raises OSError."""
    send(connection, kind, json.dumps(message).encode())


class Reader:
    """Frames as they arrive, in one buffer that is used again and again."""

    def __init__(self, connection: ssl.SSLSocket, *, within_s: float | None = None) -> None:
        """`within_s`: all of it must have come by then, however steadily it drips. None: each piece in its own time."""
        self._connection = connection
        self._until = None if within_s is None else time.monotonic() + within_s
        self._buffer = memoryview(bytearray(CHUNK))

    def frame(self) -> tuple[bytes, memoryview]:
        """Return the next frame; its bytes are good until the next call. Raises OSError, RebuildError."""
        kind, length = _HEADER.unpack(self._exactly(_HEADER.size))
        if length > (CHUNK if kind == DATA else MESSAGE):
            raise RebuildError("REBUILD_STREAM", f"a frame of {length} bytes: that is no donor of failoverd")
        return kind, self._exactly(length)

    def message(self, expected: bytes) -> dict[str, object]:
        """Return the next frame's message, which must be of that kind. Raises OSError, RebuildError."""
        kind, payload = self.frame()
        if kind != expected:
            raise RebuildError("REBUILD_STREAM", f"a frame of kind {kind!r} where {expected!r} was due")
        return parsed(payload)

    def _exactly(self, length: int) -> memoryview:
        got = 0
        while got < length:
            if self._until is not None:
                self._connection.settimeout(max(self._until - time.monotonic(), 0.001))
            count = self._connection.recv_into(self._buffer[got:length])
            if count == 0:
                raise ConnectionError("the other side closed the connection in the middle")
            got += count
        return self._buffer[:length]


def parsed(payload: memoryview) -> dict[str, object]:
    """Read a message. Raises RebuildError."""
    try:
        value = json.loads(bytes(payload))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RebuildError("REBUILD_STREAM", "a message that is none")
    return value


def keep_alive(connection: socket.socket, stall_s: float) -> None:
    """Have the kernel notice a peer whose power was cut, also while nothing is sent."""
    connection.settimeout(stall_s)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(stall_s * 1000))
