"""The report as a file, as ten lines, and beside an older one."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
from drill_stage import DRILL, WANTED, hostile, passed, reports
from rich.console import Console

from failoverd.drill.model import LagPoint, Report, dump
from failoverd.drill.report import charts, compare, kept, summary
from failoverd.drill.report.element import VOID, text
from failoverd.drill.report.figures import report
from failoverd.drill.report.page import page

NAMES = ("passed", "failed", "aborted", "hostile")
FIRST_VERSION = Path(__file__).with_name("drill-report-v1.json")


@cache
def made(name: str) -> Report:
    return reports()[name]


class Read(HTMLParser):
    """Elements that are opened and closed in their order, with their attributes; and all text outside of style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value or "" for name, value in attrs if name == "id"]
        assert len({name for name, _ in attrs}) == len(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close what was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note what a reader sees."""
        if self.open[-1:] != ["style"]:
            self.words.append(data)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_well_formed_and_fetches_and_runs_nothing(name: str) -> None:
    read = Read(page(made(name)))
    assert len(set(read.ids)) == len(read.ids)
    assert not {"script", "img", "iframe", "object", "embed", "form", "base"} & set(read.tags)
    for attribute, value in read.attributes:
        assert not attribute.startswith("on")
        if attribute in {"href", "src"}:
            assert value is not None
            assert value == "#main" or value.startswith("data:image/svg+xml;base64,")
    policy = [value for attribute, value in read.attributes if attribute == "content" and value and "default" in value]
    assert policy[0] is not None
    assert policy[0].startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert "script-src" not in policy[0]


def test_every_chart_has_a_title_and_says_the_same_in_words() -> None:
    whole = made("passed")
    for chart, words in (
        (charts.timeline(whole), "IMAP had no service for 2.72 s"),
        (charts.load(whole), "operations went well, 165 did not"),
        (charts.latency(whole), "the worst second had a p95 of"),
        (charts.lag(whole), "mail2: at most 13 ms behind"),
    ):
        assert chart is not None
        assert re.search(r"<title [^>]+>[^<]+</title><desc [^>]+>[^<]+</desc>", chart)
        assert words in chart


def test_a_drill_of_a_day_is_a_small_file_too() -> None:
    whole = made("passed")
    assert len(page(whole).encode()) < 400_000
    points = tuple(replace(whole.points[at % 1200], at_ms=at * 1000) for at in range(86_400))
    assert len(page(replace(whole, points=points)).encode()) < 400_000


def test_hostile_words_stay_words() -> None:
    read = Read(page(hostile()))
    assert "img" not in read.tags
    assert any("<script>document.title='owned'</script><img src=x onerror=alert(1)>" in words for words in read.words)
    html = page(hostile())
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b]", html)
    assert "\\u202egpj.exe" in html


def test_a_text_of_100_kb_is_cut_and_says_so() -> None:
    html = page(hostile("<b>" * 33_000))
    Read(html)
    assert "characters more in report.json)" in html
    assert len(html.encode()) < 2_500_000


def test_text_that_is_no_unicode_can_be_written() -> None:
    assert text("a\udc80b") == "a\\udc80b"


# ---- ten lines


@pytest.mark.parametrize("name", NAMES)
def test_ten_lines_at_most_and_none_that_a_terminal_obeys(name: str) -> None:
    lines = summary.lines(made(name))
    assert 5 <= len(lines) <= 10
    assert all(line.isprintable() and len(line) <= 500 for line in lines), lines


def test_the_lines_say_how_it_ended_and_what_was_lost() -> None:
    lines = summary.lines(made("passed"))
    assert lines[0] == "20261128-020000-primary-crash: Passed: all 20 objectives were met."
    assert "With 500 users at work, clients were without IMAP for 2.72 s and SMTP for 2.92 s." in lines
    assert any(line.startswith("Of 20,401 messages that were acknowledged, none was lost") for line in lines)
    lines = summary.lines(made("failed"))
    assert lines[0].startswith("20260829-020000-primary-crash: Failed in the phase “rejoin”: mail1 is not a replica")
    assert any("1 was lost" in line for line in lines)
    assert any("NOT known that the fault is gone" in line for line in lines)
    assert any("not known whether anything was lost" in line for line in summary.lines(made("aborted")))


# ---- beside another


def test_two_alike_do_not_differ() -> None:
    assert compare.compare(made("passed"), made("passed")).differences == ()


def test_better_and_worse_are_said_in_words() -> None:
    told = {one.what: one for one in compare.compare(made("passed"), made("failed")).differences}
    assert (told["outcome"].before, told["outcome"].after, told["outcome"].verdict) == ("passed", "failed", "worse")
    outage = told["IMAP without service, fault to service"]
    assert (outage.before, outage.after, outage.unit, outage.verdict) == (2720.0, 14120.0, "ms", "worse")
    assert told["objective “acknowledged messages lost”"].after == "missed"
    back = {one.what: one.verdict for one in compare.compare(made("failed"), made("passed")).differences}
    assert back["outcome"] == back["IMAP without service, fault to service"] == "better"


def test_what_only_one_of_them_has_differs_and_a_little_is_much_the_same() -> None:
    told = {one.what: one for one in compare.compare(made("aborted"), made("passed")).differences}
    assert (told["phase load"].before, told["phase load"].verdict) == (None, "differs")
    slower = tuple(replace(one, p95_ms=(one.p95_ms or 0) + 20) for one in made("passed").protocols)
    verdicts = {
        one.verdict for one in compare.compare(made("passed"), replace(made("passed"), protocols=slower)).differences
    }
    assert verdicts == {"much the same"}


def test_the_table_and_its_json() -> None:
    comparison = compare.compare(made("passed"), made("failed"))
    console = Console(width=200, force_terminal=False)
    with console.capture() as captured:
        console.print(compare.table(comparison))
    shown = captured.get()
    assert re.search(r"IMAP without service, fault to service +2\.72 s +14\.1 s +worse", shown)
    assert json.loads(json.dumps(compare.as_json(comparison)))["differences"][0]["what"] == "outcome"
    with console.capture() as captured:
        console.print(compare.table(compare.compare(made("passed"), made("hostile"))))
    assert "\x1b" not in captured.get()
    assert "\u202e" not in captured.get()


# ---- older and later reports


def test_a_report_of_the_first_version_is_still_read(request: pytest.FixtureRequest) -> None:
    """Whoever adds a field without a default finds out here: evidence is kept for years."""
    if request.config.getoption("--regenerate") and not FIRST_VERSION.exists():
        whole = made("failed")
        few = replace(whole, points=whole.points[:3], lag=whole.lag[:3], audit=whole.audit[:2])
        FIRST_VERSION.write_bytes(dump(few) + b"\n")
    old = kept.read(FIRST_VERSION)
    assert old.drill.asked.id == "20260829-020000-primary-crash"
    assert compare.compare(old, made("passed")).differences
    Read(page(old))


def test_fields_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    body = json.loads(dump(made("passed")))
    body["weather"] = "fine"
    body["drill"]["mood"] = {"operator": "calm"}
    path = tmp_path / "report.json"
    path.write_text(json.dumps(body))
    assert kept.read(path) == made("passed")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{", "is no report"),
        ("[]", "is no report"),
        ('{"api": "v2"}', "is of version 'v2'; this failoverd reads v1"),
        ('{"api": "v1"}', "is no whole report"),
    ],
)
def test_what_is_no_report_is_refused_with_the_reason(body: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(body)
    with pytest.raises(kept.UnreadableError, match=re.escape(words)):
        kept.read(path)
    with pytest.raises(kept.UnreadableError, match="No such file"):
        kept.read(tmp_path / "none.json")


def test_a_switchover_breaks_nothing_and_says_so() -> None:
    phases = tuple(replace(phase, facts={}) for phase in DRILL.phases)
    evidence = replace(passed(), drill=replace(DRILL, phases=phases, asked=replace(DRILL.asked, scenario="switchover")))
    html = page(report(evidence, WANTED))
    assert "none: the role was moved on purpose" in html
    assert "No fault was brought about; nothing of the drill is left on any node." in html


def test_a_fault_that_is_gone_is_still_told_and_the_phase_that_writes_is_not() -> None:
    html = page(made("passed"))
    assert "mail1 has no power" in html
    assert "The fault was taken away; nothing of the drill is left on any node." in html
    assert "under-way" not in html


def test_hours_of_backup_leave_room_for_the_lag_under_load() -> None:
    whole = made("passed")
    hours = tuple(LagPoint(at_ms=at - 20_000_000, lag_ms={"mail2": 1}) for at in range(0, 20_000_000, 60_000))
    assert charts.lag(replace(whole, lag=hours + whole.lag)) == charts.lag(whole)
