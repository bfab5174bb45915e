"""Operators' orders from the command line to the daemon: what each is understood as, and what is refused on the way."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx
import pytest
from click.testing import CliRunner, Result
from control_stage import HEALTHY, Running, Stage, me

from failoverd.core.orders import AHEAD_MOST_MS
from failoverd.ctl.app import app
from failoverd.ctl.exits import Exit
from failoverd.runtime.document import Event, MaintenanceStatus, Reason, Refused, ScheduledStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DONE = Event(elapsed_ms=20, node="mail1", text="the store has it", final=True, succeeded=True)
LATE = Event(elapsed_ms=9000, node="mail1", text="not seen", code="PAUSE_UNSEEN", final=True)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path / "control.sock", Stage()) as place:
        yield place


def ctl(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--socket", str(path)], prog_name="failoverctl")


def ended_with(running: Running, last: Event, *arguments: str) -> Result:
    """Run a command of which the daemon says `last`."""

    def tell() -> None:
        running.until_asked()
        running.call(lambda: running.stage.logs["r1"].append(last))

    teller = threading.Thread(target=tell)
    teller.start()
    try:
        return ctl(running.path, *arguments)
    finally:
        teller.join(10)


@pytest.mark.parametrize(
    ("command", "asked", "said"),
    [
        (
            ["pause", "--reason", "rack", "--for", "2h", "--wait"],
            ("pause", "BY", "rack", "7200000", "wait"),
            "paused; a lost primary is not replaced before its end or `failoverctl resume`",
        ),
        (["resume", "--wait"], ("pause", "BY", "", "wait"), "the cluster acts by itself again"),
        (
            ["maintenance", "mail3", "on", "--reason", "new disk", "--for", "1d12h"],
            ("maintenance", "mail3", "BY", "new disk", "on", "129600000"),
            "mail3 is no candidate, and raises no alert",
        ),
        (
            ["maintenance", "mail3", "off"],
            ("maintenance", "mail3", "BY", "", "off", "0"),
            "mail3 counts as any other",
        ),
        (
            ["acknowledge", "--reason", "a bad cable"],
            ("acknowledge", "BY", "a bad cable"),
            "acknowledged; the count of changes begins anew on every node",
        ),
        (["promote", "--cancel"], ("cancel-scheduled", "BY"), "no switchover is scheduled"),
    ],
)
def test_an_order_reaches_the_daemon_as_it_was_said(
    running: Running, command: list[str], asked: tuple[str, ...], said: str
) -> None:
    shown = ended_with(running, DONE, *command)
    assert (shown.exit_code, shown.stdout.splitlines()[-1]) == (Exit.DONE, f"done: {said}")
    assert running.stage.asked == [tuple(me() if word == "BY" else word for word in asked)]


def test_a_scheduled_switchover_carries_its_moment(running: Running) -> None:
    due = (datetime.now(UTC) + timedelta(hours=3)).replace(microsecond=0)
    command = ["promote", "--node", "mail2", "--at", due.isoformat(), "--reason", "kernel"]
    shown = ended_with(running, DONE, *command)
    assert shown.exit_code == Exit.DONE, shown.output
    assert "failoverctl promote --cancel takes it back" in shown.stdout
    (asked,) = running.stage.asked
    assert asked == ("schedule", "mail2", me(), "kernel", str(round(due.timestamp() * 1000)))


def test_a_pause_that_a_node_has_not_seen_is_not_called_done(running: Running) -> None:
    shown = ended_with(running, LATE, "pause", "--reason", "rack", "--wait")
    assert shown.exit_code == Exit.FAILED
    assert "not known to be paused on every node that is heard" in shown.output
    assert "PAUSE_UNSEEN" in shown.output


@pytest.mark.parametrize(
    "command",
    [
        ["pause", "--reason", "x", "--for", "1h"],
        ["maintenance", "mail3", "on", "--reason", "x"],
        ["acknowledge"],
        ["promote", "--node", "mail2", "--at", "+1h"],
        ["promote", "--cancel"],
    ],
)
def test_a_refusal_of_any_order_names_its_code(running: Running, command: list[str]) -> None:
    running.stage.refusal = Refused(reasons=(Reason(code="BLK_STORE", reason="the store does not answer"),))
    shown = ctl(running.path, *command)
    assert shown.exit_code == Exit.REFUSED
    assert shown.stderr.splitlines()[-1] == "  BLK_STORE  the store does not answer"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["maintenance", "mail3", "on"], '--reason "…" is needed'),
        (["maintenance", "mail3", "on", "--reason", "  "], '--reason "…" is needed'),
        (["maintenance", "mail3", "off", "--for", "1h"], "--for goes with `on`"),
        (["maintenance", "mail3", "perhaps"], "'perhaps' is not one of 'on', 'off'"),
        (["pause", "--reason", "x", "--for", "soon"], "'soon' is no duration; allowed: 90s, 30m, 2h, 1d, 1d12h"),
        (["pause", "--for", "1h"], "Missing option '-r' / '--reason'"),
        (["promote", "--node", "mail2", "--at", "2020-01-01T00:00Z"], "is past"),
        (["promote", "--node", "mail2", "--at", "+1h", "--dry-run"], "--at goes with a planned switchover only"),
        (["promote", "--node", "mail2", "--cancel"], "--cancel stands alone"),
        (["promote", "--at", "+1h"], "--node NODE is needed"),
    ],
)
def test_what_makes_no_sense_is_usage_and_asks_nothing(running: Running, command: list[str], said: str) -> None:
    shown = ctl(running.path, *command)
    assert shown.exit_code == Exit.USAGE
    assert said in shown.stderr
    assert running.stage.asked == []


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/v1/pause", {"by": "anna", "reason": ""}, "reason"),
        ("/v1/pause", {"by": "anna", "reason": "x", "for_ms": -1}, "for_ms"),
        ("/v1/pause", {"by": "anna", "reason": "x", "for_ms": AHEAD_MOST_MS + 1}, "for_ms"),
        ("/v1/pause", {"by": "anna", "reason": "x", "for_ms": "3600"}, "for_ms"),
        ("/v1/pause", {"by": "anna", "reason": "x", "until": 1}, "until"),
        ("/v1/pause", {"by": "a" * 65, "reason": "x"}, "by"),
        ("/v1/resume", {"by": "anna", "reason": "x"}, "reason"),
        ("/v1/maintenance", {"by": "anna", "node": "mail3", "on": True}, "reason"),
        ("/v1/maintenance", {"by": "anna", "node": "mail3", "on": "yes", "reason": "x"}, "on"),
        ("/v1/maintenance", {"by": "anna", "node": "m" * 65, "on": False}, "node"),
        ("/v1/acknowledge", {"by": "anna", "reason": "x" * 201}, "reason"),
        ("/v1/schedule", {"by": "anna", "node": "mail2", "at_ms": 0}, "at_ms"),
        ("/v1/schedule", {"by": "anna", "node": "mail2", "at_ms": 10**15}, "at_ms"),
        ("/v1/schedule", {"by": "anna", "node": "mail2"}, "at_ms"),
        ("/v1/cancel-scheduled", {"by": 1}, "by"),
    ],
)
def test_a_body_that_is_not_understood_names_its_key_and_asks_nothing(
    running: Running, path: str, body: dict[str, object], said: str
) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(running.path)), base_url="http://localhost") as client:
        answer = client.post(path, json=body)
    assert (answer.status_code, said in answer.text) == (400, True), answer.text
    assert running.stage.asked == []


def test_the_status_has_what_was_ordered(running: Running) -> None:

    known = MaintenanceStatus(by="anna", reason="new disk", until="2026-03-01T14:00:00.000Z")
    nodes = tuple(replace(n, maintenance=known) if n.name == "mail3" else n for n in HEALTHY.nodes)
    unfit = Reason(code="BLK_LAG", reason="mail2 is 9 s behind", node="mail2")
    due = ScheduledStatus(
        id="s1", target="mail2", by="bert", reason="kernel", at="2026-03-01T03:00:00.000Z", unfit=unfit
    )
    running.stage.document = replace(HEALTHY, nodes=nodes, scheduled=due)
    shown = ctl(running.path, "status").stdout
    assert "\nMaintenance  mail3  by anna: new disk, until 2026-03-01 " in shown
    assert "\nScheduled    promote mail2 at 2026-03-01 " in shown
    assert 'by bert, "kernel")  as it is now it would be dropped: BLK_LAG mail2 is 9 s behind' in shown
