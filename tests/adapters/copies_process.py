"""mail2 as it keeps copies, killed as it is about to have lines on disk: copies_process.py PLACE PORT CA CERT KEY."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from copies_stage import Member


@dataclass(frozen=True)
class _Files:
    ca: Path
    certificate: Path
    key: Path


class _Given:
    """Certificates that were made before."""

    def __init__(self, *files: Path) -> None:
        self._files = _Files(*files)

    def node(self, _name: str, _address: str) -> _Files:
        return self._files


def _dies(descriptor: int) -> None:
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.kill(os.getpid(), signal.SIGKILL)


async def _main(place: Path, port: int, *files: Path) -> None:
    member = Member(_Given(*files), place, "mail2")  # type: ignore[arg-type] # of an Authority it needs no more
    os.fsync = _dies  # type: ignore[assignment] # a real kill, at the very moment
    await member.listen(port)
    print("listening", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    _, place, port, *files = sys.argv
    asyncio.run(_main(Path(place), int(port), *map(Path, files)))
