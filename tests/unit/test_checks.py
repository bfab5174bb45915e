"""tests/checks.py leaves no test out: the places where it looks for a kind have all that are of it."""

from __future__ import annotations

from pathlib import Path

from checks import PLACES

TESTS = Path(__file__).parents[1]


def test_each_kind_is_looked_for_where_its_tests_are() -> None:
    for kind, places in PLACES.items():
        marked = [file for file in TESTS.rglob("test_*.py") if f"pytest.mark.{kind}" in file.read_text()]
        assert marked
        where = [TESTS.parent / place for place in places]
        assert all(place.exists() for place in where)
        outside = [file for file in marked if not any(file == one or one in file.parents for one in where)]
        assert outside == [], f"{kind}: not in {', '.join(places)}"
