"""Clients that come through a proxy: each path in a thread of its own, an attempt every tenth of a second."""

from __future__ import annotations

import imaplib
import smtplib
import ssl
import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Self

import pymysql
from hosts import layout, network
from hosts.shell import wait_for

from outside import programs

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

HERE = "127.0.0.1"
EVERY_S, TIMEOUT_S = 0.1, 1.0
SERVED_S = 30.0


def _unchecked() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


_TLS = _unchecked()


def imaps(port: int) -> Callable[[], None]:
    """Log in over TLS, and select the mailbox."""

    def attempt() -> None:
        with imaplib.IMAP4_SSL(HERE, port, ssl_context=_TLS, timeout=TIMEOUT_S) as session:
            session.login(layout.IMAP_USERS[0], layout.USER_PASSWORD)
            kind, said = session.select("INBOX")
            if kind != "OK":
                raise imaplib.IMAP4.error(said)

    return attempt


def smtp(port: int) -> Callable[[], None]:
    """Hand over a mail, as another company's server does."""

    def attempt() -> None:
        with smtplib.SMTP(HERE, port, local_hostname="client.elsewhere.test", timeout=TIMEOUT_S) as session:
            session.sendmail(
                "somebody@elsewhere.test", [layout.SMTP_USERS[0]], "Subject: through a proxy\r\n\r\nhello\r\n"
            )

    return attempt


def sql(port: int) -> Callable[[], None]:
    """Ask a server that takes writes; a read-only one is a failure."""

    def attempt() -> None:
        with (
            pymysql.connect(
                host=HERE,
                port=port,
                user=layout.APP_USER,
                password=layout.APP_PASSWORD,
                connect_timeout=TIMEOUT_S,
                read_timeout=TIMEOUT_S,
                write_timeout=TIMEOUT_S,
            ) as session,
            session.cursor() as cursor,
        ):
            cursor.execute("SELECT @@read_only")
            if cursor.fetchone() != (0,):
                raise pymysql.err.OperationalError("read-only")

    return attempt


PATHS = {
    "HAProxy IMAP": imaps(993),
    "HAProxy SMTP": smtp(25),
    "HAProxy SQL": sql(3306),
    "nginx IMAP": imaps(programs.NGINX_IMAPS),
    "nginx SMTP": smtp(programs.NGINX_SMTP),
}
_FAILURES = (OSError, imaplib.IMAP4.error, smtplib.SMTPException, pymysql.err.MySQLError, EOFError)


@dataclass
class _Record:
    served: list[float] = field(default_factory=list)  # when an attempt that succeeded ended, s
    began: list[float] = field(default_factory=list)
    error: str = "nothing yet"


class Clients:
    """They go on from `with` to its end."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._records = {name: _Record() for name in PATHS}
        self._threads = [threading.Thread(target=self._go, args=(name,), name=name) for name in PATHS]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _go(self, name: str) -> None:
        record, attempt = self._records[name], PATHS[name]
        with network.namespace(network.CLIENT_NS):
            while not self._over.wait(EVERY_S):
                began = time.monotonic()
                try:
                    attempt()
                except _FAILURES as failure:
                    record.error = f"{type(failure).__name__}: {failure}"
                else:
                    record.began.append(began)
                    record.served.append(time.monotonic())

    def wait_until_served(self, since: float) -> None:
        """Wait until each path has served an attempt that began after the moment, and another a second later."""
        for moment in (since, None):
            after = time.monotonic() + 1.0 if moment is None else moment

            def late(after: float = after) -> list[str]:
                return [
                    f"{name}: {record.error}"
                    for name, record in self._records.items()
                    if not record.began or record.began[-1] < after
                ]

            wait_for("mail served on each path", lambda: not late(), SERVED_S, why_not=lambda: "; ".join(late()))

    def outages(self, since: float, until: float) -> dict[str, float]:
        """Give for each path the longest time without an answer that reaches into [since, until], in s."""
        return {
            name: max(b - a for a, b in pairwise(list(record.served)) if b > since and a < until)
            for name, record in self._records.items()
        }
