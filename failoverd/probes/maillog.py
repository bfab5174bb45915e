"""What one line of Postfix or Dovecot says: a login that worked, one that failed, a delivery. Nothing else is read.

Half of such a line was chosen by whoever sent it: the name of the user, the recipient, the words of a remote server.
A name like `x>, method=PLAIN, rip=192.0.2.1, lip=…` must not put the blame on 192.0.2.1. So a line is read from both
ends, which are the server's own, and what is in the middle is only skipped:

    imap-login: Disconnected: … (auth failed, 2 attempts in 6 secs): user=<whatever>, method=PLAIN, rip=A, lip=B, TLS,
    session=<…>
    ^ what it is: up to the first `user=<`, which holds nothing of the client's       from whom: up to the very end ^

The same for Postfix, which puts the client's address first and what the client sent behind it; a recipient in quotes,
which may hold anything, is not counted. A line that is not
exactly so is not counted. Formats: Dovecot 2.3 with its default login_log_format_elements (where an administrator has
changed them so that the address is not found, a failure counts without one), Postfix 3.5 and later.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

ATTEMPTS_MOST = 1000  # in one connection
LONGEST = 4096  # characters; journalctl gives none longer
# One of these stands in every line that says something: looked for in the raw line, before it is taken apart.
WORDS = (b"auth failed", b"Login: user=<", b"status=sent", b"authentication failed", b"sasl_method=")

_DOVECOT = re.compile(
    r"(?:imap|pop3|submission|managesieve|sieve)-login: (?:Info: )?"
    r"(?:(?P<ok>Login)|[^<>]{1,200}? ?\(auth failed, (?P<attempts>[0-9]{1,6}) attempts? in [0-9]+ secs\)): "
    r"user=<(?P<rest>.*)",
)
# From the right: what stands there is Dovecot's own. The session is base64, the words on TLS may be OpenSSL's.
_DOVECOT_FROM = re.compile(
    r", rip=(?P<rip>[0-9a-fA-F.:]{2,45}), lip=[0-9a-fA-F.:]{2,45}(?:, mpid=[0-9]+)?"
    r"(?:, (?:secured|TLS(?: [A-Za-z0-9.]+)?(?: handshaking)?(?:: [^<>,=]{0,200})?))*(?:, session=<[A-Za-z0-9+/=]*>)?"
)
_POSTFIX_REFUSED = re.compile(
    r"warning: [A-Za-z0-9._-]{1,255}\[(?P<rip>[0-9a-fA-F.:]{2,45})\]: "
    r"SASL [A-Za-z0-9_-]{1,32} authentication failed: .*"
)
_POSTFIX_ACCEPTED = re.compile(
    r"[0-9A-Za-z]{5,24}: client=[A-Za-z0-9._-]{1,255}\[(?P<rip>[0-9a-fA-F.:]{2,45})\], sasl_method=[A-Za-z0-9_-]{1,32},"
    r" .*"
)
_POSTFIX_SENT = re.compile(
    r"[0-9A-Za-z]{5,24}: to=<[^<>\s\"]{0,512}>, (?:orig_to=<[^<>\s\"]{0,512}>, )?relay=[^,\s]{1,512}, "
    r"(?:conn_use=[0-9]+, )?delay=[0-9.]+, delays=[0-9./]+, dsn=2\.[0-9]+\.[0-9]+, status=sent \(.*"
)
_SMTPD = re.compile(r"postfix(?:[-/][A-Za-z0-9_.-]+)*/smtpd")
_DELIVERY = re.compile(r"postfix(?:[-/][A-Za-z0-9_.-]+)*/(?:lmtp|smtp|local|virtual|pipe)")


@dataclass(frozen=True, slots=True)
class Login:
    """One that worked, or `attempts` that failed. `address` "": not known; `user` as sent, "" in Postfix's lines."""

    accepted: bool
    attempts: int
    address: str
    user: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One recipient's copy was handed to a mailbox, a program or another server."""


def dovecot(message: str) -> Login | None:
    """Read a line that is surely Dovecot's: of its unit, under its name."""
    said = _DOVECOT.fullmatch(message) if _plain(message) else None
    if said is None:
        return None
    rest = said["rest"]
    at = rest.rfind(", rip=")
    source = _DOVECOT_FROM.fullmatch(rest, at) if at >= 0 else None
    user = rest.partition(">, method=")[0]
    attempts = 1 if said["ok"] else min(int(said["attempts"]), ATTEMPTS_MOST)
    address = _address(source["rip"]) if source is not None else ""
    return Login(bool(said["ok"]), attempts, address, user) if attempts else None


def postfix(identifier: str, message: str) -> Login | Delivery | None:
    """Read a line that is surely Postfix's; `identifier` says which of its programs wrote it."""
    if not _plain(message):
        return None
    if _SMTPD.fullmatch(identifier):
        if (refused := _POSTFIX_REFUSED.fullmatch(message)) is not None:
            return Login(accepted=False, attempts=1, address=_address(refused["rip"]))
        if (accepted := _POSTFIX_ACCEPTED.fullmatch(message)) is not None:
            return Login(accepted=True, attempts=1, address=_address(accepted["rip"]))
    elif _DELIVERY.fullmatch(identifier) and _POSTFIX_SENT.fullmatch(message):
        return Delivery()
    return None


def source_of(address: str) -> str:
    """Whom to blame: an IPv4 address, or the /64 of an IPv6 one, of which a single customer has 2^64."""
    if ":" not in address:
        return address
    found = ipaddress.IPv6Address(address)
    return str(found.ipv4_mapped) if found.ipv4_mapped else str(ipaddress.IPv6Network((found, 64), strict=False))


def _plain(message: str) -> bool:
    """One line of printable text: what has more in it is somebody's attempt at a second line."""
    return len(message) <= LONGEST and message.isprintable()


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""
