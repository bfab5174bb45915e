"""What one node's mail services counted for the drill's accounts, from the journal: to hold the generator's figures to.

    imap-login: Login: user=<drill1@example.org>, …             a login, where the account is one of the drill's
    cleanup[…]: 4F1B2: message-id=<17.ab@ID.drill.invalid>      a message that Postfix took, by its own Message-ID

Appended messages leave no line: they are counted in the mailboxes.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from failoverd.drill import DrillError
from failoverd.drill.model import CountersDone

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

LIMIT_S = 600.0
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


def look(node: str, accounts: Collection[str], domain: str, since_ms: int, until_ms: int) -> CountersDone:
    """Ask this node's journal about a time, CLOCK_REALTIME in ms. Blocks; raises DrillError."""
    command = [
        "journalctl",
        "--quiet",
        "--no-pager",
        "--output=cat",
        f"--since=@{since_ms / 1000:.3f}",
        f"--until=@{until_ms / 1000:.3f}",
        *(f"--identifier={name}" for name in SOURCES),
    ]
    try:
        asked = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace")  # noqa: S603 - as above
        with asked:
            assert asked.stdout is not None  # noqa: S101 - it was asked for
            done = count(node, asked.stdout, accounts, domain)
            code = asked.wait(LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DrillError("DRILL_BUG", f"journalctl: {error.__class__.__name__}") from None
    if code != 0:
        raise DrillError("DRILL_BUG", f"journalctl ended with {code}")
    return done
