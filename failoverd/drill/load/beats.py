"""Fresh logins by the clock: what somebody finds who comes just now. They show when there was no service.

    IMAP: connect, TLS, LOGIN, NOOP, LOGOUT      SMTP: connect, EHLO, STARTTLS, AUTH, NOOP, QUIT

Each has its own short deadline, and none waits for another: one that waited for a hung one would measure that one's
time-out as an outage. From the end of the last good one to the end of the next is a gap, when it is longer than half a
second, or when one that was meant for it has failed: a role that is handed over in 150 ms costs two or three of them.
So its length is known to a tenth of a second, at ten beats a second.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from typing import TYPE_CHECKING

from failoverd.drill.load.imap import Imap
from failoverd.drill.load.service import TROUBLE
from failoverd.drill.load.smtp import Smtp
from failoverd.drill.model import Gap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from failoverd.drill.load.service import Account, Logins, Service
    from failoverd.drill.model import Protocol

DEADLINE_S = 1.0
GAP_S = 0.5
SHORT_S = 0.15  # shorter than this is no time between two beats


class Gaps:
    """One protocol's times without a good beat. Pure; times are of the loop's clock."""

    def __init__(self, protocol: Protocol, epoch_s: float, began_s: float) -> None:
        self._protocol, self._epoch_s = protocol, epoch_s
        self._last_s = began_s
        self._pauses: list[tuple[float, float]] = []
        self._failed: list[float] = []  # when they were meant, in order of their ends

    def good(self, now_s: float) -> None:
        """One has ended well."""
        if now_s - self._last_s > SHORT_S:
            self._pauses.append((self._last_s, now_s))
        self._last_s = now_s

    def bad(self, intended_s: float) -> None:
        """One has failed: when the next have long ended well, if it was never answered."""
        self._failed.append(intended_s)

    def until(self, end_s: float) -> list[Gap]:
        """All up to the end of the beats; the last may not have ended."""
        failed = sorted(self._failed)
        pauses = [*self._pauses, (self._last_s, end_s)]
        return [self._gap(*pause) for pause in pauses if pause[1] - pause[0] > GAP_S or _any_in(failed, pause)]

    def _gap(self, from_s: float, until_s: float) -> Gap:
        from_ms, until_ms = (round((at_s + self._epoch_s) * 1000) for at_s in (from_s, until_s))
        return Gap(protocol=self._protocol, from_ms=from_ms, until_ms=until_ms)


def _any_in(ordered: Sequence[float], pause: tuple[float, float]) -> bool:
    """Whether one of them lies in it; a last one of no length has none."""
    from_s, until_s = pause
    return until_s - from_s > SHORT_S and bisect_left(ordered, from_s) < bisect_left(ordered, until_s)


async def beat_imap(service: Service, account: Account, intended_s: float, logins: Logins) -> bool:
    """Make one; return whether it went well."""
    session: Imap | None = None
    try:
        async with asyncio.timeout_at(intended_s + DEADLINE_S):
            session = await Imap.connected(service)
            await session.log_in(account)
            logins.done += 1
            await session.command(b"NOOP")
            await session.log_out()
    except TROUBLE:
        return False
    else:
        return True
    finally:
        if session is not None:
            logins.unknown += session.login_in_doubt
            session.wire.abort()


async def beat_smtp(service: Service, account: Account, intended_s: float) -> bool:
    """Make one; return whether it went well."""
    session: Smtp | None = None
    try:
        async with asyncio.timeout_at(intended_s + DEADLINE_S):
            session = await Smtp.connected(service)
            await session.log_in(account)
            await session.command(b"NOOP")
            await session.quit()
    except TROUBLE:
        return False
    else:
        return True
    finally:
        if session is not None:
            session.wire.abort()
