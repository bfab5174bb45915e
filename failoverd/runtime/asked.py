"""What is asked over the control socket with a body: understood, or refused with the place that is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.responses import JSONResponse, PlainTextResponse, Response

from failoverd.runtime.document import Accepted, Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

_REFUSED = TypeAdapter(Refused)


class Body(BaseModel):
    """What every request may have. `by` is what the client calls itself: read for older ones, and believed of nobody.

    Who asks is known before (door.py), and stands in `request.state.actor`.
    """

    model_config = ConfigDict(strict=True, extra="forbid")
    by: str = Field(default="", max_length=64)


B = TypeVar("B", bound=Body)
M = TypeVar("M", bound=BaseModel)


async def understood(request: Request, shape: type[M]) -> M | Response:
    """The body, or the answer that says which place of it is not understood."""
    try:
        return shape.model_validate_json(await request.body())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "body"
        return PlainTextResponse(f"{place}: {first['msg']}", 400)


async def answered(
    request: Request, shape: type[B], ask: Callable[[B, str], Awaitable[Accepted | Refused]]
) -> Response:
    """202 with the request's id, 409 with the reasons, or 400. `ask` gets the body and who asks."""
    asked = await understood(request, shape)
    if isinstance(asked, Response):
        return asked
    actor: str = request.state.actor
    answer = await ask(asked, actor)
    if isinstance(answer, Refused):
        what = " ".join(filter(None, (request.url.path.rpartition("/")[2], getattr(asked, "node", ""))))
        request.app.state.refused(what, actor, answer)
        return Response(_REFUSED.dump_json(answer), 409, media_type="application/json")
    return JSONResponse({"id": answer.id}, 202)
