"""Whether a failover is possible, as an operator is told while the primary lives: never yes where it would not come."""

from __future__ import annotations

from views import view

from failoverd.core import candidates
from failoverd.runtime.status import failover_of


def test_all_is_well() -> None:
    told = failover_of(view("mail1", {}), store_error="")
    assert (told.possible, told.candidate, told.blockers) == (True, "mail2", ())


def test_a_replica_that_has_not_caught_up_since_its_database_was_started_proves_nothing() -> None:
    seen = view("mail1", {"mail3": {"caught_up": False}})
    assert not candidates.could_elect(seen)
    told = failover_of(seen, store_error="")
    assert not told.possible
    (blocker,) = told.blockers
    assert blocker.code == "BLK_RPO_UNPROVEN"
    assert blocker.reason == (
        "2 replicas must be heard to prove that nothing acknowledged is lost, heard: mail2"
        " (not counted: mail3, whose database was started and has not caught up with a primary since)"
    )
