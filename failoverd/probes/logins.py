"""Logins and deliveries of this node, counted in the journal: gauges, and what is wrong with the logins.

    MON_AUTH_FAILURES   more than `above` percent of the window's logins fail, of `least` or more
    MON_AUTH_SOURCE     more than `above` of them came from one address (IPv6: one /64)

failoverd's own looks are left out: the canary's logins from a member of the cluster would hide what becomes of all
others. The counts begin with the daemon: reading back an hour would cost most where a node has just been started.
A journal that cannot be read is UNKNOWN, with MON_NO_JOURNAL: nothing is known about logins then, good or bad.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Protocol

from failoverd.core.model import Health, Reading
from failoverd.core.monitoring import LoginFacts
from failoverd.probes import maillog
from failoverd.probes.journal import OPENING
from failoverd.probes.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from failoverd.config import AuthFailures, AuthSource
    from failoverd.ports import Target

RATE_MS = 60_000  # over which deliveries a second are counted
NAMED = 3  # addresses in one reason
OPENED_LOOKS, OPENED_EVERY_S = 20, 0.05


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Follower(Protocol):
    """What the probe needs of a `Journal`."""

    @property
    def error(self) -> str:
        """Why nothing is read, "" while it is."""
        ...

    def start(self) -> None:
        """Begin, once."""
        ...

    def close(self) -> None:
        """End."""
        ...


class MailTally:
    """Counts what the journal's thread hears; read by the probe. Knows no more than two units."""

    def __init__(  # noqa: PLR0917 - all that it needs
        self,
        imap_unit: str,
        smtp_unit: str,
        canary: str,
        members: Collection[str],
        failures: AuthFailures | None,
        source: AuthSource | None,
        clock: Callable[[], int] = _now_ms,
    ) -> None:
        self._imap_unit = imap_unit
        self._smtp_unit = smtp_unit
        self._canary = canary
        self._members = frozenset(members)
        self._failures = failures
        self._source = source
        self._clock = clock
        self._lock = threading.Lock()
        self._logins = Window(failures.window_ms) if failures else None
        self._sources = Window(source.window_ms) if source else None
        self._rate = Window(RATE_MS)
        self._began_ms = clock()
        self._accepted = self._refused = self._deliveries = 0

    def hear(self, unit: str, identifier: str, message: str) -> None:
        """One line of the journal."""
        said: maillog.Login | maillog.Delivery | None = None
        if unit == self._imap_unit and identifier == "dovecot":
            said = maillog.dovecot(message)
        elif unit == self._smtp_unit:
            said = maillog.postfix(identifier, message)
        match said:
            case maillog.Login():
                if not (said.user == self._canary and said.address in self._members):
                    self._login(said)
            case maillog.Delivery():
                with self._lock:
                    self._deliveries += 1
                    self._rate.add(self._clock(), "")
            case None:
                pass

    def _login(self, login: maillog.Login) -> None:
        now_ms = self._clock()
        with self._lock:
            if login.accepted:
                self._accepted += login.attempts
            else:
                self._refused += login.attempts
                if self._sources is not None and login.address:
                    self._sources.add(now_ms, maillog.source_of(login.address), login.attempts)
            if self._logins is not None:
                self._logins.add(now_ms, "accepted" if login.accepted else "refused", login.attempts)

    def facts(self) -> LoginFacts:
        """As of now."""
        now_ms = self._clock()
        with self._lock:
            counted_ms = min(RATE_MS, max(now_ms - self._began_ms, 1000))
            rate = self._rate.totals(now_ms)[""] * 1000 / counted_ms
            found = (*self._share(now_ms), *self._blamed(now_ms))
            return LoginFacts(self._accepted, self._refused, self._deliveries, round(rate, 2), found)

    def _share(self, now_ms: int) -> Iterator[tuple[str, str]]:
        limit = self._failures
        if limit is None or self._logins is None:
            return
        counts = self._logins.totals(now_ms)
        refused, every = counts["refused"], counts.total()
        if every >= limit.least and 100 * refused > limit.above_percent * every:
            share, within = 100 * refused / every, limit.window_ms // 1000
            words = f"{refused} of {every} logins failed within {within} s: {share:.0f} % > {limit.above_percent:g} %"
            yield "MON_AUTH_FAILURES", words

    def _blamed(self, now_ms: int) -> Iterator[tuple[str, str]]:
        limit = self._source
        if limit is None or self._sources is None:
            return
        most = [(name, count) for name, count in self._sources.totals(now_ms).most_common() if count > limit.above]
        if most:
            named = ", ".join(f"{count} from {name}" for name, count in most[:NAMED])
            more = f" and {len(most) - NAMED} more addresses" if len(most) > NAMED else ""
            yield "MON_AUTH_SOURCE", f"failed logins within {limit.window_ms // 1000} s: {named}{more}; > {limit.above}"


class LoginsProbe:
    """Reads `LoginFacts`. The thread that follows the journal is started at the first reading."""

    def __init__(self, journal: Follower, tally: MailTally) -> None:
        self._journal = journal
        self._tally = tally

    async def read(self, target: Target) -> Reading:  # noqa: ARG002 - it only ever looks at this node
        """Look once; see `ports.Probe`."""
        try:
            self._journal.start()
        except RuntimeError as error:
            return Reading(Health.UNKNOWN, "PROBE_EXHAUSTED", f"this node: {error}")
        for _ in range(OPENED_LOOKS):  # or the first reading of a daemon would be that nothing can be read
            if self._journal.error != OPENING:
                break
            await asyncio.sleep(OPENED_EVERY_S)
        if error_ := self._journal.error:
            return Reading(Health.UNKNOWN, "MON_NO_JOURNAL", f"the journal is not read: {error_}")
        return judged(self._tally.facts())

    async def close(self) -> None:
        """Stop reading, for good: a schedule that has the probe again gets a new one."""
        self._journal.close()


def judged(facts: LoginFacts) -> Reading:
    """FAILED with the first code and every reason; OK where nothing was found."""
    if not facts.found:
        return Reading(Health.OK, facts=facts)
    return Reading(Health.FAILED, facts.found[0][0], "; ".join(reason for _, reason in facts.found), facts)
