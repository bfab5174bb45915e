"""Who is no member and acknowledges all the same is found, and a member that is only not heard is no stranger."""

from __future__ import annotations

import pytest
from views import primary_facts, replica_facts, view

from failoverd.core.model import Thread


def found(clients: int, **reports: object) -> str:
    seen = view("mail1", reports, database=primary_facts(semi_sync_clients=clients))  # type: ignore[arg-type]
    return dict(seen.findings).get("STRANGER_ACKNOWLEDGES", "")


ELSEWHERE = {"database": replica_facts(source="mail3")}
STOPPED = {"database": replica_facts(receiver=Thread.STOPPED)}


@pytest.mark.parametrize(
    ("clients", "mail3", "said"),
    [
        (2, {}, ""),
        (3, {}, "3 acknowledge, and of the members only mail2, mail3 can"),
        (2, None, ""),  # mail3 is not heard: it may be the other one
        (3, None, "3 acknowledge, and of the members only mail2, mail3 can"),
        (2, STOPPED, "2 acknowledge, and of the members only mail2 can"),
        (2, ELSEWHERE, "2 acknowledge, and of the members only mail2 can"),
        (1, STOPPED, ""),
    ],
)
def test_more_acknowledge_than_members_can(clients: int, mail3: object, said: str) -> None:
    assert found(clients, mail3=mail3) == said


def test_a_replica_has_none() -> None:
    facts = replica_facts(semi_sync_source=True, semi_sync_clients=5)
    assert "STRANGER_ACKNOWLEDGES" not in dict(view("mail2", database=facts).findings)
