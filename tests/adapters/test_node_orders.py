"""Operators' orders through a whole daemon: into the store, out of the status, and into the audit with who and why."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from node_stage import HELD, Node, codes, story

from failoverd.core.model import Record
from failoverd.runtime.clock import epoch_ms

if TYPE_CHECKING:
    from pathlib import Path

HOUR_MS = 3_600_000


def test_an_order_ends_once_its_record_is_on_most_nodes(config_file: Path, tmp_path: Path) -> None:
    """What it does waits for nothing: only its last word does."""

    async def tell(node: Node) -> None:
        node.copying.clear()
        answer = await node.controller.pause("anna", "moving the rack")
        await node.until(
            lambda: node.daemon.state.view.record is not None and bool(node.daemon.state.view.record.paused)
        )
        ending = asyncio.ensure_future(node.ended(answer))
        while not node.audited("request-result"):  # noqa: ASYNC110 - it is in the record, and not said yet
            await asyncio.sleep(0.01)
        assert not ending.done()
        node.copying.set()
        last = (await ending)[-1]
        assert (last.text, last.code, last.succeeded) == ("paused by anna: moving the rack", "", True)

    story(config_file, tmp_path, tell)


def test_where_most_nodes_lack_the_record_an_order_says_which(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        node.missing = "its record is on arbiter only"
        last = (await node.ended(await node.controller.pause("anna", "moving the rack")))[-1]
        assert last.text == "paused by anna: moving the rack; its record is on arbiter only (arbiter)"
        assert (last.code, last.succeeded) == ("AUDIT_UNCOPIED", True), "it is done all the same"
        refused = await node.controller.confirm_fenced("mail9", "anna", "no such node")
        assert codes(refused) == ["BLK_NO_SUCH_NODE"], "and what touched nothing waits for nobody"

    story(config_file, tmp_path, tell)


def now_ms() -> int:
    """The wall clock, as these tests' operators have it."""
    return time.time_ns() // 1_000_000


def s_of(text: str | None) -> int:
    """Documents name whole seconds."""
    assert text is not None
    return int(datetime.fromisoformat(text).timestamp())


