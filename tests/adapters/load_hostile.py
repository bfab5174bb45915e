"""Mail servers that behave up to one step and there go wrong, on loopback, and somebody of the drill who talks to them.

IMAP  greeting  LOGIN  SELECT  FETCH | APPEND (the go-ahead)  message (its answer)  IDLE
SMTP  greeting  EHLO  AUTH  MAIL  RCPT  DATA  message
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import ssl
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from hostile import forever

from failoverd.drill.comparing import ledger
from failoverd.drill.load.ledger import Ledger
from failoverd.drill.load.messages import Messages
from failoverd.drill.load.seconds import Seconds
from failoverd.drill.load.service import Account, Logins, Service
from failoverd.drill.load.users import User, World

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from failoverd.drill.load.pacing import Kind
    from failoverd.drill.load.service import Tls
    from failoverd.drill.model import Acknowledged, Second, Tally

    Deed = Callable[[StreamWriter, bytes, bytes], Awaitable[None]]  # with the answer that would be right, and its tag

DRILL = "20260101-010203-switchover"
ACCOUNTS = tuple(Account(name=f"drill{number}@example.test", password="secret") for number in range(1, 4))
IMAP_STEPS = ("greeting", "LOGIN", "SELECT", "FETCH", "APPEND", "message")
SMTP_STEPS = ("greeting", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "message")
_MESSAGE_ID = re.compile(rb"^Message-ID: (\S+)\r$", re.MULTILINE)


# ---- what goes wrong -------------------------------------------------------------------------------------------------


def says(text: bytes, *, closes: bool = False) -> Deed:
    """Give another answer. `{tag}` is the command's; what follows is silence, or the end."""

    async def deed(writer: StreamWriter, right: bytes, tag: bytes) -> None:
        del right
        writer.write(text.replace(b"{tag}", tag))
        await writer.drain()
        if not closes:
            await forever()

    return deed


def again_and_again(text: bytes, pause_s: float = 0.0, first: bytes = b"") -> Deed:
    """Say it without an end, as fast as it is taken or drop by drop."""

    async def deed(writer: StreamWriter, right: bytes, tag: bytes) -> None:
        del right, tag
        writer.write(first)
        while True:
            writer.write(text)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return deed


async def hang(writer: StreamWriter, right: bytes, tag: bytes) -> None:
    """Say nothing any more."""
    del writer, right, tag
    await forever()


async def close(writer: StreamWriter, right: bytes, tag: bytes) -> None:
    """End the connection."""
    del writer, right, tag


async def reset(writer: StreamWriter, right: bytes, tag: bytes) -> None:
    """End it as a kernel does whose process has died with something unread."""
    del right, tag
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def half(writer: StreamWriter, right: bytes, tag: bytes) -> None:
    """Begin the right answer, and say nothing any more."""
    del tag
    writer.write(right[:-3])
    await writer.drain()
    await forever()


async def half_and_close(writer: StreamWriter, right: bytes, tag: bytes) -> None:
    """Begin the right answer, and end the connection."""
    del tag
    writer.write(right[:-3])
    await writer.drain()


# Nothing ends by itself: it is the deadline that ends it.
HANGING: dict[str, Deed] = {
    "hangs": hang,
    "half an answer": half,
    "a drop at a time": again_and_again(b"2", 0.05),
    "half a literal": says(b"* 1 FETCH (BODY[] {60000}\r\nthis is all"),
}
BROKEN: dict[str, Deed] = {
    "closes": close,
    "resets": reset,
    "half an answer and the end": half_and_close,
    "NULs": says(b"\0" * 64 + b"\r\n"),
    "no protocol": says(b"\xff\xfe\x80 \r\n"),
    "an empty line": says(b"\r\n"),
}
ENDLESS: dict[str, Deed] = {
    "a line without an end": again_and_again(b"2" * 8192),
    "NULs without an end": again_and_again(b"\0" * 8192),
    "a huge literal": again_and_again(b"a" * 8192, first=b"* 1 FETCH (BODY[] {999999999}\r\n"),
    "literals without an end": again_and_again(b"* 1 FETCH (BODY[] {60000}\r\n" + b"a" * 60000),
    "literals of nothing": again_and_again(b"{0}\r\n" * 1000, first=b"* 1 FETCH (BODY[] "),
    "news without an end": again_and_again(b"* 1 EXISTS\r\n" * 1000),
    "a reply without an end": again_and_again(b"250-more\r\n" * 1000),
}


# ---- the servers -----------------------------------------------------------------------------------------------------


@dataclass
class Hostile:
    """Does `deeds` by step. `acknowledged`: Message-IDs that it has said to have taken, in full."""

    deeds: dict[str, Deed] = field(default_factory=dict)
    acknowledged: list[str] = field(default_factory=list)
    reached: int = 0  # how often it came to a step where it went wrong
    connections: int = 0

    async def answer(self, writer: StreamWriter, step: str, right: bytes, tag: bytes = b"") -> bool:
        """Give the right answer or the other one; whether to go on."""
        deed = self.deeds.get(step)
        if deed is None:
            writer.write(right)
            await writer.drain()
            return True
        self.reached += 1
        await deed(writer, right, tag)
        return False

    async def took(self, writer: StreamWriter, message: bytes, right: bytes, tag: bytes = b"") -> bool:
        """Answer to a message."""
        if not await self.answer(writer, "message", right, tag):
            return False
        match = _MESSAGE_ID.search(message)
        assert match is not None
        self.acknowledged.append(match[1].decode())
        return True


