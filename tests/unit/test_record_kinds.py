"""What is read from audit records by their kind is written under that kind: nothing is read that nobody writes."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from failoverd.core import happened, history
from failoverd.core.turn import DECIDED

SOURCE = Path(__file__).parents[2] / "failoverd"


def written() -> set[str]:
    """Give every text that is the first argument of a call named note or _note, also where it is one of two."""
    found: set[str] = set()
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) and node.args else None
            if isinstance(node, ast.Call) and isinstance(called, ast.Attribute) and called.attr in ("note", "_note"):
                found |= {each.value for each in ast.walk(node.args[0]) if isinstance(each, ast.Constant)}
    return found


@pytest.mark.parametrize("kinds", [DECIDED, history.NOTES, happened.NOTES], ids=["decided", "history", "happened"])
def test_every_kind_that_is_read_is_written(kinds: set[str]) -> None:
    assert set(kinds) - written() == set()
