"""The process behind `disk`: writes one small file, whenever it is asked, for as long as its parent lives.

A program of its own, with the standard library only: it is started by its path, shares nothing with the daemon, and may
hang in the kernel for ever. Standard input is its leash: at its end, which the parent's end is, so does this program.

    (a line) ──> open, write, fsync ──> ok | error NUMBER | busy

`busy`: the writer of an earlier daemon still hangs on this path; there are never two. It writes as the owner of the
directory does, since the kernel keeps a last reserve of a file system for root, and beside the file of the last time,
whose block would still be there on a full disk. Several hosts may do so in one directory.
"""

from __future__ import annotations

import fcntl
import os
import sys
from contextlib import suppress

NAME = ".failoverd-probe"
SIZE = 4096


def write(directory: str) -> str:
    """Write once; how it went."""
    try:
        owner = os.stat(directory)  # noqa: PTH116 - pathlib would triple the time to start
        with suppress(PermissionError):  # not root: then it is the owner's question whether it may write
            os.setgroups([])
            os.setgid(owner.st_gid)
            os.setuid(owner.st_uid)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        new = f"{directory}/{NAME}.{os.uname().nodename}"
        descriptor = os.open(new, flags, 0o600)
        try:
            os.write(descriptor, b"failoverd writes here to see whether it can be done.\n".ljust(SIZE, b"\0"))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(new, f"{directory}/{NAME}")  # noqa: PTH104 - as above
    except OSError as error:
        return f"error {error.errno}"
    return "ok"


def main(directory: str, lock: str) -> None:
    """Answer until standard input ends."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    alone = False
    while os.read(0, 1):
        if not alone:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                alone = True
        os.write(1, (write(directory) if alone else "busy").encode() + b"\n")


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main(*sys.argv[1:])
