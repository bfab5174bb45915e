"""The coordinator's own daemon, by its control socket: how the cluster is, and a switchover where that is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TypeVar

import httpx

from failoverd.drill import DrillError
from failoverd.runtime.document import CheckDocument, DocumentError, Refused, StatusDocument, from_json
from failoverd.runtime.document_history import HistoryDocument

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

ASK_S = 3.0
_T = TypeVar("_T")


class LocalDaemon:
    """Asked as failoverctl asks it. Raises DrillError where it does not answer."""

    def __init__(self, socket: Path) -> None:
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(socket)), base_url="http://localhost", timeout=ASK_S
        )

    async def __aenter__(self) -> Self:
        """Nothing is asked yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the connections."""
        await self._client.aclose()

    async def status(self) -> StatusDocument:
        """Return the cluster as this node sees it."""
        return await self._get("/v1/status", StatusDocument)

    async def check(self) -> CheckDocument:
        """Return whether it is fit to fail over."""
        return await self._get("/v1/check", CheckDocument)

    async def history(self) -> HistoryDocument:
        """Return the changes of primary."""
        return await self._get("/v1/history", HistoryDocument)

    async def promote(self, node: str, reason: str) -> None:
        """Ask for a switchover; it goes on in the daemon. Raises DrillError with the refusal's reasons.

        The daemon records this process's user as who asks, so the reason should name who began the drill.
        """
        answer = await self._ask("POST", "/v1/promote", {"node": node, "reason": reason})
        if answer.status_code != httpx.codes.ACCEPTED:
            words = answer.text[:200]
            if answer.status_code == httpx.codes.CONFLICT:
                refused = _read(Refused, answer.content)
                words = "; ".join(f"{why.code}: {why.reason}" for why in refused.reasons) or words
            raise DrillError("DRILL_INJECT_FAILED", f"a switchover to {node} is refused: {words}")

    async def acknowledge(self, reason: str) -> None:
        """Let the drill's own change of primary not count towards BLK_FLAPPING. Nothing to acknowledge is fine."""
        answer = await self._ask("POST", "/v1/acknowledge", {"reason": reason})
        if answer.status_code not in {httpx.codes.ACCEPTED, httpx.codes.CONFLICT}:
            raise DrillError("DRILL_NOT_HOME", f"acknowledge: {answer.status_code} {answer.text[:200]}")

    async def _get(self, path: str, kind: type[_T]) -> _T:
        answer = await self._ask("GET", path)
        if not answer.is_success:
            raise DrillError("DRILL_NOT_FIT", f"failoverd here answers {answer.status_code} for {path}")
        return _read(kind, answer.content)

    async def _ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        try:
            return await self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise DrillError(
                "DRILL_NOT_FIT", f"failoverd here does not answer: {error or error.__class__.__name__}"
            ) from None


def _read(kind: type[_T], body: bytes) -> _T:
    try:
        return from_json(kind, body)
    except DocumentError as error:
        raise DrillError("DRILL_BUG", f"failoverd here is of another version? {error}") from None
