"""The OpenAPI document is valid, and names every route of both servers and no other."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import views
from openapi_spec_validator import OpenAPIV31SpecValidator
from public_stage import Stage

from failoverd.runtime import openapi
from failoverd.runtime.alerting import Alerting
from failoverd.runtime.control import ControlServer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from starlette.routing import BaseRoute

    from failoverd.runtime.openapi import Operation

DOCUMENT = openapi.built()
PUBLIC = [o for o in openapi.OPERATIONS if "public" in o.where]
CONTROL = [o for o in openapi.OPERATIONS if "control" in o.where]


def routed(routes: Iterable[BaseRoute]) -> set[str]:
    """Every method and path that routes answer; HEAD comes with each GET, and is worth a line where it is meant.

    A page for people is no part of the API: its route says `include_in_schema=False`.
    """
    shown = [route for route in routes if route.include_in_schema]  # type: ignore[attr-defined] # all are Routes
    found = {f"{method.lower()} {route.path}" for route in shown for method in route.methods}  # type: ignore[attr-defined] # likewise
    return {name for name in found if not name.startswith("head ")}


def described(operations: Iterable[Operation]) -> set[str]:
    return {f"{operation.method} {operation.path}" for operation in operations if operation.method != "head"}


def test_it_is_a_valid_document_with_a_name_for_each_operation() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()
    names = [operation["operationId"] for path in DOCUMENT["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names)
    assert not [name for name in DOCUMENT["components"]["schemas"] if name.startswith("_")]


def test_each_server_is_described_route_by_route(config_file: Path, tmp_path: Path) -> None:
    stage = Stage(config_file, views.view("mail2"))
    assert described(PUBLIC) == routed(stage.server.routes), "runtime/openapi.py lists what the public listener answers"
    alerting = Alerting(
        stage.shown.config,
        stage.clock,
        stage.daemon,
        stage.controller,
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    )
    control = ControlServer(tmp_path / "control.sock", stage.controller, alerting.control_routes())
    assert described(CONTROL) == routed(control.door.app.routes), (
        "runtime/openapi.py lists what the control socket answers"
    )
