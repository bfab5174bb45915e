"""What one node's mail services counted for the drill's accounts, from the journal: to hold the generator's figures to.

    imap-login: Login: user=<drill1@example.org>, …             a login, where the account is one of the drill's
    cleanup[…]: 4F1B2: message-id=<17.ab@ID.drill.invalid>      a message that Postfix took, by its own Message-ID

Appended messages leave no line: they are counted in the mailboxes.
"""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from failoverd.drill import DrillError
from failoverd.drill.model import CountersDone

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

LIMIT_S = 600.0
JOURNAL = ("journalctl", "--quiet", "--no-pager")
_LOGIN = re.compile(r"imap-login: (?:Info: )?Login: user=<([^<>]{1,300})>")
_TAKEN = re.compile(r"^[0-9A-Za-z]+: message-id=(<[^<>\s]{1,500}>)")
SOURCES = ("dovecot", "postfix/cleanup", "postfix/submission/cleanup")


def count(node: str, lines: Iterable[str], accounts: Collection[str], domain: str) -> CountersDone:
    """Count what lines of the journal tell; a Message-ID once."""
    logins, taken = 0, set[str]()
    for line in lines:
        login = _LOGIN.search(line)
        if login is not None:
            logins += login[1] in accounts
            continue
        message = _TAKEN.match(line)
        if message is not None and message[1].endswith(f"@{domain}>"):
            taken.add(message[1])
    return CountersDone(node=node, logins=logins, submitted=tuple(sorted(taken)))


def look(
    node: str, accounts: Collection[str], domain: str, *, since_ms: int, late_ms: int, journal: Sequence[str] = JOURNAL
) -> CountersDone:
    """Ask this node's journal from a time on, CLOCK_REALTIME in ms, up to `late_ms` ago. Blocks; raises DrillError."""
    until_ms = time.time_ns() // 1_000_000 - late_ms
    if until_ms <= since_ms:
        return CountersDone(node=node, logins=0, submitted=(), until_ms=since_ms)
    command = [
        *journal,
        "--output=cat",
        f"--since=@{since_ms / 1000:.3f}",
        f"--until=@{(until_ms - 1) / 1000:.3f}999",  # the moment itself belongs to the next question
        *(f"--identifier={name}" for name in SOURCES),
    ]
    try:
        begins_ms = _begins_ms(journal)
        asked = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace")  # noqa: S603 - as above
        with asked:
            assert asked.stdout is not None  # noqa: S101 - it was asked for
            done = count(node, asked.stdout, accounts, domain)
            code = asked.wait(LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DrillError("DRILL_BUG", f"journalctl: {error.__class__.__name__}") from None
    if code != 0:
        raise DrillError("DRILL_BUG", f"journalctl ended with {code}")
    missing = ""
    if begins_ms > since_ms:
        missing = f"its journal begins at {datetime.fromtimestamp(begins_ms / 1000, UTC):%H:%M:%S} UTC"
    return replace(done, until_ms=until_ms, missing=missing)


def _begins_ms(journal: Sequence[str]) -> int:
    """When the oldest entry that is left was written; 0 where there is none. Raises OSError."""
    command = [*journal, "--output=short-unix"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as asked:  # noqa: S603 - as above
        assert asked.stdout is not None  # noqa: S101 - it was asked for
        first = asked.stdout.readline().split(b" ", 1)[0]
        asked.terminate()
    try:
        return int(float(first) * 1000)
    except ValueError:
        return 0
