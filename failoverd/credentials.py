"""A node's certificate, key and CA, read again when they were replaced: nothing that holds a lease restarts for them.

    client, server    what every connection is made with: each stands for the newest contexts (`Standing`)
    renew             the three files ── changed? ──> new contexts ── they fit, and name this node ──> in force
                                                                   └── or not: the old ones go on, and it is said why

A pair is tried before it is taken: both ends of a handshake in memory, so that what peers would refuse is refused here
first. Connections that were made before are ended by who keeps them (https.py, runtime/http.py), at their next request.

By the wall clock, as everything about certificates: a node whose clock is wrong refuses, and is refused by, the others.
"""

from __future__ import annotations

import ssl
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from failoverd import lives
from failoverd.lives import Life, day
from failoverd.refusals import OUTGOING, Refusals, why
from failoverd.tls import NO_CHECK_TIME, client_context, node_name, server_context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

# Every code of this module. Each has a page in runbooks/.
CODES: Mapping[str, str] = {
    "CERT_EXPIRES": "a certificate, or the CA of some, expires soon",
    "CERT_EXPIRED": "a certificate between the nodes or for etcd, or the CA of one, has expired by this node's clock",
    "CERT_NOT_YET": "a certificate between the nodes, or the CA, is not valid yet by this node's clock",
    "CERT_REFUSED": "the certificate files were replaced and are not taken: the old ones go on",
}


class CredentialsError(Exception):
    """The files cannot be used; the text says which and why."""


class Standing(ssl.SSLContext):
    """A context that stands for the newest one: what is asked of it is asked of that."""

    newest: ssl.SSLContext

    def wrap_bio(self, *arguments: Any, **named: Any) -> ssl.SSLObject:  # noqa: ANN401 - whatever the base class takes
        """For asyncio."""
        return self.newest.wrap_bio(*arguments, **named)

    def wrap_socket(self, *arguments: Any, **named: Any) -> ssl.SSLSocket:  # noqa: ANN401 - likewise
        """For code that blocks."""
        return self.newest.wrap_socket(*arguments, **named)


