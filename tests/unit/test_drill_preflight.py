"""Whether a drill's fault may still come, when the backup before it has taken its time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from failoverd.config import load
from failoverd.config.drill import Drill
from failoverd.drill.model import Asked, Cast
from failoverd.drill.preflight import early, too_late
from failoverd.runtime.document import FailoverStatus, LeaseStatus, RuleStatus, StatusDocument, StoreStatus

if TYPE_CHECKING:
    from pathlib import Path

    from failoverd.config import Config

ASKED = Asked(id="20261129-010500-switchover", scenario="switchover", by="anna", users=0, duration_s=1200)
CAST = Cast(
    coordinator="mail3",
    primary="mail1",
    heir="mail2",
    target="",
    data_nodes=("mail1", "mail2", "mail3"),
    arbiters=("arbiter",),
    term=7,
)
STATUS = StatusDocument(
    cluster="lab",
    node="mail3",
    software="0.1.0",
    term=7,
    holder="mail1",
    lease=LeaseStatus(state="held"),
    store=StoreStatus(kind="embedded", reachable=True),
    nodes=(),
    failover=FailoverStatus(possible=True, candidate="mail2"),
    rule=RuleStatus(id="replica-follows", why="another node holds the lease"),
)


@pytest.fixture
def config(config_file: Path) -> Config:
    drill = Drill.model_validate({"enabled": True, "window": "22:00-04:00"})
    return load(config_file, "mail3").model_copy(update={"drill": drill})


def at(text: str) -> datetime:
    return datetime.strptime(f"2026-11-29 {text}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "why"),
    [
        ("22:00", ""),
        ("23:50", ""),  # over midnight
        ("03:39", ""),
        ("03:41", "it is 03:41, and the load would end at 04:01; drills are allowed 22:00-04:00"),
        ("21:45", "it is 21:45; drills are allowed 22:00-04:00"),
        ("11:30", "it is 11:30; drills are allowed 22:00-04:00"),
    ],
)
def test_fault_and_load_lie_in_the_window(config: Config, now: str, why: str) -> None:
    expected = [("DRILL_WINDOW", why)] if why else []
    assert early(config, ASKED, at(now)) == expected
    assert too_late(config, ASKED, CAST, STATUS, at(now)) == expected


def test_a_window_of_its_own_counts_instead(config: Config) -> None:
    asked = replace(ASKED, window="11:00-12:00")
    assert too_late(config, asked, CAST, STATUS, at("11:30")) == []
    assert too_late(config, replace(ASKED, window="always"), CAST, STATUS, at("11:50")) == []
    assert [code for code, _ in too_late(config, asked, CAST, STATUS, at("11:50"))] == ["DRILL_WINDOW"]


@pytest.mark.parametrize("changed", [{"holder": "mail2", "term": 8}, {"term": 9}, {"holder": None}])
def test_nothing_is_broken_in_a_cluster_whose_primary_changed_meanwhile(
    config: Config, changed: dict[str, object]
) -> None:
    whys = too_late(config, ASKED, CAST, replace(STATUS, **changed), at("23:00"))  # type: ignore[arg-type] # its fields
    assert [code for code, _ in whys] == ["DRILL_NOT_FIT"]
    assert "mail1 in term 7" in whys[0][1]
