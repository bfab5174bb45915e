"""Runs every story: told once without chance and compared word by word, then lived through with drawn latencies."""

from __future__ import annotations

from pathlib import Path

import pytest
from story import Story

from failoverd.core.rules import RULES

STORIES = sorted(Path(__file__).parent.glob("*.txt"))
SEEDS = (1,)
_fired: dict[str, set[str]] = {}


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story(path: Path, request: pytest.FixtureRequest) -> None:
    story = Story()
    written = path.read_text()
    told = story.tell(written)
    _fired[path.stem] = story.rules
    if request.config.getoption("--regenerate"):
        path.write_text(told)
    else:
        assert told == written


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story_holds_under_other_latencies(path: Path, seed: int) -> None:
    Story(seed).tell(path.read_text())


def test_every_rule_is_fired_by_a_story() -> None:
    for path in STORIES:
        if path.stem not in _fired:  # run alone
            story = Story()
            story.tell(path.read_text())
            _fired[path.stem] = story.rules
    assert {rule.id for rule in RULES} - set().union(*_fired.values()) == set()
