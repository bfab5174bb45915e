"""The table of planted bugs speaks of the code as it is."""

from __future__ import annotations

import ast

import pytest
from plant import PACKAGE, edited
from planted_bugs import BUGS, Bug


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_each_edit_finds_its_text_once_and_leaves_a_program(bug: Bug) -> None:
    texts: dict[str, str] = {}
    for edit in bug.edits:
        before = texts.get(edit.file) or (PACKAGE / edit.file).read_text()
        texts[edit.file] = edited(before, edit)
        assert texts[edit.file] != before
        ast.parse(texts[edit.file])


def test_names_are_unique() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 15
