"""What the daemon and a rebuild, two processes, leave for each other in /run/failoverd: small files in memory.

    rebuild-request.json   the daemon's: whose rebuild it is, and from which donor
    rebuild.json           the rebuild's newest word
    rebuild.lock           held by it for as long as it lives: a file says what was, a lock what is

Apart from both, since a rebuild must stay small: it loads no probe, and the daemon nothing of a rebuild.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

FILE, LOCK = "rebuild.json", "rebuild.lock"
REQUEST = "rebuild-request.json"
_FLOCK = "hhqqi4x"  # struct flock of fcntl(2) on Linux, 64 bits


def is_running(runtime: Path) -> bool:
    """Whether a rebuild lives on this node. Asks, and takes nothing: a look must not make it fail. Raises OSError."""
    try:
        descriptor = os.open(runtime / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))[0]
    finally:
        os.close(descriptor)
    return bool(kind != fcntl.F_UNLCK)


def ask(runtime: Path, *, request: str, donor: str, from_primary: bool) -> None:
    """Leave for the next rebuild what is asked of it: a small file in memory. Raises OSError."""
    temporary = runtime / f".{REQUEST}.new"
    temporary.write_text(json.dumps({"request": request, "donor": donor, "from_primary": from_primary}) + "\n")
    temporary.replace(runtime / REQUEST)


def newest(runtime: Path) -> dict[str, Any]:
    """Return what was told last; nothing where nothing ever was, since the boot. Raises OSError, ValueError."""
    try:
        value = json.loads((runtime / FILE).read_text())
    except FileNotFoundError:
        return {}
    except RecursionError as error:
        raise ValueError(f"no JSON: {error}") from None
    return value if isinstance(value, dict) else {}
