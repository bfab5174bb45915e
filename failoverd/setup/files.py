"""Several files that belong together, put in place so that being killed in between does no harm.

    all ──> .NAME.new, synced ──> renamed one after the other, in the order given ──> directories synced

A reader sees each file whole, old or new. What was not renamed yet is written again by the next run: the plan is made
of what lies there, so that it holds the rest only.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from failoverd.config.lines import read_regular
from failoverd.durable import sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LARGEST = 1 << 20  # bytes: all that setting up reads or writes is text of some kilobytes
PUBLIC, PRIVATE = 0o644, 0o600


@dataclass(frozen=True, slots=True)
class File:
    """What `path` shall hold. `secret`: its content is never shown, and only its owner may read it."""

    path: Path
    content: bytes = field(repr=False)
    secret: bool = False

    @property
    def mode(self) -> int:
        """0600 for secrets, else 0644."""
        return PRIVATE if self.secret else PUBLIC

    @property
    def text(self) -> str:
        """Its content as text."""
        return self.content.decode()

    def is_there(self) -> bool:
        """Whether the file is as it shall be; a secret may be readable for its group as well, never for others."""
        found = existing(self.path)
        if found is None or found[0] != self.content:
            return False
        return not found[1] & 0o007 if self.secret else True


def existing(path: Path) -> tuple[bytes, int] | None:
    """Content and mode of a regular file; None where there is none. Raises OSError where it cannot be read."""
    try:
        content, mode = read_regular(path, LARGEST)
    except FileNotFoundError:
        return None
    return content, mode & 0o7777


def missing(files: Iterable[File]) -> tuple[File, ...]:
    """Those that are not yet as they shall be."""
    return tuple(file for file in files if not file.is_there())


def put(files: Iterable[File]) -> None:
    """Put all of them in place, see above. Raises OSError; what was renamed before it stays."""
    wanted = tuple(files)
    for file in wanted:
        _directory(file.path.parent, private=file.secret)
    try:
        for file in wanted:
            _write(_beside(file.path), file)
        for file in wanted:
            _beside(file.path).rename(file.path)
    finally:
        _clear(wanted)
        for directory in dict.fromkeys(file.path.parent for file in wanted):
            _sync(directory)


def _clear(files: Iterable[File]) -> None:
    """Remove what was not renamed, also by a run before this one."""
    for file in files:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            _beside(file.path).unlink()


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _directory(path: Path, *, private: bool) -> None:
    """Make it, and what it is in. One that is there keeps its mode: it is the administrator's."""
    if not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        path.mkdir(mode=0o700 if private else 0o755, exist_ok=True)


def _write(path: Path, file: File) -> None:
    # With its own mode from the first moment on; whatever a killed run left under that name is not followed.
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)
    with open(descriptor, "wb") as opened:  # noqa: PTH123 - a descriptor
        os.fchmod(descriptor, file.mode)
        opened.write(file.content)
        opened.flush()
        os.fsync(descriptor)


def _sync(directory: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        sync_directory(directory)