def test_maintenance_is_in_the_store_and_the_status_until_it_is_ended(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        before = now_ms()
        events = await node.ended(
            await node.controller.maintenance("mail3", "anna", "new disk", on=True, for_ms=HOUR_MS)
        )
        assert events[-1].succeeded, events
        (known,) = node.cell.record.maintenance
        assert (known.node, known.by, known.reason) == ("mail3", "anna", "new disk")
        assert before + HOUR_MS - 1000 <= known.until_ms <= now_ms() + HOUR_MS + 1000
        shown = {found.name: found.maintenance for found in node.controller.status().nodes}
        assert shown["mail3"] is not None
        assert (shown["mail3"].by, shown["mail3"].reason) == ("anna", "new disk")
        assert s_of(shown["mail3"].until) == known.until_ms // 1000
        assert shown["mail1"] is shown["mail2"] is None
        events = await node.ended(await node.controller.maintenance("mail3", "bert", "", on=False))
        assert events[-1].succeeded, events
        assert node.cell.record.maintenance == ()

    node = story(config_file, tmp_path, tell)
    began, ended = node.audited("asked")
    assert began.startswith("anna")
    assert ended.startswith("bert")
    assert node.audited("maintenance")[0] == "mail3 is in maintenance, by anna: new disk"
    assert len(node.audited("maintenance")) == 2


@pytest.mark.parametrize(("named", "code"), [("mail9", "BLK_NO_SUCH_NODE"), ("mail1", "BLK_IS_PRIMARY")])
def test_maintenance_of_whom_it_makes_no_sense_for_is_refused(
    config_file: Path, tmp_path: Path, named: str, code: str
) -> None:
    async def tell(node: Node) -> None:
        assert codes(await node.controller.maintenance(named, "anna", "new disk", on=True)) == [code]

    assert story(config_file, tmp_path, tell).cell.record == HELD


def test_a_scheduled_switchover_is_in_the_store_and_can_be_taken_back(config_file: Path, tmp_path: Path) -> None:
    due = now_ms() + HOUR_MS

    async def tell(node: Node) -> None:
        events = await node.ended(await node.controller.schedule("mail2", "anna", "kernel", due))
        assert events[-1].succeeded, events
        scheduled = node.cell.record.scheduled
        assert scheduled is not None
        assert (scheduled.target, scheduled.by, scheduled.at_ms) == ("mail2", "anna", due)
        shown = node.controller.status().scheduled
        assert shown is not None
        assert (shown.target, s_of(shown.at)) == ("mail2", due // 1000)
        assert shown.unfit is not None, "nobody reports here: it would be dropped as it is now, and that is said"
        events = await node.ended(await node.controller.cancel_scheduled("bert"))
        assert events[-1].succeeded, events
        assert node.cell.record.scheduled is None
        assert len(codes(await node.controller.cancel_scheduled("bert"))) == 1

    node = story(config_file, tmp_path, tell)
    assert "mail2 as primary, by anna" in node.audited("scheduled")


def test_a_moment_that_is_past_is_refused(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        (code,) = codes(await node.controller.schedule("mail2", "anna", "kernel", now_ms() - HOUR_MS))
        assert code == "BLK_TIME"

    assert story(config_file, tmp_path, tell).cell.record == HELD


def test_without_a_change_there_is_nothing_to_acknowledge(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        assert len(codes(await node.controller.acknowledge("anna", "a bad cable"))) == 1

    story(config_file, tmp_path, tell)


def test_a_pause_with_an_end_has_it_in_the_store(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        before = now_ms()
        events = await node.ended(await node.controller.pause("anna", "rack", for_ms=HOUR_MS))
        assert events[-1].succeeded, events
        assert before + HOUR_MS - 1000 <= node.cell.record.paused_until_ms <= now_ms() + HOUR_MS + 1000
        assert s_of(node.controller.status().paused_until) == node.cell.record.paused_until_ms // 1000

    story(config_file, tmp_path, tell)


def test_nothing_is_ordered_before_the_first_primary(config_file: Path, tmp_path: Path) -> None:
    async def tell(node: Node) -> None:
        assert "BLK_NO_PRIMARY" in codes(await node.controller.maintenance("mail3", "anna", "new disk", on=True))
        assert "BLK_NO_PRIMARY" in codes(await node.controller.schedule("mail2", "anna", "", now_ms() + HOUR_MS))

    story(config_file, tmp_path, tell, Record())


def test_a_clock_that_is_set_while_the_daemon_runs_is_heard(config_file: Path, tmp_path: Path) -> None:
    """Somebody sets the clock an hour ahead; a pause that was to end in half an hour has run out by it then."""
    ahead = [0]

    async def tell(node: Node) -> None:
        await node.until(lambda: node.daemon.state.view.epoch_ms is not None)
        known = node.daemon.state.view.epoch_ms
        assert known is not None
        ahead[0] = HOUR_MS
        await node.until(lambda: node.daemon.state.view.epoch_ms not in {None, known})
        told = node.daemon.state.view.epoch_ms
        assert told is not None
        assert abs(told - known - HOUR_MS) < 1000

    story(config_file, tmp_path, tell, epoch=lambda: epoch_ms() + ahead[0])


def test_a_clock_that_is_only_slewed_is_no_news(config_file: Path, tmp_path: Path) -> None:
    looks: list[int] = []

    def slewed() -> int:
        looks.append(1)
        return epoch_ms() + 20 * (len(looks) % 2)

    async def tell(node: Node) -> None:
        await node.until(lambda: node.daemon.state.view.epoch_ms is not None)
        known = node.daemon.state.view.epoch_ms
        await node.until(lambda: len(looks) >= 3)
        assert node.daemon.state.view.epoch_ms == known

    story(config_file, tmp_path, tell, epoch=slewed)
