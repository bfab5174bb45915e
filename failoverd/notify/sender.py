"""One receiver: takes its messages off the queue in their order, and keeps at each until it is taken or refused.

A task of its own, so that one receiver's silence is no other's. Between attempts it waits longer and longer, with
jitter, or as long as the receiver says; a test does not wait for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential, wait_random

from failoverd.core import telling
from failoverd.core.telling import Kind
from failoverd.notify.body import Sender as Signature
from failoverd.notify.delivery import Attempt, End, client, post

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from tenacity import RetryCallState

    from failoverd.config.alerts import Receiver
    from failoverd.core.telling import Message
    from failoverd.notify.body import Form
    from failoverd.notify.teller import Row, Teller

LONGEST_PAUSE_S = 60.0
TROUBLE_MS = 30_000  # what fails for so long is a finding; a refusal and a redirect are one at once


@dataclass(frozen=True, slots=True)
class Last:
    """The newest attempt at a receiver. Wall-clock time."""

    at_ms: int
    id: str
    attempt: Attempt


class _NotNowError(Exception):
    """The attempt failed, and is made again."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt.reason)
        self.attempt = attempt


class _WithdrawnError(Exception):
    """The message is no longer this node's to send, or something else goes first."""


class Sender:
    """Runs on the loop of the telling. `teller` None: there is no queue yet."""

    def __init__(
        self,
        receiver: Receiver,
        form: Form,
        cluster: str,
        node: str,
        *,
        now_ms: Callable[[], int],
        wall_ms: Callable[[], int],
        pause_s: float,
        verify: ssl.SSLContext | bool,
        taken: Callable[[], None],
    ) -> None:
        self.name = receiver.name
        self._form = form
        self._cluster, self._node = cluster, node
        self._timeout_s = receiver.timeout_ms / 1000
        self._url = receiver.url.get_secret_value()
        if form.path and not self._url.rstrip("/").endswith(form.path):
            self._url = self._url.rstrip("/") + form.path
        headers = {name: value.get_secret_value() for name, value in receiver.headers}
        self._client = client(verify, self._timeout_s, headers)
        self._now_ms, self._wall_ms = now_ms, wall_ms
        self._taken = taken  # told of each message that was taken
        self._backoff = wait_exponential(multiplier=pause_s, max=LONGEST_PAUSE_S) + wait_random(0, pause_s)
        self._wake = asyncio.Event()
        self._first = asyncio.Event()  # something goes before what is waited for
        self._refreshed_ms: int | None = None
        self._failing_ms: int | None = None
        self.last: Last | None = None
        self.tests: dict[str, asyncio.Future[Attempt]] = {}

    def wake(self, *, first: bool = False) -> None:
        """There may be something to send; `first`: at once, whatever is being waited for."""
        self._wake.set()
        if first:
            self._first.set()

    async def run(self, teller: Teller) -> None:
        """Work until cancelled. Raises ShelfError where the disk does not note what became of a message."""
        while True:
            self._wake.clear()
            row = teller.next(self.name)
            if row is not None:
                await self._see_to(teller, row)
            elif self._must_refresh(teller):
                await self._refresh(teller)
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._form.refresh_ms / 1000 if self._form.refresh_ms else None):
                        await self._wake.wait()

    @property
    def trouble(self) -> tuple[str, str] | None:
        """(code, reason) of what stands between this node and the receiver."""
        if self.last is None or self.last.attempt.taken:
            return None
        attempt = self.last.attempt
        lasting = self._failing_ms is not None and self._now_ms() - self._failing_ms >= TROUBLE_MS
        if attempt.code == "ALERT_UNDELIVERED" and not lasting:
            return None
        return attempt.code, f"{self.name}: {attempt.reason}"

    async def _see_to(self, teller: Teller, row: Row) -> None:
        teller.begin(row)
        try:
            attempt = await self._until_settled(teller, row)
        except _WithdrawnError:
            return
        finally:
            teller.end(row)
        if row.message.kind is Kind.TEST:
            teller.refused(row, self._wall_ms(), for_good=True)  # it has been tried: whatever came of it
            future = self.tests.pop(row.message.id, None)
            if future is not None and not future.done():
                future.set_result(attempt)
        elif attempt.end is End.TAKEN:
            teller.taken(row, self._wall_ms())
            self._taken()
        else:
            teller.refused(row, self._wall_ms(), for_good=attempt.end is End.INVALID)

    async def _until_settled(self, teller: Teller, row: Row) -> Attempt:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_NotNowError), wait=self._pause, sleep=self._sleep, reraise=True
        )
        settled: Attempt = await retrying(self._once, teller, row)
        return settled

    async def _once(self, teller: Teller, row: Row) -> Attempt:
        if not teller.may_send(row):
            raise _WithdrawnError
        if self._first.is_set() and row.message.kind is not Kind.TEST:
            self._first.clear()
            raise _WithdrawnError
        attempt = await self._offer([row.message], row.message.id)
        if attempt.end is End.AGAIN and row.message.kind is not Kind.TEST:
            teller.end(row)  # while it waits nothing is on its way: another node may take over
            raise _NotNowError(attempt)
        return attempt

    async def _offer(self, messages: Sequence[Message], name: str) -> Attempt:
        signature = Signature(self._cluster, self._node, self._wall_ms())
        body = json.dumps(self._form.body(messages, signature), ensure_ascii=False).encode()
        attempt = await post(self._client, self._url, body, name, self._timeout_s)
        self.last = Last(self._wall_ms(), name, attempt)
        if attempt.end is not End.AGAIN:
            self._failing_ms = None
        elif self._failing_ms is None:
            self._failing_ms = self._now_ms()
        return attempt

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        after_s = error.attempt.after_s if isinstance(error, _NotNowError) else 0.0
        return max(after_s, self._backoff(state))

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._first.wait()

    # ---- receivers that forget ----------------------------------------------------------------------------------

    def _must_refresh(self, teller: Teller) -> bool:
        if self._form.refresh_ms is None or teller.voice is not telling.Voice.SPEAKING:
            return False
        return self._refreshed_ms is None or self._now_ms() - self._refreshed_ms >= self._form.refresh_ms

    async def _refresh(self, teller: Teller) -> None:
        """Tell all that is open, in one request. What fails is tried at the next turn; the queue has what is new."""
        self._refreshed_ms = self._now_ms()
        book = teller.shelf.book
        messages = [
            telling.message(self._cluster, key, entry, Kind.FIRING, entry.level)
            for key, entry in book.open.items()
            if book.told.get((key, self.name), 0) == entry.level
        ]
        if messages:
            await self._offer(messages, f"{self._cluster}/refresh/{self._wall_ms()}")

    async def close(self) -> None:
        """End the client."""
        await self._client.aclose()
