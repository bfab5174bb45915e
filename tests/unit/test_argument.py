"""The page that argues that there is at most one primary speaks of this code: its lines and its bugs exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
PAGE = (TREE / "runbooks/at-most-one-primary.md").read_text()
LINES = re.findall(r"^- `([^`]+\.py)`: `([^`]+)`$", PAGE, re.MULTILINE)
STEPS = re.split(r"^\*\*\d+\. ", PAGE, flags=re.MULTILINE)[1:10]  # the tenth is no part of the proof


def planted() -> set[str]:
    """Read the names in the table, without importing it: its tests are another package's."""
    table = ast.parse((TREE / "tests/simulation/planted_bugs.py").read_text())
    calls = [node for node in ast.walk(table) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    named = [call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "_bug"]
    return {name.value for name in named if isinstance(name, ast.Constant) and isinstance(name.value, str)}


@pytest.mark.parametrize(("file", "line"), LINES)
def test_the_line_is_in_the_file_once(file: str, line: str) -> None:
    assert (TREE / file).read_text().count(line) == 1


def test_each_step_names_the_line_that_holds_it_and_the_bug_that_breaks_it() -> None:
    assert len(STEPS) == 9
    for step in STEPS:
        broken = re.search(r"^- broken by:((?:.|\n  )+)", step, re.MULTILINE)
        assert broken is not None, step[:60]
        bugs = re.findall(r"`([^`]+)`", broken[1])
        assert bugs, step[:60]
        assert set(bugs) <= planted(), step[:60]
        assert re.search(r"^- `failoverd/", step, re.MULTILINE), step[:60]
