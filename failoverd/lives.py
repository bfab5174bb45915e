"""How long certificates are good, and when that is worth a word: by the wall clock, as everything about certificates.

Of a certificate that others verify (the public port's) no CA is known here, and the ssl module tells the dates of
verified certificates alone. So it is shown in a handshake in memory, whose other end trusts just that one.
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from failoverd.tls import NO_CHECK_TIME, no_passphrase

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_STEPS: Final = 16  # of a handshake in memory, which takes four


class UnmetError(Exception):
    """A certificate is not taken, and why. `shown_as`: "a server's" or "a client's"."""

    def __init__(self, shown_as: str, why: str) -> None:
        super().__init__(why)
        self.shown_as = shown_as


@dataclass(frozen=True, slots=True)
class Life:
    """When a certificate is good: seconds since 1970.

    `of`: "certificate" or "ca" of this node, "http" of its public port, "operators" the CA of those elsewhere, "etcd"
    and "etcd-ca" of its store, or another node's name.
    """

    of: str
    begins_s: float
    ends_s: float


def life(of: str, certificate: Mapping[str, Any]) -> Life:
    """Of a certificate as the ssl module gives it."""
    begins, ends = str(certificate["notBefore"]), str(certificate["notAfter"])
    return Life(of, ssl.cert_time_to_seconds(begins), ssl.cert_time_to_seconds(ends))


def last_of(of: str, context: ssl.SSLContext) -> Life | None:
    """Of several CAs the one that goes last: during a change of CA the old one runs out, and nobody misses it."""
    return max((life(of, each) for each in context.get_ca_certs()), key=lambda one: one.ends_s, default=None)


def shown(of: str, certificate: Path, server: ssl.SSLContext) -> Life | None:
    """Of the certificate in that file, which `server` shows; None where no client could take it for a server's."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags = ssl.VerifyFlags(client.verify_flags | ssl.VERIFY_X509_PARTIAL_CHAIN | NO_CHECK_TIME)
    client.load_verify_locations(certificate)
    try:
        seen = met(client, server)
    except UnmetError:
        return None
    return life(of, seen) if seen else None


def of_client(of: str, certificate: Path, key: Path) -> Life | None:
    """Of the certificate in that file, as a server sees it; None where none could take it for a client's.

    Raises OSError where the two files are no pair.
    """
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context in (server, client):
        context.load_cert_chain(certificate, key, no_passphrase)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE  # it is no server's, and shown to nobody but here
    server.verify_mode = ssl.CERT_REQUIRED
    server.verify_flags = ssl.VerifyFlags(server.verify_flags | ssl.VERIFY_X509_PARTIAL_CHAIN | NO_CHECK_TIME)
    server.load_verify_locations(certificate)
    try:
        ends = _shaken(client, server)
    except UnmetError:
        return None
    seen = ends[1].getpeercert() if ends is not None else None
    return life(of, seen) if seen else None


def met(client: ssl.SSLContext, server: ssl.SSLContext) -> Mapping[str, Any] | None:
    """What the client sees of the server's certificate: both ends of a handshake, in memory.

    None where none comes about. Raises UnmetError where one end does not take the other's.
    """
    ends = _shaken(client, server)
    return (ends[0].getpeercert() or {}) if ends is not None else None


def _shaken(client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject] | None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True))
    waiting = list(ends)
    for _ in range(_STEPS):
        for end in tuple(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                raise UnmetError("a server's" if end is ends[0] else "a client's", error.verify_message) from None
            waiting.remove(end)
        if not waiting:
            return ends
    return None


def worth_a_word(one: Life, what: str, now: float, warn_s: float) -> tuple[str, str] | None:
    """(code, reason) where it has expired, is not good yet, or expires within `warn_s`."""
    clock = f"the clock here says {day(now)}"
    if now >= one.ends_s:
        return "CERT_EXPIRED", f"{what} is good until {day(one.ends_s)}; {clock}"
    if now < one.begins_s:
        return "CERT_NOT_YET", f"{what} is good from {day(one.begins_s)} on; {clock}"
    if one.ends_s - now <= warn_s:
        return "CERT_EXPIRES", f"{what} is good until {day(one.ends_s)}"
    return None


def day(at_s: float) -> str:
    """A moment to the minute, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at_s))
