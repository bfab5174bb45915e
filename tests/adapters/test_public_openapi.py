"""What is really answered, by the public listener and by the control socket, fits the OpenAPI document."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import views
from jsonschema import Draft202012Validator
from public_stage import Stage
from test_node_controller import HELD, Node

from failoverd.config import load
from failoverd.runtime import openapi
from failoverd.runtime.alerting import Alerting
from failoverd.runtime.clock import BootClock
from failoverd.runtime.control import ControlServer

if TYPE_CHECKING:
    from pathlib import Path

    from failoverd.runtime.openapi import Operation

DOCUMENT = openapi.built()
JSON, LINES = "application/json", "application/x-ndjson"
PUBLIC = [o for o in openapi.OPERATIONS if "public" in o.where]
CONTROL = [o for o in openapi.OPERATIONS if "control" in o.where]
BODIES = {
    "/v1/promote": {"node": "mail2", "reason": "kernel update"},
    "/v1/promote-forced": {"node": "mail2", "reason": "they burnt"},
    "/v1/would-promote": {"node": "mail2", "allow_loss": True},
    "/v1/confirm-fenced": {"node": "mail1", "reason": "pulled both plugs"},
    "/v1/pause": {"reason": "moving the rack"},
    "/v1/resume": {},
    "/v1/maintenance": {"node": "mail3", "on": False},
    "/v1/acknowledge": {},
    "/v1/schedule": {"node": "mail2", "at_ms": 1},
    "/v1/cancel-scheduled": {},
    "/v1/rejoin": {"node": "mail3", "donor": "", "anew": False},
    "/v1/alerts/test": {"receiver": ""},
}


def named(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


def strict(schema: Any) -> Any:
    """The schema of an object has all of its keys: one that it does not name is a mistake."""
    if isinstance(schema, dict):
        closed = {"additionalProperties": False} if "properties" in schema else {}
        return {key: strict(value) for key, value in schema.items()} | closed
    return [strict(part) for part in schema] if isinstance(schema, list) else schema


def holds(operation: Operation, answer: httpx.Response) -> None:
    """Fail unless status, media type and content of an answer are as described."""
    described = DOCUMENT["paths"][operation.path][operation.method]["responses"]
    assert str(answer.status_code) in described, answer.text
    content = described[str(answer.status_code)].get("content")
    if content is None:
        assert answer.content == b""
        return
    (media,) = content
    assert answer.headers["content-type"].partition(";")[0] == media
    if media not in {JSON, LINES}:
        return
    schema = {**strict(content[media]["schema"]), "components": strict(DOCUMENT["components"])}
    validator = Draft202012Validator(schema)
    for text in [answer.text] if media == JSON else [line for line in answer.text.splitlines() if line]:
        validator.validate(json.loads(text))


@pytest.mark.parametrize("name", ["mail1", "mail2", "arbiter"])
def test_what_the_public_listener_answers_fits(config_file: Path, name: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        for operation in PUBLIC:
            if operation.path == "/v1/events":
                async with client.stream("GET", operation.path) as answer:
                    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
                continue
            holds(operation, await client.request(operation.method, operation.path))
            for query in operation.query:
                holds(operation, await client.request(operation.method, operation.path, params={query: "x"}))
        served = await client.get("/v1/openapi.json")
        assert served.json() == DOCUMENT
        again = await client.get("/v1/openapi.json", headers={"if-none-match": served.headers["etag"]})
        assert again.status_code == httpx.codes.NOT_MODIFIED

    Stage(config_file, views.view(name)).tell(story)


def test_what_is_wrong_fits_as_well(config_file: Path) -> None:
    lost = views.lost("mail2", {"mail3": {"findings": (("DISK_FULL", "full"),)}}, record=views.record(paused="anna"))

    async def story(client: httpx.AsyncClient) -> None:
        for operation in (o for o in PUBLIC if o.path in {"/v1/status", "/v1/check", "/healthy", "/primary"}):
            holds(operation, await client.request(operation.method, operation.path))

    Stage(config_file, lost).tell(story)


def test_what_the_control_socket_answers_fits(config_file: Path, tmp_path: Path) -> None:
    """A whole daemon is asked everything, first as it is described, then with nothing."""

    async def story() -> None:
        config = load(config_file, "arbiter")
        node = Node(config, tmp_path, HELD)
        alerting = Alerting(config, BootClock(), node.daemon, node.controller, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        path = tmp_path / "control.sock"
        server = ControlServer(path, node.controller, alerting.control_routes())
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with (
            node.running(),
            httpx.AsyncClient(transport=transport, base_url="http://daemon", timeout=30) as client,
        ):
            await server.start()
            answers: dict[str, httpx.Response] = {}
            for operation in CONTROL:
                asked = operation.path.replace("{id}", "none")
                body = BODIES[operation.path] if operation.method == "post" else None
                answers[named(operation)] = answer = await client.request(operation.method, asked, json=body)
                holds(operation, answer)
                if body is not None:
                    refused = await client.post(asked, json={"nonsense": 1})
                    assert refused.status_code == httpx.codes.BAD_REQUEST
                    holds(operation, refused)
            assert answers["post /v1/pause"].status_code == httpx.codes.ACCEPTED
            assert answers["post /v1/promote"].status_code == httpx.codes.CONFLICT
            (events,) = (o for o in CONTROL if o.path == "/v1/requests/{id}/events")
            holds(events, await client.get(f"/v1/requests/{answers['post /v1/pause'].json()['id']}/events"))
            await server.stop()

    asyncio.run(story())


def test_the_bodies_that_are_described_are_those_that_are_read() -> None:
    """What a body needs stands in its schema: each of the test's own fits, and none fits with a key left out."""
    for operation in (o for o in CONTROL if o.method == "post"):
        schema = DOCUMENT["paths"][operation.path]["post"]["requestBody"]["content"][JSON]["schema"]
        validator = Draft202012Validator({**schema, "components": DOCUMENT["components"]})
        body = BODIES[operation.path]
        validator.validate(body)
        for key in body.keys() - {"allow_loss"}:
            assert not validator.is_valid({k: v for k, v in body.items() if k != key}), (operation.path, key)
        assert not validator.is_valid({**body, "nonsense": 1})
