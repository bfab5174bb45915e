"""What was found on nodes, as report.html shows it: consistency, backup, honesty, versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.drill.report.element import h
from failoverd.drill.report.tables import badge, table
from failoverd.drill.report.words import duration, number, plural, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from failoverd.drill.model import Report
    from failoverd.drill.report.element import Child, Markup
    from failoverd.drill.report.tables import Cell

_TABLES_SHOWN = 500
_NAMES_SHOWN = 100
_DIGEST = 16  # characters of one that are shown: enough to see that two differ


def facts(told: Sequence[tuple[str, Child]]) -> Markup | None:
    """Names and what they are."""
    if not told:
        return None
    return h("dl", [h("div", h("dt", name), h("dd", words)) for name, words in told], of={"class": "facts"})


def stretch(begin: float, end: float, last: float, kind: str) -> Markup:
    """Where in the whole something lay; its words are in the row."""
    x = min(begin * 100 / last, 99.2)
    bar = {"x": f"{x:.2f}", "y": 0, "width": f"{max(0.8, (end - begin) * 100 / last):.2f}", "height": 8, "rx": 0.4}
    return h("svg", h("rect", of={**bar, "class": kind}), of={"viewBox": "0 0 100 8", "preserveAspectRatio": "none"})


def consistency(report: Report) -> Child:
    """Tables, mailboxes, and every acknowledged message."""
    found = report.consistency
    if found is None:
        return h("p", badge("unknown", "not compared"), " The drill did not come to it.")
    apart = sum(not one.same for one in found.tables)
    told: list[tuple[str, Child]] = [
        (
            "Messages",
            [
                badge("bad" if found.lost_count else "good", f"{number(found.lost_count)} lost"),
                " ",
                badge("bad" if found.twice_count else "good", f"{number(found.twice_count)} there twice"),
                f" of {number(found.acknowledged)} acknowledged",
            ],
        ),
        (
            "Tables",
            [
                badge("bad" if apart else "good", f"{number(apart)} differ" if apart else "the same"),
                f" {plural(len(found.tables), 'table')} on all nodes",
            ],
        ),
        (
            "Mailboxes",
            [
                badge(
                    "bad" if found.mailboxes_differ else "good",
                    f"{number(len(found.mailboxes_differ))} differ" if found.mailboxes_differ else "the same",
                ),
                f" {number(found.mailboxes)} with {plural(found.messages, 'message')}: identity, flags, content",
            ],
        ),
        ("Compared at", h("span", f"GTID {found.gtid}", of={"class": "code"})),
    ]
    ordered = sorted(found.tables, key=lambda one: one.same)  # what differs comes first
    rows: list[list[Cell]] = [
        [
            one.name,
            number(one.rows),
            badge("good", "the same") if one.same else badge("bad", "differ"),
            _digests(one.digests, same=one.same),
        ]
        for one in ordered[:_TABLES_SHOWN]
    ]
    return [
        facts(told),
        _names("Lost", found.lost, found.lost_count),
        _names("There twice", found.twice, found.twice_count),
        _names("Mailboxes that differ", found.mailboxes_differ, len(found.mailboxes_differ)),
        table("Tables", ["Table", "Rows", "Nodes", "Digest"], rows, kind="digests") if rows else None,
        h("p", f"{number(len(ordered) - _TABLES_SHOWN)} more in report.json.", of={"class": "small"})
        if len(ordered) > _TABLES_SHOWN
        else None,
        _names("Tables not compared", [f"{name}: {why}" for name, why in found.left_out.items()], len(found.left_out)),
    ]


def _digests(digests: dict[str, str], *, same: bool) -> Markup:
    if same and digests:
        return h("code", next(iter(digests.values()))[:_DIGEST])
    return h(
        "span",
        [h("span", f"{node} ", h("code", digest[:_DIGEST]), of={"class": "whole"}) for node, digest in digests.items()],
        of={"class": "badges apart"},
    )


def _names(title: str, names: Sequence[str], count: int) -> Child:
    if not names:
        return None
    more = count - len(names[:_NAMES_SHOWN])
    items = [h("li", h("code", name)) for name in names[:_NAMES_SHOWN]]
    return [
        h("h3", title),
        h("ul", items, h("li", f"and {number(more)} more") if more > 0 else None, of={"class": "names"}),
    ]


def backup(report: Report) -> Child:
    """Made, and shown to be one."""
    done = report.backup
    if done is None:
        if report.drill.asked.backup == "none":
            return h("p", badge("off", "none"), " It was asked for without one.")
        return h("p", badge("bad", "not verified"), " No backup was made that a server started on.")
    return facts(
        [
            (
                "Verified",
                [
                    badge("good", "a server started on it"),
                    f" {done.server}, {plural(done.tables, 'table')} checked, {plural(done.rows, 'row')} read",
                ],
            ),
            ("Kind", f"{done.kind}, {size(done.bytes)}, on {done.node}"),
            ("Directory", h("code", done.directory)),
            ("At", h("span", f"GTID {done.gtid}", of={"class": "code"})),
            (
                "Took",
                (
                    f"{duration(done.made_s * 1000)} to make, {duration(done.prepared_s * 1000)} to prepare,"
                    f" {duration(done.started_s * 1000)} to start"
                ),
            ),
            ("SHA-256", [h("code", done.sha256), " of the manifest, which has each file's"]),
        ]
    )


def honesty(report: Report) -> Child:
    """Whether the generator measured the servers, or itself."""
    done = report.generator
    rows: list[list[Cell]] = [
        [one.name, number(one.ours), number(one.servers), f"{number(one.apart_percent, 2)} %"]
        for one in report.counters
    ]
    counted = (
        table(
            "Counted by the generator and by the servers",
            ["Counted", "Generator", "Servers", "Apart"],
            rows,
            kind="few",
        )
        if rows
        else h("p", "The servers' own counters were not read.")
    )
    if done is None:
        return [h("p", badge("unknown", "not known"), " The generator did not report its end."), counted]
    late = [
        (
            "Own lateness",
            f"p50 {duration(done.late_p50_ms)}, p99 {duration(done.late_p99_ms)}, worst {duration(done.late_max_ms)}",
        ),
        ("Cost", f"{duration(done.cpu_s * 1000)} of CPU, {size(done.rss_max_bytes)} of memory at most"),
        ("Sessions", f"{number(done.most_sessions)} at once at most, {plural(done.logins, 'login')}"),
    ]
    messages = done.submits_unknown + done.appends_unknown
    if messages or done.logins_unknown:
        unknown = f"{plural(messages, 'message')} and {plural(done.logins_unknown, 'login')}"
        late.append(("Never answered", f"{unknown}: the servers may have taken them or not"))
    return [facts([(name, words) for name, words in late]), counted]


def versions(report: Report) -> Child:
    """What ran, and with which configuration."""
    told: list[tuple[str, Child]] = [(node, f"failoverd {version}") for node, version in report.software.items()]
    told.append(("Configuration", h("code", report.config_digest)))
    return facts(told)
