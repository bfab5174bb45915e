"""Room on the disk for the record of a failover: a file that holds nothing, given up when the disk is full.

    audit.reserve   4 MiB ──no space left──> 64 KiB shorter, the append again ──…──> gone
                    4 MiB <──there is room again────────────────────────────┘

Piece by piece and not all at once: whatever else fills that disk would take the rest within a second. A piece holds
the records of some hundred steps; a decision with its input takes about 4 KB. On file systems that copy what they write
(btrfs, ZFS) a reserve is a hope and no promise.
"""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
PIECE = 64 << 10
SPARE = 1 << 20  # bytes that are left to others when it is made again


class Reserve:
    """One file of `size` bytes; 0: none. Any thread may call it."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self.size = size
        self.short = 0  # how much of it was not there at the last look, when it was given up or could not be made
        self._lock = threading.Lock()

    def give(self, wanted: int) -> bool:
        """Give up enough for `wanted` bytes and what a file system needs beside them; whether there was any left."""
        piece = max(PIECE, -(-2 * wanted // PIECE) * PIECE)
        with self._lock:
            try:
                left = self._path.stat().st_size
                if left > piece:
                    os.truncate(self._path, left - piece)
                else:
                    self._path.unlink()
            except OSError:  # none there, or no way to it: the append says what is wrong with the disk
                return False
            self.short = self.size - max(left - piece, 0)
        return left > 0

    def make(self) -> bool:
        """Make it as large as it was, where there is room for it and more; whether it is. Blocking; raises OSError."""
        if not self.size:
            return True
        with self._lock:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                left = os.fstat(descriptor).st_size
                free = os.fstatvfs(descriptor)
                room = free.f_bavail * free.f_frsize
                self.short = max(self.size - left, 0)
                if self.short and room >= self.short + SPARE and _allocated(descriptor, left, self.size):
                    self.short = 0
            finally:
                os.close(descriptor)
        return not self.short


def _allocated(descriptor: int, left: int, size: int) -> bool:
    """Have blocks for all of it, on disk. Raises OSError, but for a disk that is full: then it is as it was."""
    try:
        os.posix_fallocate(descriptor, 0, size)
        os.fsync(descriptor)
    except OSError as error:
        os.ftruncate(descriptor, left)
        if error.errno not in FULL:
            raise
        return False
    return True
