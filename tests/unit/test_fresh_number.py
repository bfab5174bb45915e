"""A server that becomes writable goes on with a number that it has never given."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from failoverd.databases.mariadb_promote import SKIPPED, fresh_number

NUMBERS = st.integers(0, 1 << 60)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_it_is_beyond_whatever_the_server_holds(last: int, boot_us: int, wall_us: int) -> None:
    assert fresh_number(last, boot_us=boot_us, wall_us=wall_us) >= last + SKIPPED


@given(NUMBERS, NUMBERS, NUMBERS, st.integers(1, 1 << 40))
def test_what_a_crash_dropped_is_not_given_again(kept: int, boot_us: int, wall_us: int, took_us: int) -> None:
    """Its log ends where it ended the first time, and one was written in each microsecond meanwhile."""
    given_us = fresh_number(kept, boot_us=boot_us, wall_us=wall_us) + took_us
    assert fresh_number(kept, boot_us=boot_us + took_us, wall_us=wall_us + took_us) >= given_us
    after_a_reboot = fresh_number(kept, boot_us=0, wall_us=wall_us + took_us)
    assert after_a_reboot >= given_us or wall_us < kept + SKIPPED + boot_us  # a wall clock that was never right


@given(NUMBERS, NUMBERS, st.integers(1, 1 << 40))
def test_without_a_wall_clock_the_time_since_boot_keeps_them_apart(kept: int, boot_us: int, took_us: int) -> None:
    given_us = fresh_number(kept, boot_us=boot_us, wall_us=0) + took_us
    assert fresh_number(kept, boot_us=boot_us + took_us, wall_us=0) >= given_us