class HostileImap(Hostile):
    """IMAP."""

    async def __call__(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Talk to one client."""
        self.connections += 1
        going_on = await self.answer(writer, "greeting", b"* OK ready\r\n")
        while going_on and (line := await reader.readline()):
            tag, command, *_ = line.split()
            going_on = await self._command(reader, writer, tag, command.decode(), line)

    async def _command(self, reader: StreamReader, writer: StreamWriter, tag: bytes, command: str, line: bytes) -> bool:  # noqa: PLR0911 - a table
        done = tag + b" OK done\r\n"
        match command:
            case "APPEND":
                if not await self.answer(writer, "APPEND", b"+ go on\r\n", tag):
                    return False
                size = int(line[line.rindex(b"{") + 1 : line.rindex(b"}")])
                return await self.took(writer, await reader.readexactly(size + 2), done, tag)
            case "IDLE":
                return (
                    await self.answer(writer, "IDLE", b"+ idling\r\n", tag)
                    and await reader.readline() == b"DONE\r\n"
                    and await self.answer(writer, "DONE", done, tag)
                )
            case "SELECT":
                return await self.answer(writer, "SELECT", b"* 3 EXISTS\r\n* 0 RECENT\r\n" + done, tag)
            case "FETCH":
                return await self.answer(writer, "FETCH", b"* 3 FETCH (UID 3 BODY[]<0> {3}\r\nabc)\r\n" + done, tag)
            case "LOGOUT":
                writer.write(b"* BYE\r\n" + done)
                return False
            case _:
                return await self.answer(writer, command, done, tag)


class HostileSmtp(Hostile):
    """SMTP submission."""

    async def __call__(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Talk to one client."""
        self.connections += 1
        going_on = await self.answer(writer, "greeting", b"220 mail ESMTP\r\n")
        while going_on and (line := await reader.readline()):
            match line[:4].decode().upper():
                case "EHLO":
                    going_on = await self.answer(writer, "EHLO", b"250-mail\r\n250 AUTH PLAIN\r\n")
                case "DATA":
                    going_on = await self.answer(writer, "DATA", b"354 go on\r\n")
                    if going_on:
                        message = await reader.readuntil(b"\r\n.\r\n")
                        going_on = await self.took(writer, message, b"250 taken\r\n")
                case "QUIT":
                    writer.write(b"221 bye\r\n")
                    going_on = False
                case command:
                    going_on = await self.answer(writer, command.strip(), b"235 fine\r\n")


# ---- somebody who wants something of them ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Became:
    """What became of one operation. `elsewhere`: what other seconds than its own tell of."""

    tally: Tally
    elsewhere: int
    ledger: list[Acknowledged]
    unknown: int  # by the ledger
    late_s: float  # from its deadline to when it counted as something

    @property
    def outcome(self) -> str:
        """The one."""
        names = ("ok", "failed", "refused", "rejected", "unknown")
        [name] = [name for name in names for _ in range(getattr(self.tally, name))]
        return name


def service(port: int, *, tls: Tls = "none", ca: Path | None = None) -> Service:
    """Give a server's address."""
    # The system's own CAs take longer to read than all else here.
    context = ssl.create_default_context(cafile=ca) if ca is not None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return Service(address="127.0.0.1", port=port, tls=tls, server_name="mail.test", context=context)


def world(of: Service, directory: Path, deadline_s: float) -> World:
    """Give all that somebody needs."""
    directory.mkdir(exist_ok=True)
    rng = random.Random(1)  # noqa: S311 - people, not keys
    return World(
        imap=of,
        smtp=of,
        accounts=ACCOUNTS,
        messages=Messages(DRILL, rng),
        ledger=Ledger(directory),
        rng=rng,
        deadline_s=deadline_s,
        epoch_s=time.time() - asyncio.get_running_loop().time(),
        logins=Logins(),
    )


async def until(what: Callable[[], bool], within_s: float) -> None:
    """Wait for something that servers in another thread bring about."""
    async with asyncio.timeout(within_s):
        while not what():  # noqa: ASYNC110 - an event of another loop cannot be waited for
            await asyncio.sleep(0.01)


async def wanted(kind: Kind, of: Service, directory: Path, deadline_s: float) -> Became:
    """Want one thing once, and wait until it counts as something."""
    loop, all_ = asyncio.get_running_loop(), world(of, directory, deadline_s)
    at_s = loop.time()
    seconds = Seconds(all_.epoch_s, deadline_s, at_s)
    protocol: Literal["imap", "smtp"] = "smtp" if kind == "submit" else "imap"
    operation = seconds.begin(protocol, at_s)
    user = User(all_, ACCOUNTS[0])
    told: list[Second] = []
    if kind == "submit":
        task = asyncio.ensure_future(user.submit(operation))
    else:
        user.do(kind, operation)
        task = asyncio.ensure_future(user.run())

    def over() -> bool:
        told.extend(seconds.tell(loop.time(), 0, 1))
        return operation.over

    await until(over, deadline_s + 30)
    late_s = loop.time() - at_s - deadline_s
    task.cancel()
    [end] = await asyncio.gather(task, return_exceptions=True)
    assert end is None or isinstance(end, asyncio.CancelledError), end
    told += seconds.rest()
    all_.ledger.close()
    number = int(at_s + all_.epoch_s)
    tallies = {second.at_ms // 1000: getattr(second, protocol) for second in told}
    elsewhere = sum(_sum(tally) for at, tally in tallies.items() if at != number)
    return Became(
        tally=tallies[number],
        elsewhere=elsewhere,
        ledger=ledger(directory),
        unknown=sum(all_.ledger.unknown.values()),
        late_s=late_s,
    )


def _sum(tally: Tally) -> int:
    return tally.ok + tally.failed + tally.refused + tally.rejected + tally.unknown
