"""The status page, open in a browser on the lab's client, while the primary loses its power."""

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
    from playwright.sync_api import Browser
    from trials.cluster import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.browser]
PORT = 7480
MOVED_MS = 20_000
LOST_MS = 15_000
TOLD_MS = 30_000  # the change's phases are asked of the other nodes, one of which has no power


def opened(browser: Browser, host: str, primary: str) -> Watched:
    watched = Watched(browser)
    watched.page.goto(f"http://{layout.ADDRESSES[host]}:{PORT}/")
    expect(watched.page.locator("#connection")).to_contain_text("Live")
    expect(watched.page.locator("#answer-primary")).to_contain_text(primary)
    watched.page.evaluate("window.loaded = 'once'")
    return watched


def test_an_open_page_shows_the_failover_and_one_of_the_dead_node_says_that_it_is_old(
    lab: Lab, cluster: Cluster, tmp_path: Path
) -> None:
    old = cluster.primary()
    survivors = [host for host in layout.DATA_NODES if host != old]
    with chromium(tmp_path, network.CLIENT_NS) as browser:
        alive, dying = opened(browser, survivors[0], old), opened(browser, old, old)
        lab.kill(old)
        answer = alive.page.locator("#answer-primary")
        expect(answer).to_contain_text(re.compile(f"✓({'|'.join(survivors)})"), timeout=MOVED_MS)
        new = cluster.primary()
        assert new in survivors
        expect(answer).to_contain_text(new)
        expect(alive.page.locator(".box.vip")).to_have_text(f"Virtual IP✓on {new}")
        newest = alive.page.locator("#history .change").first.locator("summary")
        expect(newest).to_contain_text(f"Failover {old} → {new}", timeout=TOLD_MS)
        expect(newest).to_contain_text("done", timeout=TOLD_MS)
        expect(newest).to_contain_text(re.compile(r"outage \d+\.\d\d s"))
        phases = alive.page.locator("#history .change").first.locator("table.phases tbody tr")
        expect(phases.filter(has_text="open-gate").first).to_contain_text(new)
        expect(alive.page.locator(".box.node", has_text=old)).to_contain_text("silent")
        assert alive.page.evaluate("window.loaded") == "once"
        assert alive.complaints == []

        # No end of the connection ever reaches the page that the dead node had served.
        expect(dying.page.locator("#connection")).to_contain_text("Connection lost", timeout=LOST_MS)
        expect(dying.page.locator("#answer-primary")).to_contain_text(f"not known now; it was {old}")
        assert dying.page.evaluate("window.loaded") == "once"
        dying.page.locator("#old-note").get_by_role("link", name=new).click()
        expect(dying.page.locator("#connection")).to_contain_text("Live")
        expect(dying.page.locator("#answer-primary")).to_contain_text(new)
