"""Copies of the other nodes' audits: what one node cannot change quietly, since it does not have all of them.

    copies/mail1/1/audit.jsonl      mail1's lines as it sent them, each following the one before by its hash
    copies/mail1/2/audit.jsonl      and those that did not follow: a second version of its record, from there on

A copy is never overwritten. A node whose disk was restored, or whose record was rewritten, sends lines that differ from
what is here: they are kept beside it, in a version of their own, and told (AUDIT_FORKED) for as long as both are there.
Which one is right is for a person to say: a machine that took the newer for the truth would help whoever rewrote it.

What is taken is bounded: so many versions of a node's record, and never the last room on the disk, which is for this
node's own record (AUDIT_COPY_REFUSED).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from failoverd.audit.branch import Branch, Line, LineError, line_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime, timedelta
    from pathlib import Path

VERSIONS_MOST = 5
FREE_LEAST = 256 << 20  # bytes
BATCH_MOST = 256 << 10  # bytes of lines taken at once


class RefusedError(Exception):
    """Lines are not kept, now or at all; the text says why."""


class ImpostorError(RefusedError):
    """They are another node's."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a node's record, as it is kept here. All 0: there is nothing yet."""

    number: int
    first: int
    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Taken:
    """The newest version after lines were taken. `forked`: it began with them, beside the one of that number."""

    version: Version
    versions: int
    forked: int = 0


@dataclass(frozen=True, slots=True)
class Unchained:
    """Nothing was taken: the lines follow none that is here. `known`: lines that are, newest first."""

    known: tuple[tuple[int, str], ...]


class Copies:
    """The copies on this node. Every method blocks; call them from one thread. `own` is never an origin."""

    def __init__(self, directory: Path, origins: Collection[str], *, free_least: int = FREE_LEAST) -> None:
        self._directory = directory
        self._origins = frozenset(origins)
        self._free_least = free_least
        self._newest: dict[str, Branch] = {}

    def take(self, origin: str, body: bytes, oldest: int = 0) -> Taken | Unchained:
        """Keep the lines in `body`. `oldest`: the first that the origin still has. Raises RefusedError, OSError."""
        lines = _lines(origin, body)
        branch = self._branch(origin)
        if branch.seq == 0 or (lines[0].seq == branch.seq + 1 and follows(lines[0], branch.hash)):
            return self._kept(origin, branch, lines)
        if lines[0].seq == branch.seq + 1:
            return Unchained(tuple(branch.known()))  # they differ earlier
        if lines[0].seq > branch.seq + 1:
            gone = oldest == lines[0].seq  # what is between is nowhere any more
            return self._begun(origin, branch, lines) if gone else Unchained(tuple(branch.known()))
        return self._compared(origin, branch, lines)

    def known(self, origin: str, *, all_over: bool) -> Unchained:
        """What is here of `origin`'s newest version, for it to go on from; see Branch.known. Raises OSError."""
        return Unchained(tuple(self._branch(origin).known(all_over=all_over)))

    def versions(self, origin: str) -> list[Version]:
        """What is kept of one node, oldest first. Raises OSError."""
        if origin not in self._origins:
            return []
        newest = self._branch(origin)
        found = [Branch(path) for path in self._directories(origin) if path != newest.directory]
        return [_version(branch) for branch in (*found, newest) if branch.seq]

    def hashes(self, origin: str, version: int, at: Collection[int]) -> dict[int, str]:
        """Of lines of one version, as far as they are here. Raises OSError."""
        for path in self._directories(origin) if origin in self._origins else ():
            if _number(path) == version:
                newest = self._branch(origin)
                return (newest if newest.directory == path else Branch(path)).hashes(at)
        return {}

    def keep_house(self, retention: timedelta, now: datetime) -> None:
        """See Branch.keep_house; of every version. Raises OSError, ValueError."""
        for origin in sorted(self._origins):
            newest = self._branch(origin)
            for path in self._directories(origin):
                (newest if path == newest.directory else Branch(path)).keep_house(retention, now)

    def _compared(self, origin: str, branch: Branch, lines: Sequence[Line]) -> Taken | Unchained:
        """Lines that begin before the end of the copy: sent once more, or another version."""
        there = branch.hashes([line.seq for line in lines] + [lines[0].seq - 1])
        for index, line in enumerate(lines):
            if line.seq > branch.seq:
                return self._kept(origin, branch, lines[index:])
            if line.seq >= branch.first and there.get(line.seq) != line.hash:
                before = there.get(line.seq - 1) if index == 0 else lines[index - 1].hash
                if before is None or follows(line, before):
                    return self._begun(origin, branch, lines[index:])
                return Unchained(tuple(branch.known()))  # they differ earlier still
        return Taken(_version(branch), len(self._directories(origin)))

    def _kept(self, origin: str, branch: Branch, lines: Sequence[Line]) -> Taken:
        self._make_sure_of_room(lines)
        branch.append(lines)
        return Taken(_version(branch), len(self._directories(origin)))

    def _begun(self, origin: str, branch: Branch, lines: Sequence[Line]) -> Taken:
        """Another version, beside those that are here."""
        directories = self._directories(origin)
        if len(directories) >= VERSIONS_MOST:
            raise RefusedError(f"{len(directories)} versions of {origin}'s record are kept here, and no more will be")
        self._make_sure_of_room(lines)
        beside = _number(branch.directory)
        branch = Branch(self._directory / origin / str(max(map(_number, directories)) + 1))
        branch.append(lines)
        self._newest[origin] = branch
        return Taken(_version(branch), len(directories) + 1, forked=beside)

    def _branch(self, origin: str) -> Branch:
        if origin not in self._origins:
            raise RefusedError(f"{origin} is no other node")
        known = self._newest.get(origin)
        if known is None or (known.seq and not known.directory.is_dir()):  # an operator has moved it away
            directories = self._directories(origin)
            self._newest[origin] = known = Branch(directories[-1] if directories else self._directory / origin / "1")
        return known

    def _directories(self, origin: str) -> list[Path]:
        there = [path for path in (self._directory / origin).glob("*") if path.name.isdecimal() and path.is_dir()]
        # One without a byte was about to begin when the disk was full, or this process was killed.
        return sorted((path for path in there if any(file.stat().st_size for file in path.iterdir())), key=_number)

    def _make_sure_of_room(self, lines: Sequence[Line]) -> None:
        free = shutil.disk_usage(self._directory.parent).free - sum(len(line.data) for line in lines)
        if free < self._free_least:
            raise RefusedError(f"{free >> 20} MiB are free, and the last {self._free_least >> 20} are this node's own")


def follows(line: Line, before: str) -> bool:
    """Whether it says that it follows a line of that hash. A record from before there was a chain says nothing."""
    return line.prev in {"", before}


def _lines(origin: str, body: bytes) -> list[Line]:
    if len(body) > BATCH_MOST * 2:
        raise RefusedError(f"{len(body)} bytes at once")
    try:
        lines = [line_of(data) for data in body.splitlines(keepends=True)]
    except LineError as error:
        raise RefusedError(f"no lines of an audit: {error}") from None
    if not lines:
        raise RefusedError("no lines")
    for line in lines:
        if line.node != origin:
            raise ImpostorError(f"line {line.seq} is of {line.node[:64]!r}, sent by {origin}")
    for before, line in pairwise(lines):
        if line.seq != before.seq + 1 or not follows(line, before.hash):
            raise RefusedError(f"line {line.seq} does not follow line {before.seq}")
    return lines


def _number(path: Path) -> int:
    return int(path.name)


def _version(branch: Branch) -> Version:
    return Version(_number(branch.directory), branch.first, branch.seq, branch.hash)