def newest(context: ssl.SSLContext) -> ssl.SSLContext:
    """What `context` stands for just now: a connection that was made with another one is of former credentials."""
    return context.newest if isinstance(context, Standing) else context


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What the files have: contexts, and how long they are good."""

    seen: object
    client: ssl.SSLContext
    server: ssl.SSLContext
    lives: tuple[Life, ...]


class Credentials:
    """The files of node `me`. `nodes`: all members' names by address. Raises CredentialsError where they are no good.

    Servers that are dialled and not taken are noted in `refusals`. `renew`, `prepared` and the first reading block for
    small files; everything else may be called on the loop.
    """

    def __init__(
        self,
        *,
        ca: Path,
        certificate: Path,
        key: Path,
        me: str,
        nodes: Mapping[str, str],
        refusals: Refusals,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._files = (ca, certificate, key)
        self._me, self._nodes, self._now = me, nodes, now
        self.refusals = refusals
        self._lock = threading.Lock()
        self._peers: dict[str, Life] = {}
        self.problem = ""
        self._loaded = self._load()
        self.client, self.server = Standing(ssl.PROTOCOL_TLS_CLIENT), Standing(ssl.PROTOCOL_TLS_SERVER)
        self._take(self._loaded)

    # ---- the files --------------------------------------------------------------------------------------------------

    def renew(self) -> bool:
        """Take what is there now, if it is another and good. Returns whether it was; `problem` says why not."""
        take = self.prepared()
        if take is not None:
            take()
        return take is not None

    def prepared(self) -> Callable[[], None] | None:
        """Read what is there now; None where it is not another, or not good. The rest is left to do on the loop."""
        with self._lock:
            try:
                if self._seen() == self._loaded.seen:
                    self.problem = ""
                    return None
                loaded = self._load()
                self._no_worse(loaded)
            except (OSError, CredentialsError) as error:
                self.problem = str(error)
                return None
            return lambda: self._take(loaded)

    def _take(self, loaded: _Loaded) -> None:
        self._loaded, self.problem = loaded, ""
        self.client.newest, self.server.newest = loaded.client, loaded.server

    def _seen(self) -> object:
        """What tells one state of the files from another. Raises OSError."""
        return [(stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in (path.stat() for path in self._files)]

    def _load(self) -> _Loaded:
        ca, certificate, key = self._files
        try:
            seen = self._seen()
            server = server_context(ca=ca, certificate=certificate, key=key)
            client = client_context(
                ca=ca, certificate=certificate, key=key, nodes=self._nodes, refused=self._refused_server, met=self.met
            )
        except OSError as error:  # of which ssl.SSLError is one
            raise CredentialsError(_in_words(error, self._files)) from None
        mine = _shown_by(ca, certificate, key)
        if node_name(mine) != self._me:
            raise CredentialsError(f"{certificate} names {node_name(mine)!r}, and this node is {self._me}")
        last = lives.last_of("ca", server)
        if last is None:
            raise CredentialsError(f"{ca} has no certificate of a CA")
        return _Loaded(seen, client, server, (lives.life("certificate", mine), last))

    def _no_worse(self, loaded: _Loaded) -> None:
        """A certificate that is not valid now does not replace one that is. Raises CredentialsError."""
        now = self._now()
        own, former = loaded.lives[0], self._loaded.lives[0]
        if former.begins_s <= now < former.ends_s and not own.begins_s <= now < own.ends_s:
            raise CredentialsError(f"{self._files[1]} is valid from {day(own.begins_s)} to {day(own.ends_s)}")

    # ---- who is met -------------------------------------------------------------------------------------------------

    def met(self, certificate: Mapping[str, Any] | None) -> None:
        """Note the certificate that another node has shown, and that was good."""
        name = node_name(certificate)
        if certificate and name is not None and name in self._nodes.values() and name != self._me:
            self._peers[name] = lives.life(name, certificate)

    def _refused_server(self, address: str, error: ssl.SSLCertVerificationError) -> None:
        code, reason = why(error)
        self.refusals.note(code, OUTGOING, address, reason)

    def now(self) -> float:
        """The wall clock that certificates are held against: seconds since 1970."""
        return self._now()

    def lives(self) -> tuple[Life, ...]:
        """Of this node's certificate and CA, and of the certificates that were seen of others."""
        return (*self._loaded.lives, *(life for _, life in sorted(self._peers.copy().items())))

    def found(self, warn_s: float) -> tuple[tuple[str, str], ...]:
        """(code, reason) of what is to be told: what has expired, will within `warn_s`, or was not taken."""
        now, found = self._now(), []
        for life in self.lives():
            what = {"certificate": f"the certificate of {self._me}", "ca": "the CA"}.get(
                life.of, f"the certificate of {life.of}"
            )
            if (told := lives.worth_a_word(life, what, now, warn_s)) is not None:
                found.append(told)
        if self.problem:
            found.append(("CERT_REFUSED", f"{self.problem}; the old one is still in use"))
        return tuple(found)


def _in_words(error: OSError, files: tuple[Path, Path, Path]) -> str:
    if isinstance(error, ssl.SSLError):
        words = error.reason.lower().replace("_", " ") if error.reason else "no PEM, or a key with a passphrase"
        return f"{files[1]}, {files[2]} or {files[0]}: {words}"
    return f"{error.filename or files[1]}: {error.strerror or error}"


def _shown_by(ca: Path, certificate: Path, key: Path) -> Mapping[str, Any]:
    """What peers see of this certificate, whatever the time: both ends of a handshake, in memory.

    Raises CredentialsError where peers would refuse it, as a server's or as a client's.
    """
    server = server_context(ca=ca, certificate=certificate, key=key)
    client = client_context(ca=ca, certificate=certificate, key=key)
    client.check_hostname = False  # whose it is, is seen from what comes out
    for context in (server, client):
        context.verify_flags = ssl.VerifyFlags(context.verify_flags | NO_CHECK_TIME)
    try:
        seen = lives.met(client, server)
    except lives.UnmetError as error:
        raise CredentialsError(f"{certificate} as {error.shown_as}: {error}") from None
    if seen is None:
        raise CredentialsError(f"{certificate}: no handshake comes about with it")
    return seen
