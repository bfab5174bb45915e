"""How `failoverctl explain` finds what is to be explained, and what it says. Apart from the command: pydantic is slow.

event ──> record ──> input ──decode──> view ──core.explained──> words, or a document
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from failoverd import __version__
from failoverd.audit.inputs import InputError, input_of
from failoverd.core.explained import explained, why_not
from failoverd.ctl import printed, source
from failoverd.ctl.client import Client
from failoverd.ctl.exits import Exit
from failoverd.views import ViewError, decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from failoverd.audit.reading import Record
    from failoverd.core.explained import Explained, WhyNot
    from failoverd.core.view import View
    from failoverd.ctl.place import Place

KEPT_INPUTS = 200  # records with an input that are held while one is looked for


class NotExplainedError(Exception):
    """There is nothing to explain, or no input to explain it from; the text says which."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is explained: a view, whose, of which version, and the record that it comes from."""

    view: View
    software: str
    record: Record | None = None
    asked: Record | None = None  # the record that was asked for, where it has no input itself


def run(event: str, node: str | None, directory: Path, socket: Place, output: str) -> Exit:
    """Explain it and print that. Raises UnreachableError."""
    try:
        case = _now(socket) if event in ("now", "why-not") else _past(source.records(directory, socket), event)
    except NotExplainedError as error:
        click.echo(f"failoverctl: {error}", err=True)
        return Exit.FAILED
    if node is not None:
        return _say_why_not(case, why_not(case.view, node), output)
    found = explained(case.view)
    differs = _differs(case, found)
    if output != "table":
        printed.document(_document(case, found, differs), output)
    else:
        click.echo("\n".join(_lines(case, found, differs)))
    return Exit.FAILED if differs else Exit.DONE


# ---- what is explained ------------------------------------------------------------------------------------------


def _now(socket: Place) -> Case:
    code, body = Client(socket).get("/v1/input")
    if code != 200:
        raise NotExplainedError(f"{code} {body.decode(errors='replace')}")
    said = json.loads(body)
    return Case(_decoded(json.dumps(said["view"]).encode(), str(said["software"])), str(said["software"]))


def _decoded(data: bytes, software: str) -> View:
    try:
        return decode(data)
    except ViewError as error:
        version = "" if software == __version__ else f"; it was written by failoverd {software}, this is {__version__}"
        raise NotExplainedError(f"the input cannot be read: {error}{version}") from None


def _past(records: Iterator[Record], event: str) -> Case:
    """The case that `event` names. Of records only those are held that may be needed."""
    kept: list[Record] = []  # with an input, or named by the event
    asked: list[int] = []  # places in `kept`
    undone = _Undone(event)
    for record in records:
        named = _is_named(record, event) or undone.is_it(record)
        if named:
            asked.append(len(kept))
        if named or "input" in record:
            kept.append(record)
        if len(kept) > KEPT_INPUTS and not asked:
            kept = kept[-KEPT_INPUTS:]
        if named and record.get("seq") == _number(event):
            break
    if not asked:
        raise NotExplainedError(f"no record of this node's audit is {event!r}: a number, a term (term-7) or a request")
    return _case(kept, _most_telling(kept, asked))


def _number(event: str) -> int | None:
    return int(event) if event.isdecimal() and event.isascii() else None


def _is_named(record: Record, event: str) -> bool:
    detail = record.get("detail")
    number = _number(event)
    if number is not None and record.get("seq") == number:
        return True
    if event.startswith("term-") and (term := _number(event.removeprefix("term-"))) is not None:
        return _made_term(record, term)
    return isinstance(detail, dict) and detail.get("request") == event


class _Undone:
    """`term-8-undone-2`, as history calls it: the second switchover to term 8 that was taken back here."""

    def __init__(self, event: str) -> None:
        found = re.fullmatch(r"term-(\d+)-undone-(\d+)", event, re.ASCII)
        self._term, self._left = (int(found[1]) - 1, int(found[2])) if found else (-1, 0)

    def is_it(self, record: Record) -> bool:
        if record.get("kind") != "switchover-undone" or record.get("term") != self._term:
            return False
        self._left -= 1
        return self._left == 0


def _made_term(record: Record, term: int) -> bool:
    """Whether the record tells of how this term began here: it was asked for, the former one was let go, or seen."""
    kind, text, of = record.get("kind"), str(record.get("text", "")), record.get("term")
    if kind == "term":
        return of == term
    away = kind == "decision" and text.startswith(("let-go:", "take-over:", "adopt:"))
    return of == term - 1 and (away or kind in ("take-over", "forced", "blocked"))


def _most_telling(kept: Sequence[Record], asked: Sequence[int]) -> int:
    """Of several records of one event: a decision to take or to give, else the last with an input, else the last."""
    decisions = [index for index in asked if kept[index].get("kind") == "decision"]
    with_input = [index for index in asked if "input" in kept[index]]
    return (decisions or with_input or list(asked))[-1]


def _case(kept: Sequence[Record], index: int) -> Case:
    """Decode the record's input; where it has none, that of the decision which was in force then."""
    asked, place = kept[index], index
    while "input" not in kept[place] or (place != index and kept[place].get("kind") != "decision"):
        place -= 1
        if place < 0:
            raise NotExplainedError(f"record {asked.get('seq')} tells of no decision, and none stands before it")
    try:
        data, said = input_of(kept, place)
    except InputError as error:
        raise NotExplainedError(f"record {kept[place].get('seq')}: {error}") from None
    software = str(said.get("software", ""))
    return Case(_decoded(data, software), software, kept[place], asked if place != index else None)


