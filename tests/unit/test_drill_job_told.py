"""What a job of a drill's agent is told is another node's word: in the form that it knows, or nothing is done."""

from __future__ import annotations

from typing import Any

import pytest

from failoverd.drill import DrillError, job
from failoverd.drill.jobs import KINDS

ID = "20261129-020000-service-hang"


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        ("backup", {"drill": "../../etc", "kind": "full"}, "backup: drill: "),
        ("backup", {"drill": f"{ID}/../x", "kind": "full"}, "backup: drill: "),
        ("backup", {"drill": ID, "kind": "none"}, "backup: kind: "),
        ("mailboxes", {"drill": ID}, "mailboxes: accounts: Field required"),
        ("clean", {"drill": ID, "accounts": [""]}, "clean: accounts.0: "),
        ("counters", {"drill": ID, "accounts": [], "since_ms": 10**18, "late_ms": 0}, "counters: since_ms: "),
        ("tables", {"only": "mail.users"}, "tables: only: "),
        ("rm", {}, "'rm' is no job"),
    ],
)
def test_what_is_not_understood_is_refused(kind: str, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(DrillError, match=words) as refused:
        job.told(kind, arguments)
    assert refused.value.code == "DRILL_BUG"


def test_what_a_newer_coordinator_says_beside_it_is_passed_over() -> None:
    asked = job.told("clean", {"drill": ID, "accounts": ["a@b.test"], "newer": 1})
    assert asked.model_dump() == {"drill": ID, "accounts": ["a@b.test"]}


def test_an_agent_starts_no_other_kinds() -> None:
    assert set(job.KINDS) == set(KINDS)
