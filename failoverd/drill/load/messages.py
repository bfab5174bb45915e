"""The drill's messages: each has a Message-ID of its own, and a header by which it is found and removed."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from email.utils import formatdate
from itertools import count
from typing import TYPE_CHECKING

from failoverd.drill.job import domain_of

if TYPE_CHECKING:
    import random

HEADER = "X-Failoverd-Drill"
LEAST, MOST = 1024, 8192  # bytes of a body
_LINE = 76
_TEXT_LINES = 1024


@dataclass(frozen=True, slots=True)
class Message:
    """One of them. `data`: lines end in CRLF."""

    id: str
    data: bytes


class Messages:
    """Makes them. The text of all is cut from one that is random, which costs next to nothing."""

    def __init__(self, drill: str, rng: random.Random) -> None:
        self._drill, self._rng = drill, rng
        self._serial = count(1)
        raw = base64.b64encode(rng.randbytes(_LINE * _TEXT_LINES * 3 // 4)).decode()
        self._lines = [raw[at : at + _LINE] for at in range(0, _LINE * _TEXT_LINES, _LINE)]

    def make(self, sender: str, recipient: str, now_s: float) -> Message:
        """Make one; `now_s` is CLOCK_REALTIME."""
        serial = next(self._serial)
        name = f"<{serial}.{self._rng.getrandbits(64):016x}@{domain_of(self._drill)}>"
        lines = self._rng.randint(LEAST, MOST) // (_LINE + 2)
        begin = self._rng.randrange(_TEXT_LINES - lines)
        head = (
            f"Date: {formatdate(now_s)}",
            f"From: <{sender}>",
            f"To: <{recipient}>",
            f"Message-ID: {name}",
            f"Subject: failoverd drill {self._drill}, message {serial}",
            f"{HEADER}: {self._drill}",
            "Auto-Submitted: auto-generated",  # RFC 3834: no vacation answers it
            "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=us-ascii",
            "",
        )
        return Message(name, "\r\n".join((*head, *self._lines[begin : begin + lines], "")).encode())
