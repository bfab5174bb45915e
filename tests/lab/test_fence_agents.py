"""A lost primary's power is cut from outside, and what that opens: on real hosts, with an agent that does what it says.

The lease is long here, so that its end and a confirmed power-off cannot be mistaken for each other: which of the two
opened a promotion is read from the audits' own times. All hosts have one CLOCK_BOOTTIME, the machine's.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from hosts import layout
from hosts.power_switch import PowerSwitch, fencing
from hosts.shell import wait_for
from trials.cluster import Cluster, audit_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hosts import Lab

pytestmark = pytest.mark.lab

RENEW_MS = 500
MOVED_S = 60.0
SETTLED_S = 90.0
CONFIGURATION = "/etc/failoverd/failoverd.yaml"


def boot_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class Configured:
    """The cluster under another configuration, until `back`."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self._cluster = lab, Cluster(lab)
        self._shipped = self._text = lab.path(layout.ARBITER, CONFIGURATION).read_text()
        self.ttl_ms = 0

    def set(self, *, ttl_s: int, demote_budget_s: int, fencing: str) -> None:
        """Give every host this lease and this fencing, and wait until one primary and two healthy replicas are back."""
        lease = f"lease: {{ttl: {ttl_s}s, renew: {RENEW_MS}ms, margin: 300ms, demote_budget: {demote_budget_s}s}}"
        text, count = re.subn(r"(?m)^lease: .*$", lease, self._shipped)
        assert count == 1
        self.ttl_ms = ttl_s * 1000
        self._have(f"{text}\n{fencing}")

    def back(self) -> None:
        """Give every host the shipped configuration again, whatever has become of it."""
        for host in layout.HOSTS:
            if self._lab.pid(host) is None:
                self._lab.boot(host)
        self._have(self._shipped)

    def _have(self, text: str) -> None:
        """Write it and restart all, unless the test before had the same."""
        if text != self._text:
            self._text = text
            for host in layout.HOSTS:
                self._lab.path(host, CONFIGURATION).write_text(text)
            for host in (layout.ARBITER, *layout.DATA_NODES):
                self._lab.exec(host, "systemctl", "restart", "failoverd.service")
        wait_for("one primary and two healthy replicas", self._healthy, SETTLED_S)

    def _healthy(self) -> bool:
        holders = self._cluster.holders_of_vip()
        others = [host for host in layout.DATA_NODES if host not in holders]
        return (
            len(holders) == 1
            and all(self._cluster.is_healthy_replica(host) for host in others)
            and not any(self._held_off(host) for host in others)
        )

    def _held_off(self, host: str) -> bool:
        """Whether `host` saw the role change a moment ago, as a restart of all under another configuration may do.

        Until its hold-off is over it neither fences nor takes over, whatever else would have opened that.
        """
        status = self._cluster.status(host)
        return status is None or any(blocker["code"] == "BLK_HOLD_OFF" for blocker in status["failover"]["blockers"])


@pytest.fixture(scope="module")
def configured(lab_of_the_session: Lab) -> Iterator[Configured]:
    """Give the configuration that each test sets; the shipped one is back after the last of them."""
    place = Configured(lab_of_the_session)
    yield place
    place.back()


class Audits:
    """All lines of the data nodes' audits from now on."""

    def __init__(self) -> None:
        self._tails = {host: audit_of(host) for host in layout.DATA_NODES}
        self._lines: dict[str, list[dict[str, Any]]] = {host: [] for host in layout.DATA_NODES}
        self._read()
        self._lines = {host: [] for host in layout.DATA_NODES}

    def _read(self) -> None:
        for host, tail in self._tails.items():
            self._lines[host] += tail.new()

    def of(self, host: str, kind: str, **values: object) -> list[dict[str, Any]]:
        """The lines of a kind, with these values, of one host."""
        self._read()
        found = [line for line in self._lines[host] if line.get("kind") == kind]
        return [line for line in found if all(line.get(key) == value for key, value in values.items())]

    def first(self, host: str, kind: str, **values: object) -> dict[str, Any]:
        """The first of them."""
        found = self.of(host, kind, **values)
        assert found, f"{host} has no {kind} {values}"
        return found[0]


def moved_from(cluster: Cluster, old: str) -> Callable[[], bool]:
    def moved() -> bool:
        holders = cluster.holders_of_vip()
        return len(holders) == 1 and holders[0] != old

    return moved


def is_new_primary(cluster: Cluster, old: str, audits: Audits, *, lost_ms: int, by_lease: bool, ttl_ms: int) -> str:
    """Wait for the new primary, and hold its way there against what may have opened it. Return its name."""
    wait_for("another node is primary", moved_from(cluster, old), MOVED_S)
    new = cluster.primary()
    took = audits.first(new, "take-over")
    # The lease counts from the last renewal that was seen: at most two renewals before the host was lost.
    ended_ms = lost_ms + ttl_ms - 2 * RENEW_MS
    if by_lease:
        assert took["boot_ms"] >= ended_ms, "nothing but the lease's end may have opened it"
        assert not audits.of(new, "off")
    else:
        assert took["boot_ms"] < ended_ms, "it did not wait for the lease's end"
        assert audits.first(new, "off")["seq"] < took["seq"]
    return new


