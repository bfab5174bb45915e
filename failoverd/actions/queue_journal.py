"""What was tried with each message of the queue: written down, and on disk, before anything can come of it.

One JSON object a line, only ever appended. `sha` is the message's digest: Postfix gives short ids anew.

    {"do": "try",   "id": "3F2A", "sha": "…", "to": "mail2", "recipients": ["b@x"], "at": 1790000000}   before DATA
    {"do": "taken", "id": "3F2A", "sha": "…", "to": "mail2", "recipients": ["b@x"], "text": "250 … queued as 9C1"}
    {"do": "not",   "id": "3F2A", "sha": "…", "text": "452 …"}                    it is certain that it was not taken
    {"do": "gone",  "id": "3F2A", "sha": "…"}                                     it has left this node's queue

A `try` with nothing behind it is a message that may have been taken: the line that says so is missing because the
connection, the program or the host ended first.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from failoverd.durable import sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LARGE_BYTES = 4 << 20  # then it is put aside, once nothing in it is open


@dataclass(slots=True)
class Tried:
    """What is known of one message. `unsure`: recipients of an attempt that nobody knows the end of, begun `at`."""

    sha: str
    taken: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)
    at: float = 0.0


class Journal:
    """The file at `path`, made where there is none. Raises OSError, and ValueError where it is no journal."""

    def __init__(self, path: Path) -> None:
        self._open: dict[str, Tried] = {}
        whole = self._replay(path)
        if not self._open and whole > LARGE_BYTES:
            path.replace(path.with_suffix(".old"))
            whole = 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._file, whole)  # a last line that was torn says nothing, and must not spoil the next
        sync_directory(path.parent)

    def _replay(self, path: Path) -> int:
        """Take in what stands there; how long its whole lines are."""
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return 0
        whole = text.rfind(b"\n") + 1
        for number, line in enumerate(text[:whole].split(b"\n")[:-1], 1):
            try:
                self._apply(json.loads(line))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise ValueError(f"line {number} is damaged: {error}") from None
        return whole

    def _apply(self, line: dict[str, object]) -> None:
        one, sha = str(line["id"]), str(line["sha"])
        tried = self._open.get(one)
        if tried is None or tried.sha != sha:
            tried = self._open[one] = Tried(sha)
        recipients = line.get("recipients")
        names = {str(name) for name in recipients} if isinstance(recipients, list) else set()
        match line["do"]:
            case "try":
                at = line["at"]
                tried.unsure, tried.at = names, float(at) if isinstance(at, int | float) else 0.0
            case "taken":
                tried.taken |= names
                tried.unsure = set()
            case "not":
                tried.unsure = set()
            case "gone":
                del self._open[one]
            case what:
                raise ValueError(f"{what!r} is nothing that stands in this journal")

    def of(self, one: str, sha: str) -> Tried:
        """What is known of this message."""
        tried = self._open.get(one)
        return tried if tried is not None and tried.sha == sha else Tried(sha)

    def trying(self, one: str, sha: str, to: str, recipients: Iterable[str]) -> None:
        """From here on it may be taken."""
        self._note({"do": "try", "id": one, "sha": sha, "to": to, "recipients": sorted(recipients), "at": time.time()})

    def taken(self, one: str, sha: str, to: str, recipients: Iterable[str], text: str) -> None:
        """It was: these recipients are the other's from now."""
        self._note({"do": "taken", "id": one, "sha": sha, "to": to, "recipients": sorted(recipients), "text": text})

    def not_taken(self, one: str, sha: str, text: str) -> None:
        """It certainly was not."""
        self._note({"do": "not", "id": one, "sha": sha, "text": text})

    def gone(self, one: str, sha: str) -> None:
        """It is in this node's queue no more, or not failoverd's business any more."""
        if one in self._open:
            self._note({"do": "gone", "id": one, "sha": sha})

    def _note(self, line: dict[str, object]) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")
        os.fsync(self._file)
        self._apply(line)
