"""A whole daemon writes what `explain` and `history` read: inputs of decisions, requests and how they ended."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
from control_stage import me
from pydantic import TypeAdapter
from test_node_controller import HELD, Node, story

from failoverd.audit import inputs
from failoverd.config import load
from failoverd.core import rules
from failoverd.runtime.control import ControlServer
from failoverd.runtime.document import from_json
from failoverd.runtime.document_history import HistoryDocument
from failoverd.runtime.history import Historian, Past
from failoverd.views import decode

if TYPE_CHECKING:
    from pathlib import Path


def records(node: Node) -> list[dict[str, Any]]:
    return [json.loads(line) for line in node.audit.read_text().splitlines()]


def test_a_decision_s_record_has_the_view_that_it_was_made_on(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        await node.lease_over()

    written = records(story(config_file, tmp_path, tell))
    decided = [index for index, record in enumerate(written) if record["kind"] == "decision"]
    assert decided
    for index in decided:
        data, said = inputs.input_of(written, index)
        assert rules.decide(decode(data)).id == written[index]["rule"]
        assert said["software"]


def test_what_is_asked_is_noted_with_its_end_and_what_is_refused_with_its_input(
    config_file: Path, tmp_path: Path
) -> None:
    told: list[HistoryDocument] = []

    async def tell(node: Node) -> None:
        server = ControlServer(tmp_path / "control.sock", node.controller)
        await server.start()
        transport = httpx.AsyncHTTPTransport(uds=str(tmp_path / "control.sock"))
        async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
            refused = await client.post("/v1/promote", json={"node": "mail9", "by": "anna", "reason": ""})
            assert refused.status_code == 409
            await client.post("/v1/promote", json={"node": "mail9", "by": "anna", "reason": ""})
            accepted = await client.post("/v1/pause", json={"by": "anna", "reason": "moving the rack"})
            assert accepted.status_code == 202
            async with asyncio.timeout(20):
                await client.get(f"/v1/requests/{accepted.json()['id']}/events")
            answer = await client.get("/v1/history")
            assert answer.status_code == 200
            told.append(from_json(HistoryDocument, answer.content))
        await server.stop()

    written = records(story(config_file, tmp_path, tell))
    refused, again = (record for record in written if record["kind"] == "request-refused")
    assert (again["text"], "input" in again) == ("promote mail9", False)  # noted, and not with all of it once more
    assert (refused["text"], refused["code"]) == ("promote mail9", "BLK_NO_SUCH_NODE")
    assert refused["detail"]["by"] == me(), "and not who the client says it is"
    assert decode(inputs.unpacked(refused["input"])).record == HELD
    asked, ended = (record for record in written if record["kind"] in ("request", "request-result"))
    assert asked["text"] == f"{me()} pauses"
    assert asked["detail"]["request"] == ended["detail"]["request"]
    assert (ended["detail"]["outcome"], ended["text"]) == ("done", f"paused by {me()}: moving the rack")
    assert told[0].changes == ()

    past = Past(tmp_path)
    past.upto = len(written)
    past.load()
    alone = Historian(cluster="lab", own=load(config_file, "arbiter").this.name, past=past, nodes={})
    document = asyncio.run(alone.history())
    assert from_json(HistoryDocument, TypeAdapter(HistoryDocument).dump_json(document)) == document
    assert [(event.text, event.outcome) for event in document.events] == [
        (f"paused by {me()}: moving the rack", "done"),
        (f"{me()} pauses", "done"),
        ("promote mail9", "refused"),
        ("promote mail9", "refused"),
    ]


def test_no_secret_of_the_configuration_is_in_the_audit(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        await node.lease_over()
        await node.controller.promote("mail2", "anna", "")

    node = story(config_file, tmp_path, tell)
    secrets = {value.get_secret_value() for value in _secrets(load(config_file, "mail1"))} - {""}
    assert len(secrets) > 1
    text = node.audit.read_text()
    views = [inputs.unpacked(r["input"]).decode() for r in records(node) if "view" in r.get("input", {})]
    assert views
    for secret in secrets:
        assert secret not in text
        assert all(secret not in view for view in views)


def _secrets(value: Any) -> list[Any]:
    """Every SecretStr in a configuration."""
    if hasattr(value, "get_secret_value"):
        return [value]
    if isinstance(value, dict):
        return [secret for part in value.values() for secret in _secrets(part)]
    if isinstance(value, (list, tuple)):
        return [secret for part in value for secret in _secrets(part)]
    if hasattr(type(value), "model_fields"):
        return [secret for name in type(value).model_fields for secret in _secrets(getattr(value, name))]
    return []
