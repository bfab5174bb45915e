"""What a copy must have: all that this node acknowledged, which only the primary of that time can say."""

from __future__ import annotations

from typing import Any

import pytest

from failoverd.core.gtid import GtidSet
from failoverd.rebuild import RebuildError
from failoverd.rebuild.local import Standing
from failoverd.rebuild.main import floor_of


class Elsewhere:
    """The other nodes, while mail3 is primary."""

    def standing(self, name: str) -> Standing:
        """All have the same."""
        return Standing("10.11.14-MariaDB", name != "mail3", "0-1-500,0-3-507", "", "/var/lib/mysql/")

    def primary(self) -> tuple[str, Standing]:
        """Who can be written to."""
        return "mail3", self.standing("mail3")


def test_another_primary_than_before_the_freeze_says_nothing_of_what_this_node_acknowledged() -> None:
    others: Any = Elsewhere()
    said: list[str] = []
    assert floor_of(others, said.append, donor="mail1", primary="mail3") == GtidSet.upto({"0": 507})
    with pytest.raises(RebuildError, match="mail3 has become primary since") as caught:
        floor_of(others, said.append, donor="mail3", primary="mail1")
    assert caught.value.code == "REBUILD_NO_PRIMARY"
    assert said == []
