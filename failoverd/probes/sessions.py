"""Who is logged in to IMAP, as Dovecot counts it: `doveadm who`, a gauge.

doveadm is a program of some 20 ms, so that it is asked twice a minute. Connections that are not logged in are not in
it. Without it the number is not known: UNKNOWN, with MON_NO_DOVEADM.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from failoverd.core.model import Health, Reading
from failoverd.core.monitoring import SessionFacts
from failoverd.probes.deadline import current
from failoverd.process import Runs

if TYPE_CHECKING:
    from failoverd.ports import Target

DOVEADM = "/usr/bin/doveadm"
WHO = ("-f", "tab", "who")
OUTPUT_BYTES = 1 << 20  # some ten thousand users; of more, the last ones
_NUMBER = re.compile(r"[0-9]{1,9}")
COLUMNS = ("username", "connections", "proto", "pids", "ips")  # Dovecot 2.3


class SessionsProbe:
    """Reads `SessionFacts`."""

    def __init__(self, deadline_ms: int, canary: str = "", program: str = DOVEADM) -> None:
        self._deadline_ms = deadline_ms
        self._canary = canary
        self._program = program
        self._runs = Runs(1, OUTPUT_BYTES)

    async def read(self, target: Target) -> Reading:  # noqa: ARG002 - it only ever looks at this node
        """Look once; see `ports.Probe`."""
        current().stage("MON_NO_DOVEADM", "doveadm did not answer", Health.UNKNOWN)
        ended = await self._runs.run(self._program, b"", deadline_ms=self._deadline_ms * 9 // 10, arguments=WHO)
        if ended.code != 0:
            said = ended.output.decode(errors="replace").strip().splitlines()
            why = ended.error or (said[-1][:200] if said else f"it ended with {ended.code}")
            return Reading(Health.UNKNOWN, "MON_NO_DOVEADM", f"doveadm: {why}")
        return Reading(Health.OK, facts=SessionFacts(imap_sessions(ended.output, canary=self._canary)))


def imap_sessions(table: bytes, *, canary: str = "") -> int:
    """Sum up the rows of IMAP. The name of a user comes first and may hold anything: a row is read from its end."""
    found = 0
    for line in table.decode(errors="replace").split("\n"):
        columns = line.rsplit("\t", len(COLUMNS) - 1)
        if (
            len(columns) == len(COLUMNS)
            and columns[2] == "imap"
            and _NUMBER.fullmatch(columns[1])
            and columns[0] != canary
        ):
            found += int(columns[1])
    return found
