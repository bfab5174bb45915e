"""What an operator asks of a daemon reaches the store, or is refused: a whole daemon, the arbiter's, and no network."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from failoverd.core import rejoining
from failoverd.core.gtid import GtidSet
from failoverd.core.model import (
    DatabaseFacts,
    Floor,
    Identity,
    NodeName,
    RebuildFacts,
    Record,
    Replication,
    RequestEnded,
    Role,
    Thread,
)
from failoverd.runtime import homecoming
from failoverd.runtime.document import Accepted, Reason, RebuildStatus, Refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


from node_stage import HELD, MAIL1, Node, codes, story


def test_an_operator_s_word_reaches_the_store_and_the_audit_names_who(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        await node.lease_over()
        events = await node.ended(await node.controller.confirm_fenced("mail1", "anna", "pulled both plugs"))
        assert events[0].text == "accepted: mail1 has no power, says anna"
        assert (events[-1].final, events[-1].succeeded) == (True, True)
        assert events[-1].text == "mail1 has no power: anna: pulled both plugs"
        status = node.controller.status()
        assert (status.lease.state, status.lease.by) == ("off", "anna: pulled both plugs")

    node = story(config_file, tmp_path, tell)
    record = node.cell.record
    assert (record.term, record.holder, record.off) == (7, "mail1", "anna: pulled both plugs")
    assert record.condemned_by is not None, "or the holder could renew"
    assert node.audited("confirmed") == ["anna says that mail1 has no power"]


def test_a_node_that_answers_has_power(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        await node.until(lambda: bool(node.pushed))
        node.hears(MAIL1)
        assert codes(await node.controller.confirm_fenced("mail1", "anna", "it hangs")) == ["BLK_ANSWERS"]

    assert story(config_file, tmp_path, tell).cell.record.off == ""


@pytest.mark.parametrize(("named", "code"), [("mail9", "BLK_NO_SUCH_NODE"), ("mail2", "BLK_NOT_HOLDER")])
def test_only_the_last_primary_can_be_confirmed(config_file: Path, tmp_path: Path, named: str, code: str) -> None:
    async def tell(node: Node) -> None:
        assert codes(await node.controller.confirm_fenced(named, "anna", "it is off")) == [code]

    assert story(config_file, tmp_path, tell).cell.record.off == ""


def test_without_the_store_nothing_is_taken(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        await node.store.set_reachable(reachable=False)
        async with asyncio.timeout(10):
            while not node.daemon.store_error:  # noqa: ASYNC110 - no state changes with it that could be waited for
                await asyncio.sleep(0.01)
        assert "BLK_STORE" in codes(await node.controller.confirm_fenced("mail1", "anna", "it is off"))
        assert "BLK_STORE" in codes(await node.controller.pause("anna", "it is off"))
        assert "BLK_STORE" in codes(await node.controller.pause("anna", ""))

    node = story(config_file, tmp_path, tell)
    assert (node.cell.record.off, node.cell.record.paused) == ("", "")


def test_a_pause_is_the_whole_cluster_s_until_somebody_ends_it(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        events = await node.ended(await node.controller.pause("anna", "moving the rack"))
        assert (events[0].text, events[-1].text) == ("accepted: anna pauses", "paused by anna: moving the rack")
        assert events[-1].succeeded
        assert node.cell.record.paused == "anna: moving the rack"
        status = node.controller.status()
        assert status.paused == "anna: moving the rack"
        assert not status.failover.possible
        assert Reason(code="BLK_PAUSED", reason="paused by anna: moving the rack") in status.failover.blockers
        events = await node.ended(await node.controller.pause("bert", ""))
        assert (events[0].text, events[-1].text) == ("accepted: bert resumes", "the cluster goes on")
        assert node.cell.record.paused == ""
        assert node.controller.status().paused == ""
        version = node.cell.record.version
        events = await node.ended(await node.controller.pause("bert", ""))  # once more
        assert events[-1].succeeded
        assert node.cell.record.version == version

    node = story(config_file, tmp_path, tell)
    assert node.audited("asked") == ["anna pauses", "bert resumes"]
    assert node.audited("paused") == ["paused by anna: moving the rack", "the cluster goes on"]


def test_there_is_nothing_to_pause_before_the_first_primary(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        assert codes(await node.controller.pause("anna", "moving the rack")) == ["BLK_NO_PRIMARY"]

    story(config_file, tmp_path, tell, Record())


def test_where_a_fence_is_required_the_status_says_what_a_failover_would_wait_for(
    config_file: Path, tmp_path: Path
) -> None:
    async def tell(node: Node) -> None:
        blockers = [blocker for blocker in node.controller.status().failover.blockers if blocker.code == "BLK_FENCE"]
        assert [blocker.reason for blocker in blockers] == [
            "mail1 has no fence agent: an operator would have to confirm"
        ]
        await node.lease_over()
        blockers = [blocker for blocker in node.controller.status().failover.blockers if blocker.code == "BLK_FENCE"]
        assert [blocker.reason for blocker in blockers] == ["nobody has confirmed that mail1 has no power"]

    config_file.write_text(config_file.read_text() + "\nfencing: {required: true}\n")
    story(config_file, tmp_path, tell)


MAIL2 = NodeName("mail2")
LEFT = DatabaseFacts(
    version="10.11.19-MariaDB",
    server_id=2,
    read_only=True,
    holdings=GtidSet.upto({"0-1": 500}),
    applied=GtidSet.upto({"0": 500}),
    replication=Replication("10.89.1.11", Thread.STOPPED, Thread.RUNNING, GtidSet.upto({"0": 500})),
    semi_sync_source=False,
    semi_sync_replica=True,
    semi_sync_clients=0,
    heartbeat_term=7,
    heartbeat_beat=10,
)
LEFT_ALONE = {"role": Role.REPLICA, "serving": False, "frozen_term": 7, "lease_over": True, "database": LEFT}
BEGAN = replace(HELD, began=GtidSet.upto({"0": 505}))


def test_without_the_flag_the_refusal_names_the_last_resort_and_its_price(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        assert node.controller.would_promote("mail2", allow_loss=True).refused[0].code == "BLK_LEASE"
        early = await node.controller.promote("mail2", "anna", "they burnt", allow_loss=True)
        assert codes(early) == ["BLK_LEASE"]
        await node.lease_over()
        node.hears(MAIL2, **LEFT_ALONE)
        refused = await node.controller.promote("mail2", "anna", "they burnt")
        assert codes(refused) == ["BLK_RPO_UNPROVEN"]
        assert isinstance(refused, Refused)
        assert "failoverctl promote --node mail2 --force --allow-data-loss --reason TEXT" in refused.last_resort
        assert "5 transactions that mail1 had when its term began: 0:501-505" in refused.last_resort
        preview = node.controller.would_promote("mail2", allow_loss=True)
        assert ([why.code for why in preview.passed], preview.refused) == (["BLK_RPO_UNPROVEN"], ())
        assert preview.lost[0] == "5 transactions that mail1 had when its term began: 0:501-505"
        assert node.controller.would_promote("mail2", allow_loss=False).refused == refused.reasons

    assert story(config_file, tmp_path, tell, BEGAN).cell.record == BEGAN


def test_what_is_forced_reaches_the_store_with_who_and_why(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        await node.lease_over()
        node.hears(MAIL2, **LEFT_ALONE)
        answer = await node.controller.promote("mail2", "anna", "they burnt", allow_loss=True)
        assert isinstance(answer, Accepted), answer
        await node.until(lambda: node.daemon.state.view.record.request is not None)  # type: ignore[union-attr] # read
        again = await node.controller.promote("mail2", "bert", "me too", allow_loss=True)
        assert "BLK_REQUEST" in codes(again)

    node = story(config_file, tmp_path, tell, BEGAN)
    request = node.cell.record.request
    assert request is not None
    assert (request.target, request.by, request.reason, request.term) == ("mail2", "anna", "they burnt", 7)
    assert request.allow_loss
    assert node.audited("asked") == ["anna asked for mail2 as primary, whatever may be lost"]


@pytest.mark.parametrize(("target", "code"), [("mail3", "BLK_UNREACHABLE"), ("mail9", "BLK_NO_SUCH_NODE")])
def test_nobody_can_force_what_is_not_there(config_file: Path, tmp_path: Path, target: str, code: str) -> None:
    async def tell(node: Node) -> None:
        await node.lease_over()
        node.hears(MAIL2, **LEFT_ALONE)
        refused = await node.controller.promote(target, "anna", "they burnt", allow_loss=True)
        assert codes(refused) == [code]
        unforced = await node.controller.promote(target, "anna", "they burnt")
        assert isinstance(unforced, Refused)
        assert unforced.last_resort == ""

    story(config_file, tmp_path, tell, BEGAN)


def test_the_status_says_which_term_each_node_has_seen(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        await node.until(lambda: bool(node.pushed))
        node.hears(MAIL1, term=6)
        status = node.controller.status()
        assert status.term == 7
        assert {n.name: n.term for n in status.nodes} == {"mail1": 6, "mail2": None, "mail3": None, "arbiter": 7}

    story(config_file, tmp_path, tell)


def test_the_status_says_that_it_is_unproven_and_what_that_means(config_file: Path, tmp_path: Path) -> None:
    why = "no replica acknowledges, and writes go on all the same, since heartbeat 9 of term 7 of mail1"

    async def tell(node: Node) -> None:
        await node.until(lambda: bool(node.pushed))
        node.hears(MAIL1)
        status = node.controller.status()
        assert status.unproven == why
        assert [reason.reason for n in status.nodes for reason in n.findings if reason.code == "RPO_UNPROVEN"] == [why]
        blockers = {blocker.reason for blocker in status.failover.blockers if blocker.code == "BLK_RPO_UNPROVEN"}
        assert f"should mail1 be lost, only it itself can say what clients were told: {why}" in blockers

    story(config_file, tmp_path, tell, replace(HELD, unproven=why))


def test_the_status_says_how_far_the_bound_is(config_file: Path, tmp_path: Path) -> None:
    text = config_file.read_text()
    config_file.write_text(text.replace("{mode: zero, go_on_after: never}", "{mode: bounded, limit: 30s}"))
    floor = Floor(1000, GtidSet.upto({"0": 10**15}))  # no replica is there

    async def tell(node: Node) -> None:
        await node.until(lambda: bool(node.pushed))
        node.hears(MAIL1)
        status = node.controller.status()
        assert (status.unproven, status.bound and status.bound.limit_ms) == ("", 30_000)
        assert status.bound is not None
        assert status.bound.within == ()
        assert [reason for n in status.nodes for reason in n.findings if reason.code == "RPO_UNPROVEN"] == []
        blockers = {blocker.code: blocker.reason for blocker in status.failover.blockers}
        assert "BLK_RPO_UNPROVEN" not in blockers
        said = "no replica has what mail1 had 30000 ms ago: if it is lost, nobody takes over"
        assert blockers["BLK_RPO_BOUND"] == said

    marked = replace(HELD, unproven="commits wait for no replica", bound_ms=30_000, floor=floor)
    story(config_file, tmp_path, tell, marked)


def test_a_replication_that_stands_still_is_a_finding(config_file: Path, tmp_path: Path) -> None:
    diverged = DatabaseFacts(
        version="10.11.11-MariaDB",
        server_id=2,
        read_only=True,
        holdings=GtidSet.upto({}),
        applied=GtidSet.upto({}),
        replication=Replication(
            "10.89.1.11", Thread.RUNNING, Thread.STOPPED, GtidSet.upto({}), applier_error="1062: Duplicate entry '7'"
        ),
        semi_sync_source=False,
        semi_sync_replica=True,
        semi_sync_clients=0,
        heartbeat_term=7,
        heartbeat_beat=1,
    )

    async def tell(node: Node) -> None:
        node.hears(NodeName("mail2"), database=diverged)
        found = {told.name: told.findings for told in node.controller.status().nodes}
        text = "mail2: 1062: Duplicate entry '7'; rebuild it"
        assert found["mail2"] == (Reason(code="REPL_DIVERGED", reason=text, node="mail2"),)

    story(config_file, tmp_path, tell)


def test_a_check_has_what_every_node_found_and_what_could_not_be_looked_at(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        found = (("SET_SYNC_BINLOG", "sync_binlog = 0; allowed: 1"), ("UNIT_NOT_ACTIVE", "dovecot.service: failed"))
        node.hears(MAIL1, findings=found, identity=Identity(("server_id", "1"), ("gtid_domain_id", "0")))
        node.hears(NodeName("mail2"))
        checked = node.controller.check()
        assert [(f.node, f.code, f.blocks) for f in checked.findings] == [
            ("mail1", "SET_SYNC_BINLOG", True),
            ("mail1", "UNIT_NOT_ACTIVE", False),
        ]
        first = checked.findings[0]
        assert first.reason == "sync_binlog = 0; allowed: 1"
        assert first.meaning.startswith("the binary log is not on disk when")
        assert first.fix.startswith("set sync_binlog = 1")
        assert first.page == "runbooks/codes/SET_SYNC_BINLOG.md"
        assert [(r.node, r.code, r.reason) for r in checked.unseen] == [
            ("mail2", "BLK_DATABASE", "the settings of the database on mail2 have not been read"),
            ("mail3", "BLK_UNREACHABLE", "no report from mail3 within 2000 ms"),
        ]
        assert not checked.fit
        assert not checked.failover.possible

    story(config_file, tmp_path, tell)


def test_a_check_says_when_the_store_is_away(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        await node.store.set_reachable(reachable=False)
        async with asyncio.timeout(10):
            while not node.daemon.store_error:  # noqa: ASYNC110 - no state changes with it that could be waited for
                await asyncio.sleep(0.01)
        assert "BLK_STORE" in [reason.code for reason in node.controller.check().unseen]

    story(config_file, tmp_path, tell)


# ---- rejoin ---------------------------------------------------------------------------------------------------------

MAIL2, MAIL3 = NodeName("mail2"), NodeName("mail3")


def facts(server_id: int, last: int, **changes: Any) -> DatabaseFacts:
    """A server of the history of server 1, up to `last`."""
    position = GtidSet.upto({"0": last})
    found = DatabaseFacts(
        version="10.11.11-MariaDB",
        server_id=server_id,
        read_only=server_id != 1,
        holdings=GtidSet.upto({"0-1": last}),
        applied=position,
        replication=Replication("10.89.1.11", Thread.RUNNING, Thread.RUNNING, position),
        semi_sync_source=server_id == 1,
        semi_sync_replica=server_id != 1,
        semi_sync_clients=0,
        heartbeat_term=7,
        heartbeat_beat=1,
    )
    return replace(found, **changes)


AHEAD = facts(2, 503, replication=None)


def heard(node: Node, *, second: DatabaseFacts | None = AHEAD) -> None:
    """mail1 is primary, mail3 follows it, and mail2 is as given."""
    node.hears(MAIL1, database=facts(1, 500, replication=None))
    node.hears(MAIL2, database=second, role=Role.FENCED)
    node.hears(MAIL3, database=facts(3, 500), role=Role.REPLICA)


def at_work(stage: str, request: str, **changes: Any) -> dict[str, Any]:
    """What a node reports whose rebuild is at that stage."""
    running = stage not in ("failed", "done")
    return {
        "rebuilding": running,
        "rebuild": replace(RebuildFacts(request, stage, running=running, touched=False), **changes),
    }


def test_a_rejoin_goes_to_the_node_and_its_progress_comes_back(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        heard(node)
        plan = node.controller.rejoin_plan("mail2", "", anew=False)
        assert (plan.action, plan.donor, plan.transactions, plan.refused) == ("rebuild", "mail3", 3, ())
        assert plan.reason.startswith("it holds what mail1 lacks: ")
        answer = await node.controller.rejoin("mail2", "", "anna", anew=False)
        assert isinstance(answer, Accepted)
        await node.until(lambda: any(report.rejoin is not None for report in node.pushed))
        assert [r.rejoin.by for r in node.pushed if r.rejoin is not None][-1] == "anna"
        node.hears(MAIL2, number=2, database=AHEAD, **at_work("ahead", answer.id, saved="/a/1"))
        assert node.daemon.state.rejoin_asked is None
        told = {shown.name: shown.rebuild for shown in node.controller.status().nodes}
        assert told["mail2"] == RebuildStatus(under_way=True, stage="ahead", saved="/a/1")
        await asyncio.sleep(0)  # one turn of the loop for whoever follows
        for number, received in enumerate((100, 150, 900), start=3):
            progress = at_work("receive", answer.id, received=received * 10**6, expected=10**9, rate=10**8, left_s=9)
            node.hears(MAIL2, number=number, database=AHEAD, **progress)
            await asyncio.sleep(0.05)
        ended = RequestEnded(answer.id, succeeded=True, reason="/a/1")
        node.hears(MAIL2, number=9, database=facts(2, 500), rejoin_ended=ended, **at_work("done", answer.id))
        events = await node.ended(answer)
        texts = [event.text for event in events]
        assert "receive: 100 of 1000 MB, 100 MB/s, 9 s left" in texts
        assert "receive: 150 of 1000 MB, 100 MB/s, 9 s left" not in texts, "the same tenth"
        assert (events[-1].text, events[-1].succeeded) == ("the new data are in place; what it had extra: /a/1", True)

    node = story(config_file, tmp_path, tell)
    assert node.audited("asked") == ["anna asked for mail2 to be made anew from mail3"]


def test_a_rejoin_that_its_node_refuses_or_never_hears(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homecoming, "UNHEARD_MS", 300)
    monkeypatch.setattr(rejoining, "ASK_MS", 100)

    async def tell(node: Node) -> None:
        heard(node)
        first = await node.controller.rejoin("mail2", "mail3", "anna", anew=False)
        assert isinstance(first, Accepted)
        why = RequestEnded(first.id, succeeded=False, refused=True, code="BLK_LAST_REPLICA", reason="the only one")
        node.hears(MAIL2, number=2, database=AHEAD, rejoin_ended=why)
        events = await node.ended(first)
        assert (events[-1].refused, events[-1].code, events[-1].text) == (True, "BLK_LAST_REPLICA", "the only one")
        second = await node.controller.rejoin("mail2", "mail3", "anna", anew=False)
        assert (await node.ended(second))[-1].code == "REQUEST_UNSEEN"

    story(config_file, tmp_path, tell)


FAILED_MIDWAY = (
    "mariadb does not answer. The old data have left their place: mail2 tries again by itself, once a minute"
)
CAME_FIRST = "mail2 is being made anew for somebody else, who came first"


@pytest.mark.parametrize(
    ("says", "ends"),
    [
        # its node tells the end
        (
            lambda id_: {"rejoin_ended": RequestEnded(id_, succeeded=False, code="REBUILD_STREAM", reason="broke off")},
            ("REBUILD_STREAM", "broke off"),
        ),
        # it failed where only going on helps, and its node goes on
        (
            lambda id_: (
                at_work("failed", id_, touched=True, code="REBUILD_UNIT", reason="mariadb does not answer")
                | {"rebuilding": True, "rejoining": id_}
            ),
            ("REBUILD_UNIT", FAILED_MIDWAY),
        ),
        # its daemon was started again, and knows only what the program told
        (
            lambda id_: at_work("failed", id_, code="REBUILD_STREAM", reason="broke off"),
            ("REBUILD_STREAM", "broke off"),
        ),
        # another request was taken there first
        (
            lambda _id: at_work("receive", "r0") | {"rejoining": "r0"},
            ("BLK_REBUILDING", CAME_FIRST),
        ),
        # its node does not know of it any more
        (
            lambda _id: {},
            ("REQUEST_UNSEEN", "mail2 does not tell of it; `failoverctl status` shows how it stands"),
        ),
    ],
)
def test_each_end_of_a_rejoin_that_fails_reaches_who_asked(
    config_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    says: Callable[[str], dict[str, Any]],
    ends: tuple[str, str],
) -> None:
    monkeypatch.setattr(homecoming, "UNHEARD_MS", 300)

    async def tell(node: Node) -> None:
        heard(node)
        answer = await node.controller.rejoin("mail2", "mail3", "anna", anew=False)
        assert isinstance(answer, Accepted)
        taken = at_work("receive", answer.id) | {"rejoining": answer.id}
        node.hears(MAIL2, number=2, database=AHEAD, **taken)
        log = asyncio.ensure_future(node.ended(answer))
        for number in range(3, 9):  # longer than a request that its node does not have is waited for
            await asyncio.sleep(0.1)
            node.hears(MAIL2, number=number, database=AHEAD, **taken)
        assert not log.done()
        node.hears(MAIL2, number=9, database=AHEAD, **says(answer.id))
        last = (await log)[-1]
        assert (last.code, last.text) == ends
        assert (last.final, last.succeeded) == (True, False)

    story(config_file, tmp_path, tell)


def test_a_rejoin_whose_node_falls_silent_is_not_waited_for_without_bound(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homecoming, "UNHEARD_MS", 100)
    monkeypatch.setattr(homecoming, "AWAY_MS", 3500)

    async def tell(node: Node) -> None:
        heard(node)
        answer = await node.controller.rejoin("mail2", "mail3", "anna", anew=False)
        assert isinstance(answer, Accepted)
        taken = at_work("receive", answer.id) | {"rejoining": answer.id}
        node.hears(MAIL2, number=2, database=AHEAD, **taken)
        last = (await node.ended(answer))[-1]
        assert last.code == "REQUEST_UNSEEN"
        assert last.text == "no report from mail2 for 3 s; what it has begun goes on there"
        assert last.elapsed_ms > 3500

    story(config_file, tmp_path, tell)


def test_a_rejoin_goes_on_when_who_asked_goes_away(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        heard(node)
        answer = await node.controller.rejoin("mail2", "mail3", "anna", anew=False)
        assert isinstance(answer, Accepted)
        events = await node.controller.events(answer.id)
        assert events is not None
        looking: Any = events
        await anext(looking)
        await looking.aclose()  # the terminal is closed
        await node.until(lambda: any(report.rejoin is not None for report in node.pushed))
        ended = RequestEnded(answer.id, succeeded=True, reason="/a/1")
        node.hears(MAIL2, number=2, database=AHEAD, rejoin_ended=ended)
        assert (await node.ended(answer))[-1].succeeded

    story(config_file, tmp_path, tell)


def test_who_looks_on_is_told_when_the_daemon_cannot(
    config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in the words must not leave a terminal waiting."""

    def broken(*_: object) -> None:
        raise KeyError("mail2")

    monkeypatch.setattr(homecoming.Ending, "__call__", broken)
    unseen: list[dict[str, Any]] = []

    async def tell(node: Node) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unseen.append(context))
        heard(node)
        answer = await node.controller.rejoin("mail2", "mail3", "anna", anew=False)
        assert (await node.ended(answer))[-1].code == "REQUEST_UNSEEN"

    story(config_file, tmp_path, tell)
    gc.collect()
    assert [type(context["exception"]) for context in unseen] == [KeyError], "the bug itself is not hidden"


