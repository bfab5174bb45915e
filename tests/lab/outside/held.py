"""Sessions that stay open while the role moves: how long one that asks twice a second takes to learn of its end."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from hosts import LabError, network

from outside import attempts, programs

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import TracebackType

IMAP = {"HAProxy IMAP": 993, "nginx IMAP": programs.NGINX_IMAPS}
SQL = {"HAProxy SQL": 3306}
EVERY_S = 0.5
# Longer than nginx waits for a host without power, where net.ipv4.tcp_retries2 is as nginx-mail.conf says.
ENDED_S = 40.0


class Held:
    """One session a path, all with `expected`; they go on until they fail, or until the end of `with`."""

    def __init__(self, tls: ssl.SSLContext, expected: str) -> None:
        self._tls, self._expected = tls, expected
        self._over = threading.Event()
        self._ended: dict[str, float] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._sessions = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened, network.namespace(network.CLIENT_NS):
            for name, port in IMAP.items():
                imap = attempts.imap_session(port, self._tls, ENDED_S)
                opened.callback(imap.shutdown)
                self._keep(name, attempts.imap_host(imap), imap.noop)
            for name, port in SQL.items():
                cursor = opened.enter_context(attempts.sql_session(port, ENDED_S)).cursor()
                cursor.execute("SELECT @@hostname")
                host = str((cursor.fetchone() or ("nobody",))[0])
                self._keep(name, host, lambda cursor=cursor: cursor.execute("SELECT 1"))
            self._sessions = opened.pop_all()
        for thread in self._threads.values():
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._sessions.close()
        for thread in self._threads.values():
            thread.join(ENDED_S)

    def _keep(self, name: str, host: str, ask: Callable[[], object]) -> None:
        if host != self._expected:
            raise LabError(f"{name}: the session is with {host}, not {self._expected}")
        self._threads[name] = threading.Thread(target=self._go, args=(name, ask), name=f"held {name}")

    def _go(self, name: str, ask: Callable[[], object]) -> None:
        try:
            while not self._over.wait(EVERY_S):
                ask()
        except attempts.FAILURES:
            self._ended[name] = time.monotonic()

    def ended(self, since: float) -> dict[str, float]:
        """Wait for the end of all, and give the times in s; raises LabError for one that does not learn of it."""
        for thread in self._threads.values():
            thread.join(max(since + ENDED_S - time.monotonic(), 0.1))
        if missing := [name for name in self._threads if name not in self._ended]:
            raise LabError(f"sessions through {missing} go on, or hang, {ENDED_S:g} s after the change")
        return {name: moment - since for name, moment in self._ended.items()}
