"""Clients that come through a proxy: each path in a thread of its own, an attempt every tenth of a second.

Every attempt is kept: when it began and ended, and which host answered or why none did. A path has followed a change
when it is served by the new primary, and by nobody else from then on.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Self

from hosts import LabError, layout, network
from hosts.shell import wait_for

from outside.attempts import FAILURES, paths

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from types import TracebackType

    from hosts import Lab

EVERY_S = 0.1
SERVED_S = 30.0


@dataclass(frozen=True)
class Tried:
    """One attempt."""

    began: float
    ended: float
    by: str  # the host, or a mail's Message-ID; empty when it failed
    error: str = ""


@dataclass(frozen=True)
class Figures:
    """What a path saw of one change."""

    outage_s: float  # the longest time between two attempts that succeeded
    failed: int  # attempts that were refused or not answered
    by_old: int
    by_new: int


class Clients:
    """They go on from `with` to its end."""

    def __init__(self, lab: Lab, tls: ssl.SSLContext) -> None:
        self._lab = lab
        self._attempts = paths(tls)
        self.names = tuple(self._attempts)
        self._over = threading.Event()
        self._tried: dict[str, list[Tried]] = {name: [] for name in self.names}
        self._threads = [threading.Thread(target=self._go, args=(name,), name=name) for name in self.names]

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
        tried, attempt = self._tried[name], self._attempts[name]
        with network.namespace(network.CLIENT_NS):
            while not self._over.wait(EVERY_S):
                began = time.monotonic()
                try:
                    by = attempt()
                except FAILURES as failure:
                    tried.append(Tried(began, time.monotonic(), "", f"{type(failure).__name__}: {failure}"))
                else:
                    tried.append(Tried(began, time.monotonic(), by))

    def wait_until_served(self, since: float) -> None:
        """Wait until each path has served an attempt that began after the moment, and another a second later."""
        self._wait_for_one_each(since)
        self._wait_for_one_each(time.monotonic() + 1.0)

    def _wait_for_one_each(self, after: float) -> None:
        def late() -> list[str]:
            return [
                f"{name}: {tried[-1].error if tried else 'nothing yet'}"
                for name, tried in self._tried.items()
                if not any(one.by and one.began > after for one in tried[-20:])
            ]

        wait_for("mail served on each path", lambda: not late(), SERVED_S, why_not=lambda: "; ".join(late()))

    def served_by(self, host: str, since: float) -> dict[str, int]:
        """How many attempts each path had answered since the moment, all by the host; raises LabError if not so."""
        return {name: figures.by_new for name, figures in self.followed(host, host, since).items()}

    def followed(self, old: str, new: str, since: float) -> dict[str, Figures]:
        """What each path saw since the moment.

        Raises LabError where an attempt was answered by neither, or by the old one after the new one had answered.
        """
        tried = {name: list(tried) for name, tried in self._tried.items()}
        mails = self._accepted({one.by for seen in tried.values() for one in seen if one.by and one.ended > since})
        return {name: _figures(name, seen, mails, (old, new), since) for name, seen in tried.items()}

    def _accepted(self, answers: set[str]) -> Mapping[str, str]:
        """Who accepted each mail, by its Message-ID; a journal may be a moment late."""
        mails = {answer for answer in answers if answer.startswith("<")}
        found: dict[str, str] = {}

        def missing() -> set[str]:
            found.update(accepted(self._lab))
            return mails - found.keys()

        def why_not() -> str:
            return f"no journal knows {', '.join(sorted(missing()))}"

        wait_for("a host's journal knows each mail", lambda: not missing(), 10.0, 0.5, why_not=why_not)
        return found


def _figures(
    name: str, tried: list[Tried], mails: Mapping[str, str], old_and_new: tuple[str, str], since: float
) -> Figures:
    old, new = old_and_new
    seen = [(one, mails.get(one.by, one.by)) for one in tried if one.ended > since]
    served = [(one, host) for one, host in seen if host]
    if strangers := {host for _, host in served} - {old, new}:
        raise LabError(f"{name}: answered by {', '.join(strangers)}, neither {new} nor {old}")
    by_new = [one for one, host in served if host == new]
    if not by_new:
        raise LabError(f"{name}: nothing was answered by {new}")
    first = min(one.ended for one in by_new)
    if late := [one for one, host in served if host != new and one.began > first]:
        raise LabError(f"{name}: {len(late)} answered by {old} after {new} had answered")
    ends = [one.ended for one in tried if one.by]
    return Figures(
        outage_s=max(b - a for a, b in pairwise(ends) if b > since),
        failed=sum(not host for _, host in seen),
        by_old=len(served) - len(by_new) if old != new else 0,
        by_new=len(by_new),
    )


def accepted(lab: Lab) -> Mapping[str, str]:
    """Who accepted each mail, by its Message-ID, as the journals tell of the hosts that are on."""
    found = {}
    for host in layout.DATA_NODES:
        if lab.pid(host) is None:
            continue
        said = lab.exec(
            host, "journalctl", "--output=cat", "--quiet", "--grep=message-id=<through-", check=False
        ).stdout
        for line in said.splitlines():
            # A mail that is delivered to another host's Dovecot goes there by LMTP and not through its cleanup.
            found[line.partition("message-id=")[2].strip()] = host
    return found
