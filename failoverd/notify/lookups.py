"""Name look-ups that nobody has to wait for: neither the loop that asks for them nor the end of the process.

asyncio looks names up in an executor, and ThreadPoolExecutor's threads are waited for when the process ends: a resolver
that hangs would hold up a daemon that is to be started again, while the lease runs. Here each look-up has a thread that
ends with the process, at most LOOKUPS of them.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

LOOKUPS = 8

T = TypeVar("T")


class Lookups(ThreadPoolExecutor):
    """Runs name look-ups, each in a thread that the end of the process does not wait for (ThreadPoolExecutor would)."""

    def __init__(self) -> None:
        super().__init__(max_workers=1)
        self._free = threading.BoundedSemaphore(LOOKUPS)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:  # noqa: ANN401 - as in the base
        """Run `fn` in a thread of its own; where LOOKUPS run already, the future has an OSError."""
        future: Future[T] = Future()
        if not self._free.acquire(blocking=False):
            future.set_exception(OSError(f"{LOOKUPS} names are being looked up, and none is found"))
            return future

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as error:  # noqa: BLE001 - raised where it is awaited
                    future.set_exception(error)
            self._free.release()

        threading.Thread(target=run, name="alerts-lookup", daemon=True).start()
        return future
