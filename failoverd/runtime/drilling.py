"""Drills, from the daemon's side: it passes on what an operator asks for, and shows how far one is. It conducts none.

    POST /v1/drill {asked}            202 {"id"} | 409 Refused | 400     the request is written, failoverd-drill.service
                                                                         started; whatever becomes of who asked
    POST /v1/drill/abort {}           202 {"id"} | 409 Refused           that unit is stopped, and takes everything back
    GET  /v1/drills                   200 the states of all that this node knows, newest first, as they lie on disk,
                                          and which of them could not be read, and why
    GET  /v1/drills/ID                200 its state | 404 | 500 it could not be read

What a drill is stands in failoverd/drill: nothing of it is loaded here.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from failoverd.config.drill import ScenarioName, window
from failoverd.core.model import Outcome
from failoverd.drill_files import CURRENT, DIRECTORY, REQUEST, STATE, UNIT
from failoverd.runtime import document as doc
from failoverd.runtime.asked import Body, answered
from failoverd.runtime.drills_due import DrillsDue
from failoverd.runtime.drills_past import ID, names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.requests import Request

    from failoverd.actions.units import Units
    from failoverd.config import Config
    from failoverd.runtime.host import Refused

    Noted = Callable[..., None]  # Controller.noted


LAUNCH_MS = 5_000
LAUNCH_AGAIN_S, LAUNCHES = 3.0, 10
SHOWN = 100


class Asked(Body):
    """What is asked for; what is left out is the configuration's."""

    scenario: ScenarioName
    users: int | None = Field(default=None, ge=0, le=5000)
    duration_s: int | None = Field(default=None, ge=1, le=86_400)
    backup: Literal["full", "incremental", "none"] | None = None
    window: str = Field(default="", max_length=16)
    target: str = Field(default="", max_length=64)
    reason: str = Field(default="", max_length=200)

    @field_validator("window")
    @classmethod
    def _is_one(cls, text: str) -> str:
        if text:
            try:
                window(text)
            except ValueError:
                raise ValueError("is no window of a day: HH:MM-HH:MM, or always") from None
        return text


