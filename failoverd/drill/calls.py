"""The coordinator's side of the agents: every question bounded, every refusal with its code."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote

import httpx

from failoverd.credentials import CredentialsError
from failoverd.drill import CODES, DrillError, model
from failoverd.drill.model import Cast, Fault, NodeFacts
from failoverd.runtime.ours import credentials_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from types import TracebackType

    from failoverd.config import Config

ASK_S = 5.0
LOCK_S = 4.0  # shorter than its renewal: a silent node delays no other's, and two misses are shorter than the lock
FAULT_S = 300.0  # a fault's own limits are longer than its units', a thaw or a boot takes its time
PULSE_S = 10.0  # a job's stream has a line a second
_T = TypeVar("_T")


class Agents:
    """All nodes' agents. `async with` ends their connections."""

    def __init__(self, config: Config) -> None:
        self._nodes = {str(name): node.address for name, node in config.nodes.items()}
        self._port = config.drill.port
        try:
            self._credentials = credentials_of(config)
        except CredentialsError as error:
            raise DrillError("DRILL_NO_AGENT", str(error)) from None
        self._client = httpx.AsyncClient(verify=self._credentials.client, timeout=ASK_S, trust_env=False)
        self._streams: list[AsyncGenerator[dict[str, Any], None]] = []

    async def __aenter__(self) -> Self:
        """Nothing is asked yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all connections, those of jobs that nobody waits for any more among them."""
        for lines in self._streams:
            await lines.aclose()
        await self._client.aclose()

    def _url(self, node: str, path: str) -> str:
        return f"https://{self._nodes[node]}:{self._port}{path}"

    async def _ask(self, method: str, node: str, path: str, body: object = None, *, limit_s: float = ASK_S) -> Any:  # noqa: ANN401 - JSON
        # However long the answer may take: a node without power is known as one after a moment, and not after minutes.
        limit = httpx.Timeout(limit_s, connect=min(limit_s, ASK_S))
        try:
            answer = await self._client.request(
                method, self._url(node, path), json=body if body is not None else None, timeout=limit
            )
        except httpx.HTTPError as error:
            raise DrillError("DRILL_NO_AGENT", f"{node}: {error or error.__class__.__name__}") from None
        if answer.is_success:
            return understood(node, answer.content) if answer.content else None
        raise _refusal(node, answer)

    # ---- lock -------------------------------------------------------------------------------------------------------

    async def lock(self, node: str, drill: str, by: str, coordinator: str) -> None:
        """Take it, or keep it. Raises DrillError (DRILL_RUNNING: who has it)."""
        await asyncio.to_thread(self._credentials.renew)  # this is asked every few seconds, for as long as a drill goes
        await self._ask("PUT", node, "/v1/lock", {"id": drill, "by": by, "node": coordinator}, limit_s=LOCK_S)

    async def release(self, node: str, drill: str) -> None:
        """Give it back: its jobs are ended and its fault is seen to be gone. Raises DrillError."""
        await self._ask("DELETE", node, f"/v1/lock/{drill}", limit_s=FAULT_S)

    # ---- what a node does -------------------------------------------------------------------------------------------

    async def facts(self, node: str) -> NodeFacts:
        """What it knows of itself."""
        return loaded(NodeFacts, node, await self._ask("GET", node, "/v1/facts", limit_s=30.0))

    async def inject(self, node: str, drill: str, scenario: str, cast: Cast) -> Fault:
        """Bring a scenario's fault about on the node. Returns it, as that node's configuration makes it."""
        body = {"drill": drill, "scenario": scenario, "cast": json.loads(model.dump(cast))}
        return loaded(Fault, node, await self._ask("PUT", node, "/v1/fault", body, limit_s=FAULT_S))

    async def undo(self, node: str, drill: str) -> None:
        """Take it away; it is seen to be gone."""
        await self._ask("DELETE", node, f"/v1/fault/{drill}", limit_s=FAULT_S)

    async def keep(self, node: str, drill: str, *, state: str, report: str, page: str) -> None:
        """Leave the evidence there."""
        await self._ask(
            "PUT", node, f"/v1/reports/{drill}", {"state": state, "report": report, "page": page}, limit_s=60.0
        )

    # ---- jobs -------------------------------------------------------------------------------------------------------

    async def start(self, node: str, drill: str, kind: str, arguments: dict[str, Any]) -> Job:
        """Start a job there."""
        answer = await self._ask("POST", node, "/v1/jobs", {"drill": drill, "kind": kind, "arguments": arguments})
        job = answer.get("job") if isinstance(answer, dict) else None
        if not isinstance(job, str) or not job.isascii():
            raise DrillError("DRILL_NO_AGENT", f"{node}: its answer names no job")
        path = f"/v1/jobs/{quote(job, safe='')}"
        self._streams.append(self.stream(node, path))
        return Job(self, node, path, self._streams[-1])

    async def stream(self, node: str, path: str) -> AsyncGenerator[dict[str, Any], None]:
        """Each line that says something. Raises DrillError where it breaks off."""
        limit = httpx.Timeout(ASK_S, read=PULSE_S)
        try:
            async with self._client.stream("GET", self._url(node, path), timeout=limit) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise _refusal(node, answer)
                async for line in answer.aiter_lines():
                    if line.strip():
                        yield said(node, line.encode())
        except httpx.HTTPError as error:
            raise DrillError("DRILL_NO_AGENT", f"{node}: {error or error.__class__.__name__}") from None

    async def tell(self, node: str, path: str, message: dict[str, Any]) -> None:
        """One more line for a job."""
        await self._ask("POST", node, path, message)


