"""Requests: of anybody to the public listener, of operators to the control socket, of members to a drill agent."""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import control_stage
import public_stage
import views as stories
from places import AnswerIsNone, asked, config_file, directory, header_lines, parts, place, run
from starlette.applications import Starlette
from target import Target

from failoverd.config import load
from failoverd.config.drill import Drill
from failoverd.drill.agent import Agent
from failoverd.drill.ourselves import Ourselves
from failoverd.runtime.alerting import Alerting
from failoverd.runtime.control import ControlServer
from failoverd.runtime.reloading import Reloader

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp

    from failoverd.core.policy import Policy
    from failoverd.drill.faults import Host
    from failoverd.drill.jobs import Job
    from failoverd.ports import Clock
    from failoverd.runtime.controller import NodeController
    from failoverd.runtime.daemon import Daemon

DRILL = "20261129-020000-service-hang"


def _request(app: ASGIApp, data: bytes, *, refused: tuple[int, ...] = ()) -> int:
    """`METHOD PATH?QUERY`, header lines up to an empty one, then the body; with a member's certificate."""
    head, _, body = data.partition(b"\n\n")
    line, headers = parts(head, 2)
    method, _, target = line.partition(b" ")
    name = method.decode("latin-1").upper() or "GET"
    status, answer = run(
        asked(app, name, b"/" + target.lstrip(b"/"), headers=header_lines(headers), body=body, peer="mail2")
    )
    if status >= 500 and status not in refused:
        raise AnswerIsNone(f"{status} {answer[:200]!r}")
    return status


# ---- the public listener --------------------------------------------------------------------------------------------


@functools.cache
def _public_app() -> ASGIApp:
    stage = public_stage.Stage(config_file(), stories.view("mail2"))
    routes = [route for route in stage.server.routes if getattr(route, "path", "") != "/v1/events"]
    return Starlette(routes=routes)  # without the stream, which has no end


PUBLIC = (
    b"GET /replica?lag=5s\n\n",
    b"GET /primary\n\n",
    b"HEAD /healthy\n\n",
    b"OPTIONS /ready\n\n",
    b"GET /metrics\naccept: application/openmetrics-text; version=1.0.0\n\n",
    b'GET /v1/status\nif-none-match: "x", W/"y"\n\n',
    b"GET /v1/history\n\n",
    b"GET /v1/openapi.json\n\n",
    b"GET /nginx-auth\nauth-method: plain\nauth-protocol: imap\nauth-login-attempt: 3\nauth-user: x\n\n",
    b"GET /runbooks/codes/BLK_LAG.md\n\n",
    b"GET /runbooks/..%2f..%2fetc/passwd\n\n",
    b"GET /\n\n",
)


# ---- the control socket ---------------------------------------------------------------------------------------------


@functools.cache
def _control_app() -> ASGIApp:
    config = load(config_file(), "mail1")
    daemon = cast("Daemon", _Daemon())
    alerting = Alerting(
        config.model_copy(update={"alerts": config.alerts.model_copy(update={"receivers": ()})}),
        cast("Clock", None), daemon, cast("NodeController", None), cast("ssl.SSLContext", None),
    )  # fmt: skip
    reloader = Reloader(config, config_file(), daemon, parts=(), policy_of=lambda _: cast("Policy", None))
    routes = [*alerting.control_routes(), *reloader.control_routes()]
    return ControlServer(Path(directory() / "control.sock"), control_stage.Stage(), routes).door.app


class _Daemon:
    """As far as a reload and the alerts ask one: what is put in force is noted nowhere."""

    state = SimpleNamespace(policy=None, rule=None, view=SimpleNamespace(highest_term=7))

    def feed(self, event: object) -> None:
        """Take it."""

    def note(self, entry: object) -> None:
        """Take it."""