class Drilling:
    """One node's. Called on the loop; whatever waits for a disk does so in a thread."""

    def __init__(self, config: Config, units: Units, state: Path, runtime: Path) -> None:
        self._config, self._units = config, units
        self._state, self._runtime = state / DIRECTORY, runtime
        self._due = DrillsDue(config, state)
        self._launching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look whether one should have been."""
        await self._due.start()

    async def stop(self) -> None:
        """Look no more."""
        self.forget()
        await self._due.stop()

    def forget(self) -> None:
        """Care no more whether what was asked for is begun."""
        if self._launching is not None:
            self._launching.cancel()

    def refused(self) -> tuple[Refused, ...]:
        """What is to be told of drills that should have been."""
        return self._due.refused()

    def reload(self, config: Config) -> Callable[[], None]:
        """Return what puts another configuration's `drill` in force."""
        due = self._due.reload(config)

        def apply() -> None:
            self._config = config
            due()

        return apply

    def control_routes(self) -> list[Route]:
        """For the control socket."""
        return [
            Route("/v1/drill", self._begin, methods=["POST"]),
            Route("/v1/drill/abort", self._abort, methods=["POST"]),
            Route("/v1/drills", self._list, methods=["GET"]),
            Route("/v1/drills/{id}", self._one, methods=["GET"]),
        ]

    async def _begin(self, request: Request) -> Response:
        return await answered(request, Asked, lambda asked, by: self.begin(asked, by, request.app.state.noted))

    async def begin(self, asked: Asked, by: str, noted: Noted) -> doc.Accepted | doc.Refused:
        """Pass it on, recorded before."""
        drill = self._config.drill
        if not drill.enabled:
            return _refused("DRILL_DISABLED", "drill.enabled is false")
        running = await asyncio.to_thread(self._current)
        if running:
            return _refused("DRILL_RUNNING", f"{running} is under way, or has left something")
        if await asyncio.to_thread((self._runtime / REQUEST).exists):
            return _refused("DRILL_RUNNING", f"another one was just asked for, and {UNIT} has not taken it yet")
        name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{asked.scenario}"
        document = {
            "id": name,
            "scenario": asked.scenario,
            "by": by,
            "users": drill.load.users if asked.users is None else asked.users,
            "duration_s": drill.load.duration_ms // 1000 if asked.duration_s is None else asked.duration_s,
            "backup": asked.backup or drill.backup.kind,
            "window": asked.window,
            "target": asked.target,
            "reason": asked.reason,
        }
        noted("drill", f"{name} is asked for", by, request=name, reason=asked.reason)
        try:
            await asyncio.to_thread(self._write, json.dumps(document) + "\n")
        except OSError as error:
            return _refused("DRILL_BUG", f"{self._runtime}: {error.strerror}")
        result = await self._units.launch(UNIT, deadline_ms=LAUNCH_MS)
        if result.outcome is not Outcome.SUCCEEDED:
            # Nothing is left for the timer to find: who asked is told that none begins.
            await asyncio.to_thread((self._runtime / REQUEST).unlink, missing_ok=True)
            return _refused("DRILL_BUG", f"{UNIT} does not start: {result.reason}")
        self._launching = asyncio.ensure_future(self._launch_until_taken())
        return doc.Accepted(id=name)

    async def _launch_until_taken(self) -> None:
        """Start the unit again while the request lies there.

        The process of the drill before may be about to end: to start its unit then is to do nothing.
        """
        request = self._runtime / REQUEST
        for _ in range(LAUNCHES):
            await asyncio.sleep(LAUNCH_AGAIN_S)
            if not await asyncio.to_thread(request.exists):
                return
            await self._units.launch(UNIT, deadline_ms=LAUNCH_MS)

    def _write(self, text: str) -> None:
        temporary = self._runtime / f".{REQUEST}.new"
        temporary.write_text(text)
        temporary.replace(self._runtime / REQUEST)

    def _current(self) -> str:
        try:
            return (self._state / CURRENT).read_text().strip()
        except FileNotFoundError:
            return ""

    async def _abort(self, request: Request) -> Response:
        return await answered(request, Body, lambda _, by: self.abort(by, request.app.state.noted))

    async def abort(self, by: str, noted: Noted) -> doc.Accepted | doc.Refused:
        """Stop the coordinator: it takes everything back before it ends."""
        running = await asyncio.to_thread(self._current)
        if not running:
            return _refused("BLK_NOTHING", "no drill is conducted from this node")
        noted("drill", f"{running} is to be aborted", by, request=running)
        result = await self._units.end(UNIT, deadline_ms=LAUNCH_MS)
        if result.outcome is not Outcome.SUCCEEDED:
            return _refused("DRILL_BUG", f"{UNIT} does not stop: {result.reason}")
        return doc.Accepted(id=running)

    async def _list(self, _: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(self._states))

    def _states(self) -> dict[str, object]:
        known, unreadable = [], {}
        for name in names(self._state)[:SHOWN]:
            try:
                known.append(_state_in(self._state / name / STATE))
            except FileNotFoundError:  # it has only just begun
                continue
            except (OSError, ValueError) as error:
                unreadable[name] = str(error)
        return {"drills": known, "unreadable": unreadable}

    async def _one(self, request: Request) -> Response:
        name = request.path_params["id"]
        if not ID.fullmatch(name):
            return PlainTextResponse("no such drill", 404)
        try:
            return JSONResponse(await asyncio.to_thread(_state_in, self._state / name / STATE))
        except FileNotFoundError:
            return PlainTextResponse("no such drill", 404)
        except (OSError, ValueError) as error:
            return PlainTextResponse(f"{name}: {error}", 500)


def _state_in(path: Path) -> dict[str, object]:
    """Raises OSError, and ValueError for what is no drill's state."""
    try:
        value = json.loads(path.read_bytes())
    except RecursionError:
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("asked"), dict):
        raise ValueError(f"{path} is no drill's state")  # noqa: TRY004 - what is wrong is the file
    return value


def _refused(code: str, reason: str) -> doc.Refused:
    return doc.Refused(reasons=(doc.Reason(code=code, reason=reason),))
