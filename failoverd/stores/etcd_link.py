"""Requests to an etcd of several endpoints, by httpx: the first that answers is enough, and a dead one costs little.

    ask ── first endpoint ─── answer
             │ refused, lost, a 5xx             the next one, at once
             └ silent for half of the deadline  the next one as well, now and then; whichever answers first

What failed, or was too slow, is asked last for AVOID_S. The order is the caller's: a node with a member asks its own.

"Now and then" is twice, and once more for each ten answers. An etcd of many clusters that falls behind would get each
request several times otherwise, and never come back. For the same reason a request that is given up keeps its
connection for a while: its answer may come, and the next request needs no TLS handshake. Nor is it cancelled: one that
is, during the handshake, leaves its socket to the garbage collector. So a request must be one that may arrive twice,
and late.

Where authentication is on, a token is got with user and password, and again whenever it is refused: etcd forgets
those of the usual kind when a member is restarted. After an old snapshot was put back it does not refuse them, but lets
whoever has one wait until its log has come as far as it was when it gave the token: nothing would ever be answered.
So where nothing is, a member's status is asked, for which no token is needed. (To get another one after each time-out
would cost an etcd of many clusters a tenth of a second of processor for each node, just when it comes back.)
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from failoverd.ports import StoreUnavailableError
from failoverd.stores import etcd_requests as etcd

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

AVOID_S = 10.0
CLOSE_S = 0.5
SECONDS, SECONDS_EACH = 2.0, 0.1  # how often a second member is asked beside a silent one: at once, and for each answer
LATE = 4  # deadlines: so long an answer that nobody waits for any more may come, and its connection is kept
ANSWER_LIMIT = 4 * 1024 * 1024  # bytes: a page of a fleet's records
LINE_LIMIT = 1024 * 1024  # bytes of one message of a watch
AUTHENTICATE_MS = 3000  # etcd takes a tenth of a second for a password on purpose; whoever waits has its own deadline
_UNAUTHENTICATED, _OWN_FAULT, _SERVERS_FAULT = 401, 400, 500
# Of a token from before rights were changed, anybody's: a 400, or for a JWT a 500; of none, where authentication was
# switched on since.
_OF_TOKEN = ("revision of auth store is old", "revision in header is old", "user name is empty")


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where an etcd is, and as whom it is asked. `urls`: https://ADDRESS:PORT, the preferred one first."""

    urls: tuple[str, ...]
    ssl_context: ssl.SSLContext
    user: str = ""
    password: str = field(default="", repr=False)


