"""One TCP connection of a mail probe, with or without TLS, that can be aborted at any point and names what went wrong.

The libraries' own ways of connecting hide the socket, and asyncio's TLS has traps (a connection lost during the
handshake returns no transport and raises nothing; `close` waits half a minute for a peer that is gone). So the probe
owns the raw transport from the first packet and aborts it at the end, whatever became of the rest:

    connect ──> [TLS at once] ──> protocol of the library, guarded ──> [STARTTLS] ──> ... ──> raw.abort()

Codes are the service's name and one of the kinds below (IMAP_REFUSED, SMTP_CERT_EXPIRED ...), see `CODES`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Generic, Literal, NoReturn, TypeVar

from failoverd.core.model import Health, Reading
from failoverd.hiding import hidden
from failoverd.probes.deadline import Attempt, current

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from failoverd.ports import Target

Tls = Literal["implicit", "starttls", "none"]

# More than any answer to a probe needs; an endless line must not become an endless buffer.
RECEIVE_LIMIT = 64 * 1024

# This node could not look: nothing is known about the target.
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
_NO_ROUTE = {errno.ENETUNREACH, errno.ENETDOWN, errno.EACCES, errno.EPERM}

# X.509 verification errors, as OpenSSL numbers them (x509_vfy.h).
_CERT_DATES = {9, 10}
_CERT_NAMES = {62, 63, 64}

# How OpenSSL calls a first record that is no TLS.
_NOT_TLS = {"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}

# After this share of the deadline without a greeting the probe asks, on a second connection, for TLS.
_SILENCE = 0.6


class Found(Exception):  # noqa: N818 - it carries a finding out of nested calls and never leaves the probe
    """The probe's reading, found at some depth."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading.code)
        self.reading = reading


