"""One attempt of a client through a proxy, on each path; each tells which host of the cluster answered it."""

from __future__ import annotations

import imaplib
import re
import smtplib
import ssl
import uuid
from typing import TYPE_CHECKING

import pymysql
from hosts import layout

from outside import programs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pymysql.connections import Connection

    Attempt = Callable[[], str]

HERE = "127.0.0.1"
TIMEOUT_S = 1.0
FAILURES = (OSError, imaplib.IMAP4.error, smtplib.SMTPException, pymysql.err.MySQLError, EOFError)


def trusting(ca: Path) -> ssl.SSLContext:
    """TLS as the lab's clients do it. They come by an address, the certificate has the name: the chain alone counts."""
    context = ssl.create_default_context(cafile=str(ca))
    context.check_hostname = False
    return context


def imap_session(port: int, tls: ssl.SSLContext, timeout_s: float = TIMEOUT_S) -> imaplib.IMAP4_SSL:
    """A session with its mailbox open."""
    session = imaplib.IMAP4_SSL(HERE, port, ssl_context=tls, timeout=timeout_s)
    try:
        session.login(layout.IMAP_USERS[0], layout.USER_PASSWORD)
        kind, said = session.select("INBOX")
        if kind != "OK":
            raise imaplib.IMAP4.error(said)  # noqa: TRY301 - the session is closed for whatever it was
    except BaseException:
        session.shutdown()
        raise
    return session


def imap_host(session: imaplib.IMAP4_SSL) -> str:
    """The host, by what Dovecot says to ID since programs.let_in."""
    kind, said = session.xatom("ID", "NIL")
    told = session.response("ID")[1][0]
    found = re.search(rb'"x-host" "(\w+)"', told or b"")
    if kind != "OK" or found is None:
        raise imaplib.IMAP4.error(f"ID was answered by {said} {told!r}")
    return found[1].decode()


def imaps(port: int, tls: ssl.SSLContext) -> Attempt:
    """Log in over TLS, select the mailbox, ask which host it is."""

    def attempt() -> str:
        with imap_session(port, tls) as session:
            return imap_host(session)

    return attempt


def smtp(port: int) -> Attempt:
    """Hand over a mail, as another company's server does. Tells its Message-ID: whose journal has it accepted it."""

    def attempt() -> str:
        number = f"<through-{uuid.uuid4()}@elsewhere.test>"
        mail = f"Subject: through a proxy\r\nMessage-ID: {number}\r\n\r\nhello\r\n"
        with smtplib.SMTP(HERE, port, local_hostname="client.elsewhere.test", timeout=TIMEOUT_S) as session:
            session.sendmail("somebody@elsewhere.test", [layout.SMTP_USERS[0]], mail)
        return number

    return attempt


def sql_session(port: int, timeout_s: float = TIMEOUT_S) -> Connection:
    """A session of the application's account."""
    return pymysql.connect(
        host=HERE,
        port=port,
        user=layout.APP_USER,
        password=layout.APP_PASSWORD,
        connect_timeout=TIMEOUT_S,
        read_timeout=timeout_s,
        write_timeout=timeout_s,
    )


def sql(port: int) -> Attempt:
    """Ask a server that takes writes which host it is; a read-only one is a failure."""

    def attempt() -> str:
        with sql_session(port) as session, session.cursor() as cursor:
            cursor.execute("SELECT @@read_only, @@hostname")
            read_only, host = cursor.fetchone() or (1, "nobody")
            if read_only:
                raise pymysql.err.OperationalError(f"{host} is read-only")
            return str(host)

    return attempt


def paths(tls: ssl.SSLContext) -> dict[str, Attempt]:
    """Every way through a proxy."""
    return {
        "HAProxy IMAP": imaps(993, tls),
        "HAProxy SMTP": smtp(25),
        "HAProxy SQL": sql(3306),
        "nginx IMAP": imaps(programs.NGINX_IMAPS, tls),
        "nginx SMTP": smtp(programs.NGINX_SMTP),
    }
