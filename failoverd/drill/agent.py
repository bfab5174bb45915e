"""`failoverd drill-agent`: what one node does for a drill, and what takes it all away when the drill is gone.

    PUT    /v1/lock {id, by, node}              200 {"left_s"} | 409 {id, by, node}: another drill has this node
    DELETE /v1/lock/ID                          204: its jobs are ended, its fault is seen to be gone | 500 what is left
    GET    /v1/facts                            200 NodeFacts
    PUT    /v1/fault {drill, scenario, cast}    200 Fault | 403 | 409 | 500 {code, reason}
    DELETE /v1/fault/ID                         204: seen to be gone | 500 {code, reason}
    POST   /v1/jobs {drill, kind, arguments}    201 {"job"} | 409 no lock
    GET    /v1/jobs/JOB                         NDJSON, from the first line on: see jobs.py
    POST   /v1/jobs/JOB {…}                     204: one more line for it
    DELETE /v1/jobs/JOB                         204
    PUT    /v1/reports/ID {state, report, page} 204: this node keeps the evidence as well

Mutual TLS, members of the cluster only. No command travels: the scenario's name does, and the agent makes of it what
its own configuration says, if that allows it.

The lock is a dead man's switch. It holds for 15 s after its drill's last word, then the agent ends the drill's jobs and
takes its fault away by itself. An agent that is started again knows no drill, and takes away whatever fault there is
before it answers anybody.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from failoverd.credentials import CredentialsError
from failoverd.drill import DrillError, model
from failoverd.drill.faults import Host
from failoverd.drill.jobs import KINDS, TERM_S, Job
from failoverd.drill.model import Cast, Fault  # noqa: TC001 - pydantic reads the annotations
from failoverd.drill.node import facts_of, keep_report
from failoverd.drill.ourselves import Ourselves
from failoverd.drill.scenarios import SCENARIOS
from failoverd.refusals_spool import DRILL_AGENT, Spool
from failoverd.runtime import logging
from failoverd.runtime.accepting import Admission
from failoverd.runtime.http import Limits
from failoverd.runtime.node_server import NodeServer
from failoverd.runtime.ours import credentials_of
from failoverd.runtime.systemd import Notifier

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from starlette.requests import Request

    from failoverd.config import Config
    from failoverd.credentials import Credentials

LEASE_S = 15.0
LOOK_S = 1.0
RENEW_S = 30.0  # between two looks at the certificate files
# A report of some hours with its page, twice as JSON strings: far more than a daemon's messages.
LIMITS = Limits(request=64 << 20, request_s=60.0, of_one=64)
_ID = r"[0-9]{8}-[0-9]{6}-[a-z-]{1,40}"
_log = structlog.get_logger(__name__)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Lock(_Body):
    id: str = Field(pattern=f"^{_ID}$")
    by: str = Field(max_length=64)
    node: str = Field(max_length=64)


class _Injection(_Body):
    drill: str
    scenario: str
    cast: Cast


class _Order(_Body):
    drill: str
    kind: str
    arguments: dict[str, Any]


class _Evidence(_Body):
    state: str
    report: str
    page: str


@dataclass
class _Held:
    """The drill that has this node, until `until` of the monotonic clock."""

    lock: _Lock
    until: float
    fault: Fault | None = None


class Agent:
    """One node's agent. Called on the loop."""

    def __init__(
        self,
        config: Config,
        ourselves: Ourselves,
        state: Path,
        host: Host | None = None,
        *,
        lease_s: float = LEASE_S,
        term_s: float = TERM_S,
    ) -> None:
        self._config, self._ourselves, self._state = config, ourselves, state
        self._host = host or Host(ourselves)
        self._lease_s, self._term_s = lease_s, term_s
        self._me = config.this.name
        self._held: _Held | None = None
        self._jobs: dict[str, Job] = {}
        self._turn = asyncio.Lock()  # one change of what is here at a time
        self._credentials: Credentials | None = None

    # ---- the switch -------------------------------------------------------------------------------------------------

    async def clear_remains(self) -> None:
        """Take away what an agent before this one has left. Raises DrillError where it is still there."""
        drill = await asyncio.to_thread(self._host.drill)
        if drill:
            _log.warning("a fault of a drill that is not known here is taken away", drill=drill)
            await asyncio.to_thread(self._host.take, None)

    async def watch(self) -> None:
        """Take away what nobody holds any more, whenever a lock lapses. Never returns."""
        while True:
            await asyncio.sleep(min(LOOK_S, self._lease_s / 4))
            held = self._held
            if held is None or time.monotonic() < held.until:
                continue
            _log.warning("the drill is silent: its fault is taken away", drill=held.lock.id)
            try:
                await self._release(held.lock.id)
            except DrillError as error:  # it is looked at again
                _log.error("what is left of the drill", code=error.code, reason=error.reason)

    async def _release(self, drill: str) -> None:
        """End the drill here. Raises DrillError where its fault is not seen to be gone; the lock stays then."""
        async with self._turn:
            held = self._held
            if held is None or held.lock.id != drill:
                return
            ending = [job for job in self._jobs.values() if job.drill == drill]
            # The fault does not wait for a job that ends slowly.
            ended = asyncio.gather(*(job.end() for job in ending))
            try:
                await asyncio.to_thread(self._host.take, held.fault)
            finally:
                await ended
            for job in ending:
                del self._jobs[job.id]
            self._held = None

    def _holding(self, drill: str) -> _Held | None:
        held = self._held
        return held if held is not None and held.lock.id == drill and time.monotonic() < held.until else None

    async def end(self) -> None:
        """End everything: this agent ends."""
        if self._held is not None:
            await self._release(self._held.lock.id)

    # ---- routes -----------------------------------------------------------------------------------------------------

    def server(self, spool: Path | None = None) -> NodeServer:
        """All of the above, for members of the cluster. Raises CredentialsError.

        Whom it refuses, the daemon is told by the file `spool`.
        """
        self._credentials = credentials_of(self._config)
        if spool is not None:
            Spool(spool, self._credentials.refusals, _log.warning)
        return NodeServer(
            address=self._config.this.address,
            port=self._config.drill.port,
            ssl_context=self._credentials.server,
            nodes=list(self._config.nodes),
            routes=self._routes(),
            limits=LIMITS,
            admission=Admission("drill", self._credentials.refusals),
        )

    async def renew(self) -> None:
        """Look again and again whether the certificate was replaced. Never returns."""
        while True:
            await asyncio.sleep(RENEW_S)
            if self._credentials is not None and await asyncio.to_thread(self._credentials.renew):
                _log.info("another certificate is in force")

    def _routes(self) -> list[Route]:
        return [
            Route("/v1/lock", _answered(self._take_lock), methods=["PUT"]),
            Route("/v1/lock/{id}", _answered(self._give_lock), methods=["DELETE"]),
            Route("/v1/facts", _answered(self._facts), methods=["GET"]),
            Route("/v1/fault", _answered(self._inject), methods=["PUT"]),
            Route("/v1/fault/{id}", _answered(self._undo), methods=["DELETE"]),
            Route("/v1/jobs", _answered(self._start_job), methods=["POST"]),
            Route("/v1/jobs/{job}", _answered(self._job), methods=["GET", "POST", "DELETE"]),
            Route("/v1/reports/{id}", _answered(self._report), methods=["PUT"]),
        ]

    async def _take_lock(self, request: Request) -> Response:
        asked = _Lock.model_validate_json(await request.body())
        if not self._config.drill.enabled:
            raise _RefusedError(403, "DRILL_DISABLED", f"{self._me}: drill.enabled is false")
        held = self._held
        if held is not None and held.lock.id != asked.id:
            return JSONResponse(held.lock.model_dump(), 409)
        if held is None:
            self._held = held = _Held(asked, 0.0)
        held.until = time.monotonic() + self._lease_s
        return JSONResponse({"left_s": self._lease_s})

    async def _give_lock(self, request: Request) -> Response:
        await self._release(request.path_params["id"])
        return Response(status_code=204)

    async def _facts(self, _: Request) -> Response:
        drill = self._held.lock.id if self._held is not None else ""
        facts = await asyncio.to_thread(facts_of, self._config, self._host, drill)
        return _json(facts)

    async def _inject(self, request: Request) -> Response:
        asked = _Injection.model_validate_json(await request.body())
        scenario = SCENARIOS.get(asked.scenario)
        if scenario is None or scenario.name not in self._config.drill.allow:
            raise _RefusedError(403, "DRILL_DISABLED", f"{self._me}: drill.allow does not name {asked.scenario}")
        fault = scenario.fault(self._config, asked.cast)
        if fault is None or fault.node != self._me:
            raise _RefusedError(400, "DRILL_INJECT_FAILED", f"{asked.scenario} has no fault for {self._me}")
        async with self._turn:
            held = self._holding(asked.drill)
            if held is None:
                raise _RefusedError(409, "DRILL_RUNNING", f"{asked.drill} does not have {self._me}")
            held.fault = fault  # first: what is begun is taken away
            await asyncio.to_thread(self._host.bring, fault, asked.drill)
        return _json(fault)

    async def _undo(self, request: Request) -> Response:
        """Also of a lock that has just lapsed: what is told to be gone has to be."""
        async with self._turn:
            held = self._held
            if held is not None and held.lock.id == request.path_params["id"]:
                await asyncio.to_thread(self._host.take, held.fault)
        return Response(status_code=204)

    async def _start_job(self, request: Request) -> Response:
        asked = _Order.model_validate_json(await request.body())
        if asked.kind not in KINDS:
            raise _RefusedError(400, "DRILL_BUG", f"{asked.kind!r} is no job; jobs are {', '.join(KINDS)}")
        async with self._turn:  # a job that is begun while the drill is released would be nobody's
            if self._holding(asked.drill) is None:
                raise _RefusedError(409, "DRILL_RUNNING", f"{asked.drill} does not have {self._me}")
            job = Job(asked.drill, asked.kind, self._term_s)
            await job.start(self._ourselves, asked.arguments)
            self._jobs[job.id] = job
        return JSONResponse({"job": job.id}, 201)

    async def _job(self, request: Request) -> Response:
        job = self._jobs.get(request.path_params["job"])
        if job is None:
            raise _RefusedError(404, "DRILL_BUG", "no such job")
        if request.method == "GET":
            return StreamingResponse(_lines(job), media_type="application/x-ndjson")
        if request.method == "POST":
            await job.tell(_object(await request.body()))
        else:
            await job.end()
        return Response(status_code=204)

    async def _report(self, request: Request) -> Response:
        evidence, drill = _Evidence.model_validate_json(await request.body()), request.path_params["id"]
        if not re.fullmatch(_ID, drill):
            raise _RefusedError(400, "DRILL_BUG", f"{drill!r} is no drill")
        await asyncio.to_thread(keep_report, self._state, drill, evidence.state, evidence.report, evidence.page)
        return Response(status_code=204)


