"""The status page, open in browsers on the lab's client: the role is handed over, then its holder loses its power."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from chromium import Watched, chromium
from hosts import layout, network
from playwright.sync_api import expect

if TYPE_CHECKING:
    from pathlib import Path

    from hosts import Lab
    from playwright.sync_api import Browser, Locator
    from trials.cluster import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.browser]
PORT = 7480
MOVED_MS = 20_000
LOST_MS = 15_000
TOLD_MS = 30_000  # the change's phases are asked of the other nodes, one of which has no power
HOME_MS = 60_000
NOT_ANSWERED = "error: Failed to load resource: net::ERR_"


def opened(browser: Browser, host: str, primary: str) -> Watched:
    watched = Watched(browser)
    watched.page.goto(f"http://{layout.ADDRESSES[host]}:{PORT}/")
    expect(watched.page.locator("#connection")).to_contain_text("Live")
    expect(watched.page.locator("#answer-primary")).to_contain_text(primary)
    watched.page.evaluate("window.loaded = 'once'")
    return watched


def expect_served_by(watched: Watched, primary: str, others: list[str]) -> None:
    """Wait until the page shows it everywhere: in its answers, its topology and its table."""
    page = watched.page
    expect(page.locator("#answer-primary")).to_contain_text(re.compile(rf"✓{primary}term \d+ · lease \d.* left"))
    expect(page.locator(".box.vip")).to_have_text(f"Virtual IP✓on {primary}")
    expect(page.locator('ul[aria-label="has the virtual IP"] > li > .box.node')).to_contain_text(f"{primary}✓primary")
    receive = page.locator(f'ul[aria-label="receive from {primary}"] > li')
    for other in others:
        expect(receive.filter(has_text=other)).to_contain_text(re.compile(r"✓[\d.]+ m?s behind"), timeout=TOLD_MS)
    row = page.locator("table.nodes tbody tr", has=page.locator("th strong", has_text=primary))
    expect(row.locator('td[data-label="VIP"]')).to_contain_text("has it")


def newest_change(watched: Watched, words: str) -> Locator:
    """Wait until the newest change is this one, and all its phases are told."""
    change = watched.page.locator("#history .change").first
    expect(change.locator("summary")).to_contain_text(words, timeout=TOLD_MS)
    expect(change.locator("summary")).to_contain_text("done", timeout=TOLD_MS)
    expect(change.locator("summary")).to_contain_text(re.compile(r"outage \d+\.\d\d s"))
    return change.locator("table.phases tbody tr")


def test_open_pages_show_a_switchover_and_a_power_cut_and_one_of_the_dead_node_says_that_it_is_old(
    lab: Lab, cluster: Cluster, tmp_path: Path
) -> None:
    first = cluster.primary()
    second, witness = [host for host in layout.DATA_NODES if host != first]
    with chromium(tmp_path, network.CLIENT_NS) as browser:
        alive, dying = opened(browser, witness, first), opened(browser, second, first)
        expect_served_by(alive, first, [second, witness])

        lab.exec(first, "failoverctl", "promote", "--node", second, "--reason", "new kernel")
        for page in (alive, dying):
            expect_served_by(page, second, [first, witness])
        phases = newest_change(alive, f"Switchover {first} → {second}")
        expect(phases.filter(has_text="close-gate").first).to_contain_text(first)
        expect(phases.filter(has_text="open-gate").first).to_contain_text(second)
        expect(alive.page.locator("#history .change").first).to_contain_text("new kernel")

        lab.kill(second)
        served = alive.page.locator("#answer-mail")
        expect(served).not_to_contain_text("served by", timeout=MOVED_MS)
        expect(served).to_contain_text(re.compile(f"served by ({first}|{witness})"), timeout=MOVED_MS)
        new = cluster.primary()
        expect_served_by(alive, new, [host for host in (first, witness) if host != new])
        phases = newest_change(alive, f"Failover {second} → {new}")
        expect(phases.filter(has_text="take-term").first).to_contain_text(new)
        expect(phases.filter(has_text="open-gate").first).to_contain_text(new)
        expect(alive.page.locator(".box.node", has_text=second)).to_contain_text("silent")
        expect(alive.page.locator("#answer-do")).to_contain_text(f"{second} is silent")
        assert alive.page.evaluate("window.loaded") == "once"
        unheard = alive.page.locator("#findings li", has_text=second).get_by_role("link").first
        code = str(unheard.get_attribute("href")).rpartition("/")[2]
        unheard.click()
        expect(alive.page.get_by_role("heading", level=1)).to_contain_text(f"{code}: ")
        assert alive.complaints == []

        # No end of the connection ever reaches the page that the dead node had served.
        expect(dying.page.locator("#connection")).to_contain_text("Connection lost", timeout=LOST_MS)
        expect(dying.page.locator("#answer-primary")).to_contain_text(f"not known now; it was {second}")
        elsewhere = dying.page.locator("#old-note").get_by_role("link", name=new)
        assert elsewhere.get_attribute("href") == f"http://{layout.ADDRESSES[new]}:{PORT}/"

        lab.boot(second)
        expect(dying.page.locator("#connection")).to_contain_text("Live", timeout=HOME_MS)
        expect_served_by(dying, new, [])
        assert dying.page.evaluate("window.loaded") == "once"
        assert [said for said in dying.complaints if not said.startswith(NOT_ANSWERED)] == []
        for watched, host in ((alive, witness), (dying, second)):
            assert watched.hosts == {f"{layout.ADDRESSES[host]}:{PORT}"}  # nothing comes from anywhere else