CONTROL = (
    b'POST /v1/promote\n\n{"node": "mail1", "by": "anna", "reason": "x", "allow_loss": true}',
    b'POST /v1/would-promote\n\n{"node": "mail1", "allow_loss": true}',
    b'POST /v1/confirm-fenced\n\n{"node": "mail1", "by": "anna", "reason": "x"}',
    b'POST /v1/rejoin\n\n{"node": "mail1", "donor": "", "by": "anna", "anew": false}',
    b'POST /v1/pause\n\n{"by": "anna", "reason": "x", "for_ms": 1000, "wait": true}',
    b'POST /v1/resume\n\n{"by": "anna", "wait": false}',
    b'POST /v1/maintenance\n\n{"node": "mail1", "on": true, "by": "anna", "reason": "x", "for_ms": 0}',
    b'POST /v1/acknowledge\n\n{"by": "anna", "reason": "x"}',
    b'POST /v1/schedule\n\n{"node": "mail1", "by": "anna", "reason": "x", "at_ms": 1790000000000}',
    b'POST /v1/cancel-scheduled\n\n{"by": "anna"}',
    b"GET /v1/rejoin?node=mail1&donor=mail2&anew=true\n\n",
    b"GET /v1/requests/none/events\n\n",
    b"GET /v1/input\n\n",
    b"GET /v1/audit\n\n",
    b'POST /v1/reload\n\n{"by": "anna"}',
    b"GET /v1/config\n\n",
    b"GET /v1/alerts\n\n",
    b'POST /v1/alerts/test\n\n{"receiver": ""}',
)


# ---- a drill agent --------------------------------------------------------------------------------------------------


class _Never:
    """A host on which nothing is brought about."""

    def drill(self) -> str:
        """None ever."""
        return ""

    def bring(self, fault: Any, drill: str) -> None:
        """Take it, and do nothing."""

    def take(self, fault: Any) -> None:
        """Likewise."""


@functools.cache
def _agent() -> Agent:
    config = load(config_file(), "mail1")
    section = Drill.model_validate({"enabled": True, "window": "always", "allow": ["service-hang"]})
    state = place("drill-agent")
    return Agent(config.model_copy(update={"drill": section}), Ourselves(("/bin/true",)), state, cast("Host", _Never()))


class _Job:
    """One that was begun for a drill, and hears what it is told."""

    id, drill = "x", DRILL

    async def tell(self, message: dict[str, Any]) -> None:
        """One more line."""
        assert isinstance(message, dict)

    async def end(self) -> None:
        """It has."""

    async def events(self) -> AsyncIterator[bytes]:
        """Its last word."""
        yield b'{"done": {}}'


def _agent_request(data: bytes) -> object:
    agent = _agent()
    agent._jobs["x"] = cast("Job", _Job())
    try:
        return _request(Starlette(routes=agent._routes()), data)
    finally:
        agent._held = None
        for job in agent._jobs.values():
            run(job.end())
        agent._jobs.clear()


_CAST = (
    '{"coordinator": "mail2", "primary": "mail1", "heir": "mail2", "target": "mail1", "data_nodes": ["mail1", "mail2"],'
    ' "arbiters": ["arbiter"], "term": 7}'
)
AGENT = (
    f'PUT /v1/lock\n\n{{"id": "{DRILL}", "by": "anna", "node": "mail2"}}',
    f"DELETE /v1/lock/{DRILL}\n\n",
    f'PUT /v1/fault\n\n{{"drill": "{DRILL}", "scenario": "service-hang", "cast": {_CAST}}}',
    f"DELETE /v1/fault/{DRILL}\n\n",
    f'POST /v1/jobs\n\n{{"drill": "{DRILL}", "kind": "tables", "arguments": {{"only": null}}}}',
    'POST /v1/jobs/x\n\n{"sum": true}',
    f'PUT /v1/reports/{DRILL}\n\n{{"state": "{{}}", "report": "{{}}", "page": "<html>"}}',
)

TARGETS = [
    Target(
        "public-request",
        "requests of anybody to the public listener",
        lambda data: _request(_public_app(), data, refused=(503,)),  # what load balancers are told
        lambda: list(PUBLIC),
    ),
    Target(
        "control-request",
        "requests of operators to the control socket",
        lambda data: _request(_control_app(), data),
        lambda: list(CONTROL),
    ),
    Target(
        "agent-request",
        "requests of a member to a drill agent",
        _agent_request,
        lambda: [text.encode() for text in AGENT],
    ),
]
