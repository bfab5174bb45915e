"""Health for load balancers: what each node answers in each plight, over a real socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
import views
from public_stage import Stage

from failoverd.core.known import Leaving
from failoverd.core.lease import Held
from failoverd.core.model import Maintenance, NodeName, Thread
from failoverd.core.view import GateState

if TYPE_CHECKING:
    from pathlib import Path

    from failoverd.core.view import View

OK, UNAVAILABLE = httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE
DEADLINE = views.NOW + 2500  # of mail1's lease
BEHIND = views.primary_facts(heartbeat_beat=97)  # 3 beats of 500 ms
PRIMARY, REPLICA, ARBITER = views.view("mail1"), views.view("mail2"), views.view("arbiter")


def replica(**changes: Any) -> View:
    return views.view("mail2", database=views.replica_facts(**changes))


def failing(me: str, failures: int) -> View:
    seen = views.view(me).sightings
    return views.view(me, sightings=(*seen[1:], views.sighting("imap", me, failures, "IMAP_AUTH")))


LEAVING = Leaving(views.TERM, NodeName("mail2"), "switchover", renew=True, began_ms=views.NOW, undo=True)
CASES: list[tuple[str, View, str, str]] = [
    # what happened, what the node knows, what is asked, why not ("" is 200)
    ("the primary serves", PRIMARY, "/primary", ""),
    ("a replica is no primary", REPLICA, "/primary", "mail1 is primary; its gate is not open"),
    ("an arbiter is no primary", ARBITER, "/primary", "it is an arbiter"),
    ("its gate is not open yet", views.view("mail1", gate=GateState.CLOSED), "/primary", "its gate is not open"),
    ("it was started anew", views.view("mail1", gate=GateState.UNKNOWN), "/primary", "its gate is not open"),
    ("it hands over", views.view("mail1", leaving=LEAVING), "/primary", "it is giving back term 5"),
    (
        "another term began",
        views.view("mail1", highest_term=6),
        "/primary",
        "it holds term 5, and term 6 has begun",
    ),
    (
        "its lease ran out",
        views.view("mail1", held=Held(views.TERM, 40, views.NOW)),
        "/primary",
        "its lease of term 5 has ended",
    ),
    ("a replica follows", REPLICA, "/replica", ""),
    ("the primary is no replica", PRIMARY, "/replica", "it is primary"),
    ("an arbiter is no replica", ARBITER, "/replica", "it is an arbiter"),
    ("near enough", replica(heartbeat_beat=97), "/replica?lag=1500ms", ""),
    ("near enough in plain ms", replica(heartbeat_beat=97), "/replica?lag=1500", ""),
    (
        "too far behind",
        replica(heartbeat_beat=97),
        "/replica?lag=1s",
        "it is 1500 ms behind, asked for is at most 1000 ms",
    ),
    ("too far behind, and nobody asked", replica(heartbeat_beat=0), "/replica", ""),
    (
        "the primary is not heard",
        views.view("mail2", {"mail1": None}),
        "/replica?lag=1m",
        "how far it is behind is not known",
    ),
    ("it does not receive", replica(receiver=Thread.CONNECTING), "/replica", "its receiver is connecting"),
    ("it does not apply", replica(applier=Thread.STOPPED), "/replica", "its applier is stopped"),
    ("it receives from a replica", replica(source="mail3"), "/replica", "it does not replicate from mail1"),
    ("it takes writes", replica(read_only=False), "/replica", "its database takes writes"),
    ("no database", views.view("mail2", database=None), "/replica", "its database does not answer"),
    ("the primary does its work", PRIMARY, "/healthy", ""),
    ("a replica does its work", REPLICA, "/healthy", ""),
    ("the arbiter does its work", ARBITER, "/healthy", ""),
    ("once may be a blink", failing("mail1", 1), "/healthy", ""),
    ("a service of the primary is down", failing("mail1", 3), "/healthy", "imap fails: IMAP_AUTH: imap fails"),
    ("a service of a replica is down", failing("mail2", 3), "/healthy", "imap fails: IMAP_AUTH: imap fails"),
    (
        "not looked at yet",
        views.view("mail2", sightings=REPLICA.sightings[1:]),
        "/healthy",
        "imap has not been looked at yet",
    ),
    ("a replica does not follow", replica(receiver=Thread.STOPPED), "/healthy", "its receiver is stopped"),
    (
        "a primary whose lease ran out is not healthy",
        views.view("mail1", held=Held(views.TERM, 40, views.NOW)),
        "/healthy",
        "its lease of term 5 has ended",
    ),
    (
        "the arbiter's store is silent",
        views.view("arbiter", store_heard_ms=views.NOW - 60_000),
        "/healthy",
        "its store does not answer",
    ),
    ("the primary could take part", PRIMARY, "/ready", ""),
    ("a replica could take part", REPLICA, "/ready", ""),
    ("the arbiter could take part", ARBITER, "/ready", ""),
    (
        "the store has not been read",
        views.view("arbiter", record=None),
        "/ready",
        "it has not read the store's newest word",
    ),
    (
        "a replica that is not ready",
        failing("mail2", 1),
        "/ready",
        "BLK_NOT_READY: mail2 is not ready: IMAP_AUTH: imap fails",
    ),
    (
        "somebody works on it",
        views.view("mail2", record=views.record(maintenance=(Maintenance(NodeName("mail2"), "anna", "new disks"),))),
        "/ready",
        "BLK_MAINTENANCE: mail2 is in maintenance, by anna: new disks; failoverctl maintenance mail2 off ends it",
    ),
    (
        "the others are configured otherwise",
        views.view("arbiter", {name: {"membership": "other"} for name in ("mail1", "mail2", "mail3")}),
        "/ready",
        "it has another configuration of members or timings than most",
    ),
]


@pytest.mark.parametrize(("view", "path", "why"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_answers_for_itself(config_file: Path, view: View, path: str, why: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        got = await client.get(path)
        told = got.json()
        assert (got.status_code, "; ".join(told["why"])) == (UNAVAILABLE if why else OK, why)
        assert (told["node"], told["ok"], told["term"]) == (view.me.name, not why, view.highest_term)
        assert got.headers["cache-control"] == "no-store"
        head, options = await client.head(path), await client.options(path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert (options.status_code, options.headers["allow"]) == (got.status_code, "GET, HEAD, OPTIONS")

    Stage(config_file, view).tell(story)


def test_a_daemon_that_has_not_decided_is_not_ready(config_file: Path) -> None:
    stage = Stage(config_file, REPLICA)
    stage.daemon.state = stage.daemon.state.changed(rule=None)

    async def story(client: httpx.AsyncClient) -> None:
        got = await client.get("/ready")
        assert (got.status_code, got.json()["why"]) == (UNAVAILABLE, ["it has not decided anything yet"])

    stage.tell(story)


def test_the_role_is_told_as_it_is_now(config_file: Path) -> None:
    """Nothing tells the daemon that its lease has run out, but its own clock."""
    stage = Stage(config_file, PRIMARY)

    async def story(client: httpx.AsyncClient) -> None:
        for at_ms, code, role in ((DEADLINE - 1, OK, "primary"), (DEADLINE, UNAVAILABLE, "fenced")):
            stage.clock.at_ms = at_ms
            got = await client.get("/primary")
            assert (got.status_code, got.json()["role"]) == (code, role)

    stage.tell(story)


def test_a_freeze_between_the_look_and_the_answer_is_seen(config_file: Path) -> None:
    """The second look of an answer is later than the lease: it was a primary when it began to answer."""
    stage = Stage(config_file, PRIMARY)
    shown, looks = stage.shown.view, []

    def frozen_after_the_first() -> View:
        looks.append(stage.clock.at_ms)
        view = shown()
        stage.clock.at_ms = DEADLINE
        return view

    stage.shown.view = frozen_after_the_first  # type: ignore[method-assign]  # where the freeze comes

    async def story(client: httpx.AsyncClient) -> None:
        assert (await client.get("/primary")).status_code == UNAVAILABLE

    stage.tell(story)
    assert looks[0] < DEADLINE


def test_who_is_promoted_says_so_once_its_gate_is_open(config_file: Path) -> None:
    promoted = Held(6, 41, views.NOW + 9000)
    views_of_mail2 = [
        views.view("mail2", held=promoted, highest_term=6),
        views.view("mail2", held=promoted, highest_term=6, gate=GateState.OPEN),
    ]
    said = []

    async def story(client: httpx.AsyncClient) -> None:
        said.append((await client.get("/primary")).status_code)

    for view in views_of_mail2:
        Stage(config_file, view).tell(story)
    assert said == [UNAVAILABLE, OK]


@pytest.mark.parametrize("lag", ["", "soon", "-1", "5", "1.5s", "5s;", "9" * 10, "٣s"])
def test_a_limit_that_is_none_is_refused_with_what_is_allowed(config_file: Path, lag: str) -> None:
    async def story(client: httpx.AsyncClient) -> None:
        got = await client.get("/replica", params={"lag": lag})
        if lag == "5":
            assert got.status_code == OK
        else:
            assert got.status_code == httpx.codes.BAD_REQUEST
            assert got.text == f"lag={lag!r} is no duration; allowed: 500ms, 5s, 1m, or whole milliseconds\n"

    Stage(config_file, REPLICA).tell(story)


def test_neither_the_store_nor_a_peer_is_asked(config_file: Path) -> None:
    """The stage's store, peers and disk raise when they are touched; cut off from all, a node still answers."""
    alone = views.view("mail1", {"mail2": None, "mail3": None, "arbiter": None}, store_heard_ms=views.NOW - 60_000)
    stage = Stage(config_file, alone)
    stage.daemon.store_error = "no answer"

    async def story(client: httpx.AsyncClient) -> None:
        assert (await client.get("/primary")).status_code == OK
        assert (await client.get("/healthy")).status_code == OK
        assert (await client.get("/ready")).status_code == UNAVAILABLE

    stage.tell(story)
