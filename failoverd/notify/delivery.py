"""One attempt to hand one body to one receiver, under one deadline, and what its answer means.

    2xx                                       TAKEN
    408, 425, 429, 5xx, no answer, TLS        AGAIN, after Retry-After where it says so: ALERT_UNDELIVERED
    307, 308 to the same origin               followed; any other redirect AGAIN: ALERT_REDIRECT
    401, 403, 404, 405, 407, 410              REFUSED, whatever the message: ALERT_REFUSED
    any other 4xx                             INVALID, this message: ALERT_REFUSED

A redirect is not followed to another place: the URL is a secret and the body tells of a cluster's weak spots, and
neither is anybody else's. The deadline is for the whole of it, name look-up, redirects and a receiver that sends a byte
a second included. Nothing that an answer or an error says is passed on but its status: either may hold the secret.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import email.utils
import errno
import logging
import re
import socket
import ssl
from dataclasses import dataclass
from enum import Enum

import httpx

_SECONDS = re.compile(r"[0-9]{1,9}")
HOPS = 3
LONGEST_WAIT_S = 3600.0  # of Retry-After
OF_THE_RECEIVER = frozenset({401, 403, 404, 405, 407, 410})
PASSING = frozenset({408, 425, 429})


class End(Enum):
    """How an attempt ended."""

    TAKEN = "taken"
    AGAIN = "again"
    REFUSED = "refused"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of it. `after_s`: not before, says the receiver."""

    end: End
    code: str = ""
    reason: str = ""
    status: int | None = None
    after_s: float = 0.0

    @property
    def taken(self) -> bool:
        """The receiver has it."""
        return self.end is End.TAKEN


def quiet() -> None:
    """Keep httpx from logging each request with its URL, which is a secret."""
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def context(url: str, ca: str | None) -> ssl.SSLContext | bool:
    """Make what a receiver's certificate is verified with: `ca`, or the system's authorities, which takes 50 ms."""
    return ssl.create_default_context(cafile=ca) if url.startswith("https:") else False


def client(verify: ssl.SSLContext | bool, timeout_s: float, headers: dict[str, str]) -> httpx.AsyncClient:
    """Make one receiver's client: no proxy or certificate from the environment, no connection kept."""
    return httpx.AsyncClient(
        verify=verify,
        timeout=timeout_s,
        follow_redirects=False,
        trust_env=False,
        headers=headers,
        limits=httpx.Limits(max_keepalive_connections=0),  # a restarted receiver closes kept ones under a request
    )


async def post(client: httpx.AsyncClient, url: str, body: bytes, name: str, timeout_s: float) -> Attempt:
    """Offer `body` to `url` as the message `name`. Never raises for what the receiver or the network does."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _post(client, httpx.URL(url), body, name)
    except TimeoutError:
        return _again(f"no answer within {timeout_s:g} s")
    except httpx.TimeoutException:
        return _again(f"no answer within {timeout_s:g} s")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return _again(_words(error))


async def _post(client: httpx.AsyncClient, url: httpx.URL, body: bytes, name: str) -> Attempt:
    headers = {"content-type": "application/json", "idempotency-key": name}
    for _ in range(HOPS):
        # The status is all that counts: the rest of the answer is not waited for.
        async with client.stream("POST", url, content=body, headers=headers) as answer:
            if answer.status_code not in (307, 308):
                return _meaning(answer)
            try:
                there = url.join(answer.headers.get("location", ""))
            except ValueError as error:  # of urllib.parse, beside httpx's own
                return _again(_words(error))
            if (there.scheme, there.host, there.port) != (url.scheme, url.host, url.port):
                return _elsewhere(answer.status_code)
            url = there
    return Attempt(End.AGAIN, "ALERT_REDIRECT", f"redirects more than {HOPS} times")


def _meaning(answer: httpx.Response) -> Attempt:
    status = answer.status_code
    if 200 <= status < 300:
        return Attempt(End.TAKEN, status=status)
    if 300 <= status < 400:
        return _elsewhere(status)
    if status in OF_THE_RECEIVER:
        return Attempt(End.REFUSED, "ALERT_REFUSED", f"answers {status}", status)
    if 400 <= status < 500 and status not in PASSING:
        return Attempt(End.INVALID, "ALERT_REFUSED", f"answers {status}", status)
    after_s = _retry_after(answer.headers.get("retry-after", ""))
    return Attempt(End.AGAIN, "ALERT_UNDELIVERED", f"answers {status}", status, after_s)


def _elsewhere(status: int) -> Attempt:
    reason = f"answers {status}, a redirect to another place, which is not followed"
    return Attempt(End.AGAIN, "ALERT_REDIRECT", reason, status)


def _again(reason: str) -> Attempt:
    return Attempt(End.AGAIN, "ALERT_UNDELIVERED", reason)


def _retry_after(value: str) -> float:
    """Seconds, or a date of the receiver's clock; what is neither says nothing."""
    if _SECONDS.fullmatch(value.strip()):
        return min(float(value), LONGEST_WAIT_S)
    try:
        at = email.utils.parsedate_to_datetime(value)
        if at.tzinfo is None:
            at = at.replace(tzinfo=dt.UTC)
        return max(0.0, min((at - dt.datetime.now(dt.UTC)).total_seconds(), LONGEST_WAIT_S))
    except (ValueError, TypeError, IndexError, OverflowError):  # all that the parser raises for what is no date
        return 0.0


def _words(error: BaseException) -> str:
    """What went wrong, in words of this module: an exception's text may hold the URL."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted: {cause.verify_message.partition(',')[0]}"
        if isinstance(cause, ssl.SSLError):
            return "TLS failed"
        if isinstance(cause, socket.gaierror):
            return "its name is not known"
        if isinstance(cause, OSError) and (name := errno.errorcode.get(cause.errno or 0)):
            return f"no connection: {name}"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.ConnectError):
        return "no connection"
    return "it ended the connection without an answer, or answered no HTTP"
