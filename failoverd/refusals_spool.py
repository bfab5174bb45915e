"""Refusals of a process that has no audit of its own (the donor, the drill's agent), told to the daemon by a file.

    donor ── note ──> at most once a second: RUNTIME/refused-donor.json ──> daemon, every five seconds

How often each kind was since that process started, so that a file that was read twice, or not for long, counts right.
The daemon may be away, or be another user's: nothing waits for it.
"""

from __future__ import annotations

import threading
import uuid
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from failoverd.refusals import CODES, OTHERS, Refusals

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DONOR, DRILL_AGENT = "refused-donor.json", "refused-drill-agent.json"
WRITE_S = 1.0
LIMIT: Final = 256 * 1024  # bytes
_KINDS: Final = 256


class _Kind(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    port: str = Field(max_length=32)
    code: str = Field(max_length=32)
    source: str = Field(max_length=64)
    reason: str = Field(max_length=256)
    node: str = Field(max_length=64)
    total: int = Field(ge=0)


class _Spooled(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    run: str = Field(max_length=64)
    kinds: list[_Kind] = Field(max_length=_KINDS)


class Spool:
    """Writes what `refusals` has to `path`, a second after something came."""

    def __init__(self, path: Path, refusals: Refusals, say: Callable[[str], object], write_s: float = WRITE_S) -> None:
        self._path, self._refusals, self._say, self._write_s = path, refusals, say, write_s
        self._run = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._waits = False
        refusals.changed = self.noted

    def noted(self) -> None:
        """Write soon. Called from any thread."""
        with self._lock:
            if self._waits:
                return
            self._waits = True
        timer = threading.Timer(self._write_s, self.write)
        timer.daemon = True
        timer.start()

    def write(self) -> None:
        """Write now, as a whole or not at all."""
        with self._lock:
            self._waits = False
        kinds = [_Kind(**asdict(refusal), total=total) for refusal, total in self._refusals.totals()[:_KINDS]]
        new = self._path.with_name(f".{self._path.name}.new")
        try:
            new.write_text(_Spooled(run=self._run, kinds=kinds).model_dump_json())
            new.replace(self._path)
        except OSError as error:
            self._say(f"refusals cannot be told to the daemon: {error}")


class Told:
    """Reads such a file again and again, and adds to `refusals` what is new in it."""

    def __init__(self, path: Path, refusals: Refusals) -> None:
        self._path, self._refusals = path, refusals
        self._run = ""
        self._known: dict[tuple[str, str, str], int] = {}

    def read(self) -> None:
        """Blocks for a small file. What is no such file is no news. Raises OSError where it cannot be read."""
        try:
            with self._path.open("rb") as file:
                spooled = _Spooled.model_validate_json(file.read(LIMIT))
        except (FileNotFoundError, ValidationError):
            return
        if spooled.run != self._run:
            self._run, self._known = spooled.run, {}
        for kind in spooled.kinds:
            key = (kind.port, kind.source, kind.code)
            before = self._known.get(key, 0)
            new = kind.total - before if kind.total >= before else kind.total
            self._known[key] = kind.total
            if new and kind.code in CODES:
                self._refusals.note(kind.code, kind.port, kind.source or OTHERS, kind.reason, node=kind.node, count=new)
