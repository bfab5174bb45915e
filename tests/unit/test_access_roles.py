"""Each route of the control socket has one role, and none can be forgotten."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import views
from public_stage import Stage
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from failoverd.actions.units import Units
from failoverd.audit.outgoing import Outgoing
from failoverd.runtime.access import Access
from failoverd.runtime.access_roles import ROUTES, Role
from failoverd.runtime.alerting import Alerting
from failoverd.runtime.control import ControlServer
from failoverd.runtime.door import Door
from failoverd.runtime.drilling import Drilling
from failoverd.runtime.reloading import Reloader
from failoverd.runtime.thresholds import policy_of
from failoverd.runtime.witness import Witness
from failoverd.stores.memory import MemoryStore

SOURCE = Path(__file__).parents[2] / "failoverd"


def test_every_route_has_one_role_and_no_row_is_for_none(config_file: Path, tmp_path: Path) -> None:
    stage = Stage(config_file, views.view("mail2"))
    config = stage.shown.config
    parts = (
        Alerting(config, stage.clock, stage.daemon, stage.controller, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)),
        Reloader(config, config_file, stage.daemon, parts=(), policy_of=policy_of),
        Drilling(config, Units(), tmp_path, tmp_path),
        Witness(config, stage.daemon, MemoryStore(), Outgoing(tmp_path), ssl.create_default_context()),
    )
    routes = [route for part in parts for route in part.control_routes()]
    server = ControlServer(tmp_path / "control.sock", stage.controller, routes)
    served = {
        f"{method} {route.path}"  # type: ignore[attr-defined] # all are Routes
        for route in server.door.app.routes
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined] # likewise
    }
    assert served == set(ROUTES)
    having = {path.name for path in SOURCE.rglob("*.py") if "def control_routes(" in path.read_text(encoding="utf-8")}
    assert having == {"alerting.py", "reloading.py", "drilling.py", "witness.py"}, (
        "another part has routes: add it above"
    )


def test_a_route_that_nobody_has_thought_of_does_not_start() -> None:
    async def answer(_: object) -> PlainTextResponse:
        return PlainTextResponse("")

    with pytest.raises(KeyError, match="POST /v1/new"):
        Door(Access(), [Route("/v1/new", answer, methods=["POST"])], lambda *_: None)


def test_what_changes_something_is_for_nobody_who_only_views() -> None:
    views_of_it = {"POST /v1/would-promote"}  # it says what would come of it
    changing = {name for name in ROUTES if name.startswith("POST ")} - views_of_it
    assert min(ROUTES[name] for name in changing) is Role.OPERATE
    assert {ROUTES[name] for name in ROUTES.keys() - changing} == {Role.VIEW}
    assert {name for name, role in ROUTES.items() if role is Role.ADMINISTER} == {
        "POST /v1/promote-forced",
        "POST /v1/confirm-fenced",
        "POST /v1/reload",
    }
