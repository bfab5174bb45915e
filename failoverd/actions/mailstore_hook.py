"""A mail store that a program of the operator's moves: mounts, exports, attaches, whatever this site needs.

The contract. The program is run as the user of failoverd, without arguments, with an environment that holds PATH and
the C locale only, and one JSON object on its standard input:

    {"ask": "take", "cluster": "mail", "node": "mail2", "term": 7, "previous": "mail1"}

    ask       take      make the store usable here, before the mail services are started. This node holds the lease of
                        `term`; the lease of `previous` has ended, was given back, or its power is off
              release   end its use here, after the mail services were stopped; once this is done, another may take it
              status    could `take` work here now, or is it here? Asked every minute, also while another ask goes on;
                        must change nothing. A node that fails it is not elected
    node      this node
    term      grows with each primary: a program that can fence by itself refuses a lower one than it has seen. 0 for
              status
    previous  the primary before this one, null where there was none (always so for release and status)

    exit 0    done, or was so already. It is asked again after any restart of failoverd, at once: a release on each node
              that is not primary, a take on the primary, which must then be quick: its gate stays open for the rest of
              the lease
         1    failed, or an ask that it does not know; it is asked again
         2    refused: this node cannot have the store, and asking again will not help
         other, or ended by a signal: like 1. A missing interpreter is 126 or 127, and no refusal

2 is also how a shell ends when it cannot read the script. That is on the safe side here: a node that is said not to be
fit is not promoted, and nothing is ever *allowed* by a 2.

At its deadline (`mail_store.timeout`), or when the lease ends first, the program's process group gets SIGTERM, 200 ms
later SIGKILL, and the answer is UNKNOWN, whatever it then ends with: a `take` is followed by a `release`, and after a
`release` the store counts as still in use. A take or release is not started while the last one has not ended; after a
restart of failoverd it may be, so a program that must not run twice at once takes a lock of its own.

**A host that hangs releases nothing**: where two users at once would destroy the store, `take` must make sure by itself
that `previous` has none of it any more, or fencing.required must be true.

What it leaves in its process group is killed when it ends, so what must stay (an automounter) is a unit of systemd's
that the program starts. The last line that it prints is the reason in the audit; of its output, at most the last 4 KiB
are kept.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from failoverd.core.model import Health, Outcome, Reading, StoreFacts
from failoverd.ports import Result
from failoverd.process import Runs

if TYPE_CHECKING:
    from failoverd.core.model import NodeName
    from failoverd.process import Ended

Ask = Literal["take", "release", "status"]

DONE, FAILED, REFUSED = 0, 1, 2
LONGEST_WORDS = 200  # characters of its last line in a reason


class StoreHook:
    """Runs the program at the absolute path `program` for this node, `me`."""

    def __init__(self, program: str, *, cluster: str, me: NodeName) -> None:
        self._program = program
        self._cluster = cluster
        self._me = me
        self._runs = Runs(1)  # never a release beside a take that could not be killed
        self._looks = Runs(1)

    async def take(self, *, term: int, previous: NodeName | None, deadline_ms: int) -> Result:
        """Make the store usable here. Only for the holder of the lease of `term`."""
        return await self._ask("take", term, previous, deadline_ms)

    async def release(self, *, term: int, deadline_ms: int) -> Result:
        """End the store's use here. Only SUCCEEDED says that another node may have it."""
        return await self._ask("release", term, None, deadline_ms)

    async def look(self, *, deadline_ms: int) -> Reading:
        """Whether `take` could work here now. Changes nothing."""
        result = await self._ask("status", 0, None, deadline_ms)
        health = Health.OK if result.outcome is Outcome.SUCCEEDED else Health.FAILED  # one that hangs would hang then
        return Reading(health, result.code, result.reason, StoreFacts(None))

    async def _ask(self, ask: Ask, term: int, previous: NodeName | None, deadline_ms: int) -> Result:
        asked = {"ask": ask, "cluster": self._cluster, "node": self._me, "term": term, "previous": previous}
        runs = self._looks if ask == "status" else self._runs
        ended = await runs.run(self._program, json.dumps(asked).encode() + b"\n", deadline_ms=deadline_ms)
        return self._judged(ask, ended, deadline_ms)

    def _judged(self, ask: Ask, ended: Ended, deadline_ms: int) -> Result:
        words = _last_line(ended.output)
        what = f"{self._program} {ask}"
        if ended.error:
            return Result(Outcome.FAILED, "STORE_HOOK_NOT_RUN", f"{what}: {ended.error}")
        if ended.code is None:
            text = f"{what} did not end within {deadline_ms} ms and was killed"
            return Result(Outcome.UNKNOWN, "STORE_HOOK_TIMEOUT", f"{text}: {words}" if words else text)
        if ended.code == DONE:
            return Result(Outcome.SUCCEEDED, reason=words)
        how = f"ended by signal {-ended.code}" if ended.code < 0 else f"exit {ended.code}"
        code = "STORE_HOOK_REFUSED" if ended.code == REFUSED else "STORE_HOOK_FAILED"
        return Result(Outcome.FAILED, code, f"{what}: {how}: {words}" if words else f"{what}: {how}")


def _last_line(output: bytes) -> str:
    """The last line that says something, as text that can stand in a log."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    kept = "".join(c if c.isprintable() else "?" for c in lines[-1]) if lines else ""
    return kept[:LONGEST_WORDS]
