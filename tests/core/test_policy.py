"""A policy that breaks a safety relation cannot be built."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from views import POLICY

from failoverd.core.policy import Policy, PolicyError

MS = st.integers(-10, 5000)


def test_the_refusal_names_both_sums() -> None:
    with pytest.raises(PolicyError, match=r"= 3100 ms is above ttl = 3000 ms"):
        replace(POLICY, renew_ms=600)


@given(ttl=MS, renew=MS, margin=MS, demote=MS)
def test_three_renewals_may_fail_before_the_holder_lets_go(ttl: int, renew: int, margin: int, demote: int) -> None:
    times = {"ttl_ms": ttl, "renew_ms": renew, "margin_ms": margin, "demote_budget_ms": demote}
    fits = min(times.values()) > 0 and 3 * renew + margin + demote <= ttl
    try:
        policy: Policy | None = replace(POLICY, **times)  # type: ignore[arg-type] # all of them are numbers
    except PolicyError:
        policy = None
    assert (policy is not None) == fits
    if policy is not None:
        assert policy.lapse_ms >= 3 * policy.renew_ms
