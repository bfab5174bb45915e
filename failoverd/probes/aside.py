"""A blocking call beside the loop, in a thread that nobody waits for.

A call into the kernel on a hung disk cannot be ended from outside, and a pool would wait for it on exit. So: a daemon
thread for each call, and never a second one while the first has not come back.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar

from failoverd.core.model import Health, Reading

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class NoLookError(Exception):
    """This node could not look: nothing is known of what it wanted to look at."""

    code = "PROBE_EXHAUSTED"

    @property
    def reading(self) -> Reading:
        """How the probe that wanted to look ends."""
        return Reading(Health.UNKNOWN, self.code, f"this node: {self}")


class ThreadRefusedError(NoLookError):
    """The system gave no thread."""


class Aside:
    """Runs one blocking call at a time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._busy = False

    @property
    def busy(self) -> bool:
        """Whether a call has not come back: of an earlier reading, if one asks before `run`."""
        return self._busy

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, or raise what it raises. When cancelled, the thread goes on by itself."""
        if self._busy:
            raise AssertionError("ask `busy` first")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def tell(result: T | None, error: BaseException | None) -> None:
            if done.done():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)  # type: ignore[arg-type]  # without an error it is a T

        def body() -> None:
            result: T | None = None
            failure: BaseException | None = None
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
                failure = error
            self._busy = False
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(tell, result, failure)

        self._busy = True
        try:
            threading.Thread(target=body, name=self._name, daemon=True).start()
        except RuntimeError as error:
            self._busy = False
            raise ThreadRefusedError(str(error)) from error
        return await done
