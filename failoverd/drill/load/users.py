"""A person of the drill: one IMAP session that is kept up, and mails submitted beside it.

    connect ─ LOGIN ─ SELECT ─┬─ IDLE ──(something is meant to be done)── DONE ─ FETCH or APPEND ─┐
       ▲                      └───────────────────────────────────────────────────────────────────┘
       └── 0.1 to 2 s ── whatever goes wrong on the connection

What was meant to be done while there is no session waits, with its clock running. What was under way when the session
broke has failed, or is unknown where a message was on its way: it may have been taken, and a second attempt might store
it twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from failoverd.drill.load.imap import MAILBOX, Imap
from failoverd.drill.load.service import TROUBLE, outcome_of
from failoverd.drill.load.smtp import Smtp

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from failoverd.drill.load.answers import Outcome
    from failoverd.drill.load.ledger import How, Ledger
    from failoverd.drill.load.messages import Messages
    from failoverd.drill.load.pacing import Kind
    from failoverd.drill.load.seconds import Operation
    from failoverd.drill.load.service import Account, Logins, Service, Session

STEADY_S = 10.0  # a session that lasted so long was a good one: what ends it is news
LOGIN_S = 10.0  # for a session to be there; then another attempt has better chances than more patience
GOODBYE_S = 2.0
IDLE_S = 600.0  # RFC 2177: a new IDLE before half an hour is over
FIRST_PAUSE_S, MOST_PAUSE_S = 0.1, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What all people share."""

    imap: Service
    smtp: Service
    accounts: Sequence[Account]
    messages: Messages
    ledger: Ledger
    rng: random.Random
    deadline_s: float
    epoch_s: float  # added to the loop's time it is CLOCK_REALTIME
    logins: Logins


def pause_s(attempts: int, rng: random.Random) -> float:
    """How long to wait before another attempt: longer each time, and never at the same moment as everybody else."""
    return rng.uniform(
        FIRST_PAUSE_S, max(2 * FIRST_PAUSE_S, min(MOST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempts, 10)))
    )


