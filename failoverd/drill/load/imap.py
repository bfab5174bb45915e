"""IMAP as a mail program speaks it: log in, select, wait in IDLE, look at a message, store one (RFC 3501, 2177)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.drill.load.answers import AnswerError, imap_literal, imap_messages, imap_outcome, imap_status
from failoverd.drill.load.wire import LONGEST_LINE, Wire

if TYPE_CHECKING:
    from failoverd.drill.load.service import Account, Service

MOST_LINES = 10_000  # of one answer, or of what is told between two commands
LOOK_AT = 64 * 1024  # bytes of a message: the drill's accounts may have been sent anything
MAILBOX = "Drill"


def quoted(text: str) -> bytes:
    """Quote a string. Raises AnswerError where it cannot be one."""
    if not text.isascii() or not text.isprintable():
        raise AnswerError("rejected", "an account or password that IMAP's quotes cannot hold")
    return b'"' + text.replace("\\", "\\\\").replace('"', '\\"').encode() + b'"'


class Imap:
    """One session. Raises AnswerError or OSError; deadlines are the caller's."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._serial = 0
        self._idle_tag = b""
        self._leaving = False
        self._unasked = 0
        self.in_doubt = False  # a message was sent, and nothing was said to it yet
        self.login_in_doubt = False  # likewise, a login
        self.said_bye = False  # by the server, unasked: it closes the connection, or has done so
        self.messages = 0  # in the selected mailbox

    @classmethod
    async def connected(cls, service: Service) -> Imap:
        """Connect, up to TLS and the greeting."""
        wire = await Wire.connect(service.address, service.port)
        try:
            if service.tls == "implicit":
                await wire.secure(service.context, service.server_name)
            self = cls(wire)
            await self._greeting()
            if service.tls == "starttls":
                await self.command(b"STARTTLS")
                await wire.secure(service.context, service.server_name)
        except BaseException:
            wire.abort()
            raise
        return self

    async def _greeting(self) -> None:
        line = await self.wire.line()
        if not line.startswith(b"* "):
            raise AnswerError("failed", f"no greeting: {line[:80]!r}")
        _judge(line[2:])

    async def log_in(self, account: Account) -> None:
        """Log in."""
        tag = self._next_tag()
        self.wire.send(b"%s LOGIN %s %s\r\n" % (tag, quoted(account.name), quoted(account.password)))
        self.login_in_doubt = True
        await self._end_of(tag)

    async def select(self) -> None:
        """Open the inbox."""
        await self.command(b"SELECT INBOX")

    async def fetch(self, turn: float) -> None:
        """Look at one of the newest twenty messages, by `turn` from 0 to below 1; where there is none, for new ones."""
        if not self.messages:
            await self.command(b"NOOP")
            return
        number = self.messages - int(turn * min(self.messages, 20))
        await self.command(b"FETCH %d (UID FLAGS RFC822.SIZE BODY.PEEK[]<0.%d>)" % (number, LOOK_AT))

    async def append(self, message: bytes) -> None:
        """Store a message in the drill's mailbox, which is made when it is missing."""
        line = b"APPEND %s (\\Seen)" % MAILBOX.encode()
        try:
            await self.command(line, message)
        except MissingMailboxError:
            await self.create()
            await self.command(line, message)

    async def create(self) -> None:
        """Make the drill's mailbox; another session of the account may have done so meanwhile."""
        try:
            await self.command(b"CREATE " + MAILBOX.encode())
        except AnswerError as error:
            if error.outcome != "rejected":
                raise

    async def log_out(self) -> None:
        """Say goodbye and wait for the answer."""
        self._leaving = True  # a BYE is what is to come
        await self.command(b"LOGOUT")
        self.wire.close()

    # ---- IDLE -------------------------------------------------------------------------------------------------------

    async def idle(self) -> None:
        """Begin to wait for what the server has to tell."""
        self._idle_tag = self._next_tag()
        self.wire.send(self._idle_tag + b" IDLE\r\n")
        await self._until_go_ahead(self._idle_tag)

    def hear(self) -> None:
        """Take what has come while nothing was asked. Raises AnswerError where the server has ended the session."""
        while (line := self.wire.next_line()) is not None:
            self._unasked += 1
            if self._unasked > MOST_LINES:  # else a server that never stops keeps this process busy for as long
                raise AnswerError("failed", "news without an end")
            self._untagged(line)
        if self.wire.ended:
            raise AnswerError("failed", self.wire.ended)

    async def end_idle(self) -> None:
        """Have done with waiting."""
        tag, self._idle_tag = self._idle_tag, b""
        self.wire.send(b"DONE\r\n")
        await self._end_of(tag)

    # ---- commands and answers ---------------------------------------------------------------------------------------

    async def command(self, line: bytes, literal: bytes | None = None) -> None:
        """Give one, and see it done."""
        tag = self._next_tag()
        if literal is None:
            self.wire.send(b"%s %s\r\n" % (tag, line))
        else:
            self.wire.send(b"%s %s {%d}\r\n" % (tag, line, len(literal)))
            await self._until_go_ahead(tag)
            self.wire.send(literal + b"\r\n")
            self.in_doubt = True
        await self._end_of(tag)

    def _next_tag(self) -> bytes:
        self._serial += 1
        self._unasked = 0
        return b"d%d" % self._serial

    async def _end_of(self, tag: bytes) -> None:
        for _ in range(MOST_LINES):
            line = await self._line()
            if line.startswith(tag + b" "):
                self._answered(line[len(tag) + 1 :])
                return
            self._untagged(line)
        raise AnswerError("failed", "an answer without an end")

    def _answered(self, status: bytes) -> None:
        """Take the end of a command: it says what became of a message, where it can be understood."""
        imap_status(status)
        self.in_doubt = self.login_in_doubt = False
        _judge(status)

    async def _until_go_ahead(self, tag: bytes) -> None:
        for _ in range(MOST_LINES):
            line = await self._line()
            if line.startswith(b"+"):
                return
            if line.startswith(tag + b" "):
                _judge(line[len(tag) + 1 :])
                raise AnswerError("failed", "done before it was begun")
            self._untagged(line)
        raise AnswerError("failed", "an answer without an end")

    async def _line(self) -> bytes:
        """Return a line of an answer, its literals left out."""
        whole = b""
        for _ in range(MOST_LINES):
            line = await self.wire.line()
            whole += line
            if len(whole) > LONGEST_LINE:
                break
            size = imap_literal(line)
            if size is None:
                return whole
            await self.wire.exactly(size)
        raise AnswerError("failed", "a line without an end")

    def _untagged(self, line: bytes) -> None:
        if not line.startswith(b"* "):
            raise AnswerError("failed", f"no answer to anything: {line[:80]!r}")
        self.messages = imap_messages(line, self.messages)
        if line[:5].upper() == b"* BYE" and not self._leaving:
            self.said_bye = True
            _, code = imap_status(line[2:])
            words = line[:80].decode("ascii", "replace")
            raise AnswerError("refused" if code == b"UNAVAILABLE" else "failed", words)


class MissingMailboxError(AnswerError):
    """The mailbox that a message is meant for has to be made."""


def _judge(status: bytes) -> None:
    """Take the end of a command. Raises AnswerError unless it is OK."""
    outcome = imap_outcome(status)
    if outcome == "ok":
        return
    words = status[:80].decode("ascii", "replace")
    if imap_status(status)[1] == b"TRYCREATE":
        raise MissingMailboxError(outcome, words)
    raise AnswerError(outcome, words)
