"""Mail servers that misbehave, on loopback: what a probe must survive and call by its name."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

    from node_certificates import Files

T = TypeVar("T")
Script = "Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]"

HANG = "hang"
CLOSE = "close"


def server_context(files: Files) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    return context


class Elsewhere:
    """A loop in a thread of its own for the servers, so that all tasks of a test's loop are the probe's."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="servers")
        self._thread.start()

    def run(self, work: Coroutine[None, None, T]) -> T:
        """Run `work` over there, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def settle(self) -> None:
        """Wait until no server and no connection is left."""
        self.run(_settled())

    def close(self) -> None:
        """End the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    @contextmanager
    def serving(self, script: Script, tls: ssl.SSLContext | None = None) -> Iterator[int]:
        """Run `script` for each connection, with TLS at once if given; hand out the port. Nothing of it stays."""
        stack = contextlib.AsyncExitStack()
        try:
            yield self.run(stack.enter_async_context(_serving(script, tls)))
        finally:
            self.run(stack.aclose())


async def _settled() -> None:
    while left := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(left)
    for _ in range(3):
        await asyncio.sleep(0)  # the loop closes aborted sockets a turn later


@asynccontextmanager
async def _serving(script: Script, tls: ssl.SSLContext | None) -> AsyncIterator[int]:
    running: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await script(reader, writer)
        writer.transport.abort()
        running.discard(task)

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(set(running))


async def say(writer: asyncio.StreamWriter, text: str) -> None:
    writer.write(text.encode() + b"\r\n")
    await writer.drain()


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


@dataclass
class Imap:
    """An IMAP server. `answers` by command ("greeting" for that): a line after the tag, or HANG or CLOSE."""

    answers: dict[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None  # for STARTTLS
    heard: list[str] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to one client."""
        if not await self._answer(writer, "greeting", "", "* OK ready"):
            return
        while line := await reader.readline():
            self.heard.append(line.decode("utf-8", "replace").strip())
            tag, command, *_ = [*line.decode("utf-8", "replace").split(), "", ""]
            command = command.upper()
            untagged = {"SELECT": "* 3 EXISTS\r\n* 0 RECENT\r\n", "LOGOUT": "* BYE\r\n"}.get(command, "")
            if not await self._answer(writer, command, untagged + tag + " ", "OK done"):
                return
            if command == "STARTTLS" and self.tls is not None:
                await writer.start_tls(self.tls)
            if command == "LOGOUT":
                return

    async def _answer(self, writer: asyncio.StreamWriter, command: str, before: str, default: str) -> bool:
        match self.answers.get(command, default):
            case "hang":
                await forever()
            case "close":
                return False
            case text:
                await say(writer, before + text)
        return True


@dataclass
class Smtp:
    """An SMTP server, likewise."""

    answers: dict[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    heard: list[str] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to one client."""
        if not await self._answer(writer, "greeting", "220 mail.test ESMTP"):
            return
        while line := await reader.readline():
            self.heard.append(line.decode("utf-8", "replace").strip())
            command = line[:8].decode("utf-8", "replace").split()[0].upper()
            default = {
                "EHLO": "250-mail.test\r\n250-STARTTLS\r\n250 8BITMIME",
                "STARTTLS": "220 go on",
                "QUIT": "221 bye",
            }.get(command, "250 fine")
            if not await self._answer(writer, command, default):
                return
            if command == "STARTTLS" and self.tls is not None:
                await writer.start_tls(self.tls)
            if command == "QUIT":
                return

    async def _answer(self, writer: asyncio.StreamWriter, command: str, default: str) -> bool:
        match self.answers.get(command, default):
            case "hang":
                await forever()
            case "close":
                return False
            case text:
                await say(writer, text)
        return True


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept, and never answer."""
    del reader, writer
    await forever()


async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Begin a greeting, and close."""
    del reader
    writer.write(b"* O")
    await writer.drain()


async def dribbling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greet, one byte each 100 ms."""
    del reader
    for byte in b"* OK here comes a greeting that is never quite over":
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.1)


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send one line without an end."""
    del reader
    while True:
        writer.write(b"2" * 8192)
        await writer.drain()


async def chattering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greet, and then send short lines without an end."""
    del reader
    await say(writer, "* OK ready")
    while True:
        writer.write(b"* 1 EXISTS\r\n" * 1000)
        await writer.drain()


@contextmanager
def nobody() -> Iterator[int]:
    """Hand out a port that refuses: bound, not listening."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@contextmanager
def full_backlog() -> Iterator[int]:
    """Hand out a port whose kernel drops each further SYN: its queue is full, and nobody accepts."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        yield server.getsockname()[1]
