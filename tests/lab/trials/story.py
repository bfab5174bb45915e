"""What happens in the lab, told as it happens: one line an event, with the time since the fault.

Three sources: the referee's transitions (what clients could reach, seen from outside), the client's records (when it
was served again), and each host's audit file (why failoverd did it). The audit is read from the host's disk, so a host
without power has told all it wrote.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hosts import layout

from trials.cluster import audit_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from trials.watch import Watch

NOTABLE_MS = 300.0  # a pause of a protocol that is worth a line
SETTLES_MS = 300.0  # the client and the referee write every 100 ms, an audit when its disk has it
_IDLE = {"observe", "stay-fenced", "drop-request", "arbitrate"}  # decisions to do nothing that shows
_KINDS = {
    "asked",
    "gap",
    "given-back",
    "lease-ended",
    "lease-gone",
    "request-done",
    "request-refused",
    "store-refused",
    "superseded",
    "switchover-undone",
    "step-ended",
    "takeover-lost",
    "takeover-unanswered",
    "undone",
}
_PORTS = {25: "SMTP", 993: "IMAP", 3306: "SQL"}


class Story:
    """Tells what is new since the last call."""

    def __init__(self, watch: Watch, say: Callable[[str], None]) -> None:
        self._watch, self._say = watch, say
        self._audits = {host: audit_of(host) for host in layout.HOSTS}
        self._decided: dict[str, str] = {}
        self._untold: list[tuple[float, str]] = []
        self._zero = 0.0
        self._told = 0  # attempts
        self._acknowledged: dict[str, float] = {}
        for tail in self._audits.values():
            tail.new()  # what has happened before is another story
        self._news()

    def begin(self, zero: float, words: str) -> None:
        """Count from this moment (CLOCK_MONOTONIC in ms)."""
        self._untold += self._news()
        self._tell_until(zero)
        self._zero = zero
        self._say(_line(0.0, words))

    def tell(self, *, but_the_last_ms: float = SETTLES_MS) -> None:
        """Tell what is new, in the order of its time; the newest waits until every source has written its part."""
        self._untold += self._news()
        self._tell_until(time.monotonic() * 1000 - but_the_last_ms)

    def _tell_until(self, until: float) -> None:
        for at, words in sorted(event for event in self._untold if event[0] <= until):
            self._say(_line(at - self._zero, words))
        self._untold = [event for event in self._untold if event[0] > until]

    def tell_all(self) -> None:
        """Tell what there is up to now."""
        self.tell(but_the_last_ms=0.0)

    def leave_out_reasons(self) -> None:
        """Drop what failoverd said meanwhile; somebody else has told it."""
        for tail in self._audits.values():
            tail.new()

    def _news(self) -> list[tuple[float, str]]:
        news = [(float(str(line["at"])), _transition(line)) for line in self._watch.read()]
        for host, tail in self._audits.items():
            news += [(at, f"{host}: {words}") for line in tail.new() for at, words in self._record(host, line)]
        served = sorted(self._watch.attempts[self._told :], key=lambda attempt: attempt.end)
        self._told = len(self._watch.attempts)
        for attempt in served:
            if attempt.ok:
                gap = attempt.end - self._acknowledged.get(attempt.protocol, attempt.end)
                self._acknowledged[attempt.protocol] = attempt.end
                if gap > NOTABLE_MS:
                    news.append((attempt.end, f"{attempt.protocol.upper()} served again, after {gap / 1000:.2f} s"))
        return news

    def _record(self, host: str, line: dict[str, object]) -> list[tuple[float, str]]:
        """Give the time and the words of an audit line; nothing for a line that the others tell already.

        The hosts share this machine's clock; only its two readings (boot time and monotonic) may be apart.
        """
        kind, text = line["kind"], str(line["text"])
        if kind == "decision":
            decision = text.split(":", maxsplit=1)[0]
            told = decision not in _IDLE and self._decided.get(host) != decision
            self._decided[host] = decision
            text = f"decides {text}"
        elif kind == "term":
            told = text.startswith(f"{host} is primary")
        else:
            told = kind in _KINDS
        if not told:
            return []
        apart = (time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()) * 1000
        code = line.get("code")
        return [(float(str(line["boot_ms"])) - apart, f"{text} [{code}]" if code else text)]

    def note(self, words: str) -> None:
        """Tell something now."""
        self.tell_all()
        self._say(_line(time.monotonic() * 1000 - self._zero, words))


def _line(since_ms: float, words: str) -> str:
    return f"  {since_ms / 1000:+8.3f} s  {words}"


def _transition(line: dict[str, object]) -> str:
    host, value = line["host"], line["value"]
    if line["what"] == "vip":
        return f"virtual IP {'on' if value else 'gone from'} {host}"
    if line["what"] == "writable":
        return f"database of {host} is {'writable' if value else 'no longer writable'}"
    if isinstance(value, list) and value:
        return f"{host} lets clients in: {', '.join(_PORTS[port] for port in value)}"
    return f"{host} lets no client in"
