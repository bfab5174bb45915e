"""Sends this node's audit lines to every other node, and knows which of them have which.

    outgoing ── told ──> one task a node ── POST /peer/v1/audit ──> 200 it has them, on its disk
                            │                                       409 they do not follow what it has: go on from there
                            └── GET, after each silence: up to where has it them?

Nothing waits for this but the word "done", and that not for long: see `spread`. Where there are no new lines nothing is
sent. A node that was away gets what it lacks in batches with pauses between, so that reports and renewals, which go
over connections of their own, are never behind a year of records.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog

from failoverd.audit.outgoing import Sending
from failoverd.https import Link, LinkError
from failoverd.runtime.document_copies import (
    KEPT,
    KNOWN,
    SPREAD,
    Known,
    Missing,
    NotUnderstoodError,
    Spread,
    read,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from failoverd.audit.branch import Line
    from failoverd.audit.outgoing import Outgoing
    from failoverd.core.model import Node, NodeName

PATH = "/peer/v1/audit"
OLDEST = "audit-oldest"  # the header that says that nothing before the first line is there any more
DEADLINE_MS = 3_000  # the other side fsyncs
GATHER_S = 0.2  # what comes within it goes in one message, where nobody waits: a failover has other things to do
PACE_S = 0.1  # between batches of what is in files: 1.3 MB/s
AGAIN_S = 1.0
AGAIN_MOST_S = 10.0
SPREAD_MS = 2_000  # how long "done" waits for a majority at most
TRIES = 3  # answers in a row that say that lines do not follow
WHY_MOST = 200  # characters

_log = structlog.get_logger(__name__)


class _RefusedError(Exception):
    """The other node did not take lines."""


class _Other:
    """One other node: how far it has this node's record, and what became of the last attempt to send it more."""

    def __init__(self, name: NodeName, link: Link, outgoing: Outgoing, tell: Callable[[], None]) -> None:
        self.name = name
        self.upto = 0  # it has the lines up to this one
        self.beyond = 0  # it has more than this node: up to this one
        self.versions = 0
        self.error = "nothing was sent yet"
        self.attempts = 0  # that have ended
        self.busy = False  # one is under way
        self._tell = tell
        self._link = link
        self._outgoing = outgoing
        self._sending = Sending(outgoing)
        self._asked = False
        self._news = asyncio.Event()
        self._hurry = asyncio.Event()

    def wake(self, *, hurry: bool = False) -> None:
        """There is more; `hurry`: somebody waits for it to be there."""
        self._news.set()
        if hurry:
            self._hurry.set()

    async def run(self) -> None:
        again_s = AGAIN_S
        while True:
            self._news.clear()
            self._hurry.clear()
            self.busy = True
            try:
                await self._send_all()
                self.error, again_s = "", AGAIN_S
            except (LinkError, NotUnderstoodError, _RefusedError, OSError) as error:
                self.error, self._asked = str(error) or type(error).__name__, False
            self.attempts, self.busy = self.attempts + 1, False
            self._tell()
            if self.error:
                await self._wait(self._hurry, again_s)
                again_s = min(again_s * 2, AGAIN_MOST_S)
            else:
                await self._news.wait()
                await self._wait(self._hurry, GATHER_S)

    @staticmethod
    async def _wait(event: asyncio.Event, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                await event.wait()
        except TimeoutError:
            return

    async def _send_all(self) -> None:
        if not self._asked:
            known = await self._ask_known(PATH)
            upto = await self._common(known)
            if known.known and not upto:  # its end is none of this record: rare, and much has to be read for it
                upto = await self._common(await self._ask_known(f"{PATH}?all=1"))
            self.upto, self._asked = upto, True
        tries = 0
        while self.upto < self._outgoing.head.seq:
            lines, in_files = self._outgoing.newest(self.upto), False
            if lines is None:
                lines, in_files = await asyncio.to_thread(self._sending.from_files, self.upto), True
            if not lines:
                raise _RefusedError(f"this node's own lines after {self.upto} cannot be read")
            tries = 0 if await self._send(lines) else tries + 1
            self._tell()
            if tries == TRIES:
                raise _RefusedError("it says that lines do not follow, whatever it is sent")
            if in_files:
                await asyncio.sleep(PACE_S)

    async def _ask_known(self, path: str) -> Known:
        answer = await self._link.request("GET", path, deadline_ms=DEADLINE_MS)
        if answer.status != 200:
            raise _RefusedError(f"{answer.status} {answer.body[:200].decode(errors='replace')}")
        return read(KNOWN, answer.body)

    async def _send(self, lines: list[Line]) -> bool:
        """Send a batch; False: it does not follow, and `upto` is where to go on from."""
        headers = f"{OLDEST}: {lines[0].seq}\r\n" if lines[0].seq != self.upto + 1 else ""
        body = b"".join(line.data for line in lines)
        answer = await self._link.request("POST", PATH, deadline_ms=DEADLINE_MS, body=body, headers=headers)
        if answer.status == 409:
            self.upto = await self._common(read(KNOWN, answer.body))
            return False
        if answer.status != 200:
            raise _RefusedError(f"{answer.status} {answer.body[:200].decode(errors='replace')}")
        kept = read(KEPT, answer.body)
        self.upto, self.versions = lines[-1].seq, kept.versions
        self.beyond = kept.seq if kept.seq > self._outgoing.head.seq else 0
        return True

    async def _common(self, there: Known) -> int:
        """The newest line that both have; 0: none."""
        here = await asyncio.to_thread(self._outgoing.hashes, [seq for seq, _ in there.known])
        newest = max((seq for seq, _ in there.known), default=0)
        self.beyond = newest if newest > self._outgoing.head.seq else 0
        return max((seq for seq, hash_ in there.known if here.get(seq) == hash_), default=0)


class Copying:
    """All other nodes. `start` in the running loop; `wake` from any thread."""

    def __init__(
        self,
        *,
        own: NodeName,
        nodes: Mapping[NodeName, Node],
        port: int,
        ssl_context: ssl.SSLContext,
        outgoing: Outgoing,
    ) -> None:
        self._own = own
        self._outgoing = outgoing
        self.links = {name: Link(node.address, port, ssl_context) for name, node in nodes.items() if name != own}
        self.others = {name: _Other(name, link, outgoing, self._tell) for name, link in self.links.items()}
        self._changed = asyncio.Event()  # what `spread` waits for; replaced by another each time
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to send."""
        self._loop = asyncio.get_running_loop()
        self._tasks = [self._loop.create_task(self._run(other)) for other in self.others.values()]

    async def stop(self) -> None:
        """Send no more, and end every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for link in self.links.values():
            link.close()

    def wake(self) -> None:
        """There are new lines."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the daemon has ended
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for other in self.others.values():
            other.wake()

    @staticmethod
    async def _run(other: _Other) -> None:
        while True:
            try:
                await other.run()
            except Exception as error:  # noqa: BLE001 - a bug in telling must not end the daemon; it is not hidden
                other.error = f"{type(error).__name__}: {error}"
                _log.error("the copying of the audit failed", code="AUDIT_COPY_BUG", node=other.name, exc_info=error)
            await asyncio.sleep(AGAIN_MOST_S)

    # ---- who has what -------------------------------------------------------------------------------------------

    async def spread(self, within_ms: int = SPREAD_MS) -> Spread:
        """Wait until most nodes have the record up to its present head, or cannot have it now, and say who has it."""
        upto = self._outgoing.head.seq
        # An attempt that is under way may have begun before the newest line was there: it counts for nothing.
        until = {name: other.attempts + 1 + other.busy for name, other in self.others.items()}
        for other in self.others.values():
            if other.upto < upto:
                other.wake(hurry=True)
        try:
            async with asyncio.timeout(within_ms / 1000):
                while not self._told(upto).by_most and any(
                    other.upto < upto and other.attempts < until[name] for name, other in self.others.items()
                ):
                    await self._changed.wait()
        except TimeoutError:
            pass  # who has it by now is what is told
        return self._told(upto)

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _told(self, upto: int) -> Spread:
        on = [name for name, other in self.others.items() if other.upto >= upto]
        missing = [
            Missing(name, (other.error or f"it has it up to {other.upto} as yet")[:WHY_MOST])
            for name, other in self.others.items()
            if other.upto < upto
        ]
        return Spread(self._own, upto, (self._own, *on), tuple(missing))

    async def spread_of(self, node: NodeName, within_ms: int = SPREAD_MS) -> Spread | str:
        """The same of another node's record, as that node says; or why it is not known."""
        if node not in self.links:
            return "no such node"
        path = f"{PATH}/spread?within_ms={within_ms}"
        try:
            answer = await self.links[node].request("GET", path, deadline_ms=within_ms + 500)
            if answer.status != 200:
                return f"{answer.status} {answer.body[:200].decode(errors='replace')}"
            return read(SPREAD, answer.body)
        except (LinkError, NotUnderstoodError) as error:
            return str(error)

    async def in_words(self, actor: NodeName) -> str:
        """What is missing of this node's record and of `actor`'s, of what they have done until now. "": nothing."""
        names = dict.fromkeys((self._own, actor))
        return "; ".join(filter(None, await asyncio.gather(*map(self.of_one, names))))

    async def of_one(self, node: NodeName) -> str:
        """What is missing of one node's record being on most nodes. "": nothing."""
        its = await (self.spread() if node == self._own else self.spread_of(node))
        if isinstance(its, str):
            return f"whether other nodes have {node}'s record of it is not known: {its}"
        return in_words(its)


def in_words(spread: Spread) -> str:
    """What is to be said of a record that is not on most nodes; "" of one that is."""
    if spread.by_most:
        return ""
    missing = " and ".join(f"{each.node} ({each.why})" for each in spread.missing)
    return f"its record is on {' and '.join(spread.on)} only, {missing} did not take it"
