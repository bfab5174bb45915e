"""Starts `handing`, the program that hands the mail queue on, and understands its answer.

A program and not a part of the daemon: it blocks, holds a whole message in memory, and must end at its deadline or when
the role comes back, whatever it waits for.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from failoverd.core.model import Outcome
from failoverd.ports import Result
from failoverd.process import TERM_BEFORE_MS, Runs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from failoverd.core.model import NodeName

TOOLS = {
    "postcat": "/usr/sbin/postcat",
    "postconf": "/usr/sbin/postconf",
    "postsuper": "/usr/sbin/postsuper",
    "doveadm": "/usr/bin/doveadm",
}
PROGRAM = ("-I", "-m", "failoverd.actions.handing")
MEMORY = "held.json"
JOURNAL = "handed.jsonl"


@dataclass(frozen=True, slots=True)
class Postfix:
    """Where this node's Postfix is, and how the primary's is reached. `directory` is where failoverd remembers."""

    spool: Path
    config: str
    directory: Path
    port: int
    tls: str
    ca: str
    server_name: str
    ehlo: str
    tools: dict[str, str]


class HandOn:
    """Runs the program for this node's Postfix."""

    def __init__(self, postfix: Postfix, *, python: str = sys.executable) -> None:
        self._python = python
        self._postfix = postfix
        self._runs = Runs(2)

    async def run(self, to: NodeName, address: str, *, own: bool, deadline_ms: int) -> Result:
        """Hand all on to the SMTP server of node `to`; with `own` this node is the primary and takes it back itself."""
        postfix = self._postfix
        task = {
            "spool": str(postfix.spool),
            "config": postfix.config,
            "memory": str(postfix.directory / MEMORY),
            "journal": str(postfix.directory / JOURNAL),
            "to": to,
            "address": address,
            "port": postfix.port,
            "tls": postfix.tls,
            "ca": postfix.ca,
            "server_name": postfix.server_name,
            "ehlo": postfix.ehlo,
            "own": own,
            "seconds": (deadline_ms - TERM_BEFORE_MS) / 1000,
            "tools": postfix.tools,
        }
        ended = await self._runs.run(
            self._python, json.dumps(task).encode(), arguments=PROGRAM, deadline_ms=deadline_ms
        )
        if ended.error:
            return Result(Outcome.FAILED, "QUEUE_NO_TOOLS", f"{self._python}: {ended.error}")
        lines = ended.output.decode(errors="replace").splitlines() or [""]
        if ended.code is None:
            text = f"not ended within {deadline_ms} ms, or not needed any more: {lines[-1][-200:]}"
            return Result(Outcome.UNKNOWN, "QUEUE_TIMEOUT", text)
        if ended.code != 0:
            return Result(Outcome.FAILED, "QUEUE_FAILED", f"exit {ended.code}: {lines[-1][-200:]}")
        return result_of(lines)


def result_of(lines: Sequence[str]) -> Result:
    """What the program says in its last line. One that says nothing of the kind may have done anything."""
    try:
        answer = json.loads(lines[-1])
        return Result(Outcome(answer["outcome"]), str(answer["code"]), str(answer["reason"]))
    except (ValueError, LookupError, TypeError, RecursionError):
        return Result(Outcome.UNKNOWN, "QUEUE_FAILED", f"what it says is not understood: {''.join(lines[-1:])[-200:]}")
