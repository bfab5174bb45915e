"""When a holder puts an anchor into the store: once it serves, and once its term has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from views import TERM, view

from failoverd.core.anchor import Moment, due
from failoverd.core.known import Leaving
from failoverd.core.lease import Held
from failoverd.core.view import GateState

if TYPE_CHECKING:
    from failoverd.core.view import View

HELD = Held(TERM, 40, 102_000)
OPEN, CLOSED = GateState.OPEN, GateState.CLOSED


def holds(gate: GateState, held: Held | None = HELD, leaving: Leaving | None = None) -> View:
    return view("mail1", held=held, gate=gate, leaving=leaving)


@pytest.mark.parametrize(
    ("gate", "held", "held_term", "put", "expected"),
    [
        (CLOSED, HELD, TERM, None, None),  # it is being promoted: not now
        (OPEN, HELD, TERM, None, (TERM, "begin")),
        (OPEN, HELD, TERM, (TERM, "begin"), None),
        (OPEN, HELD, TERM, (TERM - 1, "end"), (TERM, "begin")),
        (CLOSED, None, TERM, (TERM, "begin"), (TERM, "end")),
        (CLOSED, None, TERM, None, (TERM, "end")),  # it never served in it
        (CLOSED, None, TERM, (TERM, "end"), None),
        (CLOSED, None, 0, None, None),  # it has held nothing since it was started
    ],
)
def test_an_anchor_is_due(
    gate: GateState,
    held: Held | None,
    held_term: int,
    put: tuple[int, Moment] | None,
    expected: tuple[int, Moment] | None,
) -> None:
    assert due(holds(gate, held), held_term, put) == expected


def test_a_term_that_is_being_given_back_has_not_ended() -> None:
    leaving = Leaving(TERM, None, "operator-switchover", renew=True, began_ms=99_000, undo=True)
    assert due(holds(CLOSED, None, leaving), TERM, (TERM, "begin")) is None