def comes_home(lab: Lab, cluster: Cluster, host: str, new: str) -> None:
    """Switch it on again: it is a replica of the new primary."""
    lab.boot(host)
    wait_for(f"{host} is home as a replica", lambda: cluster.is_healthy_replica(host), SETTLED_S)
    assert cluster.holders_of_vip() == [new]


def fencer(audits: Audits, witness: str) -> str:
    """The node that condemned the primary, as another's audit tells."""
    return str(audits.first(witness, "condemned")["text"]).partition(" ")[0]


def test_a_confirmed_power_off_opens_promotion_before_the_lease_ends(
    lab: Lab, cluster: Cluster, configured: Configured
) -> None:
    with PowerSwitch(lab) as switch:
        configured.set(ttl_s=30, demote_budget_s=25, fencing=fencing())
        old, term, audits = cluster.primary(), cluster.term(), Audits()
        lost_ms = boot_ms()
        lab.kill(old)
        new = is_new_primary(cluster, old, audits, lost_ms=lost_ms, by_lease=False, ttl_ms=configured.ttl_ms)
        assert cluster.term() == term + 1
        assert ("off", old) in switch.asked
        off = audits.first(new, "off")
        assert off["text"] == f"{old} has no power: the fence agents that {fencer(audits, new)} asked"
        assert audits.first(new, "condemned")["seq"] < off["seq"]
        ended = audits.first(
            fencer(audits, new), "step-ended", text="fence: succeeded, fence_lab: off was done, and status says off"
        )
        assert ended["boot_ms"] <= off["boot_ms"]
        comes_home(lab, cluster, old, new)


def test_a_frozen_primary_is_switched_off(lab: Lab, cluster: Cluster, configured: Configured) -> None:
    with PowerSwitch(lab):
        configured.set(ttl_s=30, demote_budget_s=25, fencing=fencing())
        old, audits = cluster.primary(), Audits()
        lost_ms = boot_ms()
        lab.pause(old)
        wait_for(f"{old} has lost its power", lambda: lab.pid(old) is None, MOVED_S)
        new = is_new_primary(cluster, old, audits, lost_ms=lost_ms, by_lease=False, ttl_ms=configured.ttl_ms)
        comes_home(lab, cluster, old, new)


@pytest.mark.long
@pytest.mark.parametrize(("fault", "code"), [("fails", "FENCE_FAILED"), ("hangs", "FENCE_TIMEOUT")])
def test_a_fence_that_was_not_confirmed_opens_nothing(
    lab: Lab, cluster: Cluster, configured: Configured, fault: str, code: str
) -> None:
    with PowerSwitch(lab, **{fault: True}) as switch:
        configured.set(ttl_s=8, demote_budget_s=5, fencing=fencing(timeout="2s"))
        old, audits = cluster.primary(), Audits()
        lost_ms = boot_ms()
        lab.kill(old)
        new = is_new_primary(cluster, old, audits, lost_ms=lost_ms, by_lease=True, ttl_ms=configured.ttl_ms)
        assert ("off", old) in switch.asked
        ended = audits.of(fencer(audits, new), "step-ended")
        assert code in {entry.get("code") for entry in ended}, ended
        comes_home(lab, cluster, old, new)


def test_a_fence_that_does_not_work_is_shown_before_it_is_needed(cluster: Cluster, configured: Configured) -> None:
    def complaints() -> set[str]:
        status = cluster.status(cluster.primary()) or {"nodes": []}
        found = [(node["name"], finding["code"]) for node in status["nodes"] for finding in node["findings"]]
        return {name for name, code in found if code == "FENCE_MONITOR_FAILED"}

    configured.set(ttl_s=3, demote_budget_s=1, fencing=fencing(timeout="2s"))  # nobody is at the switch's address
    wait_for("every data node says so", lambda: complaints() == set(layout.DATA_NODES), SETTLED_S)
    assert "FENCE_MONITOR_FAILED" in cluster.shown_status()


def test_where_a_fence_is_required_an_operator_s_word_is_waited_for(
    lab: Lab, cluster: Cluster, configured: Configured
) -> None:
    configured.set(ttl_s=3, demote_budget_s=1, fencing=fencing(required=True, agents=False))
    old, term, audits = cluster.primary(), cluster.term(), Audits()
    others = [host for host in layout.DATA_NODES if host != old]
    confirm = ("failoverctl", "confirm-fenced", "--node", old, "--reason", "pulled both plugs", "--yes")
    early = lab.exec(others[0], *confirm, check=False)
    assert (early.returncode, "BLK_ANSWERS" in early.stderr) == (3, True), early.stderr
    lab.kill(old)

    def blocked() -> bool:
        return any(audits.of(host, "blocked", code="BLK_FENCE") for host in others)

    wait_for("the lease is over, and what is missing is told", blocked, MOVED_S)
    assert cluster.holders_of_vip() == []
    assert cluster.term() == term
    answer = lab.exec(others[0], *confirm)
    assert f"done: the cluster goes on without {old}" in answer.stdout
    assert "TWO PRIMARIES" in answer.stderr
    wait_for("another node is primary", moved_from(cluster, old), MOVED_S)
    new = cluster.primary()
    assert audits.first(new, "off")["text"] == f"{old} has no power: root: pulled both plugs"
    assert audits.first(new, "off")["seq"] < audits.first(new, "take-over")["seq"]
    comes_home(lab, cluster, old, new)
