"""report.html: one file that opens anywhere and asks nobody for anything, today and in ten years.

    page(report) ──> head (policy, style of the status page, own style) ── verdict ── sections.py ── charts.py

There is no script in it, and its policy forbids any; nothing is fetched. The style of the status page comes first, so
that both look alike: what differs here is in report.css.
"""

from __future__ import annotations

import base64
from importlib.resources import files
from typing import TYPE_CHECKING

from failoverd.drill.report import sections, verdict
from failoverd.drill.report.element import Markup, h, join
from failoverd.drill.report.tables import SIGNS
from failoverd.drill.report.words import moment

if TYPE_CHECKING:
    from failoverd.drill.model import Report
    from failoverd.drill.report.element import Child

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_TITLE_LENGTH = 200


def page(report: Report) -> str:
    """The whole file. What is long is cut (see element.py): report.json beside it has all."""
    drill = report.drill
    word = verdict.WORDS[drill.outcome]
    title = f"{word}: {drill.asked.scenario} on {drill.cluster}, {moment(drill.began)}"
    head = h(
        "head",
        h("meta", of={"charset": "utf-8"}),
        h("meta", of={"http-equiv": "Content-Security-Policy", "content": POLICY}),
        h("meta", of={"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        h("meta", of={"name": "color-scheme", "content": "light dark"}),
        h("title", title[:_TITLE_LENGTH]),
        h("link", of={"rel": "icon", "href": _icon()}),
        h("style", _style()),
    )
    body = h(
        "body",
        h("a", "Skip to content", of={"class": "skip", "href": "#main"}),
        h(
            "header",
            h("h1", f"Drill report: {drill.asked.scenario}"),
            h("p", f"{drill.cluster}, {moment(drill.began)}", of={"class": "when"}),
            of={"class": "top"},
        ),
        h("main", _verdict(report), sections.all_of(report), of={"id": "main", "tabindex": "-1"}),
        h("footer", _foot(report)),
    )
    return "<!doctype html>\n" + h("html", head, body, of={"lang": "en"}) + "\n"


def _verdict(report: Report) -> Markup:
    kind = verdict.KINDS[report.drill.outcome]
    sign = h("span", SIGNS[kind], of={"class": "sign", "aria-hidden": "true"})
    head = h("p", h("span", sign, verdict.headline(report), of={"class": f"badge {kind}"}), of={"class": "big"})
    code: Child = (report.drill.code and h("p", "Code ", h("span", report.drill.code, of={"class": "code"}))) or None
    told = [h("p", sentence) for sentence in verdict.sentences(report)]
    answer = h("div", head, code, told, of={"class": f"answer {kind} told"})
    return h("section", h("h2", "Verdict", of={"id": "verdict"}), answer, of={"aria-labelledby": "verdict"})


def _foot(report: Report) -> Markup:
    return join(
        h("p", f"Drill {report.drill.asked.id}, asked for by {report.drill.asked.by}."),
        h("p", "The same figures, in full, are in report.json beside this file; failoverctl drill compare reads it."),
    )


def _style() -> Markup:
    """Of this package's own files: markup that it can vouch for."""
    shared = files("failoverd.runtime").joinpath("page", "page.css").read_text(encoding="utf-8")
    return Markup(shared + files(__package__).joinpath("report.css").read_text(encoding="utf-8"))


def _icon() -> str:
    icon = files("failoverd.runtime").joinpath("page", "icon.svg").read_bytes()
    return f"data:image/svg+xml;base64,{base64.b64encode(icon).decode('ascii')}"