class Guard(asyncio.Protocol):
    """What the libraries' protocols lack: bounds what is read, and knows what came too early and when all is over.

    Put before the library's class among the bases; `arm` stands for a constructor, since theirs differ.
    """

    def arm(self, *, tls_first: bool) -> None:
        """Begin; with `tls_first` nothing may come before the handshake, and what does is kept in `early`."""
        self.tls_first = tls_first
        self.early = b""
        self.received = 0
        self.broken: tuple[str, str] | None = None  # kind and words: why this end gave the connection up
        self.over = False  # nothing more will come
        self.raw: asyncio.Transport | None = None

    def feed(self, data: bytes) -> None:
        """Hand data to the library's parser."""
        super().data_received(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the raw transport: aborting it ends everything above it."""
        if isinstance(transport, asyncio.Transport):
            self.raw = transport
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Look at what comes before the library does."""
        if self.broken or self.over:
            return
        if self.tls_first:
            self.early = (self.early + data)[:RECEIVE_LIMIT]
            return
        if not self.received and is_tls(data):
            self.fail("TLS_ON_PLAIN", "speaks TLS where plain text is configured")
            return
        self.received += len(data)
        if self.received > RECEIVE_LIMIT:
            self.fail("GARBAGE", f"sent more than {RECEIVE_LIMIT // 1024} KiB")
            return
        try:
            self.feed(data)
        except Exception as error:  # noqa: BLE001 - the library's parser gave up, in whatever way
            self.fail("GARBAGE", f"sent what is no answer ({type(error).__name__})")

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        self.over = True
        super().connection_lost(exc)

    def fail(self, kind: str, words: str) -> None:
        """Give the connection up for what came over it."""
        self.broken = self.broken or (kind, words)
        if self.raw is not None:
            self.raw.abort()


P = TypeVar("P", bound=Guard)
T = TypeVar("T")


class Link(Generic[P]):
    """An open connection: the guarded protocol, and TLS over it."""

    def __init__(self, service: str, target: Target, port: int, attempt: Attempt) -> None:
        self.service = service
        self.target = target
        self.port = port
        self.attempt = attempt
        self.protocol: P
        self._sock: socket.socket | None = None

    # ---- findings ---------------------------------------------------------------------------------------------

    def stage(self, kind: str, words: str) -> None:
        """From here on the deadline means this."""
        self.attempt.stage(f"{self.service}_{kind}", words)

    def alive(self) -> None:
        """It has greeted: from here on late is slow, and has the patience for it."""
        self.attempt.alive()

    def failed(self, kind: str, reason: str) -> NoReturn:
        """End the probe with this finding."""
        raise Found(Reading(Health.FAILED, f"{self.service}_{kind}", reason))

    def closed(self, when: str) -> NoReturn:
        """End the probe: the connection is over, by the server's doing or for what it sent."""
        if self.protocol.broken is not None:
            kind, words = self.protocol.broken
            self.failed(kind, f"{words} {when}")
        self.failed("CLOSED", f"closed the connection {when}")

    # ---- opening ----------------------------------------------------------------------------------------------

    async def connect(self, factory: Callable[[], P]) -> None:
        """Connect. Raises Found: refused, unreachable, or no way to look."""
        where = f"{self.target.address}:{self.port}"
        self.stage("TIMEOUT_CONNECT", f"did not accept a connection to {where}")
        loop = asyncio.get_running_loop()
        try:
            self._sock = _socket(self.target.address)
            await loop.sock_connect(self._sock, (self.target.address, self.port))
            _, self.protocol = await loop.create_connection(factory, sock=self._sock)
        except OSError as error:
            self._refused(error, where)
        if self.protocol.raw is not None:
            self.attempt.owns(self.protocol.raw.abort)

    def _refused(self, error: OSError, where: str) -> NoReturn:
        if error.errno in _EXHAUSTED:
            raise Found(Reading(Health.UNKNOWN, "PROBE_EXHAUSTED", f"this node: {error.strerror}")) from error
        if error.errno in _NO_ROUTE:
            reason = f"this node cannot reach {where}: {error.strerror}"
            raise Found(Reading(Health.UNKNOWN, "PROBE_NO_ROUTE", reason)) from error
        if error.errno == errno.ECONNREFUSED:
            self.failed("REFUSED", f"refused a connection to {where}")
        if error.errno in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
            self.failed("CLOSED", f"closed the connection to {where} at once")
        if error.errno == errno.ETIMEDOUT:
            self.failed("TIMEOUT_CONNECT", f"did not accept a connection to {where}")
        self.failed("UNREACHABLE", f"no way to {where}: {error.strerror}")

    async def start_tls(self, context: ssl.SSLContext, server_name: str) -> asyncio.Transport:
        """TLS over the raw connection. Raises Found. The library's protocol goes on with the transport returned."""
        protocol = self.protocol
        if protocol.early:
            self.failed("PLAIN_ON_TLS", f"speaks plain text where TLS is configured: {shown(protocol.early)}")
        if protocol.raw is None or protocol.over:
            self.closed("before TLS")
        protocol.tls_first = False
        loop = asyncio.get_running_loop()
        return await self.handshake(
            loop.start_tls(protocol.raw, protocol, context, server_hostname=server_name, ssl_handshake_timeout=3600)
        )

    async def handshake(self, work: Awaitable[asyncio.Transport | None]) -> asyncio.Transport:
        """Wait for a handshake, whoever does it, and name what is wrong with it."""
        try:
            transport = await work
        except ssl.SSLCertVerificationError as error:
            if error.verify_code in _CERT_DATES:
                self.failed("CERT_EXPIRED", f"its certificate is not valid now: {error.verify_message}")
            if error.verify_code in _CERT_NAMES:
                self.failed("CERT_NAME", f"its certificate is for another name: {error.verify_message}")
            self.failed("CERT_UNTRUSTED", f"its certificate is not trusted: {error.verify_message}")
        except ssl.SSLError as error:
            if error.reason in _NOT_TLS:
                self.failed("PLAIN_ON_TLS", "speaks something else where TLS is configured")
            if isinstance(error, ssl.SSLEOFError):
                self.failed("CLOSED", "closed the connection during the TLS handshake")
            self.failed("TLS_FAILED", f"TLS handshake failed: {error.reason or 'no reason given'}")
        except OSError:
            transport = None
        if transport is None:  # the connection was lost meanwhile: asyncio says so in this way, too
            self.failed("CLOSED", "closed the connection during the TLS handshake")
        return transport

    async def greeting(self, work: Awaitable[T], *, plain: bool) -> T:
        """Wait for `work`, the greeting; when a `plain` connection stays silent, find out if it waits for TLS.

        A TLS server says nothing until it has been greeted, as a hung one does. The first connection is left alone
        meanwhile: a greeting that comes late is as good as any.
        """
        self.stage("NO_GREETING", "accepted the connection, sent no greeting")
        greeting = asyncio.ensure_future(work)
        asking: asyncio.Task[bool] | None = None
        try:
            await asyncio.wait({greeting}, timeout=self.attempt.deadline_ms * _SILENCE / 1000)
            if not greeting.done() and self.protocol.received:
                self.stage("NO_GREETING", "accepted the connection, began a greeting but did not end it")
            elif not greeting.done() and plain:
                asking = asyncio.create_task(_speaks_tls(self.target.address, self.port))
                await asyncio.wait({greeting, asking}, return_when=asyncio.FIRST_COMPLETED)
                if not greeting.done() and asking.result():
                    self.failed("TLS_ON_PLAIN", "speaks TLS where plain text is configured")
            return await greeting
        finally:
            left = {task for task in (greeting, asking) if task is not None and not task.done()}
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)

    async def close(self) -> None:
        """Abort, and wait until the socket is gone (the loop closes it one turn later)."""
        if self._sock is None:
            return
        raw = self.protocol.raw if hasattr(self, "protocol") else None
        if raw is None:
            self._sock.close()
            return
        raw.abort()
        for _ in range(10):
            if self._sock.fileno() == -1:
                break
            await asyncio.sleep(0)


@asynccontextmanager
async def open_link(service: str, target: Target, port: int, factory: Callable[[], P]) -> AsyncIterator[Link[P]]:
    """Connect, hand out the link, and leave nothing behind. Raises Found."""
    link = Link[P](service, target, port, current())
    try:
        await link.connect(factory)
        yield link
    finally:
        await link.close()


def tls_context(ca: str | None) -> ssl.SSLContext:
    """Return a client context that trusts `ca` (a file of certificates; None: the system's). Made once a probe."""
    return ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca)


_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")


def shown(text: bytes | str, *secrets: str) -> str:
    """What a server said, fit for a log: one printable line, not too long, without any of `secrets`."""
    line = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    line = hidden(line, secrets)
    line = _UNPRINTABLE.sub(" ", line).strip()
    return f'"{line[:120]}"'


def _socket(address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


async def _speaks_tls(address: str, port: int) -> bool:
    """Whether a TLS hello there is answered with a TLS record."""
    loop = asyncio.get_running_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is said there but hello
    hello = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), hello).do_handshake()
    try:
        with _socket(address) as sock:
            await loop.sock_connect(sock, (address, port))
            await loop.sock_sendall(sock, hello.read())
            return is_tls(await loop.sock_recv(sock, 5))
    except OSError:
        return False


def is_tls(data: bytes) -> bool:
    """Whether this is the beginning of a TLS record: an alert or a handshake."""
    return len(data) >= 2 and data[0] in (0x15, 0x16) and data[1] == 3
