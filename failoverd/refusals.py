"""Who was refused between nodes: counted always, told seldom, so that nobody fills a disk by being refused.

    note ──> counts, for ever                     by port and code
        └──> a window for each port, source and code ──> told when it opens, and once a minute while it goes on
        └──> a member of the cluster: a finding that stands for two minutes

No more than SOURCES windows are open for those who are no members; whoever comes then is told of together with others.
That bounds the records to (SOURCES + codes) x ports a minute, whatever is sent from however many addresses.
"""

from __future__ import annotations

import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Every code of this module. Each has a page in runbooks/.
CODES: Mapping[str, str] = {
    "PEER_NO_CERTIFICATE": "somebody connects to a port of the nodes and shows no certificate",
    "PEER_UNTRUSTED": "a certificate is not of the cluster's CA",
    "PEER_EXPIRED": "a certificate has expired, by this node's clock",
    "PEER_NOT_YET": "a certificate is not valid yet, by this node's clock",
    "PEER_PURPOSE": "a certificate is not for what it is used for",
    "PEER_STRANGER": "a certificate of the cluster's CA names nobody that may be here",
    "PEER_IMPOSTOR": "a node says that it is another one",
    "PEER_HANDSHAKE": "what connects to a port of the nodes speaks no TLS 1.3, or does not finish",
    "PEER_LIMIT": "more is asked than one node may ask",
    "PEER_REPLAY": "a node's reports come again, out of order, or of a term that is over",
    "PEER_TERM": "a node reports a term that the store has not given",
}
WINDOW_S = 60.0
STANDS_S = 120.0
SOURCES = 16
FORGOTTEN_S = 3600.0
OTHERS = "others"
OUTGOING = "outgoing"  # in the place of a port: this node dialled, and refused who answered
# Of these one or two are a node that was just restarted.
_LEAST = {"PEER_HANDSHAKE": 3, "PEER_REPLAY": 3}
_WORDS = 200  # characters of a reason
# OpenSSL's X509_V_ERR_...: https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_BY_VERIFICATION = {
    9: "PEER_NOT_YET",
    10: "PEER_EXPIRED",
    26: "PEER_PURPOSE",
    62: "PEER_IMPOSTOR",  # another name
    64: "PEER_IMPOSTOR",  # another address
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """One kind of refusal: on which port, of whom, and why. `node`: the member that it is or comes from, or ""."""

    port: str
    code: str
    source: str
    reason: str
    node: str = ""

    @property
    def words(self) -> str:
        """Who, where and why, for the finding and the record."""
        who = f"{self.node} ({self.source})" if self.node else self.source
        return f"{who}, {'dialled' if self.port == OUTGOING else f'port {self.port}'}: {self.reason}"


@dataclass(slots=True)
class _Window:
    """What was refused of one kind lately."""

    newest: Refusal
    opened: float
    total: int = 0
    untold: int = 0
    lately: int = 0  # since STANDS_S without any
    last: float = 0.0


@dataclass(slots=True)
class Refusals:
    """One process's. May be called from any thread. `members`: nodes by address."""

    members: Mapping[str, str] = field(default_factory=dict)
    now: Callable[[], float] = time.monotonic
    changed: Callable[[], object] = lambda: None  # called after each note, from its thread
    _windows: dict[tuple[str, str, str], _Window] = field(default_factory=dict)
    _counts: dict[tuple[str, str], int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, code: str, port: str, source: str, reason: str, *, node: str = "", count: int = 1) -> None:
        """One more, or `count` more of one kind."""
        member = node or self.members.get(source, "")
        with self._lock:
            self._counts[port, code] = self._counts.get((port, code), 0) + count
            window = self._window(Refusal(port, code, source, reason[:_WORDS], member))
            window.lately = window.lately + count if self.now() - window.last < STANDS_S else count
            window.total += count
            window.untold += count
            window.last = self.now()
        self.changed()

    def _window(self, refusal: Refusal) -> _Window:
        key = (refusal.port, refusal.source, refusal.code)
        if key not in self._windows and not refusal.node:
            strangers = [other for other, window in self._windows.items() if not window.newest.node]
            for other in strangers:
                if self.now() - self._windows[other].last >= FORGOTTEN_S:
                    del self._windows[other]
            if len(strangers) >= SOURCES:
                refusal = Refusal(refusal.port, refusal.code, OTHERS, refusal.reason)
                key = (refusal.port, OTHERS, refusal.code)
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = _Window(refusal, self.now() - WINDOW_S)
        window.newest = refusal
        return window

    def due(self) -> tuple[tuple[Refusal, int], ...]:
        """What is to be told now, and how often it was. What has been silent for long is forgotten."""
        told, now = [], self.now()
        with self._lock:
            for key, window in tuple(self._windows.items()):
                if window.untold and now - window.opened >= WINDOW_S:
                    told.append((window.newest, window.untold))
                    window.untold, window.opened = 0, now
                elif not window.untold and now - window.last >= max(STANDS_S, WINDOW_S):
                    del self._windows[key]
        return tuple(told)

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """How many there were, by port and code."""
        with self._lock:
            return dict(self._counts)

    def standing(self) -> tuple[tuple[str, str], ...]:
        """(code, reason) of each member that was refused within the last two minutes."""
        now = self.now()
        with self._lock:
            return tuple(
                sorted(
                    (window.newest.code, window.newest.words)
                    for window in self._windows.values()
                    if window.newest.node
                    and now - window.last < STANDS_S
                    and window.lately >= _LEAST.get(window.newest.code, 1)
                )
            )

    def totals(self) -> tuple[tuple[Refusal, int], ...]:
        """Each kind that is remembered, and how often it was: for who tells another process (refusals_spool.py)."""
        with self._lock:
            return tuple((window.newest, window.total) for window in self._windows.values())


def why(error: BaseException) -> tuple[str, str]:
    """(code, reason) of a handshake that failed. The text of OpenSSL, without its places in the source."""
    if isinstance(error, ssl.SSLCertVerificationError):
        number = getattr(error, "verify_code", 0)
        words = getattr(error, "verify_message", "") or str(error)
        return _BY_VERIFICATION.get(number, "PEER_UNTRUSTED"), f"its certificate: {words}"
    if isinstance(error, ssl.SSLError):
        if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            return "PEER_NO_CERTIFICATE", "it shows no certificate"
        words = (error.reason or str(error)).lower().replace("_", " ")
        return "PEER_HANDSHAKE", f"no TLS as it is spoken here: {words}"
    if isinstance(error, ConnectionAbortedError | TimeoutError):
        return "PEER_HANDSHAKE", "its handshake was not done in time"
    return "PEER_HANDSHAKE", "it went away during the handshake"
