"""What became of everything that was acknowledged: looked up where it must lie, after all is healed.

SQL rows on the present primary; mail, delivered by SMTP or stored by IMAP, in the shared mailboxes' files. Mail that
still waits in a host's Postfix queue is not lost: the queues get a deadline to drain, and what is left is counted
apart. What was stored without an acknowledgement that reached the client is no fault; what was stored twice is
allowed by SMTP (a server that dies between storing and saying so), and counted.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hosts import LabError, layout

from trials.figures import PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from hosts import Lab

    from trials.figures import Attempt

FLUSH_EVERY_S = 10.0
AT_ONCE = 100  # mails a call: their heads are 1 or 2 KB each
_READ_S = 30.0
_USERS = {"smtp": layout.SMTP_USERS, "imap": layout.IMAP_USERS}
_HEAD = 2048  # bytes: what the servers put in front of the client's own header is a third of it


@dataclass(frozen=True, slots=True)
class Fate:
    """One protocol's acknowledged writes, and those that are not where they belong."""

    acknowledged: int
    lost: tuple[str, ...]
    queued: tuple[str, ...] = ()
    duplicates: int = 0
    stored_unacknowledged: int = 0


@dataclass(slots=True)
class Mailbox:
    """The ids of the messages in one Maildir; a file that was read once is not read again."""

    place: Path
    _known: dict[str, str] = field(default_factory=dict)

    def idents(self) -> Counter[str]:
        """Count the messages of each id. A message being moved from new to cur is seen in either."""
        files = {path.name.split(":")[0]: path for part in ("new", "cur") for path in self.place.glob(f"{part}/*")}
        for name in files.keys() - self._known.keys():
            try:
                with files[name].open("rb") as file:
                    self._known[name] = _ident(file.read(_HEAD))
            except FileNotFoundError:
                continue  # just moved: the next look has it
        return Counter(self._known[name] for name in files if name in self._known)


class Auditor:
    """Looks up what was acknowledged, as often as wanted in the life of one lab."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        store = lab.mail_store
        self._mailboxes: dict[str, list[Mailbox]] = {}
        for protocol, users in _USERS.items():
            places = (user.partition("@") for user in users)
            self._mailboxes[protocol] = [Mailbox(store / domain / name / "Maildir") for name, _, domain in places]

    def fates(self, attempts: Iterable[Attempt], primary: str, drain_s: float = 100.0) -> dict[str, Fate]:
        """Wait for the queues, then compare."""
        tried: dict[str, dict[str, bool]] = {protocol: {} for protocol in PROTOCOLS}
        for attempt in attempts:
            tried[attempt.protocol][attempt.ident] = attempt.ok
        left = self._drain(drain_s)
        rows = self._lab.sql(primary, "SELECT id FROM app.writes")
        stored = {
            "sql": Counter(row[0] for row in rows),
            **{protocol: _together(mailboxes) for protocol, mailboxes in self._mailboxes.items()},
        }
        fates = {}
        for protocol, idents in tried.items():
            there = stored[protocol]
            missing = [ident for ident, ok in idents.items() if ok and ident not in there]
            queued = [ident for ident in missing if ident in left]
            fates[protocol] = Fate(
                acknowledged=sum(idents.values()),
                lost=tuple(ident for ident in missing if ident not in left),
                queued=tuple(queued),
                duplicates=sum(there[ident] - 1 for ident in idents if there[ident] > 1),
                stored_unacknowledged=sum(1 for ident, ok in idents.items() if not ok and ident in there),
            )
        return fates

    def _drain(self, deadline_s: float) -> set[str]:
        """Wait until no host has a mail to deliver to the mailbox; give the ids of those that it still has.

        Flushed now and then, as an operator would: a mail that was under way while Postfix was reloaded goes back to
        its incoming queue, at which Postfix looks again when the next mail arrives, and on a replica none does.
        """
        end = time.monotonic() + deadline_s
        flush_at = time.monotonic() + FLUSH_EVERY_S
        while True:
            waiting = {host: self._queue(host) for host in layout.DATA_NODES if self._lab.pid(host) is not None}
            if not any(waiting.values()):
                return set()
            if time.monotonic() > end:
                return set().union(*(self._read(host, queue) for host, queue in waiting.items()))
            if time.monotonic() > flush_at:
                flush_at = time.monotonic() + FLUSH_EVERY_S
                for host in (host for host, queue in waiting.items() if queue):
                    self._lab.exec(host, "postqueue", "-f", check=False)
            time.sleep(0.25)

    def _queue(self, host: str) -> list[str]:
        try:
            printed = self._lab.exec(host, "postqueue", "-j", timeout_s=10).stdout
        except LabError:
            return []  # its Postfix does not run: what it holds shows up as lost, which is the truth for now
        mails = (json.loads(line) for line in printed.splitlines())
        return [
            mail["queue_id"]
            for mail in mails
            if any(recipient["address"] in _USERS["smtp"] for recipient in mail["recipients"])
        ]

    def _read(self, host: str, queue: list[str]) -> set[str]:
        def heads(ids: list[str]) -> tuple[bool, str]:
            ended = self._lab.exec(host, "postcat", "-qh", *ids, check=False, timeout_s=_READ_S)
            return ended.returncode == 0, ended.stdout

        return queued_idents(queue, heads)


def queued_idents(queue: list[str], heads: Callable[[list[str]], tuple[bool, str]]) -> set[str]:
    """The clients' ids of the mails in a queue, from what `postcat -qh ID...` prints: heads one after the other.

    Many in one call: a program in a host takes a tenth of a second to start, and hundreds may be left. It ends at the
    first that is in the queue no more, and says nothing of those behind it: then the call is made for each half.
    """
    found: set[str] = set()
    parts = [queue[begin : begin + AT_ONCE] for begin in range(0, len(queue), AT_ONCE)]
    while parts:
        ids = parts.pop()
        whole, printed = heads(ids)
        found |= {_ident(line) for line in printed.encode().splitlines()}
        if not whole and len(ids) > 1:
            middle = len(ids) // 2
            parts += [ids[:middle], ids[middle:]]
    return found - {""}


def _together(mailboxes: Iterable[Mailbox]) -> Counter[str]:
    return sum((mailbox.idents() for mailbox in mailboxes), Counter())


def _ident(head: bytes) -> str:
    """Find the client's id in the head of a message; empty for a message of somebody else."""
    for line in head.splitlines():
        if line.lower().startswith(b"message-id: <"):
            return line[13:].split(b"@")[0].decode(errors="replace")
    return ""
