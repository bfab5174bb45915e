"""What can be lost besides the primary, one node at a time, as each node sees it."""

from __future__ import annotations

import pytest
from views import lost, replica_facts, view

from failoverd.core.afford import losses
from failoverd.core.model import NodeName, Thread

ARBITER = NodeName("arbiter")


def told(me: str, **reports: object) -> dict[str, tuple[bool, bool]]:
    seen = view(me, reports)  # type: ignore[arg-type]
    return {loss.node: (loss.serves, loss.replaceable) for loss in losses(seen, ARBITER)}


@pytest.mark.parametrize("me", ["mail1", "mail2", "arbiter"])
def test_all_is_well_and_one_may_go_without_a_pause(me: str) -> None:
    # With one of two replicas gone nobody could prove that nothing is lost; without the store nobody could take over.
    assert told(me) == {"mail2": (True, False), "mail3": (True, False), "arbiter": (True, False)}


def test_with_one_replica_gone_the_other_holds_up_every_commit_and_the_store_must_stay() -> None:
    assert told("mail1", mail3=None) == {"mail2": (False, False), "mail3": (True, False), "arbiter": (False, False)}


def test_a_replica_that_acknowledges_nothing_is_no_replacement() -> None:
    stopped = {"database": replica_facts(receiver=Thread.STOPPED)}
    assert told("mail1", mail3=stopped)["mail2"] == (False, False)
    assert told("mail1", mail3=stopped)["mail3"][0]


def test_without_a_primary_nothing_serves() -> None:
    assert not any(loss.serves for loss in losses(lost("mail2"), ARBITER))