def test_a_rejoin_that_is_not_safe_is_refused(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        asked = node.controller.rejoin
        assert codes(await asked("mail2", "", "anna", anew=True))[:2] == ["BLK_UNREACHABLE", "BLK_UNREACHABLE"]
        heard(node)
        assert codes(await asked("mail1", "", "anna", anew=True)) == ["BLK_IS_PRIMARY"]
        assert codes(await asked("mail9", "", "anna", anew=True)) == ["BLK_NO_SUCH_NODE"]
        node.hears(MAIL3, number=2, database=None)
        assert codes(await asked("mail2", "", "anna", anew=False)) == ["BLK_NO_DONOR"]

    story(config_file, tmp_path, tell)


def test_a_person_reads_first_that_clients_may_have_been_told_of_what_is_made_anew(
    config_file: Path, tmp_path: Path
) -> None:
    async def tell(node: Node) -> None:
        heard(node, second=replace(AHEAD, heartbeat_term=6))
        plan = node.controller.rejoin_plan("mail2", "", anew=False)
        assert (plan.action, plan.refused) == ("rebuild", ())
        said = "Not by itself: term 7 was forced: clients may have been told of what mail2 has and others lack"
        assert plan.reason.endswith(f"0-1:501-503. {said}"), plan.reason
        node.hears(MAIL2, number=2, database=AHEAD)
        assert "forced" not in node.controller.rejoin_plan("mail2", "", anew=False).reason

    story(config_file, tmp_path, tell, replace(HELD, forced=7))


def test_a_rejoin_of_a_node_that_can_follow_waits_until_it_does(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        heard(node, second=facts(2, 499, replication=None))
        plan = node.controller.rejoin_plan("mail2", "", anew=False)
        assert (plan.action, plan.transactions, plan.refused) == ("follow", 0, ())
        answer = await node.controller.rejoin("mail2", "", "anna", anew=False)
        node.hears(MAIL2, number=2, database=facts(2, 500))
        events = await node.ended(answer)
        assert (events[-1].text, events[-1].succeeded) == ("mail2 follows mail1", True)
        assert node.controller.rejoin_plan("mail2", "", anew=False).action == "none"
        assert node.controller.rejoin_plan("mail2", "", anew=True).action == "rebuild"
        node.hears(MAIL2, number=3, database=None)
        dead = node.controller.rejoin_plan("mail2", "", anew=False)
        assert (dead.action, dead.transactions) == ("rebuild", None)
        assert all(report.rejoin is None for report in node.pushed)

    story(config_file, tmp_path, tell)
