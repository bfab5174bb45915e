"""What the mailboxes of the drill's accounts hold, on one node: each message's identity, flags and content, as digests.

Asked with doveadm, of the node's own Dovecot, so that each node says what clients would see of it. A mailbox has two
digests: of identities and contents, and of identities and flags, since clients may change the latter meanwhile. Both
are of the messages as a set: another order is no other mailbox. An empty mailbox is one, too: clients see whether it is
there.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any

from failoverd.drill import DrillError
from failoverd.drill.model import MailboxesDone, MailboxSum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

DOVEADM = "/usr/bin/doveadm"
LIMIT_S = 3600.0
FIELDS = "mailbox guid flags hdr.message-id text"
_RAW = ("utf-8", "surrogatepass")  # for digests: whatever doveadm prints, also what is no text
_SHOWN = ("utf-8", "backslashreplace")  # for people, and as JSON
_ID = re.compile(r"<[^<>\s]{1,500}>")


def _doveadm(*arguments: str) -> bytes:
    try:
        ended = subprocess.run(  # noqa: S603 - no shell; accounts are the configuration's
            [DOVEADM, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DrillError("DRILL_DIFFERS", f"doveadm {arguments[0]}: {error.__class__.__name__}") from None
    if ended.returncode != 0:
        lines = ended.stderr.decode(errors="replace").strip().splitlines()
        raise DrillError("DRILL_DIFFERS", f"doveadm {arguments[0]}: {lines[-1] if lines else ended.returncode}")
    return ended.stdout


def look(
    node: str,
    accounts: Iterable[str],
    domain: str,
    tell: Callable[[dict[str, Any]], None],
    ask: Callable[..., bytes] = _doveadm,
) -> MailboxesDone:
    """Look at all of them. `domain`: whose Message-IDs are counted (the drill's). Blocks; raises DrillError.

    `ask`: runs doveadm with these arguments and returns what it prints.
    """
    began = time.monotonic()
    sums: list[MailboxSum] = []
    found: dict[str, int] = {}
    for account in accounts:
        tell({"account": account})
        for mailbox, messages in contents(account, ask):
            held: list[tuple[str, str, str]] = []
            for message in messages:
                content = hashlib.sha256(message["text"].encode(*_RAW)).hexdigest()
                held.append((message["guid"], content, message["flags"]))
                match = _ID.search(message["hdr.message-id"])
                if match is not None and match[0].endswith(f"@{domain}>"):
                    name = match[0].encode(*_SHOWN).decode()
                    found[name] = found.get(name, 0) + 1
            sums.append(_sum(account, mailbox.encode(*_SHOWN).decode(), held))
    return MailboxesDone(node=node, mailboxes=tuple(sums), found=found, took_s=round(time.monotonic() - began, 3))


def _sum(account: str, mailbox: str, held: list[tuple[str, str, str]]) -> MailboxSum:
    content = hashlib.sha256("\n".join(sorted(f"{guid} {text}" for guid, text, _ in held)).encode(*_RAW)).hexdigest()
    states = sorted(f"{guid} {' '.join(sorted(flags.split()))}" for guid, _, flags in held)
    flags = hashlib.sha256("\n".join(states).encode(*_RAW)).hexdigest()
    return MailboxSum(account=account, mailbox=mailbox, messages=len(held), content=content, flags=flags)


def contents(account: str, ask: Callable[..., bytes]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Each mailbox of an account with its messages, one at a time: no more is in memory. Raises DrillError."""
    listed = ask("mailbox", "list", "-u", account)
    for mailbox in sorted(filter(None, listed.decode("utf-8", "surrogateescape").split("\n"))):
        answer = ask("-f", "json", "fetch", "-u", account, FIELDS, "mailbox", mailbox, "all")
        try:
            rows = json.loads(answer.decode("utf-8", "surrogateescape"), strict=False) if answer.strip() else []
            yield mailbox, [{name: str(row[name]) for name in FIELDS.split()} for row in rows]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DrillError("DRILL_DIFFERS", f"doveadm fetch for {account}: not understood ({error})") from None


def expunge(accounts: Iterable[str], drill: str) -> None:
    """Remove what the drill has left in the accounts' mailboxes, by its own header. Raises DrillError."""
    for account in accounts:
        _doveadm("expunge", "-u", account, "mailbox", "*", "HEADER", "X-Failoverd-Drill", drill)
