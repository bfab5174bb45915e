"""Reports and swaps that come again, late, of a term that is over, or that are not their sender's: nothing changes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from trust_stage import ARBITER, DEADLINE_S, MAIL2, MAIL3, REPORT, TrustStage

from failoverd import wire
from failoverd.core.model import Heard, NodeName, Record, Report
from failoverd.https import Answer, Link
from failoverd.ports import StoreUnavailableError
from failoverd.runtime.peers import PATH

if TYPE_CHECKING:
    from pathlib import Path


async def said(link: Link, report: Report) -> Answer:
    return await link.request("POST", PATH, deadline_ms=5000, body=wire.encode_report(report))


def test_a_report_that_comes_again_changes_nothing_and_is_counted(config_file: Path, tmp_path: Path) -> None:
    stage = TrustStage(config_file, tmp_path)

    async def tell(stage: TrustStage) -> None:
        view = stage.node.daemon.state.view
        heard = (Heard(view.me.name, view.sendings.process, view.sendings.last),)
        first = replace(REPORT, sender=MAIL3, heard=heard, term=view.highest_term, number=5)
        link = Link(stage.address, stage.ports["peer"], stage.client(MAIL3))
        assert (await said(link, first)).status == 204
        stands = stage.node.daemon.state.view.reports
        late = {
            "report 5 came after report 5": first,
            "report 4 came after report 5": replace(first, number=4, ready=False),
            "a report of term 6 came after one of term 7": replace(first, number=6, term=6, ready=False),
        }
        for why, report in late.items():
            assert await said(link, report) == Answer(409, why.encode())
            assert stage.node.daemon.state.view.reports == stands
            assert stage.node.daemon.state.view.highest_term == 7
        assert stage.refusals.counts == {("peer", "PEER_REPLAY"): 3}
        assert "a report of term 6 came after one of term 7 (3 times)" in await stage.told("PEER_REPLAY", "peer")
        assert [found.code for found in stage.trust.refused()] == ["PEER_REPLAY"]
        # A daemon that was started again has heard nothing yet: that is no replay.
        anew = await said(link, replace(first, process="another", number=1, heard=()))
        assert anew.status == 409
        assert stage.refusals.counts == {("peer", "PEER_REPLAY"): 3}
        assert (await said(link, replace(first, number=6))).status == 204
        link.close()

    stage.run(tell)


def test_a_member_that_reports_an_absurd_term_moves_nothing_and_is_counted(config_file: Path, tmp_path: Path) -> None:
    """Also after a whole lease in which the store says otherwise; and its next run is heard as if nothing had been."""
    stage = TrustStage(config_file, tmp_path)

    async def tell(stage: TrustStage) -> None:
        link = Link(stage.address, stage.ports["peer"], stage.client(MAIL3))
        number = 0
        async with asyncio.timeout(DEADLINE_S):
            while ("peer", "PEER_TERM") not in stage.refusals.counts:
                number += 1
                view = stage.node.daemon.state.view
                heard = (Heard(view.me.name, view.sendings.process, view.sendings.last),)
                absurd = replace(REPORT, sender=MAIL3, heard=heard, term=10**18, number=number)
                assert (await said(link, absurd)).status == 204, "it is taken, but for its term"
                await asyncio.sleep(0.05)
        text = await stage.told("PEER_TERM", "peer")
        assert text.endswith(f"it reports term {10**18}, and the store has given 7")
        assert [found.code for found in stage.trust.refused()] == ["PEER_TERM"]
        known = stage.node.daemon.state.view
        assert (known.highest_term, known.memory.term) == (7, 7)
        assert known.record is not None
        assert known.record.term == 7
        mended = replace(REPORT, sender=MAIL3, heard=heard, term=7, number=1, process="another")
        assert (await said(link, mended)).status == 204
        assert stage.node.daemon.state.view.newer_term() is None
        link.close()

    stage.run(tell)


HELD = Record(term=1, holder=MAIL2, ttl_ms=3000, counter=2)
IMPROPER = {
    "renewed by another": (MAIL3, replace(HELD, counter=3), "PEER_IMPOSTOR"),
    "given back by another": (MAIL3, replace(HELD, revoked=True), "PEER_IMPOSTOR"),
    "taken for another": (MAIL3, replace(HELD, term=2, holder=NodeName("mail1"), counter=0), "PEER_IMPOSTOR"),
    "taken by the arbiter for a replica": (ARBITER, replace(HELD, term=2, holder=MAIL3, counter=0), "PEER_IMPOSTOR"),
    "of a term that is over": (MAIL2, replace(HELD, term=0, holder=None), "PEER_REPLAY"),
    "an older renewal": (MAIL2, replace(HELD, counter=1), "PEER_REPLAY"),
}


@pytest.mark.parametrize("kind", IMPROPER)
def test_a_swap_that_is_not_its_senders_does_not_happen(config_file: Path, tmp_path: Path, kind: str) -> None:
    """Though its version fits."""
    asker, wanted, code = IMPROPER[kind]
    stage = TrustStage(config_file, tmp_path)

    async def tell(stage: TrustStage) -> None:
        holder, other = stage.store(MAIL2), stage.store(asker)
        won, stands = await holder.compare_and_swap(0, replace(HELD, counter=0))
        for counter in (1, 2):
            won, stands = await holder.compare_and_swap(stands.version, replace(stands, counter=counter))
            assert won
        with pytest.raises(StoreUnavailableError, match=r"40[39] "):
            await other.compare_and_swap(stands.version, wanted)
        assert await holder.read() == stands
        assert stage.refusals.counts == {("peer", code): 1}
        won, _ = await holder.compare_and_swap(stands.version, replace(stands, counter=3))
        assert won
        await holder.close()
        await other.close()

    stage.run(tell)


def test_a_swap_of_an_older_version_is_refused_by_that_and_counted_where_it_goes_back(
    config_file: Path, tmp_path: Path
) -> None:
    stage = TrustStage(config_file, tmp_path)

    async def tell(stage: TrustStage) -> None:
        holder, next_one = stage.store(MAIL2), stage.store(MAIL3)
        _, first = await holder.compare_and_swap(0, HELD)
        won, taken = await next_one.compare_and_swap(first.version, replace(HELD, term=2, holder=MAIL3, counter=0))
        assert won
        assert await holder.compare_and_swap(first.version, replace(first, counter=3)) == (False, taken)
        assert stage.refusals.counts == {("peer", "PEER_REPLAY"): 1}
        # Who was only second is no replay.
        assert await holder.compare_and_swap(first.version, replace(HELD, term=2, counter=0)) == (False, taken)
        assert stage.refusals.counts == {("peer", "PEER_REPLAY"): 1}
        await holder.close()
        await next_one.close()

    stage.run(tell)