def _differs(case: Case, found: Explained) -> str:
    """How this version decides otherwise than the record says, "" where it does not."""
    record = case.record
    if record is None or record.get("kind") != "decision" or record.get("rule") == found.rule.id:
        return ""
    return (
        f"failoverd {case.software} decided {record.get('rule')}; this version, {__version__}, decides {found.rule.id}"
    )


# ---- for programs -----------------------------------------------------------------------------------------------


def _document(case: Case, found: Explained, differs: str) -> dict[str, object]:
    record = case.record
    return {
        "api": "v1",
        "node": case.view.me.name,
        "written_by": case.software,
        "explained_by": __version__,
        "record": _without_input(record),
        "asked": _without_input(case.asked),
        "differs": differs,
        "term": case.view.highest_term,
        "holder": case.view.holder,
        "rule": found.rule.id,
        "decision": found.rule.decision.value,
        "why": found.rule.why,
        "because": list(found.because),
        "earlier": [
            {"rule": each.rule.id, "conditions": each.conditions, "lacks": list(each.lacks)} for each in found.earlier
        ],
        "candidates": {
            "for": "takeover" if found.takeover else "switchover",
            "order": list(found.order),
            "rejected": [asdict(each) for each in found.rejected],
            "blockers": [asdict(each) for each in found.blockers],
        },
        "otherwise": [
            {"if": each.words, "rule": each.rule.id, "decision": each.rule.decision.value} for each in found.otherwise
        ],
        "tried": found.tried,
    }


def _without_input(record: Record | None) -> Record | None:
    return None if record is None else {name: value for name, value in record.items() if name != "input"}


# ---- for people -------------------------------------------------------------------------------------------------


def _lines(case: Case, found: Explained, differs: str) -> Iterator[str]:
    view = case.view
    yield from _head(case)
    if differs:
        yield f"DIFFERS: {differs}"
    yield f"{found.rule.id}: {found.rule.decision.value}, since {found.rule.why}"
    yield from (f"  {words}" for words in found.because)
    yield f"  page  runbooks/rules/{found.rule.id}.md"
    if found.earlier:
        yield ""
        yield "Earlier rules, and what each lacks (a rule needs all of its conditions):"
        for each in found.earlier:
            near = "  *" if len(each.lacks) == 1 and each.conditions > 1 else ""
            yield f"  {each.rule.id:<24} {each.lacks[0]}{_more(len(each.lacks))}{near}"
        if any(len(each.lacks) == 1 and each.conditions > 1 for each in found.earlier):
            yield "  * one condition short"
    yield ""
    what = "takeover" if found.takeover else "switchover"
    yield f"Candidates for a {what}: {', '.join(found.order) or 'none'}"
    yield from (f"  not {each.node:<8} {each.code}  {each.reason}" for each in found.rejected)
    yield from (f"  nothing may move by itself: {each.code}  {each.reason}" for each in found.blockers)
    yield ""
    if found.otherwise:
        yield f"With one fact otherwise, and all else as it was (of {found.tried} tried):"
        wide = max(len(each.words) for each in found.otherwise)
        yield from (f"  if {o.words:<{wide}}  {o.rule.id}: {o.rule.decision.value}" for o in found.otherwise)
    else:
        yield f"No single one of the {found.tried} facts tried would have changed it."
    if case.record is None:
        yield f"As {view.me.name} sees it now."


def _more(lacks: int) -> str:
    return "" if lacks < 2 else f" (and {lacks - 1} more)"


def _head(case: Case) -> Iterator[str]:
    view, record = case.view, case.record
    if record is not None:
        when = printed.local(str(record.get("time")), precise=True)
        yield f"record {record.get('seq')} of {record.get('node')}, {when}, by failoverd {case.software}"
        if case.asked is not None:
            asked = case.asked
            yield f"  record {asked.get('seq')} ({asked.get('kind')}: {asked.get('text')}) tells of no decision itself:"
            yield "  this is the decision that was in force then"
        elif record.get("kind") != "decision":
            code = f"{record['code']}  " if record.get("code") else ""
            yield f"  {record.get('kind')}: {code}{record.get('text')}"
    yield f"{view.me.name}, term {view.highest_term}, holder {view.holder or 'none'}"


def _say_why_not(case: Case, found: WhyNot, output: str) -> Exit:
    if output != "table":
        whole = {"api": "v1", "seen_from": case.view.me.name, **asdict(found)}
        whole["reasons"] = [{**asdict(r), "page": f"runbooks/codes/{r.code}.md"} for r in found.reasons]
        printed.document(json.loads(json.dumps(whole)), output)
        return Exit.DONE
    click.echo(f"{found.said}   (seen from {case.view.me.name})")
    for reason in found.reasons:
        click.echo(f"  {reason.code}  {reason.reason}")
        click.echo(f"  {' ' * len(reason.code)}  page  runbooks/codes/{reason.code}.md")
    if found.would_do:
        click.echo(f"Each of these alone would make it a candidate (of {found.tried} facts tried):")
        for words in found.would_do:
            click.echo(f"  if {words}")
    elif found.reasons and found.tried:
        click.echo(f"No single one of the {found.tried} facts tried would make it a candidate.")
    return Exit.DONE