class User:
    """One. `run` until told to leave."""

    def __init__(self, world: World, account: Account) -> None:
        self._world, self._account = world, account
        self._to_do: deque[tuple[Kind, Operation]] = deque()
        self._stirred = asyncio.Event()
        self._leaving = False
        self._attempts = 0
        self._since_s: float | None = None  # when the session was there
        self.is_logged_in = False

    def do(self, kind: Kind, operation: Operation) -> None:
        """A FETCH or APPEND is meant to be done now."""
        self._to_do.append((kind, operation))
        self._stirred.set()

    def leave(self) -> None:
        """Log out when what was to be done is done."""
        self._leaving = True
        self._stirred.set()

    async def run(self) -> None:
        """Be there."""
        time = asyncio.get_running_loop().time
        while not self._leaving or self._next() is not None:
            try:
                await self._session()
            except TROUBLE:
                # A server that lets people in and then drops them is not to be stormed either.
                steady = self._since_s is not None and time() - self._since_s > STEADY_S
                self._attempts = 1 if steady else self._attempts + 1
            self._next()  # what is over by now is not kept
            if not self._leaving or self._to_do:
                await asyncio.sleep(pause_s(self._attempts, self._world.rng))

    def _next(self) -> tuple[Kind, Operation] | None:
        """What is to be done first, and is not over yet: what comes too late is not begun."""
        now_s = asyncio.get_running_loop().time()
        while self._to_do and (self._to_do[0][1].over or self._deadline_s(self._to_do[0][1]) <= now_s):
            _, operation = self._to_do.popleft()
            operation.end("failed", now_s)
        return self._to_do[0] if self._to_do else None

    def _deadline_s(self, operation: Operation) -> float:
        return operation.intended_s + self._world.deadline_s

    async def _session(self) -> None:
        """Keep up one session for as long as it lasts."""
        self._since_s = None
        async with asyncio.timeout(LOGIN_S):
            session = await Imap.connected(self._world.imap)
        try:
            async with asyncio.timeout(LOGIN_S):
                await session.log_in(self._account)
                self._world.logins.done += 1
                await session.select()
            self.is_logged_in = True
            self._since_s = asyncio.get_running_loop().time()
            session.wire.on_arrival = self._stirred.set
            await self._work(session)
        finally:
            self.is_logged_in = False
            self._world.logins.unknown += session.login_in_doubt
            session.wire.abort()

    async def _work(self, session: Imap) -> None:
        loop = asyncio.get_running_loop()
        idles = False
        while True:
            self._stirred.clear()
            session.hear()  # it may have ended: what is meant to be done waits for the next one
            to_do = self._next()
            if to_do is not None:
                kind, operation = to_do
                async with asyncio.timeout_at(self._deadline_s(operation)):
                    if idles:
                        await session.end_idle()
                        idles = False
                    self._to_do.popleft()
                    await self._operate(session, kind, operation)
            elif self._leaving:
                async with asyncio.timeout(GOODBYE_S):
                    if idles:
                        await session.end_idle()
                    await session.log_out()
                return
            elif not idles:
                async with asyncio.timeout(self._world.deadline_s):
                    await session.idle()
                idles, idles_since = True, loop.time()
            else:
                try:
                    async with asyncio.timeout_at(idles_since + IDLE_S):
                        await self._stirred.wait()
                except TimeoutError:
                    async with asyncio.timeout(self._world.deadline_s):
                        await session.end_idle()
                    idles = False

    async def _operate(self, session: Imap, kind: Kind, operation: Operation) -> None:
        """Do it, and say how it went. Raises where the session is of no use any more."""
        now = asyncio.get_running_loop().time
        try:
            if kind == "append":
                await self._append(session)
            else:
                await session.fetch(self._world.rng.random())
        except TROUBLE as error:
            outcome = self._failed(error, session, "append", operation)
            if outcome in {"failed", "unknown"} or session.said_bye:
                raise
        except BaseException as error:  # the deadline, which is told to us by cancelling
            self._failed(error, session, "append", operation)
            raise
        else:
            operation.end("ok", now())

    async def _append(self, session: Imap) -> None:
        world, at_s = self._world, asyncio.get_running_loop().time
        name = self._account.name
        message = world.messages.make(name, name, at_s() + world.epoch_s)
        await session.append(message.data)
        world.ledger.acknowledged(message, name, MAILBOX, "append", round((at_s() + world.epoch_s) * 1000))

    def _failed(self, error: BaseException, session: Session | None, how: How, operation: Operation) -> Outcome:
        outcome = outcome_of(error, session)
        if outcome == "unknown":
            self._world.ledger.in_doubt(how)
        operation.end(outcome, asyncio.get_running_loop().time())
        return outcome

    def _somebody(self) -> Account:
        """Choose another account, where there is one."""
        accounts = self._world.accounts
        at = self._world.rng.randrange(len(accounts))
        return accounts[at] if accounts[at] is not self._account else accounts[at - 1]

    async def submit(self, operation: Operation) -> None:
        """Submit a mail to another account, over a connection of its own."""
        world, at_s = self._world, asyncio.get_running_loop().time
        to = self._somebody().name
        session: Smtp | None = None
        try:
            async with asyncio.timeout_at(self._deadline_s(operation)):
                session = await Smtp.connected(world.smtp)
                await session.log_in(self._account)
                message = world.messages.make(self._account.name, to, at_s() + world.epoch_s)
                await session.submit(self._account.name, to, message.data)
            world.ledger.acknowledged(message, to, "INBOX", "submit", round((at_s() + world.epoch_s) * 1000))
        except TROUBLE as error:
            self._failed(error, session, "submit", operation)
            if session is not None:
                session.wire.abort()
        except BaseException as error:
            self._failed(error, session, "submit", operation)
            if session is not None:
                session.wire.abort()
            raise
        else:
            operation.end("ok", at_s())
            session.leave()