class Job:
    """A job that runs on a node."""

    def __init__(self, agents: Agents, node: str, path: str, lines: AsyncGenerator[dict[str, Any], None]) -> None:
        self._agents, self.node, self.path, self._lines = agents, node, path, lines

    async def tell(self, message: dict[str, Any]) -> None:
        """One more line for it."""
        await self._agents.tell(self.node, self.path, message)

    async def progress(self) -> dict[str, Any]:
        """Return the next thing that it tells. Raises DrillError where it has failed, or ended."""
        async for line in self._lines:
            if "progress" in line:
                return _told(self.node, line)
            raise _failed(self.node, line)
        raise DrillError("DRILL_NO_AGENT", f"{self.node}: the job's lines end without its last word")

    async def result(self, kind: type[_T], tell: Callable[[str], None]) -> _T:
        """Wait for its end; `tell` gets what it says meanwhile. Raises DrillError."""
        async for line in self._lines:
            if "progress" in line:
                words = _told(self.node, line).get("text")
                if words:
                    tell(f"{self.node}: {words}")
            elif "done" in line:
                return loaded(kind, self.node, line["done"])
            else:
                raise _failed(self.node, line)
        raise DrillError("DRILL_NO_AGENT", f"{self.node}: the job's lines end without its last word")


def understood(node: str, data: bytes) -> Any:  # noqa: ANN401 - JSON
    """What an agent has said. Raises DrillError."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise DrillError("DRILL_NO_AGENT", f"{node}: its answer is no JSON: {data[:80]!r}") from None


def said(node: str, line: bytes) -> dict[str, Any]:
    """One line of a job. Raises DrillError."""
    value = understood(node, line)
    if not isinstance(value, dict):
        raise DrillError("DRILL_NO_AGENT", f"{node}: a line of its job is no object: {line[:80]!r}")
    return value


def loaded(kind: type[_T], node: str, value: object) -> _T:
    """The value in what an agent has said. Raises DrillError."""
    try:
        return model.load(kind, json.dumps(value))
    except (ValueError, RecursionError) as error:
        words = str(error).splitlines()[0]
        raise DrillError("DRILL_NO_AGENT", f"{node} (another version of failoverd?): {words}") from None


def _told(node: str, line: dict[str, Any]) -> dict[str, Any]:
    progress = line["progress"]
    if not isinstance(progress, dict):
        raise DrillError("DRILL_NO_AGENT", f"{node}: a job tells what is not understood")
    return progress


def _failed(node: str, line: dict[str, Any]) -> DrillError:
    failed = line.get("failed")
    if not isinstance(failed, dict):
        return DrillError("DRILL_BUG", f"{node}: a job has said what is not understood")
    code = str(failed.get("code"))
    return DrillError(code if code in CODES else "DRILL_BUG", f"{node}: {failed.get('reason')}")


def _refusal(node: str, answer: httpx.Response) -> DrillError:
    try:
        refused = understood(node, answer.content)
    except DrillError:
        refused = None
    if isinstance(refused, dict) and str(refused.get("code")) in CODES:
        return DrillError(str(refused["code"]), str(refused.get("reason")))
    if isinstance(refused, dict) and answer.status_code == httpx.codes.CONFLICT:
        return DrillError("DRILL_RUNNING", f"{node} is in drill {refused.get('id')} of {refused.get('node')}")
    return DrillError("DRILL_NO_AGENT", f"{node} answers {answer.status_code}: {answer.text[:200]}")


async def all_of(*waiting: Any) -> list[Any]:  # noqa: ANN401 - whatever each gives
    """Wait for all, also where one fails; then raise the first failure."""
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    for one in ended:
        if isinstance(one, BaseException):
            raise one
    return ended
