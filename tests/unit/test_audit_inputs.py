"""A decision's record carries what it was made from, whatever that looks like; damage is named."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from failoverd import __version__, views
from failoverd.audit import inputs
from failoverd.audit.file import AuditFile
from failoverd.core.effects import Entry
from failoverd.core.health import Sendings
from failoverd.core.model import Node, NodeKind, NodeName, Record
from failoverd.core.policy import Policy
from failoverd.core.view import View
from failoverd.runtime.clock import BootClock

if TYPE_CHECKING:
    from pathlib import Path

ME = Node(NodeName("mail1"), NodeKind.DATA, "10.89.1.11")
VIEW = View(ME, (ME,), Policy((), "mariadb.service", 3), "", 1000, Sendings("p"))
DECIDED = Entry("decision", 7, "primary-serves", "serve: this node holds the lease", view=VIEW)


def paused(text: str) -> View:
    return replace(VIEW, record=Record(paused=text))


def given(line: dict[str, object]) -> dict[str, Any]:
    found = line["input"]
    assert isinstance(found, dict)
    return found


def test_the_input_is_the_view_with_its_digest_and_the_version() -> None:
    (line,) = inputs.lines([DECIDED])
    packed = given(line)
    assert packed["software"] == __version__
    data = inputs.unpacked(packed)
    assert views.decode(data) == VIEW
    assert packed["digest"] == views.digest(data)


def test_what_tells_of_no_decision_has_none() -> None:
    (line,) = inputs.lines([Entry("step", 7, "primary-serves", "open-gate")])
    assert line == {
        "term": 7,
        "actor": "failoverd",
        "kind": "step",
        "rule": "primary-serves",
        "result": "begun",
        "text": "open-gate",
    }


@pytest.mark.parametrize(
    ("kind", "detail", "actor", "result"),
    [
        ("decision", (), "failoverd", "decided"),
        ("request", (("by", "anna"), ("request", "r1")), "anna", "accepted"),
        ("request-refused", (("by", "anna"),), "anna", "refused"),
        ("request-dropped", (), "failoverd", "dropped"),
        ("request-result", (("outcome", "done"),), "failoverd", "done"),
        ("request-ended", (("succeeded", "false"),), "failoverd", "failed"),
        ("step-ended", (("outcome", "unknown"),), "failoverd", "unknown"),
        ("promised", (("by", ""),), "failoverd", "noted"),
    ],
)
def test_each_says_who_and_what_came_of_it(
    kind: str, detail: tuple[tuple[str, str], ...], actor: str, result: str
) -> None:
    (line,) = inputs.lines([Entry(kind, 7, "primary-serves", "…", detail=detail)])
    assert (line["actor"], line["result"], line["rule"], line["term"]) == (actor, result, "primary-serves", 7)


def test_one_view_is_written_once_in_one_append() -> None:
    first, second, third = map(
        given, inputs.lines([DECIDED, replace(DECIDED, kind="blocked"), replace(DECIDED, view=paused("x"))])
    )
    assert first["digest"] == second["digest"] != third["digest"]
    assert ["view" in packed for packed in (first, second, third)] == [True, False, True]
    with pytest.raises(inputs.InputError, match="in an earlier record"):
        inputs.unpacked(second)


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (paused("".join(chr(0x20 + (i * i * 7919) % 40_000) for i in range(100_000))), "too large for a record"),
        (paused("a byte that a program printed: \udcff"), "cannot be written as JSON"),
    ],
    ids=["large", "no-unicode"],
)
def test_a_view_that_is_unusual_keeps_no_record_from_being_written(view: View, words: str, tmp_path: Path) -> None:
    audit = AuditFile(tmp_path / "audit.jsonl", "mail1", BootClock())
    audit.append(inputs.lines([replace(DECIDED, view=view), DECIDED]))
    audit.close()
    first, second = map(json.loads, (tmp_path / "audit.jsonl").read_text().splitlines())
    assert words in first["input"]["omitted"]
    with pytest.raises(inputs.InputError, match="left out"):
        inputs.unpacked(first["input"])
    assert views.decode(inputs.unpacked(second["input"])) == VIEW


def test_an_append_is_bounded_whatever_it_carries() -> None:
    large = [paused("".join(chr(0x20 + (i * i * k) % 3000) for i in range(12_000))) for k in range(7900, 8000)]
    lines = inputs.lines([replace(DECIDED, view=view) for view in large])
    assert sum(len(json.dumps(line)) for line in lines) < inputs.APPEND_LIMIT + len(lines) * 500
    kept = ["view" in given(line) for line in lines]
    assert kept[0]
    assert not kept[-1]
    assert all("view" in given(line) or "omitted" in given(line) for line in lines)


def damaged(**changes: str) -> dict[str, object]:
    (line,) = inputs.lines([DECIDED])
    return given(line) | changes


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        (damaged(view="no base64!"), "cannot be unpacked"),
        (damaged(view=base64.b64encode(b"no zlib").decode()), "cannot be unpacked"),
        (damaged(view=base64.b64encode(zlib.compress(b"{}" * 50)[:-6]).decode()), "does not end where it should"),
        (damaged(view=base64.b64encode(zlib.compress(b"{}")).decode()), "not the one that it was written with"),
        (damaged(digest="0" * 64), "not the one that it was written with"),
        (
            damaged(view=base64.b64encode(zlib.compress(bytes(inputs.VIEW_LIMIT + 1))).decode()),
            "does not end where it should",
        ),
    ],
    ids=["base64", "zlib", "cut", "other", "digest", "bomb"],
)
def test_damage_is_named(packed: dict[str, object], words: str) -> None:
    with pytest.raises(inputs.InputError, match=words):
        inputs.unpacked(packed)
