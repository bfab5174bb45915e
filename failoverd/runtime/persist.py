"""What a node remembers by itself: the newest term it has seen, for ever, and the lease it holds, until it reboots.

    /var/lib/failoverd/term     survives everything; synced before it counts (rules 5 and 6 of the lease)
    /run/failoverd/lease        survives a restart of the daemon only; lets it go on as the holder that it still is

The two differ in what damage means. A term that cannot be read must not become zero, or an old copy of the store could
take the cluster back: that is an error, and the daemon does not start. A lease that cannot be read is none: the role
is dropped, which is safe.
"""

from __future__ import annotations

import json
import os
import uuid
import zlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from failoverd.core.lease import Held, Memory
from failoverd.core.model import Rejoin
from failoverd.durable import sync_directory

if TYPE_CHECKING:
    from collections.abc import Mapping

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
BOOT_ID_OF_UNIT = "FAILOVERD_BOOT_ID"
EXCHANGED_SIZE = 4096  # characters, a block of most disks; a memory takes some hundred, in other scripts a thousand


class StateError(Exception):
    """A file of the node's own state is damaged, or would be made to say less than it did."""


class TermFile:
    """The highest term this node has seen, and what else it must not forget. One process writes it."""

    def __init__(self, directory: Path) -> None:
        """Read it. No file is term 0: a node's first start. Raises StateError, OSError."""
        self._path = directory / "term"
        directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        try:
            text = self._path.read_text(errors="replace")
        except FileNotFoundError:
            self._memory = Memory()
        else:
            self._memory = self._parsed(text)

    @property
    def memory(self) -> Memory:
        """What is on disk."""
        return self._memory

    @property
    def term(self) -> int:
        """The highest term."""
        return self._memory.term

    def keep(self, memory: Memory) -> None:
        """Have it on disk when this returns. Raises StateError for a lower term, OSError."""
        if memory.term < self.term:
            raise StateError(f"term {memory.term} is lower than {self.term}, the highest that {self._path} has seen")
        if memory != self._memory:
            value = asdict(memory)
            _exchange(self._path, json.dumps(value | {"crc": _checksum(value)}))
            self._memory = memory

    def _parsed(self, text: str) -> Memory:
        value = dict(_object(text))
        crc = value.pop("crc", None)
        # What a release before this one did not keep yet is at its default; a file without a term is no term of 0.
        kept = {"term": None} | {field.name: field.default for field in fields(Memory)[1:]} | value
        term, holder, ttl_ms, takeover, caught_up, let_go, unproven, marks, rejoin, *failed = kept.values()
        failures, failed_ms, floor_ms, moves, moved_to, *unknown = failed
        counts = (let_go, marks, failures, failed_ms, floor_ms, moves)
        numbers = (term, ttl_ms, 0 if takeover is None else takeover, *counts)
        fits = all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers)
        words = isinstance(holder, str | None) and all(isinstance(w, str) for w in (caught_up, unproven, moved_to))
        kept["rejoin"] = _rejoin(rejoin)
        if unknown or not (fits and words and (rejoin is None or kept["rejoin"])) or crc != _checksum(value):
            raise StateError(
                f"{self._path} is damaged. It keeps an old copy of the store from taking the cluster back. Where"
                " another node shows the cluster's term (failoverctl status), remove the file: the term is learnt"
                " again at the first contact"
            )
        return Memory(**kept)  # type: ignore[arg-type] # each was looked at above


def _rejoin(value: object) -> Rejoin | None:
    """What was asked for; None where it is nothing of the kind."""
    if not isinstance(value, dict) or set(value) != {field.name for field in fields(Rejoin)}:
        return None
    exact = all(type(given) is (int if name == "term" else str) for name, given in value.items())
    return Rejoin(**value) if exact else None


@dataclass(frozen=True, slots=True)
class Noted:
    """A lease as the daemon wrote it down, and how long before its end that daemon begins to demote itself."""

    held: Held
    demote_budget_ms: int | None = None  # of the daemon that wrote: its configuration may be newer than the guard's
    leaving: bool = False


