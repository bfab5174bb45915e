"""Lag as a finding: raised once, resolved once, never by noise."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from views import NOW, POLICY, primary_facts, replica_facts, report, view

from failoverd.core import candidates, machine
from failoverd.core.lag import LOWER_AFTER, NO_LAG, RAISE_AFTER, Lag, after
from failoverd.core.model import Health, NodeName, Observation, Reading
from failoverd.core.state import State


def fold(*lags: int | None) -> list[str]:
    """The finding after each reading."""
    lag, codes = NO_LAG, []
    for one in lags:
        lag = after(lag, one, POLICY)
        codes.append(lag.code)
    return codes


W, A = "LAG_WARN", "LAG_ALARM"


@pytest.mark.parametrize(
    ("lags", "ends"),
    [
        ([0, 500, 500, 500, 500], ""),  # one heartbeat is noise, however often
        ([1000, 1000, 0, 1000, 1000, 0], ""),  # too few in a row
        ([1000] * RAISE_AFTER, W),
        ([5500] * RAISE_AFTER, A),
        ([1000, 5500, 1000], W),  # what all of them agree on
        ([5000] * 50, W),  # over 5 s, not at it
        ([1000] * 3 + [5500] * 3, A),
        ([1000] * 3 + [0] * (LOWER_AFTER - 1), W),
        ([1000] * 3 + [0] * LOWER_AFTER, ""),
        ([5500] * 3 + [1000, *[0] * (LOWER_AFTER - 1)], W),  # one step: the worst of the run
        ([5500] * 3 + [0] * LOWER_AFTER, ""),
        ([5500] * 3 + [0] * 9 + [5500] + [0] * 9, A),  # a replica that catches up in bursts
        ([5500] * 3 + [None] * 50, A),  # not known is not better
        ([1000, None, 1000, None, 1000], W),
        ([None] * 50, ""),
    ],
)
def test_lag(lags: list[int | None], ends: str) -> None:
    assert fold(*lags)[-1] == ends


@given(st.lists(st.sampled_from([0, 500, 1000, 4000, 6000, None]), max_size=200))
def test_it_never_changes_more_often_than_its_runs_allow(lags: list[int | None]) -> None:
    codes = ["", *fold(*lags)]
    changes = sum(before != now for before, now in itertools.pairwise(codes))
    assert changes <= len(lags) // RAISE_AFTER


def test_a_quiet_lag_stays_the_same_value() -> None:
    """So that a reading which found nothing new is nothing new."""
    assert after(NO_LAG, 0, POLICY) is NO_LAG
    warned = Lag(1)
    assert after(warned, 1000, POLICY) is warned


def test_one_record_when_it_comes_and_one_when_it_goes() -> None:
    state = State(view=view(), software="0.1.0")
    said: list[tuple[str, str]] = []
    found: list[tuple[tuple[str, str], ...]] = []
    now = NOW
    for beat in [90] * 6 + [100] * (LOWER_AFTER + 2):  # of the holder's 100, in beats of 500 ms
        now += 500
        number = state.view.sendings.last
        fresh = report("mail1", "mail2", number=now, database=primary_facts(heartbeat_beat=100))
        heard = replace(fresh, heard=tuple(replace(h, number=number) for h in fresh.heard))
        state = machine.step(state, machine.Reported(heard), now).state
        facts = replica_facts(heartbeat_beat=beat)
        seen = Observation("database", NodeName("mail2"), Reading(Health.OK, facts=facts), now, 1)
        reaction = machine.step(state, machine.Observed(seen), now)
        state = reaction.state
        said += [(e.kind, e.code) for e in reaction.entries if e.kind.startswith("alarm")]
        found.append(state.view.findings)
    assert said == [("alarm", "LAG_WARN"), ("alarm-over", "LAG_WARN")]
    assert ("LAG_WARN", "5000 ms behind mail1, the limit is 500 ms") in found[RAISE_AFTER - 1]
    assert found[-1] == ()


def test_it_moves_nothing_and_excludes_nobody() -> None:
    calm, late = view(), view(lag=Lag(2))
    assert "LAG_ALARM" in dict(late.findings)
    assert candidates.failover(late) == candidates.failover(calm)
    assert candidates.planned(late) == candidates.planned(calm)