class _RefusedError(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, code: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.code, self.reason = status, code, reason


def _answered(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except _RefusedError as error:
            return JSONResponse({"code": error.code, "reason": error.reason}, error.status)
        except DrillError as error:
            return JSONResponse({"code": error.code, "reason": error.reason}, 500)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            return PlainTextResponse(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", 400)

    return answer


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _RefusedError(400, "DRILL_BUG", f"no JSON: {error}") from None
    if not isinstance(value, dict):
        raise _RefusedError(400, "DRILL_BUG", "no JSON object")
    return value


async def _lines(job: Job) -> AsyncIterator[bytes]:
    async for line in job.events():
        yield line + b"\n"


def _json(value: object) -> Response:
    return Response(model.dump(value), media_type="application/json")


async def run(config: Config, ourselves: Ourselves, state: Path, spool: Path, host: Host | None = None) -> None:
    """Be the node's agent until SIGTERM. Raises OSError where it cannot listen, DrillError where a fault stays."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    agent = Agent(config, ourselves, state, host)
    await agent.clear_remains()
    server = agent.server(spool)
    watching = asyncio.ensure_future(agent.watch())
    renewing = asyncio.ensure_future(agent.renew())
    await server.start()
    Notifier().ready(f"{config.this.name} of {config.cluster}")
    try:
        stopping = asyncio.ensure_future(stop.wait())
        done, _ = await asyncio.wait((stopping, watching), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        watching.cancel()
        renewing.cancel()
        await agent.end()
        await server.stop()
        await asyncio.gather(watching, renewing, return_exceptions=True)


def main(config: Config, options: argparse.Namespace) -> int:
    """Entry point."""
    end_log = logging.start(config.secrets)
    try:
        asyncio.run(run(config, Ourselves.of(options), options.state, options.runtime / DRILL_AGENT))
    except (OSError, DrillError, CredentialsError) as error:
        _log.critical("the drill agent ends", reason=str(error))
        return 1
    finally:
        end_log()
    return 0
