"""Operators' orders on the control socket; see runtime/control.py, and runtime/orders.py for what becomes of them.

    POST /v1/pause {reason, for_ms, wait}          202 Accepted | 409 Refused: nothing was touched | 400
    POST /v1/resume {wait}                         `wait`: its end waits until every node that is heard has seen it
    POST /v1/maintenance {node, on, reason, for_ms}
    POST /v1/acknowledge {reason}
    POST /v1/schedule {node, reason, at_ms}        at_ms since 1970
    POST /v1/cancel-scheduled {}

`for_ms` 0: until somebody ends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pydantic import Field, ValidationInfo, field_validator
from starlette.routing import Route

from failoverd.core.orders import AHEAD_MOST_MS
from failoverd.runtime.asked import Body, answered

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from failoverd.runtime.document import Accepted, Refused

LATEST_MS = 4_102_444_800_000  # 2100: what is more is no moment


class OrderController(Protocol):
    """What the daemon takes of orders. Called in the loop; quick."""

    async def pause(self, by: str, reason: str, *, for_ms: int = 0, wait: bool = False) -> Accepted | Refused:
        """Let nothing act by itself; without a reason, let it act again."""
        ...

    async def maintenance(self, node: str, by: str, reason: str, *, on: bool, for_ms: int = 0) -> Accepted | Refused:
        """Take a node out of what acts by itself and what raises alerts, or put it back."""
        ...

    async def acknowledge(self, by: str, reason: str) -> Accepted | Refused:
        """Let the changes of primary up to now count no more."""
        ...

    async def schedule(self, target: str, by: str, reason: str, at_ms: int) -> Accepted | Refused:
        """Have `target` become primary at a time."""
        ...

    async def cancel_scheduled(self, by: str) -> Accepted | Refused:
        """Or not, after all."""
        ...


class _Resume(Body):
    wait: bool = False


class _Pause(_Resume):
    reason: str = Field(min_length=1, max_length=200)
    for_ms: int = Field(default=0, ge=0, le=AHEAD_MOST_MS)


class _Maintenance(Body):
    node: str = Field(max_length=64)
    on: bool
    reason: str = Field(default="", max_length=200, validate_default=True)
    for_ms: int = Field(default=0, ge=0, le=AHEAD_MOST_MS)

    @field_validator("reason")
    @classmethod
    def _says_why(cls, reason: str, info: ValidationInfo) -> str:
        if info.data.get("on") and not reason.strip():
            raise ValueError("maintenance needs a reason: whoever looks next sees it")
        return reason


class _Acknowledge(Body):
    reason: str = Field(default="", max_length=200)


class _Schedule(Body):
    node: str = Field(max_length=64)
    reason: str = Field(default="", max_length=200)
    at_ms: int = Field(gt=0, le=LATEST_MS)


@dataclass(frozen=True)
class _Api:
    controller: OrderController

    async def pause(self, request: Request) -> Response:
        return await answered(
            request, _Pause, lambda a, by: self.controller.pause(by, a.reason, for_ms=a.for_ms, wait=a.wait)
        )

    async def resume(self, request: Request) -> Response:
        return await answered(request, _Resume, lambda a, by: self.controller.pause(by, "", wait=a.wait))

    async def maintenance(self, request: Request) -> Response:
        return await answered(
            request,
            _Maintenance,
            lambda a, by: self.controller.maintenance(a.node, by, a.reason, on=a.on, for_ms=a.for_ms),
        )

    async def acknowledge(self, request: Request) -> Response:
        return await answered(request, _Acknowledge, lambda a, by: self.controller.acknowledge(by, a.reason))

    async def schedule(self, request: Request) -> Response:
        return await answered(request, _Schedule, lambda a, by: self.controller.schedule(a.node, by, a.reason, a.at_ms))

    async def cancel_scheduled(self, request: Request) -> Response:
        return await answered(request, Body, lambda _, by: self.controller.cancel_scheduled(by))


def routes(controller: OrderController) -> list[Route]:
    """For the control socket alone: whoever may only look has none of these."""
    api = _Api(controller)
    return [
        Route("/v1/pause", api.pause, methods=["POST"]),
        Route("/v1/resume", api.resume, methods=["POST"]),
        Route("/v1/maintenance", api.maintenance, methods=["POST"]),
        Route("/v1/acknowledge", api.acknowledge, methods=["POST"]),
        Route("/v1/schedule", api.schedule, methods=["POST"]),
        Route("/v1/cancel-scheduled", api.cancel_scheduled, methods=["POST"]),
    ]
