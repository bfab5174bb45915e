"""The control socket itself: what it answers, to whom, and that a request outlives who asked."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest
from control_stage import BLOCKED, DEGRADED, FIT, HEALTHY, UNFIT, UNSEEN, WARNED, Running, Stage, me

from failoverd.runtime import control
from failoverd.runtime.document import (
    CheckDocument,
    DocumentError,
    Event,
    Preview,
    Reason,
    Refused,
    RejoinDocument,
    StatusDocument,
    from_json,
)
from failoverd.runtime.event_log import EventLog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STEP = Event(elapsed_ms=214, node="mail1", text="gate closed")
END = Event(elapsed_ms=731, node="mail2", text="proven", final=True, succeeded=True)
ASK = {"node": "mail2", "reason": "kernel update"}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path / "control.sock", Stage()) as place:
        yield place


@pytest.fixture
def client(running: Running) -> Iterator[httpx.Client]:
    transport = httpx.HTTPTransport(uds=str(running.path))
    with httpx.Client(transport=transport, base_url="http://control", timeout=10, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("document", [HEALTHY, DEGRADED, BLOCKED])
def test_a_status_comes_out_as_it_went_in(running: Running, client: httpx.Client, document: StatusDocument) -> None:
    running.stage.document = document
    answer = client.get("/v1/status")
    assert answer.json()["api"] == "v1"
    assert from_json(StatusDocument, answer.content) == document


@pytest.mark.parametrize("document", [FIT, WARNED, UNSEEN, UNFIT])
def test_a_check_comes_out_as_it_went_in(running: Running, client: httpx.Client, document: CheckDocument) -> None:
    running.stage.checked = document
    answer = client.get("/v1/check")
    assert answer.json()["api"] == "v1"
    assert from_json(CheckDocument, answer.content) == document


def test_a_newer_daemons_keys_and_words_are_taken(client: httpx.Client) -> None:
    told = client.get("/v1/status").json()
    told["surprise"] = 1
    told["lease"]["state"] = "lent"
    told["nodes"][0]["surprise"] = {}
    document = from_json(StatusDocument, json.dumps(told).encode())
    assert document == replace(HEALTHY, lease=replace(HEALTHY.lease, state="lent"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda told: told.pop("term"), "StatusDocument.term: missing"),
        (lambda told: told.update(term="7"), "StatusDocument.term: '7' was not expected"),
        (lambda told: told["nodes"].append(None), "StatusDocument.nodes.4: None was not expected"),
        (
            lambda told: told["nodes"][1]["services"]["imap"].clear(),
            "StatusDocument.nodes.1.services.imap.verdict: missing",
        ),
    ],
)
def test_what_is_no_status_is_refused_with_the_place(client: httpx.Client, change: object, said: str) -> None:
    told = client.get("/v1/status").json()
    assert callable(change)
    change(told)
    with pytest.raises(DocumentError) as caught:
        from_json(StatusDocument, json.dumps(told).encode())
    assert str(caught.value) == said


def test_what_is_no_json_is_refused() -> None:
    for data in (b"", b"{", b"\xff"):
        with pytest.raises(DocumentError, match="not JSON"):
            from_json(StatusDocument, data)
    with pytest.raises(DocumentError):
        from_json(StatusDocument, b"[]")


def test_the_version_names_daemon_and_node(client: httpx.Client) -> None:
    assert client.get("/v1/version").json() == {"api": "v1", "node": "mail2", "software": "0.1.0"}


def test_nobody_else_may_connect_where_nobody_else_is_named(running: Running) -> None:
    assert stat.S_IMODE(running.path.stat().st_mode) == 0o600
    assert [path.name for path in running.path.parent.iterdir()] == ["control.sock"]


def test_a_socket_that_was_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with Running(path, Stage()) as running:
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, base_url="http://control", trust_env=False) as client:
            assert client.get("/v1/version").status_code == 200
        running.stop()
        assert not path.exists()


def test_a_refusal_names_every_blocker(running: Running, client: httpx.Client) -> None:
    running.stage.refusal = Refused(reasons=(Reason(node="mail2", code="BLK_LAG", reason="6200 ms behind"),))
    answer = client.post("/v1/promote", json=ASK)
    assert answer.status_code == 409
    assert from_json(Refused, answer.content) == running.stage.refusal
    assert running.stage.asked == [("mail2", me(), "kernel update")]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"node": "mail2"}, "reason: Field required"),
        ({**ASK, "node": 2}, "node: Input should be a valid string"),
        ({**ASK, "force": True}, "force: Extra inputs are not permitted"),
        ({**ASK, "reason": "x" * 201}, "reason: String should have at most 200 characters"),
        ({**ASK, "allow_loss": True}, "allow_loss: Extra inputs are not permitted"),
    ],
)
def test_a_request_that_is_not_understood_asks_nothing(
    running: Running, client: httpx.Client, body: dict[str, object], said: str
) -> None:
    answer = client.post("/v1/promote", json=body)
    assert (answer.status_code, answer.text) == (400, said)
    assert running.stage.asked == []


def test_a_forced_promotion_says_so(running: Running, client: httpx.Client) -> None:
    nameless = client.post("/v1/promote-forced", json={**ASK, "reason": " "})
    assert (nameless.status_code, running.stage.asked) == (400, [])
    assert nameless.text == "reason: Value error, is needed: it goes into the record of what was given up"
    assert client.post("/v1/promote-forced", json=ASK).status_code == 202
    assert running.stage.asked == [("mail2", me(), "kernel update", "forced")]


def test_what_would_come_of_it_is_answered_and_nothing_asked(running: Running, client: httpx.Client) -> None:
    why = Reason(node="mail2", code="BLK_RPO_UNPROVEN", reason="heard: mail2")
    running.stage.preview = Preview(refused=(), passed=(why,), lost=("whatever only mail1 had",))
    answer = client.post("/v1/would-promote", json={"node": "mail2", "allow_loss": True})
    assert answer.status_code == 200
    assert from_json(Preview, answer.content) == running.stage.preview
    assert (running.stage.previewed, running.stage.asked) == ([("mail2", True)], [])
    assert client.post("/v1/would-promote", json={"allow_loss": True}).status_code == 400


def test_each_request_reaches_its_own(running: Running, client: httpx.Client) -> None:
    asked = {
        "confirm-fenced": ASK,
        "pause": {"reason": "kernel update"},
        "resume": {},
        "rejoin": {"node": "mail1", "donor": "", "anew": True},
    }
    for path, body in asked.items():
        assert client.post(f"/v1/{path}", json=body).status_code == 202
    assert running.stage.asked == [
        ("confirm-fenced", "mail2", me(), "kernel update"),
        ("pause", me(), "kernel update"),
        ("pause", me(), ""),
        ("rejoin", "mail1", "", me(), "True"),
    ]


def test_what_a_rejoin_would_do_comes_out_as_it_went_in(running: Running, client: httpx.Client) -> None:
    answer = client.get("/v1/rejoin", params={"node": "mail1", "donor": "mail3", "anew": "true"})
    assert answer.status_code == 200
    assert from_json(RejoinDocument, answer.content) == running.stage.planned
    assert running.stage.asked == [("plan", "mail1", "mail3", "True")]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("confirm-fenced", {**ASK, "reason": ""}),
        ("confirm-fenced", {"reason": "x"}),
        ("pause", {"reason": ""}),
        ("pause", {}),
        ("resume", {"reason": "x"}),
    ],
)
def test_nobody_is_believed_or_stopped_without_a_reason(
    running: Running, client: httpx.Client, path: str, body: dict[str, str]
) -> None:
    assert client.post(f"/v1/{path}", json=body).status_code == 400
    assert running.stage.asked == []


def test_events_are_told_as_they_come_and_again_to_who_comes_later(running: Running, client: httpx.Client) -> None:
    assert client.post("/v1/promote", json=ASK).status_code == 202
    log = running.stage.logs["r1"]
    with client.stream("GET", "/v1/requests/r1/events") as stream:
        lines = (line for line in stream.iter_lines() if line)
        running.call(lambda: log.append(STEP))
        assert from_json(Event, next(lines).encode()) == STEP
        running.call(lambda: log.append(END))
        assert from_json(Event, next(lines).encode()) == END
        assert list(lines) == []
    late = client.get("/v1/requests/r1/events").text.splitlines()
    assert [from_json(Event, line.encode()) for line in late] == [STEP, END]


def test_a_reader_that_goes_away_leaves_the_request_alone(running: Running, client: httpx.Client) -> None:
    client.post("/v1/promote", json=ASK)
    log = running.stage.logs["r1"]
    with client.stream("GET", "/v1/requests/r1/events"):
        pass
    running.call(lambda: log.append(STEP))
    running.call(lambda: log.append(END))
    assert len(client.get("/v1/requests/r1/events").text.splitlines()) == 2


def test_while_nothing_happens_a_pulse_says_that_the_daemon_lives(
    running: Running, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "PULSE_S", 0.01)
    client.post("/v1/promote", json=ASK)
    with client.stream("GET", "/v1/requests/r1/events") as stream:
        lines = stream.iter_lines()
        assert [next(lines), next(lines)] == ["", ""]
        running.call(lambda: running.stage.logs["r1"].append(END))
        assert from_json(Event, next(line for line in lines if line).encode()) == END


def test_events_of_no_request_are_not_found(client: httpx.Client) -> None:
    assert client.get("/v1/requests/r9/events").status_code == 404


def test_nothing_follows_the_final_event() -> None:
    async def story() -> None:
        log = EventLog()
        log.append(END)
        with pytest.raises(ValueError, match="after the final event"):
            log.append(STEP)
        assert [event async for event in log.follow()] == [END]

    asyncio.run(story())
