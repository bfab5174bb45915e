r"""The chain: each record holds the SHA-256 of the line before it, so that none is changed, left out or moved alone.

    {"v":2,"seq":40,"prev":"1c02…",…}⏎  ── SHA-256 ──┐
    {"v":2,"seq":41,"prev":"9f86…",…}⏎  <────────────┘

It is of the line's exact bytes, its end included: `sed -n 40p audit.jsonl | sha256sum` gives the `prev` of the next.
The first record of all holds the *genesis*, the hash of the cluster's and the node's name, so that the audit of one
node does not pass for another's:

    printf 'failoverd audit 2\ncluster\nnode\n' | sha256sum

Records of version 1 have no `prev`. The first one of version 2 holds the hash of the last of them, and goes on.

There is no key in it. Whoever may write the files can write all of them anew from any record on; that is found where
the chain's head is known elsewhere (`verify` takes what others know: known heads).
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

VERSION = 2
UNCHAINED = 1  # the version before it, without `prev`


class Head(NamedTuple):
    """How far a chain has come: the number of its newest record (0: none) and the hash of that record's line."""

    seq: int
    hash: str


class Written(NamedTuple):
    """A record and the line that it is on disk, with its end."""

    record: dict[str, object]
    line: bytes

    @property
    def head(self) -> Head:
        """The chain's head once this was its newest record."""
        number = self.record["seq"]
        assert isinstance(number, int)  # noqa: S101 - a bug: it was written here
        return Head(number, digest(self.line))


def digest(line: bytes) -> str:
    """SHA-256 of a line, its end included, in hexadecimal digits."""
    return hashlib.sha256(line).hexdigest()


def genesis(cluster: str, node: str) -> Head:
    """What the first record of a node's audit goes on from."""
    return Head(0, digest(f"failoverd audit {VERSION}\n{cluster}\n{node}\n".encode()))