class _RefusedError(Exception):
    """etcd's own no: HTTP's status, and its words."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"{status} {words}")
        self.of_token = status == _UNAUTHENTICATED or any(words.find(known) >= 0 for known in _OF_TOKEN)
        self.final = self.of_token or _OWN_FAULT <= status < _SERVERS_FAULT


class EtcdLink:
    """One client of an etcd. Every call ends within its deadline. Close it when it is not needed any more."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._avoided: dict[str, float] = {}
        self._seconds = SECONDS
        self._token = ""
        self._authenticating: asyncio.Task[None] | None = None
        self._doubting: asyncio.Task[None] | None = None
        self._attempts: set[asyncio.Task[bytes]] = set()
        self._client = httpx.AsyncClient(
            verify=endpoints.ssl_context,
            trust_env=False,  # a proxy of somebody's environment has no business between a node and its store
            headers={"accept-encoding": "identity", "content-type": "application/json", "user-agent": "failoverd"},
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=8, keepalive_expiry=30.0),
        )

    async def ask(self, path: str, body: bytes, *, deadline_ms: int) -> bytes:
        """POST and return the answer's body. It may arrive at several members. Raises StoreUnavailableError."""
        try:
            async with asyncio.timeout(deadline_ms / 1000):
                return await self._with_token(lambda: self._race(path, body, deadline_ms))
        except TimeoutError:
            if self._token and (self._doubting is None or self._doubting.done()):
                self._doubting = asyncio.create_task(self._doubt(self._token))
            raise StoreUnavailableError(f"{self._where}: no answer within {deadline_ms} ms") from None
        except _RefusedError as error:
            raise StoreUnavailableError(f"{self._where}: {error}") from None

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, body: bytes, *, open_ms: int, silent_ms: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """POST to the preferred endpoint alone, and give the answer line by line, for as long as it goes on.

        Opening it takes `open_ms` for each of its steps, and it ends where nothing comes for `silent_ms`. Raises
        StoreUnavailableError, also out of the iterator.
        """
        url = self._in_order()[0]
        limits = httpx.Timeout(open_ms / 1000, read=silent_ms / 1000)
        try:
            await self._authenticated()
            request = self._client.stream("POST", url + path, content=body, headers=self._headers(), timeout=limits)
            async with request as response:
                if response.status_code != httpx.codes.OK:
                    answer = await _whole(response)
                    raise StoreUnavailableError(f"{url}: {response.status_code} {etcd.error_of(answer)}")
                yield _lines(response)
        except httpx.HTTPError as error:
            self.avoid(url)
            raise StoreUnavailableError(f"{url}: {_words(error)}") from error

    def preferred(self) -> str:
        """The endpoint that is asked first now."""
        return self._in_order()[0]

    def avoid(self, url: str) -> None:
        """Ask this endpoint last for a while."""
        self._avoided[url] = asyncio.get_running_loop().time() + AVOID_S

    async def close(self) -> None:
        """End every connection; what is under way has CLOSE_S to end by itself."""
        tasks = {*self._attempts, *(task for task in (self._authenticating, self._doubting) if task is not None)}
        if tasks:
            _, tasks = await asyncio.wait(tasks, timeout=CLOSE_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()

    @property
    def _where(self) -> str:
        return f"etcd at {', '.join(self._endpoints.urls)}"

    def _in_order(self) -> list[str]:
        now = asyncio.get_running_loop().time()
        return sorted(self._endpoints.urls, key=lambda url: max(self._avoided.get(url, 0.0), now))  # stable

    # ---- one request at several endpoints --------------------------------------------------------------------------

    async def _race(self, path: str, body: bytes, deadline_ms: int) -> bytes:
        """The first answer of any. Raises _RefusedError, StoreUnavailableError; ends with its caller's deadline."""
        left, errors = self._in_order(), list[str]()
        running: dict[asyncio.Task[bytes], str] = {}
        beside = False
        try:
            while left or running:
                if left and (beside or not running):
                    url = left.pop(0)
                    running[self._begin(url, path, body, deadline_ms)] = url
                patience_s = deadline_ms / (2000 if len(running) == 1 else 4000) if left else None
                ended, _ = await asyncio.wait(running, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
                beside = bool(left) and (bool(ended) or self._may_ask_a_second())
                for attempt in ended:
                    url = running.pop(attempt)
                    try:
                        answer = attempt.result()
                    except _RefusedError as error:
                        if error.final:
                            raise
                        errors.append(f"{url}: {error}")
                    except httpx.HTTPError as error:
                        errors.append(f"{url}: {_words(error)}")
                    else:
                        self._seconds = min(SECONDS, self._seconds + SECONDS_EACH)
                        return answer
                    self.avoid(url)
        finally:
            for url in running.values():  # another was quicker, or nobody was quick enough
                self.avoid(url)
        raise StoreUnavailableError("; ".join(errors))

    def _may_ask_a_second(self) -> bool:
        if self._seconds < 1:
            return False
        self._seconds -= 1
        return True

    def _begin(self, url: str, path: str, body: bytes, deadline_ms: int) -> asyncio.Task[bytes]:
        attempt = asyncio.create_task(self._attempt(url, path, body, deadline_ms))
        self._attempts.add(attempt)
        attempt.add_done_callback(self._over)
        return attempt

    def _over(self, attempt: asyncio.Task[bytes]) -> None:
        self._attempts.discard(attempt)
        if not attempt.cancelled():
            attempt.exception()  # nobody may be waiting for it any more

    async def _attempt(self, url: str, path: str, body: bytes, deadline_ms: int) -> bytes:
        limits = httpx.Timeout(deadline_ms / 1000, read=deadline_ms * LATE / 1000)
        request = self._client.stream("POST", url + path, content=body, headers=self._headers(), timeout=limits)
        async with request as response:
            answer = await _whole(response)
            if response.status_code != httpx.codes.OK:
                raise _RefusedError(response.status_code, etcd.error_of(answer))
            return answer

    # ---- as whom ---------------------------------------------------------------------------------------------------

    def _headers(self) -> dict[str, str]:
        return {"authorization": self._token} if self._token else {}

    async def _with_token(self, asking: Callable[[], Awaitable[bytes]]) -> bytes:
        await self._authenticated()
        token = self._token
        try:
            return await asking()
        except _RefusedError as error:
            if not (self._endpoints.user and error.of_token):
                raise
        if self._token == token:
            self._token = ""
        await self._authenticated()
        return await asking()

    async def _authenticated(self) -> None:
        """Have a token, where one is needed. Several may wait for one; who gives up waiting does not end it."""
        if self._token or not self._endpoints.user:
            return
        if self._authenticating is None or self._authenticating.done():
            self._authenticating = asyncio.create_task(self._authenticate())
        await asyncio.shield(self._authenticating)

    async def _authenticate(self) -> None:
        body = etcd.authenticate(self._endpoints.user, self._endpoints.password)
        try:
            async with asyncio.timeout(AUTHENTICATE_MS / 1000):
                self._token = etcd.token_of(await self._race(etcd.AUTHENTICATE, body, AUTHENTICATE_MS))
        except TimeoutError:
            raise StoreUnavailableError(f"{self._where}: no token within {AUTHENTICATE_MS} ms") from None
        except (_RefusedError, etcd.EtcdAnswerError) as error:
            raise StoreUnavailableError(f"{self._where}: no token for {self._endpoints.user}: {error}") from None

    async def _doubt(self, token: str) -> None:
        """Forget a token that was given further on in etcd's log than etcd is now."""
        try:
            async with asyncio.timeout(AUTHENTICATE_MS / 1000):
                applied = etcd.applied_of(await self._race(etcd.STATUS, b"{}", AUTHENTICATE_MS))
        except (TimeoutError, StoreUnavailableError, _RefusedError, etcd.EtcdAnswerError):
            return  # nothing is known: the next request that is not answered asks again
        if applied < etcd.index_of(token) and self._token == token:
            self._token = ""


async def _whole(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > ANSWER_LIMIT:
            raise httpx.DecodingError(f"an answer of more than {ANSWER_LIMIT} bytes", request=response.request)
    return bytes(body)


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    rest = bytearray()
    async for chunk in response.aiter_bytes():
        rest += chunk
        *lines, tail = rest.split(b"\n")
        for line in lines:
            if line:
                yield bytes(line)
        rest = tail
        if len(rest) > LINE_LIMIT:
            raise httpx.DecodingError(f"a message of more than {LINE_LIMIT} bytes", request=response.request)


def _words(error: httpx.HTTPError) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")
