"""What an answer of a server means for who asked: done, come again, never, or nothing that can be understood. Pure."""

from __future__ import annotations

import re
from typing import Literal, get_args

# "unknown": a message was sent whole or in part, and no answer to it came. The server may have it.
Outcome = Literal["ok", "failed", "refused", "rejected", "unknown"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

# RFC 5530: what "may succeed later". SERVERBUG is neither a promise nor a refusal: Dovecot says so when its store or
# its database has gone, and the person sees an error.
_COME_AGAIN = frozenset({b"UNAVAILABLE", b"INUSE", b"LIMIT"})
_BROKEN = frozenset({b"SERVERBUG", b"CORRUPTION"})
DONE, GO_ON = 2, 3  # RFC 5321, 4.2.1
_STATUS = re.compile(rb"(OK|NO|BAD|BYE|PREAUTH)(?: \[([A-Z-]+)[^\]]*\])?(?: .*)?", re.DOTALL | re.IGNORECASE)
_LITERAL = re.compile(rb"\{([0-9]{1,9})\}$")
_COUNT = re.compile(rb"\* ([0-9]{1,10}) (EXISTS|EXPUNGE)", re.IGNORECASE)
_REPLY = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)


class AnswerError(Exception):
    """It did not go as it should. `outcome` says how it counts; where it is `failed` the connection is of no use."""

    def __init__(self, outcome: Outcome, words: str) -> None:
        super().__init__(words)
        self.outcome = outcome


def imap_status(text: bytes) -> tuple[bytes, bytes]:
    """Take a status apart, `NO [UNAVAILABLE] …`: its word and its code, b"" where it has none. Raises AnswerError."""
    match = _STATUS.fullmatch(text)
    if match is None:
        raise AnswerError("failed", f"no IMAP status: {text[:80]!r}")
    return match[1].upper(), (match[2] or b"").upper()


def imap_outcome(text: bytes) -> Outcome:
    """How the end of a command counts. Raises AnswerError where it is none."""
    word, code = imap_status(text)
    if word in {b"OK", b"PREAUTH"}:
        return "ok"
    if code in _COME_AGAIN:
        return "refused"
    return "failed" if code in _BROKEN or word == b"BYE" else "rejected"


def imap_literal(line: bytes) -> int | None:
    """How many bytes follow this line before it goes on; None: it is whole."""
    match = _LITERAL.search(line)
    return int(match[1]) if match is not None else None


def imap_messages(line: bytes, before: int) -> int:
    """How many messages the mailbox has after an untagged line."""
    match = _COUNT.fullmatch(line)
    if match is None:
        return before
    return int(match[1]) if match[2].upper() == b"EXISTS" else max(0, before - 1)


def smtp_line(line: bytes) -> tuple[int, bool]:
    """One line of a reply: its code, and whether it is the last. Raises AnswerError."""
    match = _REPLY.fullmatch(line)
    if match is None:
        raise AnswerError("failed", f"no SMTP reply: {line[:80]!r}")
    return int(match[1]), match[2] != b"-"


def smtp_outcome(code: int, wanted: int) -> Outcome:
    """How a reply counts where one of another kind is wanted: DONE or GO_ON, the first digit.

    A server that says 3xx to a message has not taken it.
    """
    kind = code // 100
    if kind == wanted:
        return "ok"
    if kind == 4:
        return "refused"
    return "rejected" if kind == 5 else "failed"
