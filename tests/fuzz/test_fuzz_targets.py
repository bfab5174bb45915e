"""Every parser that reads from outside takes hundreds of inputs that are nearly right, and all that ever hurt one.

The same ones each time: new ones are for `tests/fuzz/run` to find, which keeps what hurts as a seed.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import mutate
from target import SEEDS, Target, Trial, tried
from targets import FILES, TARGETS

each = pytest.mark.parametrize("name", TARGETS)


def fine(target: Target, data: bytes) -> Trial:
    trial = tried(target, data)
    assert not trial.key, f"{target.name} ({target.reads}): {trial.key}\n{data[:2000]!r}\n{trial.trace}"
    return trial


@each
def test_what_is_right_is_understood(name: str) -> None:
    """At least one input that is made up gets through: a target that refuses all finds nothing."""
    target = TARGETS[name]
    target.entry(target.made()[0])
    for data in target.made():
        fine(target, data)


@each
def test_what_once_hurt_does_not_any_more(name: str) -> None:
    target = TARGETS[name]
    for path in target.kept():
        fine(target, path.read_bytes())


@each
def test_what_is_nearly_right_hurts_nobody(name: str) -> None:
    target = TARGETS[name]
    seeds = target.seeds()

    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, len(seeds) - 1), st.integers(0, 2**32))
    def tries(index: int, seed: int) -> None:
        fine(target, mutate(random.Random(seed), seeds[index], target.longest))  # noqa: S311 - inputs, not keys

    tries()


@each
def test_bytes_hurt_nobody(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=2000) | st.text(max_size=500).map(lambda text: text.encode("utf-8", "surrogatepass")))
    def tries(data: bytes) -> None:
        fine(target, data)

    tries()


def test_each_row_has_a_name_of_its_own() -> None:
    assert sum(len(file.TARGETS) for file in FILES) == len(TARGETS)
    assert {path.name for path in SEEDS.iterdir() if path.is_dir()} <= set(TARGETS)
