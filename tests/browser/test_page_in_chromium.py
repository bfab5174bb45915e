"""The status page in a real Chromium: what it shows, to whom, and what it says when nothing comes any more."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from chromium import NARROW, WIDE, Watched, chromium
from control_stage import HEALTHY
from page_stage import FAILOVER, HISTORY, HOSTILE_TEXT, SCENES, Listener, Scene
from playwright.sync_api import expect

from failoverd.runtime.document import ServiceStatus, StatusDocument, VipStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
ALL = sorted(SCENES)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener(SCENES["healthy"]) as running:
        yield running


@pytest.fixture
def page(browser: Browser, listener: Listener) -> Iterator[Page]:
    watched = Watched(browser)
    opened(watched.page, listener)
    yield watched.page
    watched.page.close()


def opened(page: Page, listener: Listener) -> None:
    page.goto(listener.url)
    expect(page.locator("#connection")).to_contain_text("Live")
    expect(page.locator("#findings .badge").first).to_be_visible()
    expect(page.locator("#history .change").first).to_be_visible()


def cell(page: Page, node: str, column: str) -> str:
    row = page.locator("table.nodes tbody tr").filter(has=page.locator("th strong", has_text=node))
    return row.locator(f'td[data-label="{column}"]').inner_text().replace("\n", " ")


# ---- for everybody, on everything


@pytest.mark.parametrize(("width", "scheme"), [(NARROW, "light"), (WIDE, "dark")])
@pytest.mark.parametrize("scene", ALL)
def test_it_fits_complains_of_nothing_and_keeps_nobody_out(
    browser: Browser, listener: Listener, scene: str, width: int, scheme: str
) -> None:
    listener.show(SCENES[scene])
    watched = Watched(browser, width, color_scheme=scheme, reduced_motion="reduce")
    opened(watched.page, listener)
    assert watched.width() <= width
    assert watched.barriers() == []
    assert watched.complaints == []
    assert watched.hosts == {listener.url.split("/")[2]}
    watched.page.close()


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_what_is_old_keeps_nobody_out_either(browser: Browser, listener: Listener, width: int) -> None:
    watched = Watched(browser, width, reduced_motion="reduce")
    opened(watched.page, listener)
    listener.stop()
    expect(watched.page.locator("#connection")).to_contain_text("Connection lost")
    assert watched.barriers() == []
    assert watched.width() <= width
    watched.page.close()


@pytest.mark.parametrize("path", ["runbooks/", "runbooks/codes/BLK_LAG", "runbooks/at-most-one-primary"])
def test_a_runbook_fits_a_phone_and_keeps_nobody_out(browser: Browser, listener: Listener, path: str) -> None:
    watched = Watched(browser, NARROW)
    watched.page.goto(listener.url + path)
    assert watched.width() <= NARROW
    assert watched.barriers() == []
    assert watched.complaints == []
    watched.page.close()


def test_who_wants_no_motion_gets_none(browser: Browser, listener: Listener) -> None:
    for wish, moving in (("reduce", {"0s"}), ("no-preference", {"0.3s", "0.3s, 0.3s"})):
        watched = Watched(browser, reduced_motion=wish)
        opened(watched.page, listener)
        assert watched.page.evaluate("getComputedStyle(document.querySelector('.answer')).transitionDuration") in moving
        watched.page.close()


# ---- what it shows


def test_it_shows_each_node_as_it_is(page: Page, listener: Listener) -> None:
    listener.show(SCENES["degraded"])
    expect(page.locator(".news")).to_contain_text("mail3 smtp down")
    expect(page.locator(".news")).not_to_contain_text("in term")
    assert cell(page, "mail1", "Role") == "✓primary"
    assert cell(page, "mail3", "Role") == "!fenced should be replica"
    assert cell(page, "mail3", "Services") == "✓imap up ✕smtp down"
    assert cell(page, "mail3", "Replication") == "from mail1 ✓receiver running ✕applier stopped"
    assert cell(page, "mail3", "Lag") == "4.1 s"
    assert cell(page, "mail3", "Position") == "0-1-498 !14 behind"
    assert cell(page, "mail1", "VIP") == "✓has it"
    assert cell(page, "mail2", "VIP") == "\N{EN DASH}no"
    assert cell(page, "mail2", "Free disk") == "✓43 % /var/lib/mysql"
    assert cell(page, "mail2", "Heard") == "here"
    tree = page.locator(".topology .tree").first
    for name in ("mail2", "mail3"):
        box = tree.locator('ul[aria-label="receive from mail1"] > li', has_text=name)
        expect(box).to_contain_text("receives from mail1")
    expect(page.locator(".topology .apart")).to_contain_text("arbiter")
    expect(page.locator(".topology .apart")).to_contain_text("reachable")


def test_it_says_why_nothing_may_move_and_links_each_code_to_its_page(page: Page, listener: Listener) -> None:
    listener.show(SCENES["blocked"])
    answer = page.locator("#answer-failover")
    expect(answer).to_contain_text("NOT possible")
    expect(answer.locator("li")).to_have_text(
        [
            "BLK_STORE the store does not answer",
            "BLK_QUORUM no majority of observers agrees that mail1 is lost",
            "not mail3: BLK_UNREACHABLE no report from mail3 within 2000 ms",
        ]
    )
    expect(page).to_have_title("✕ lab: primary mail1, mail not known, no failover")
    answer.get_by_role("link", name="BLK_STORE").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("BLK_STORE: ")
    page.get_by_role("link", name="Status").click()
    expect(page.locator("#connection")).to_contain_text("Live")


def test_it_says_what_is_under_way_and_what_holds(page: Page, listener: Listener) -> None:
    listener.show(SCENES["busy"])
    facts = page.locator("#now .facts")
    for words in (
        "nothing acts by itself by anna: moving the rack, until 2026-11-28",
        "unproven no replica acknowledges",
        "to mail2 by root, “kernel update”: gate closed on mail1",
        "It would be dropped now: BLK_LAG mail3 is 7000 ms behind",
        "receive: 412 of 2100 MB, 98 MB/s, 17 s left",
        "replica-follows another node holds the lease",
    ):
        expect(facts).to_contain_text(words)
    expect(page.locator("table.nodes tbody tr", has_text="mail2").first).to_contain_text("maintenance")


def test_a_node_of_another_term_is_told(page: Page, listener: Listener) -> None:
    listener.show(Scene(status=mail_of(HEALTHY, term=6)))
    expect(page.locator(".news")).to_have_text("mail1 is in term 6: and mail2 in term 7")


def mail_of(status: StatusDocument, **changed: Any) -> StatusDocument:
    """Give the cluster with something else true of its primary."""
    return replace(status, nodes=(replace(status.nodes[0], **changed), *status.nodes[1:]))


DOWN = ServiceStatus(verdict="down", votes={"mail2": "SMTP_REFUSED connection refused"})
UP = ServiceStatus(verdict="up", votes={"mail2": "ok"})


SERVED = [
    (HEALTHY, "✓served by mail1imap and smtp up, through the virtual IP"),
    (mail_of(HEALTHY, serving=False), "✕NOT servedits gate is closed"),
    (mail_of(HEALTHY, vip=VipStatus(present=False)), "✕NOT servedit has not the virtual IP"),
    (mail_of(HEALTHY, services={"imap": UP, "smtp": DOWN}), "✕only in partsmtp down"),
    (mail_of(HEALTHY, services={"imap": DOWN, "smtp": DOWN}), "✕NOT servedimap down, smtp down"),
    (mail_of(HEALTHY, fresh=False), "?not knownmail1 is silent, and its lease still runs"),
    (SCENES["blocked"].status, "?not knownwhether it still is, is not known: lease unknown"),
    (SCENES["lost"].status, "✕NOT servedthe lease of mail1 has ended"),
]


def test_first_of_all_it_says_whether_mail_is_served(page: Page, listener: Listener) -> None:
    for status, words in SERVED:
        listener.show(Scene(status=status))
        expect(page.locator(".answer").first).to_have_text(f"Mail{words}")


def test_it_says_what_to_do_in_order_and_where_that_is_told(page: Page, listener: Listener) -> None:
    todo = page.locator("#answer-do")
    expect(todo).to_contain_text("✓nothing")
    listener.show(SCENES["lost"])
    expect(todo.locator("li")).to_have_text(
        [
            "remove what blocks the failover FAILOVER_BLOCKED",
            "find out why the role moved so often, then failoverctl acknowledge BLK_FLAPPING",
            "mail3: set sync_binlog = 1 SET_SYNC_BINLOG",
        ]
    )
    expect(todo).to_contain_text("1 warning below")
    todo.get_by_role("link", name="FAILOVER_BLOCKED").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("FAILOVER_BLOCKED: ")


def test_it_says_what_can_still_be_lost(page: Page, listener: Listener) -> None:
    lines = page.locator("#now .facts > div").filter(has=page.locator("dt", has_text="If lost"))
    expect(lines).to_have_text(["If lost✓mail2, mail3 or arbiter the primary serves on, and could still be replaced"])
    listener.show(SCENES["degraded"])
    expect(lines).to_have_text(
        [
            "If lost✓mail3 the primary serves on, and could still be replaced",
            "If lost!arbiter the primary serves on, and could not be replaced until it is back",
            "If lost✕mail2 clients would wait until it is back",
        ]
    )
    listener.show(SCENES["lost"])
    expect(lines).to_have_count(0)


def test_what_was_asked_for_in_vain_stands_between_the_changes(page: Page) -> None:
    rows = page.locator("#history .changes > li")
    expect(rows).to_have_count(3)  # the request that came to the switchover is told by it
    expect(rows.nth(0)).to_contain_text("Switchover mail3 → mail1")
    expect(rows.nth(1)).to_contain_text("!refusedpromote mail2")
    expect(rows.nth(1)).to_contain_text("by bertBLK_LAG mail2 is 7000 ms behind, the limit is 1500 ms")
    expect(rows.nth(2)).to_contain_text("Adoption mail1")


def test_only_one_node_is_drawn_as_the_one_that_leads(page: Page, listener: Listener) -> None:
    listener.show(SCENES["failed-over"])
    expect(page.locator(".box.leads strong")).to_have_text(["mail2"])
    expect(page.locator(".box.node", has_text="mail1").last).to_contain_text("was primary")
    expect(page.locator("#answer-do li")).to_have_text(["mail1 is silent: bring it back BLK_UNREACHABLE"])


def test_each_finding_has_its_meaning_its_fix_and_its_page(page: Page, listener: Listener) -> None:
    listener.show(SCENES["degraded"])
    first = page.locator(".finding").first
    expect(first).to_contain_text("blocks mail3 SET_SYNC_BINLOG")
    expect(first.locator("dd")).to_have_text(
        [
            "sync_binlog = 0; allowed: 1",
            "a crash loses what was acknowledged",
            "set sync_binlog = 1 Runbook SET_SYNC_BINLOG",
        ]
    )
    first.get_by_role("link", name="Runbook SET_SYNC_BINLOG").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("SET_SYNC_BINLOG: ")


@pytest.mark.parametrize("scene", ["three", "nine"])
def test_three_nodes_or_nine_all_stand_in_the_tree(page: Page, listener: Listener, scene: str) -> None:
    listener.show(SCENES[scene])
    names = [node.name for node in SCENES[scene].status.nodes]
    expect(page.locator(".topology .box.node strong")).to_have_text(names)
    last, source = names[-2], names[-3]
    expect(page.locator(f'ul[aria-label="receive from {source}"]')).to_contain_text(last)


def test_a_failover_shows_without_loading_the_page_anew(page: Page, listener: Listener) -> None:
    page.evaluate("window.loaded = 'once'")
    listener.show(SCENES["failed-over"])
    expect(page.locator("#answer-primary")).to_contain_text("mail2")
    expect(page.locator(".box.vip")).to_have_text("Virtual IP✓on mail2")
    newest = page.locator("#history .change").first
    expect(newest.locator("summary")).to_contain_text("Failover mail1 → mail2")
    expect(newest.locator("summary")).to_contain_text("outage 2.65 s")
    expect(newest.locator("tbody tr")).to_have_count(len(FAILOVER.phases))
    failed = newest.locator("tbody tr", has_text="attach-replica")
    expect(failed.get_by_role("link", name="STEP_TIMEOUT")).to_be_visible()
    assert page.evaluate("window.loaded") == "once"


def test_the_lease_counts_down_between_two_events(page: Page, listener: Listener) -> None:
    listener.frozen = True
    shown = page.locator("#answer-primary").locator(".words")
    expect(shown).to_contain_text("lease 1.")
    expect(page.locator("#connection")).to_contain_text("Live")


# ---- what nobody must be able to make it do


def test_hostile_words_stay_words(page: Page, listener: Listener) -> None:
    listener.show(SCENES["hostile"])
    expect(page.locator(".finding dd").first).to_have_text(HOSTILE_TEXT)
    expect(page.locator("#title")).to_have_text(HOSTILE_TEXT)
    expect(page.locator("#now .reasons li").first).to_contain_text(HOSTILE_TEXT)
    assert page.locator("main img, main script, [onerror]").count() == 0
    assert HOSTILE_TEXT in page.title()
    links = page.eval_on_selector_all("a", "links => links.map((link) => link.href)")
    assert links
    assert all(link.startswith((f"{listener.url}runbooks/", f"{listener.url}#")) for link in links), links


def test_the_browser_takes_no_markup_from_a_script_of_the_page(page: Page) -> None:
    refused = "try { document.body.innerHTML = '<b>x</b>'; 'taken' } catch (error) { error.name }"
    assert page.evaluate(refused) == "TypeError"


# ---- when nothing comes any more


def assert_old(page: Page) -> None:
    expect(page.locator("#connection")).to_contain_text("Connection lost", timeout=10_000)
    expect(page.locator("#old-note")).to_contain_text("mail2 does not answer. All below is old: from ")
    expect(page.locator("#old-note")).to_contain_text("mail1 (10.89.1.11), mail3 (10.89.1.13) or arbiter (10.89.1.14)")
    expect(page.locator("#answer-primary")).to_contain_text("not known now; it was mail1")
    expect(page.locator("#answer-failover")).to_contain_text("not known now; it was possible, to mail2")
    expect(page.locator("#announced")).to_have_text("Connection lost: what is shown is old.")
    expect(page).to_have_title("? lab: connection lost")


def assert_live(page: Page) -> None:
    expect(page.locator("#connection")).to_contain_text("Live", timeout=15_000)
    expect(page.locator("#old-note")).to_be_hidden()
    expect(page.locator("#answer-primary")).not_to_contain_text("not known")


def test_a_listener_that_dies_is_told_and_one_that_returns_is_shown(page: Page, listener: Listener) -> None:
    page.evaluate("window.loaded = 'once'")
    listener.stop()
    assert_old(page)
    listener.scene = SCENES["failed-over"]
    listener.start()
    assert_live(page)
    expect(page.locator("#answer-primary")).to_contain_text("mail2")
    assert page.evaluate("window.loaded") == "once"


def test_a_node_that_falls_silent_without_a_word_is_told(page: Page, listener: Listener) -> None:
    listener.frozen = True  # as one that lost its power: the connection stays, and nothing comes
    assert_old(page)
    listener.frozen = False
    assert_live(page)


# ---- for ears and hands


def test_only_what_matters_is_read_aloud(page: Page, listener: Listener) -> None:
    aloud = page.locator("#announced")
    page.evaluate(
        """window.said = [];
        new MutationObserver(() => said.push(document.getElementById("announced").textContent))
          .observe(document.getElementById("announced"), {childList: true, characterData: true, subtree: true})"""
    )
    healthy = SCENES["healthy"].status
    for lag_ms in (100, 900):  # lag moves, and nobody is interrupted
        mail3 = healthy.nodes[2]
        assert mail3.database is not None
        assert mail3.database.replication is not None
        slower = replace(mail3.database, replication=replace(mail3.database.replication, lag_ms=lag_ms))
        nodes = (*healthy.nodes[:2], replace(mail3, database=slower), healthy.nodes[3])
        listener.show(Scene(status=replace(healthy, nodes=nodes)))
        expect(page.locator('td[data-label="Lag"]').nth(2)).to_have_text("0.9 s" if lag_ms == 900 else "0.1 s")
    expect(aloud).to_have_text("")
    listener.show(SCENES["paused"])
    expect(aloud).to_have_text("Mail: served by mail1. Primary: mail1. Failover not possible: BLK_PAUSED.")
    listener.show(SCENES["failed-over"])
    expect(aloud).to_have_text("Mail: served by mail2. Primary: mail2. Failover possible.")
    assert page.evaluate("said") == [
        "Mail: served by mail1. Primary: mail1. Failover not possible: BLK_PAUSED.",
        "Mail: served by mail2. Primary: mail2. Failover possible.",
    ]


def test_the_keyboard_reaches_all_and_keeps_its_place(page: Page, listener: Listener) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    summary = page.locator("#history summary").first
    summary.focus()
    expect(page.locator("#history details").first).to_have_attribute("open", "")
    page.keyboard.press("Enter")
    expect(page.locator("#history details").first).not_to_have_attribute("open", "")
    # A change comes in above: what had the focus has it still, and what was closed stays closed.
    listener.show(replace(SCENES["failed-over"], history=replace(HISTORY, changes=(FAILOVER, *HISTORY.changes))))
    expect(page.locator("#history .change")).to_have_count(3)
    assert page.evaluate("document.activeElement.textContent").startswith("✓doneSwitchover mail3 → mail1")
    expect(page.locator("#history details").nth(1)).not_to_have_attribute("open", "")


def test_tables_have_their_heads_in_the_accessibility_tree_on_a_phone_too(browser: Browser, listener: Listener) -> None:
    for width in (NARROW, WIDE):
        watched = Watched(browser, width)
        opened(watched.page, listener)
        table = watched.page.get_by_role("table", name="The nodes of lab, as mail2 sees them")
        assert table.get_by_role("columnheader").all_inner_texts()[:3] == ["Node", "Role", "Services"]
        assert [text.split()[0] for text in table.get_by_role("rowheader").all_inner_texts()] == [
            "mail1",
            "mail2",
            "mail3",
            "arbiter",
        ]
        watched.page.close()
