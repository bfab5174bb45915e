"""Throws bytes at an open port: random ones, beginnings of TLS and HTTP, good requests with something wrong in them.

    a piece ── as it is │ cut off │ one byte changed │ with bytes in the middle ──> connection ──> read what comes back

What matters is what the server does afterwards, and that is looked at by who calls this. It is of the standard library
alone, so that it can be run from any host. With a certificate, the same is said inside TLS, by a member.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import socket
import ssl
import struct
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIECE = 32 * 1024
WAIT_S = 0.01  # for an answer: none is needed
SEND_S = 2.0  # a server that reads nothing any more is left alone
AGAIN_S = 0.01  # after a connection on which nothing could be said: the other side's queue is full, or it has enough
STUCK_S = 30.0  # in which nobody took a byte, however that was tried: nobody listens any more
PATHS = (b"/", b"/v1/status", b"/metrics", b"/v1/events", b"/replica?lag=5s", b"/peer/v1/report", b"/store/v1/lab",
         b"/v1/lock", b"/v1/promote", b"/" + b"a" * 9000, b"/%00%ff/../..", b"/?\x8e", b"/v1/status/?\xff")  # fmt: skip
METHODS = (b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"CONNECT", b"PRI", b"G\0T")
HEADERS = (b"host: x", b"content-length: 5", b"content-length: -1", b"content-length: 99999999999999999999",
           b"transfer-encoding: chunked", b"connection: upgrade", b"upgrade: websocket", b"expect: 100-continue",
           b'if-match: "1"', b"accept: " + b"a," * 3000, b"x: \xff\xfe", b": x", b"a b: c",
           b"content-type: application/json", b"cookie: " + b"z" * 20000)  # fmt: skip
BODIES = (b"hello", b"[" * 5000, b'{"v": 1, "report": {', b"5\r\nhello\r\n0\r\n\r\n", b"ffffffffffffffff\r\n", b"")


@dataclass
class Thrown:
    """What was thrown."""

    bytes: int = 0
    connections: int = 0
    answers: int = 0  # connections on which something came back
    refused: int = 0  # that could not be made, or were ended at once
    seconds: float = 0.0


def pieces(rng: random.Random) -> Iterator[bytes]:
    """One after the other, without an end."""
    hello = client_hello()
    while True:
        match rng.randrange(6):
            case 0:
                yield rng.randbytes(rng.choice((1, 5, 100, 4000, PIECE)))
            case 1:  # a record of TLS, its length as it may be
                yield struct.pack("!BHH", rng.randrange(20, 26), 0x0301 + rng.randrange(4), rng.randrange(65536)) + (
                    rng.randbytes(rng.randrange(PIECE))
                )
            case 2:
                yield hurt(rng, hello)
            case 3:
                yield hello + rng.randbytes(rng.randrange(4000))
            case 4:
                yield request(rng)
            case _:
                yield hurt(rng, request(rng))


def client_hello() -> bytes:
    """A good one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    out = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out).do_handshake()
    return out.read()


def request(rng: random.Random) -> bytes:
    """HTTP, or nearly."""
    headers = b"\r\n".join(rng.sample(HEADERS, rng.randrange(6)))
    version = rng.choice((b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b""))
    head = b"%s %s %s\r\n%s\r\n\r\n" % (rng.choice(METHODS), rng.choice(PATHS), version, headers)
    return (head + rng.choice(BODIES)) * rng.choice((1, 1, 1, 20))


def hurt(rng: random.Random, piece: bytes) -> bytes:
    """Cut off, one byte changed, or with bytes in its middle."""
    at = rng.randrange(len(piece) or 1)
    match rng.randrange(3):
        case 0:
            return piece[:at]
        case 1:
            return piece[:at] + rng.randbytes(1) + piece[at + 1 :]
    return piece[:at] + rng.randbytes(rng.randrange(1, 200)) + piece[at:]


def throw(connect: Callable[[], socket.socket], count: int, seed: int = 0, stuck_s: float = STUCK_S) -> Thrown:
    """Throw so many bytes. Raises ConnectionError where nobody listens any more."""
    rng = random.Random(seed)  # noqa: S311 - inputs, not keys
    thrown, coming, began = Thrown(), pieces(rng), time.monotonic()
    taken, why = began, ""
    while thrown.bytes < count:
        before = thrown.bytes
        thrown.connections += 1
        try:
            with connect() as connection:
                thrown.answers += _talk(connection, coming, thrown, count, rng.randrange(1, 6))
        except OSError as error:
            thrown.refused += 1
            why = f": {error}"
        now = time.monotonic()
        if thrown.bytes > before:
            taken, why = now, ""
        elif now - taken > stuck_s:
            raise ConnectionError(f"nobody listens any more{why}, after {thrown}")
        else:
            time.sleep(AGAIN_S)
    thrown.seconds = round(time.monotonic() - began, 1)
    return thrown


def _talk(connection: socket.socket, coming: Iterator[bytes], thrown: Thrown, count: int, most: int) -> bool:
    """Say some pieces on one connection, until the other side has had enough. Whether it has answered."""
    answered = False
    connection.settimeout(SEND_S)
    try:
        for _ in range(most):
            piece = next(coming)
            connection.sendall(piece)
            thrown.bytes += len(piece)
            connection.settimeout(WAIT_S)
            try:
                if not connection.recv(65536):
                    break
                answered = True
            except TimeoutError:
                pass
            connection.settimeout(SEND_S)
            if thrown.bytes >= count:
                break
    except OSError:  # it was ended in the middle, as it should be
        return answered
    return answered


def to(where: str, context: ssl.SSLContext | None = None) -> Callable[[], socket.socket]:
    """ADDRESS:PORT, or the path of a Unix socket; with a context, inside TLS."""

    def plain() -> socket.socket:
        if not where.startswith("/"):
            address, _, port = where.rpartition(":")
            return socket.create_connection((address, int(port)), timeout=SEND_S)
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(SEND_S)
        try:
            made.connect(where)
        except BaseException:
            made.close()
            raise
        return made

    def secured() -> socket.socket:
        raw = plain()
        try:
            return context.wrap_socket(raw, server_hostname=where.rpartition(":")[0]) if context else raw
        except BaseException:
            raw.close()
            raise

    return secured


def main() -> int:
    """Throw, and say what was thrown."""
    parser = argparse.ArgumentParser(prog="tests/fuzz/ports", description=__doc__)
    parser.add_argument("where", metavar="ADDRESS:PORT|/PATH")
    parser.add_argument("--bytes", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=0)
    for name in ("ca", "certificate", "key"):
        parser.add_argument(f"--{name}", help="of a member: the same is said inside TLS")
    options = parser.parse_args()
    context = None
    if options.ca:
        context = ssl.create_default_context(cafile=options.ca)
        context.load_cert_chain(options.certificate, options.key)
    print(json.dumps(asdict(throw(to(options.where, context), options.bytes, options.seed))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
