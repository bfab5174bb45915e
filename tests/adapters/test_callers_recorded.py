"""Every command of the control socket has its caller's name in each record that comes of it, on a whole daemon.

A route that changes something and has no row here fails the first test. What the rules do of themselves stays theirs.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from alert_stage import configured, free_port, receiver
from control_stage import me
from test_drill_ctl import Manager
from test_node_controller import BEGAN, HELD, LEFT_ALONE, MAIL2, Node, facts, heard, story

from failoverd.config import load
from failoverd.config.drill import Drill
from failoverd.core.model import Maintenance, NodeName, Record, RequestEnded, Scheduled
from failoverd.drill_files import CURRENT, DIRECTORY
from failoverd.runtime.access_roles import ROUTES, Role
from failoverd.runtime.alerting import Alerting
from failoverd.runtime.clock import BootClock
from failoverd.runtime.control import ControlServer
from failoverd.runtime.drilling import Drilling
from failoverd.runtime.reloading import Reloader
from failoverd.runtime.thresholds import policy_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

MAIL3 = NodeName("mail3")
ONLY_SAYS = {"POST /v1/would-promote"}
OF_THE_RULES = {"decision"}
WITHIN_S = 20
FAR_MS = 4_000_000_000_000


async def nothing(_node: Node, _request: str) -> None:
    """It comes to its end by itself."""


async def taken(node: Node, request: str) -> None:
    """The node that was asked for takes the next term, and says that it has."""
    await node.until(lambda: node.daemon.state.view.record.request is not None)  # type: ignore[union-attr] # read
    begun = replace(node.cell.record, term=8, holder=MAIL2, previous=NodeName("mail1"))
    assert (await node.store.compare_and_swap(begun.version, begun))[0]
    await node.until(lambda: node.daemon.state.view.highest_term == 8)
    ended = replace(node.cell.record, request=None, request_ended=RequestEnded(request, succeeded=True, reason="done"))
    assert (await node.store.compare_and_swap(ended.version, ended))[0]


async def made_anew(node: Node, request: str) -> None:
    """The node that was asked says that it is home."""
    await node.until(lambda: any(report.rejoin is not None for report in node.pushed))
    node.hears(MAIL2, number=9, database=facts(2, 500), rejoin_ended=RequestEnded(request, succeeded=True))


async def replicas(node: Node) -> None:
    """All follow mail1."""
    heard(node, second=facts(2, 500))


async def one_ahead(node: Node) -> None:
    """mail2 has what mail1 lacks."""
    heard(node)


async def lost(node: Node) -> None:
    """mail1 is gone, and mail2 lacks what it had."""
    await node.lease_over()
    node.hears(MAIL2, **LEFT_ALONE)


async def gone(node: Node) -> None:
    """mail1 is gone."""
    await node.lease_over()


async def moved(node: Node) -> None:
    """The role has just moved by itself."""
    begun = replace(node.cell.record, term=8, holder=MAIL2)
    assert (await node.store.compare_and_swap(begun.version, begun))[0]
    async with asyncio.timeout(WITHIN_S):
        while not node.audited("term"):  # noqa: ASYNC110 - the audit's
            await asyncio.sleep(0.01)


async def as_it_is(_node: Node) -> None:
    """Nothing is otherwise."""


@dataclass(frozen=True)
class Command:
    """One command on a cluster where it is accepted, and the kinds of its records."""

    route: str
    body: dict[str, Any]
    kinds: set[str]
    record: Record = HELD
    before: Callable[[Node], Awaitable[None]] = as_it_is
    then: Callable[[Node, str], Awaitable[None]] = nothing


ASKED = {"request", "asked", "request-result"}
MOVED = {*ASKED, "term"}
NIGHT = Scheduled("s1", MAIL2, "bert", "update", 7, FAR_MS)
DISK = Maintenance(MAIL3, "bert", "new disks")
COMMANDS = (
    Command("POST /v1/promote", {"node": "mail2", "reason": "update"}, MOVED, before=replicas, then=taken),
    Command("POST /v1/promote-forced", {"node": "mail2", "reason": "x"}, MOVED, BEGAN, before=lost, then=taken),
    Command("POST /v1/confirm-fenced", {"node": "mail1", "reason": "unplugged"},
            {"request", "confirmed", "confirm", "off", "request-result"}, before=gone),
    Command("POST /v1/pause", {"reason": "rack"}, {*ASKED, "paused"}),
    Command("POST /v1/resume", {}, {*ASKED, "paused"}, replace(HELD, paused="bert: rack")),
    Command("POST /v1/maintenance", {"node": "mail3", "on": True, "reason": "disks"}, {*ASKED, "maintenance"}),
    Command("POST /v1/maintenance", {"node": "mail3", "on": False}, {*ASKED, "maintenance"},
            replace(HELD, maintenance=(DISK,))),
    Command("POST /v1/acknowledge", {"reason": "a cable"}, {*ASKED, "acknowledged"}, before=moved),
    Command("POST /v1/schedule", {"node": "mail2", "at_ms": 0}, {*ASKED, "scheduled"}, before=replicas),
    Command("POST /v1/cancel-scheduled", {}, {*ASKED, "scheduled"}, replace(HELD, scheduled=NIGHT)),
    Command("POST /v1/rejoin", {"node": "mail2", "donor": "", "anew": False}, ASKED, before=one_ahead, then=made_anew),
    Command("POST /v1/alerts/test", {"receiver": ""}, {"request", "request-result"}),
    Command("POST /v1/drill", {"scenario": "primary-crash"}, {"drill"}),
    Command("POST /v1/drill/abort", {}, {"drill"}),
    Command("POST /v1/reload", {}, {"config", "reconfigured"}),
)  # fmt: skip


def test_every_command_is_looked_at() -> None:
    changing = {route for route, role in ROUTES.items() if role > Role.VIEW or route.startswith("POST ")} - ONLY_SAYS
    assert {command.route for command in COMMANDS} == changing


@pytest.mark.parametrize("command", COMMANDS, ids=[f"{c.route} {c.body.get('on', '')}".strip() for c in COMMANDS])
def test_each_record_of_a_command_has_its_caller(config_file: Path, tmp_path: Path, command: Command) -> None:
    async def tell(node: Node) -> None:
        parts = Parts(node, config_file, tmp_path, command)
        server = ControlServer(tmp_path / "control.sock", node.controller, parts.routes)
        await server.start()
        await parts.alerting.start()
        await command.before(node)
        before = len(records(node))
        transport = httpx.AsyncHTTPTransport(uds=str(tmp_path / "control.sock"))
        async with httpx.AsyncClient(transport=transport, base_url="http://control", timeout=WITHIN_S) as client:
            body = command.body | (
                {"at_ms": time.time_ns() // 1_000_000 + 3_600_000} if "at_ms" in command.body else {}
            )
            answer = await client.post(command.route.partition(" ")[2], json=body)
            assert answer.status_code in {200, 202}, answer.text
            if answer.status_code == 202 and "request-result" in command.kinds:
                await command.then(node, answer.json()["id"])
                await client.get(f"/v1/requests/{answer.json()['id']}/events")
        async with asyncio.timeout(WITHIN_S):
            while not command.kinds <= {record["kind"] for record in records(node)[before:]}:  # noqa: ASYNC110 - the audit's
                await asyncio.sleep(0.01)
        await server.stop()
        await parts.alerting.stop()
        parts.drilling.forget()
        told = [record for record in records(node)[before:] if record["kind"] not in OF_THE_RULES]
        others = {(record["kind"], record["actor"]) for record in told if record["actor"] != me()}
        assert not others

    story(config_file, tmp_path, tell, command.record)


def records(node: Node) -> list[dict[str, Any]]:
    """What is on disk, in order."""
    return [json.loads(line) for line in node.audit.read_text().splitlines()]


class Parts:
    """Those of the daemon's other parts that take commands, each with something to do."""

    def __init__(self, node: Node, config_file: Path, place: Path, command: Command) -> None:
        # The services' CA of the example is an empty file.
        config_file.write_text(re.sub(r"tls: (implicit|starttls)", "tls: none", config_file.read_text()))
        config = load(config_file, "arbiter")
        pager = receiver("pager", f"http://127.0.0.1:{free_port()}/")
        told = configured(config_file, place / "alerts", pager) if "alerts" in command.route else config
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.alerting = Alerting(told, BootClock(), node.daemon, node.controller, tls)
        drill = Drill.model_validate({"enabled": True, "backup": {"kind": "none"}})
        self.drilling = Drilling(config.model_copy(update={"drill": drill}), Manager(), place, place)
        if command.route == "POST /v1/drill/abort":
            (place / DIRECTORY).mkdir()
            (place / DIRECTORY / CURRENT).write_text("20261129-073634-primary-crash")
        changed = config_file.with_name("changed.yaml")
        changed.write_text(config_file.read_text().replace("max_lag: 5s", "max_lag: 2s"))
        reloader = Reloader(config, changed, node.daemon, parts=(), policy_of=policy_of)
        parts = (self.alerting, self.drilling, reloader)
        self.routes = [route for part in parts for route in part.control_routes()]
