"""The primary is lost while a copy is made: then this node's old data are needed to prove what was acknowledged.

As long as it is being rebuilt, a node is no witness in an election. So a rebuild that has touched nothing ends where
there is no primary, and one that is told to end (systemctl stop) does so as well, with everything that it has started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING, NoReturn

from failoverd.rebuild import RebuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOK_S = 2.0
LOOKS = 5  # in a row, without a primary: longer than a failover takes


@contextlib.contextmanager
def ended_without_primary(primary: Callable[[], object], *, look_s: float = LOOK_S) -> Iterator[None]:
    """Raise RebuildError in the main thread where `primary` raises one again and again, and at SIGTERM."""
    why = RebuildError("REBUILD_STOPPED", "it was told to end, and nothing of this node was touched")
    over = threading.Event()

    def told(_number: int, _frame: object) -> NoReturn:
        raise why

    def look() -> None:
        nonlocal why
        missed = 0
        while not over.wait(look_s):
            try:
                primary()
            except RebuildError as error:
                missed += 1
                if missed >= LOOKS:
                    why = error
                    os.kill(os.getpid(), signal.SIGTERM)  # ends a wait of the main thread
                    return
            else:
                missed = 0

    before = signal.signal(signal.SIGTERM, told)
    looking = threading.Thread(target=look, name="watch", daemon=True)
    looking.start()
    try:
        yield
    finally:
        over.set()
        signal.signal(signal.SIGTERM, before)
