"""120 seeds of ten virtual minutes: no invariant is violated. More of them: tests/simulation/run."""

from __future__ import annotations

import os
from multiprocessing import get_context

import pytest
from run_seeds import timed
from simulate import Seed, simulate

SEEDS = range(1, 121)


@pytest.fixture(scope="module")
def outcomes() -> dict[int, Seed]:
    """Run all of them, on all cores."""
    with get_context("spawn").Pool(os.cpu_count()) as pool:
        return {seed.number: seed for seed, _, _ in pool.imap_unordered(timed, SEEDS, chunksize=2)}


@pytest.mark.simulation
@pytest.mark.parametrize("number", SEEDS)
def test_no_invariant_is_violated(number: int, outcomes: dict[int, Seed]) -> None:
    assert outcomes[number].violation == "", f"tests/simulation/run --seeds {number} tells the story"


@pytest.mark.parametrize("number", [3, 17])
def test_a_seed_is_the_same_schedule_again_told_or_not(number: int) -> None:
    told, again = simulate(number, told=True), simulate(number)
    assert told.violation == again.violation == ""
    assert (told.virtual_ms, told.terms, told.failovers) == (again.virtual_ms, again.terms, again.failovers)
    assert told.story == simulate(number, told=True).story