class LeaseFile:
    """The lease this node holds, for a daemon that is started again before it has run out, and for the guard."""

    def __init__(self, directory: Path, boot_id: str, demote_budget_ms: int | None = None) -> None:
        """A writer gives its demote budget."""
        self._path = directory / "lease"
        self._boot_id = boot_id
        self._demote_budget_ms = demote_budget_ms
        directory.mkdir(parents=True, exist_ok=True, mode=0o750)

    def read(self) -> Held | None:
        """Return the lease that a daemon may go on with: `noted`, unless it is being given back. Raises OSError."""
        noted = self.noted()
        return None if noted is None or noted.leaving else noted.held

    def noted(self) -> Noted | None:
        """Return the lease as last written in this boot, over or not; None when there is none. Raises OSError."""
        value = self._value()
        numbers = [value.get(key) for key in ("term", "version", "deadline_ms", "demote_budget_ms")]
        *held, budget_ms = (n if isinstance(n, int) and not isinstance(n, bool) else -1 for n in numbers)
        if value.get("boot_id") != self._boot_id or min(held) < 0:
            return None
        return Noted(Held(*held), None if budget_ms < 0 else budget_ms, bool(value.get("leaving")))

    def _value(self) -> Mapping[str, object]:
        try:
            return _object(self._path.read_text(errors="replace"))
        except FileNotFoundError:
            return {}

    def write(self, held: Held, *, leaving: bool = False) -> None:
        """Note a renewal, or that it is being given back. A memory file system: about 0.1 ms. Raises OSError."""
        value = asdict(held) | {"boot_id": self._boot_id, "demote_budget_ms": self._demote_budget_ms}
        value |= {"leaving": True} if leaving else {}
        _replace(self._path, json.dumps(value) + "\n")

    def clear(self) -> None:
        """Forget it: the role was dropped. Raises OSError."""
        self._path.unlink(missing_ok=True)


def boot_id() -> str:
    """Return the name of this boot: CLOCK_BOOTTIME of another says nothing.

    Daemon, guard, drop and an administrator's command compare theirs. A unit for which systemd builds a view of /proc
    has the kernel's own there, also in a container whose manager puts another one over it for all else; so every unit
    gets the one that systemd itself sees (`%b`).
    """
    given = os.environ.get(BOOT_ID_OF_UNIT)
    return str(uuid.UUID(given)) if given else BOOT_ID.read_text().strip()


def _checksum(value: Mapping[str, object]) -> str:
    return f"{zlib.crc32(json.dumps(value).encode()):08x}"


def _object(text: str) -> Mapping[str, object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _replace(path: Path, text: str) -> None:
    """Write a new file and put it in the old one's place: a reader sees one or the other, never half."""
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    with open(descriptor, "w") as file:  # noqa: PTH123 - a descriptor, for its mode
        file.write(text)
    temporary.replace(path)


def _exchange(path: Path, text: str) -> None:
    """The same, synced, with two files that change places: a full disk, once there are both, does not matter.

    A node that could not remember a term on a full disk would believe an old copy of the store after its next start.
    """
    spare, kept = path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.old")
    if kept.exists() and not spare.exists():  # ended between the last two steps
        kept.replace(spare)
    _overwrite(spare, text)  # before the other has two names: what is found as the spare one is never what counts
    kept.unlink(missing_ok=True)
    if path.exists():
        kept.hardlink_to(path)
    else:
        _overwrite(kept, text)  # the first time: what is to be the spare one, while there is room
    spare.replace(path)
    kept.replace(spare)
    sync_directory(path.parent)


def _overwrite(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
    with open(descriptor, "w") as file:  # noqa: PTH123 - a descriptor, for its mode
        file.write(text.ljust(EXCHANGED_SIZE - 1) + "\n")  # always as long: into the blocks that it has
        file.truncate()  # unless what stood there was longer: names and reasons are others' words
        os.fsync(descriptor)
