"""Of a whole seed, every decision decides the same again from the input that its record keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulate import Simulation

from failoverd.audit import inputs
from failoverd.core import candidates, explained, rules
from failoverd.views import decode

if TYPE_CHECKING:
    from failoverd.core.effects import Entry

SEED = 3
LEAST = 100  # decisions: fewer, and this seed shows nothing


def test_every_decision_of_a_seed_decides_the_same_again() -> None:
    simulation = Simulation(SEED, told=True)
    noted: list[Entry] = []
    simulation.world._told = lambda _now, _name, entry: noted.append(entry)
    assert not simulation.run().violation
    decided = [entry for entry in noted if entry.view is not None]
    assert len(decided) > LEAST
    assert {"decision", "blocked", "take-over", "give-back"} <= {entry.kind for entry in decided}
    for entry in decided:
        (line,) = inputs.lines([entry])
        given = line["input"]
        assert isinstance(given, dict)
        view = decode(inputs.unpacked(given))
        assert view == entry.view
        if entry.kind == "decision":
            assert rules.decide(view).id == entry.rule
            told = explained.explained(view)
            assert told.rule.id == entry.rule
            assert all(each.lacks for each in told.earlier)
            assert entry.rule not in {each.rule.id for each in told.otherwise}
            for node in view.nodes:
                explained.why_not(view, node.name)
        if entry.kind == "blocked":
            assert entry.code in {rejected.code for rejected in candidates.why_not(view)}
