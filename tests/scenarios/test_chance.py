"""Faults by chance, many at once: safety at every event, and one primary after the healing. One seed is one schedule.

python tests/scenarios/test_chance.py 1 500    more of them; a failing seed prints its story
"""

from __future__ import annotations

import sys
from random import Random

import pytest
from story import Story

DATA = ["mail1", "mail2", "mail3"]
NODES = [*DATA, "arbiter"]


def _some_faults(chance: Random) -> list[str]:
    node, data = chance.choice(NODES), chance.choice(DATA)
    pause = f"wait {chance.choice((0.1, 0.5, 2, 3, 5))}s"
    return chance.choice(
        [
            [f"power-cut {node}", pause, f"power-on {node}"],
            [f"power-cut {node}"],
            [f"restart-failoverd {node}"],
            [f"kill-failoverd {node}"],
            [f"freeze {node}", pause, f"thaw {node}"],
            [f"unplug {node}", pause, f"plug {node}"],
            [f"cut {node} {chance.choice(NODES)}"],
            ["store-down", pause, "store-up"],
            [f"kill-database {data}"],
            [f"lag {data} {chance.choice((1, 5))}s"],
            [chance.choice(["stop", "ruin", "break"]) + f"-service {data} imap"],
            [f"promote {data} {data}"],
            [chance.choice(["set-writable", "set-read-only", "drop-vip"]) + f" {data}"],
            ["heal-network"],
        ]
    )


def _schedule(seed: int) -> str:
    chance = Random(seed)  # noqa: S311 - a schedule, no secret
    lines = ["policy hold_off_ms=2000 failovers=50"]
    for _ in range(chance.randint(3, 9)):
        lines += [*_some_faults(chance), f"wait {chance.choice((0.05, 0.3, 1, 2.5, 4))}s"]
    return "".join(f"> {line}\n" for line in lines)


@pytest.mark.parametrize("seed", range(20))
def test_faults_by_chance(seed: int) -> None:
    Story(seed).tell(_schedule(seed))


if __name__ == "__main__":
    for number in range(int(sys.argv[1]), int(sys.argv[2])):
        told = Story(number)
        try:
            told.tell(_schedule(number))
        except AssertionError as error:
            print("\n".join(told.lines), f"\nSEED {number}: {error}")
