"""One at a time: whoever brings the lab up ends what another has running in it, so demo, soak and tests queue up."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLACE = Path("/run/lock/failoverd-lab")


@contextlib.contextmanager
def sole_use(what: str, say: Callable[[str], None]) -> Iterator[None]:
    """Have the lab for oneself; wait while another has it. A program that dies lets go of it."""
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    with PLACE.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            say(f"the lab is in use by {file.read().strip() or 'another program'}: waiting until it has ended")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"{what} (process {os.getpid()})")
        file.flush()
        yield
