"""The sections of report.html after its verdict, in the order in which an auditor asks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from failoverd.drill.model import PhaseName
from failoverd.drill.report import charts, evidence_tables, verdict
from failoverd.drill.report.element import h, join
from failoverd.drill.report.tables import badge, table
from failoverd.drill.report.words import NOT_KNOWN, STAGES, duration, moment, number, plural, size, was
from failoverd.drill.report.words import wanted as wanted_words

if TYPE_CHECKING:
    from failoverd.drill.model import Report
    from failoverd.drill.report.element import Child, Markup
    from failoverd.drill.report.tables import Cell

_AUDIT_SHOWN = 500
_NOTES_SHOWN = 300
_GAPS_SHOWN = 50
_LOAD_READ = "Lines: what went well, and sessions that were logged in. Columns: what did not. Dashed: users wanted."
_LATENCY_READ = "What 95 of 100 operations of a second kept to, on a logarithmic scale; broken where there were none."
_LAG_READ = "How far behind each replica was, on a logarithmic scale. Grey: not known, or no replica at that time."


def all_of(report: Report) -> Markup:
    """Every section of which there is something to say; that nothing was measured is something to say."""
    return join(
        _section("objectives", "Objectives", _objectives(report)),
        _section("mend", "What to mend", _advice(report)) if report.advice else None,
        _section("fault", "The fault, as clients saw it", _fault(report)),
        _section("phases", "Phases of the drill", _phases(report)),
        _section("load", "Load", _load(report)),
        _section("lag", "Replication", _chart(charts.lag(report), "The lag of no replica was measured.", _LAG_READ)),
        _section("consistency", "Consistency", evidence_tables.consistency(report)),
        _section("backup", "Backup", evidence_tables.backup(report)),
        _section("honesty", "Honesty of the load generator", evidence_tables.honesty(report)),
        _section("record", "Record", _record(report)),
        _section("versions", "Versions and configuration", evidence_tables.versions(report)),
    )


def _section(name: str, title: str, *content: Child) -> Markup:
    return h(
        "section", h("h2", title, of={"id": f"{name}-heading"}), content, of={"aria-labelledby": f"{name}-heading"}
    )


def _chart(drawn: Markup | None, otherwise: str, caption: str = "") -> Markup:
    return h("figure", drawn, h("figcaption", caption) if caption else None) if drawn else h("p", otherwise)


def _objectives(report: Report) -> Child:
    rows: list[list[Cell]] = []
    for one in report.objectives:
        kind, word = ("good", "met") if one.met else ("unknown", NOT_KNOWN) if one.value is None else ("bad", "missed")
        came = "\N{EN DASH}" if one.value is None else was(one)
        rows.append([one.name, wanted_words(one), came, badge(kind, word)])
    counts = (
        (sum(one.met for one in report.objectives), "met"),
        (sum(not one.met and one.value is not None for one in report.objectives), "missed"),
        (sum(one.value is None for one in report.objectives), NOT_KNOWN),
    )
    words = f"{len(report.objectives)} in all: {', '.join(f'{count} {word}' for count, word in counts if count)}."
    return [
        h("p", words, of={"class": "lead"}),
        table("Objectives", ["Objective", "Wanted", "Was", "Result"], rows, kind="objectives"),
    ]


def _advice(report: Report) -> Child:
    items = [
        h(
            "li",
            h("h3", h("span", one.code, of={"class": "code"}), f" on {one.node}" if one.node else ""),
            h("p", one.reason),
            h("p", "Runbook: ", h("code", f"runbooks/{one.page}"), of={"class": "small"}) if one.page else None,
            of={"class": "finding warn"},
        )
        for one in report.advice
    ]
    return h("ul", items, of={"class": "findings"})


def _fault(report: Report) -> Child:
    fault, change = verdict.fault_words(report), report.change
    facts: list[tuple[str, Child]] = []
    if fault:
        facts.append(("Fault", fault))
    elif charts.zero_ms(report) is not None:
        facts.append(("Fault", "none: the role was moved on purpose"))
    if change is not None:
        outage = "not known" if change.outage_ms is None else duration(change.outage_ms)
        facts += [
            (
                "Change",
                f"{change.kind}, {change.previous or 'nobody'} → {change.holder or 'nobody'}, term {change.term}",
            ),
            ("Rule", h("span", change.rule, of={"class": "code"})),
            ("Why", change.reason),
            ("Without a primary", f"{outage} by the cluster's own clocks"),
        ]
    drawn = _chart(charts.timeline(report), "No fault was brought about.")
    bad = [step for step in change.phases if step.code] if change else []
    failed = [
        h("li", f"{step.node}: {step.name} {step.outcome}: ", h("span", step.code, of={"class": "code"}))
        for step in bad
    ]
    return [
        evidence_tables.facts(facts),
        drawn,
        h("ul", failed, of={"class": "names"}) if failed else None,
        _gaps(report),
    ]


def _gaps(report: Report) -> Child:
    zero = charts.zero_ms(report)
    if not report.gaps:
        return None
    rows: list[list[Cell]] = [
        [gap.protocol.upper(), _since(gap.from_ms, zero), duration(gap.until_ms - gap.from_ms)]
        for gap in report.gaps[:_GAPS_SHOWN]
    ]
    since = "Begins after the fault" if zero is not None else "Begins after the drill's beginning"
    more = len(report.gaps) - _GAPS_SHOWN
    return [
        h("h3", "Every time without service"),
        table("Times without service", ["Protocol", since, "Lasted"], rows, kind="few"),
        h("p", f"{plural(more, 'further one')} in report.json.", of={"class": "small"}) if more > 0 else None,
    ]


def _since(at_ms: int, zero_ms: int | None) -> str:
    return f"{(at_ms - (zero_ms or 0)) / 1000:,.2f} s".replace("-", "\N{MINUS SIGN}")


_OUTCOMES = {"passed": "good", "failed": "bad", "aborted": "warn", "skipped": "off", "under-way": "unknown"}


def _phases(report: Report) -> Child:
    # The phase that writes this cannot tell of its own end.
    phases = [one for one in report.drill.phases if one.name != PhaseName.REPORT or one.outcome != "under-way"]
    if not phases:
        return h("p", "None was begun.")
    last = max(1, *(phase.ended_ms or phase.began_ms for phase in phases))
    rows: list[list[Cell]] = []
    for phase in phases:
        end = last if phase.ended_ms is None else phase.ended_ms
        facts = "; ".join(_fact(name, value) for name, value in phase.facts.items() if name != "injected_ms")
        kind = _OUTCOMES[phase.outcome]
        why = [
            h("span", phase.code, of={"class": "code"}) if phase.code else None,
            f" {phase.reason}" if phase.reason else None,
        ]
        rows.append(
            [
                phase.name.value,
                duration(phase.began_ms),
                NOT_KNOWN if phase.ended_ms is None else duration(phase.ended_ms - phase.began_ms),
                join(badge(kind, phase.outcome), " ", why, h("p", facts, of={"class": "small"}) if facts else None),
                evidence_tables.stretch(phase.began_ms, end, last, kind),
            ]
        )
    return table("Phases of the drill", ["Phase", "At", "Took", "Outcome", ""], rows, kind="phases")


def _fact(name: str, value: str | float) -> str:
    """With the unit that its name ends with."""
    words, _, unit = name.rpartition("_")
    if isinstance(value, str | bool) or (unit not in {"ms", "s"} and name != "bytes"):
        return f"{name.replace('_', ' ')}: {value}"
    if name == "bytes":
        return size(int(value))
    return f"{words.replace('_', ' ')}: {duration(value * (1000 if unit == 's' else 1))}"


def _load(report: Report) -> Child:
    asked = report.drill.asked
    rows: list[list[Cell]] = [
        [
            f"{one.protocol.upper()}, {STAGES[one.stage]}",
            number(one.operations),
            number(one.failed),
            number(one.refused),
            number(one.rejected),
            *(
                ("\N{EN DASH}" if value is None else duration(value))
                for value in (one.p50_ms, one.p95_ms, one.p99_ms, one.max_ms)
            ),
            duration(one.outage_ms) if one.outage_ms else "< 0.5 s",
        ]
        for one in report.protocols
    ]
    if not rows:
        return h(
            "p",
            f"{plural(asked.users, 'user')} for {duration(asked.duration_s * 1000)} were wanted; no load was measured.",
        )
    titles = [
        "Protocol and stage",
        "Operations",
        "Failed",
        "Refused",
        "Rejected",
        "p50",
        "p95",
        "p99",
        "Longest",
        "Outage",
    ]
    return [
        h(
            "p",
            f"{plural(asked.users, 'user')} for {duration(asked.duration_s * 1000)} were wanted. The time of each"
            " operation was set beforehand and its latency counts from then, so that a stall is counted. Refused: a"
            " temporary answer, after which clients try again. Rejected: a permanent one.",
            of={"class": "lead"},
        ),
        table("Operations and latency", titles, rows, kind="figures"),
        _chart(charts.load(report), "No operation was counted.", _LOAD_READ),
        h("h3", "Latency"),
        _chart(charts.latency(report), "No latency was measured.", _LATENCY_READ),
    ]


def _record(report: Report) -> Child:
    notes = [
        h(
            "li",
            h("span", duration(note.at_ms), of={"class": "small at"}),
            " ",
            note.text,
            h("span", f" {note.code}", of={"class": "code"}) if note.code else None,
        )
        for note in report.drill.notes[:_NOTES_SHOWN]
    ]
    audit = [h("li", json.dumps(record, ensure_ascii=False)) for record in report.audit[:_AUDIT_SHOWN]]
    more = len(report.audit) - _AUDIT_SHOWN
    return [
        h(
            "p",
            f"Began {moment(report.drill.began)}; ended {moment(report.drill.ended or 'at a time that is not known')}.",
            of={"class": "lead"},
        ),
        h(
            "details",
            h("summary", plural(len(report.drill.notes), "note"), " of the drill"),
            h("ol", notes, of={"class": "notes"}),
        )
        if notes
        else None,
        h(
            "details",
            h("summary", plural(len(report.audit), "audit entry", "audit entries"), " of all nodes"),
            h("ol", audit, of={"class": "audit"}),
            h("p", f"{number(more)} more are in report.json.", of={"class": "small"}) if more > 0 else None,
        )
        if audit
        else h("p", "No audit entry was collected."),
    ]
