"""What is counted, averaged and judged: windows, logins, latency, a core's share, memory that only grows."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failoverd.config import AuthFailures, AuthSource, Config, Latency, Memory, PostfixCpu, SlowQueries, load
from failoverd.core.model import Health, NodeName, Observation, Reading
from failoverd.core.monitoring import StatementFacts
from failoverd.ports import Target
from failoverd.probes.latency import Latencies, LatencyProbe
from failoverd.probes.logins import LoginsProbe, MailTally, judged
from failoverd.probes.processes import MB, PARTS, CpuShare, Memories, ProcessesProbe, Sample
from failoverd.probes.sessions import imap_sessions
from failoverd.probes.statements import StatementsProbe
from failoverd.probes.window import SLICES, Window
from failoverd.runtime.watching import Watching

if TYPE_CHECKING:
    from pathlib import Path

ME = Target(NodeName("mail1"), "10.89.1.11")
IMAP, SMTP = "dovecot.service", "postfix@-.service"


class Clock:
    """Stands still."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def now_ms(self) -> int:
        """Give the time."""
        return self.ms


# ---- windows -----------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 3000), st.sampled_from("ab"), st.integers(1, 5)), max_size=40))
def test_a_window_holds_what_is_young_and_forgets_what_is_old(added: list[tuple[int, str, int]]) -> None:
    window, now_ms = Window(12_000), 0
    told: list[tuple[int, str, int]] = []
    for later_ms, name, amount in added:
        now_ms += later_ms
        window.add(now_ms, name, amount)
        told.append((now_ms, name, amount))
    counts = window.totals(now_ms)
    for name in "ab":
        least = sum(n for at, one, n in told if one == name and at > now_ms - 12_000 * (SLICES - 1) // SLICES)
        most = sum(n for at, one, n in told if one == name and at > now_ms - 12_000)
        assert least <= counts[name] <= most
    assert not window.totals(now_ms + 12_001)


def test_a_flood_of_names_keeps_the_most_frequent_in_bounded_memory() -> None:
    window = Window(12_000, names=100)
    for number in range(10_000):
        window.add(0, f"once-{number}")
        window.add(0, "often")
    counts = window.totals(0)
    assert counts["often"] == 10_000
    assert len(counts) <= 101


# ---- logins ------------------------------------------------------------------------------------------------------


def failed(address: str, user: str = "a@b.test", attempts: int = 1) -> str:
    return (
        f"imap-login: Disconnected (auth failed, {attempts} attempts in 2 secs): user=<{user}>, method=PLAIN, "
        f"rip={address}, lip=10.89.1.100, TLS, session=<a>"
    )


def accepted(address: str, user: str = "a@b.test") -> str:
    return f"imap-login: Login: user=<{user}>, method=PLAIN, rip={address}, lip=10.89.1.100, mpid=7, TLS, session=<a>"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tally(clock: Clock) -> MailTally:
    members = ["10.89.1.11", "10.89.1.14"]
    return MailTally(IMAP, SMTP, "canary@b.test", members, AuthFailures(), AuthSource(), clock.now_ms)


def hear(tally: MailTally, line: str, times: int = 1, unit: str = IMAP, identifier: str = "dovecot") -> None:
    for _ in range(times):
        tally.hear(unit, identifier, line)


def test_more_than_half_of_enough_logins_fail(tally: MailTally, clock: Clock) -> None:
    hear(tally, failed("192.0.2.9"), 19)
    assert tally.facts().found == (), "too few to say"
    hear(tally, accepted("192.0.2.7"), 19)
    assert tally.facts().found == (), "half is not more than half"
    hear(tally, failed("192.0.2.8"))
    assert tally.facts().found == (("MON_AUTH_FAILURES", "20 of 39 logins failed within 300 s: 51 % > 50 %"),)
    clock.ms += 300_001
    facts = tally.facts()
    assert (facts.found, facts.accepted, facts.refused) == ((), 19, 20)


def test_more_than_fifty_from_one_address_within_an_hour(tally: MailTally, clock: Clock) -> None:
    hear(tally, accepted("192.0.2.7"), 200)
    hear(tally, failed("192.0.2.9", attempts=3), 10)
    clock.ms += 1_800_000
    hear(tally, failed("192.0.2.9"), 20)
    hear(tally, failed("192.0.2.10"), 50)
    assert "MON_AUTH_SOURCE" not in dict(tally.facts().found), "fifty are not more than fifty"
    hear(tally, failed("192.0.2.9"))
    code, words = tally.facts().found[-1]
    assert (code, words) == ("MON_AUTH_SOURCE", "failed logins within 3600 s: 51 from 192.0.2.9; > 50")
    clock.ms += 1_800_001
    assert "MON_AUTH_SOURCE" not in dict(tally.facts().found), "thirty of them are older than an hour"


def test_the_worst_addresses_are_named_and_a_network_of_ipv6_is_one(tally: MailTally) -> None:
    for number in range(60):
        hear(tally, failed(f"2001:db8:1:2::{number:x}"))
    for host in range(1, 5):
        hear(tally, failed(f"192.0.2.{host}", attempts=100 + host))
    assert dict(tally.facts().found)["MON_AUTH_SOURCE"] == (
        "failed logins within 3600 s: 104 from 192.0.2.4, 103 from 192.0.2.3, 102 from 192.0.2.2 "
        "and 2 more addresses; > 50"
    )


def test_failoverds_own_logins_hide_nothing(tally: MailTally) -> None:
    hear(tally, accepted("10.89.1.14", "canary@b.test"), 1000)
    hear(tally, failed("192.0.2.9"), 20)
    assert [code for code, _ in tally.facts().found] == ["MON_AUTH_FAILURES"]
    hear(tally, accepted("192.0.2.9", "canary@b.test"), 3)
    hear(tally, accepted("10.89.1.14", "a@b.test"), 3)
    assert tally.facts().accepted == 6, "only the canary's from a member are left out"


def test_a_line_counts_only_from_its_own_unit_under_its_own_name(tally: MailTally) -> None:
    hear(tally, failed("192.0.2.9"), unit="ssh.service")
    hear(tally, failed("192.0.2.9"), unit=SMTP)
    hear(tally, failed("192.0.2.9"), identifier="logger")
    sent = "3F1A2B: to=<a@b.test>, relay=x[10.0.0.1]:24, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (ok)"
    hear(tally, sent, unit=IMAP, identifier="postfix/lmtp")
    assert (tally.facts().refused, tally.facts().deliveries) == (0, 0)
    hear(tally, sent, 6, unit=SMTP, identifier="postfix/lmtp")
    facts = tally.facts()
    assert (facts.deliveries, facts.deliveries_per_s) == (6, 6.0), "in the first second"


def test_deliveries_a_second_over_the_last_minute(tally: MailTally, clock: Clock) -> None:
    sent = "3F1A2B: to=<a@b.test>, relay=x[10.0.0.1]:24, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (ok)"
    clock.ms += 120_000
    hear(tally, sent, 30, unit=SMTP, identifier="postfix/lmtp")
    assert tally.facts().deliveries_per_s == 0.5
    clock.ms += 60_001
    assert (tally.facts().deliveries, tally.facts().deliveries_per_s) == (30, 0.0)


class Reader:
    """A journal that cannot be read."""

    error = "there is none"

    def start(self) -> None:
        """Read nothing."""

    def close(self) -> None:
        """Likewise."""


def test_without_a_journal_nothing_is_known(tally: MailTally) -> None:
    hear(tally, failed("192.0.2.9"), 100)
    reading = asyncio.run(LoginsProbe(Reader(), tally).read(ME))
    assert (reading.health, reading.code) == (Health.UNKNOWN, "MON_NO_JOURNAL")
    assert judged(tally.facts()).health is Health.FAILED


# ---- latency -----------------------------------------------------------------------------------------------------


def seen(clock: Clock, took_ms: int, code: str = "", probe: str = "imap", node: str = "mail1") -> Observation:
    health = Health.FAILED if code else Health.OK
    return Observation(probe, NodeName(node), Reading(health, code, code), clock.ms, took_ms)


def test_the_average_of_the_looks(clock: Clock) -> None:
    latencies = Latencies(Latency(), ["imap", "smtp"], clock)
    probe = LatencyProbe(latencies)
    for took_ms in (2900, 3000):
        latencies.note(seen(clock, took_ms))
    assert latencies.means() == (), "two are no average"
    latencies.note(seen(clock, 3100))
    assert asyncio.run(probe.read(ME)).health is Health.OK
    latencies.note(seen(clock, 5000, "IMAP_TIMEOUT_LOGIN"))
    latencies.note(seen(clock, 1, "IMAP_REFUSED"))
    latencies.note(seen(clock, 9000, probe="database"))
    reading = asyncio.run(probe.read(ME))
    assert (reading.health, reading.code) == (Health.FAILED, "MON_LATENCY")
    assert reading.reason == "imap of mail1, seen from mail1, takes 3500 ms on average over 60 s > 3000 ms"
    clock.ms += 60_001
    assert asyncio.run(probe.read(ME)).health is Health.OK


def test_nodes_and_services_are_not_mixed(clock: Clock) -> None:
    latencies = Latencies(Latency(), ["imap", "smtp"], clock)
    for _ in range(3):
        for probe, node, took_ms in (("imap", "mail1", 10), ("imap", "mail2", 20), ("smtp", "mail1", 30)):
            latencies.note(seen(clock, took_ms, probe=probe, node=node))
    assert latencies.means() == (("imap", "mail1", 10), ("imap", "mail2", 20), ("smtp", "mail1", 30))


# ---- processes ---------------------------------------------------------------------------------------------------


def process(pid: int = 7, rss_mb: float = 50, cpu_s: float = 0, began: float = 1, unit: str = IMAP) -> Sample:
    return Sample(pid, began, "auth", unit, cpu_s, int(rss_mb * MB))


def growing(memories_mb: list[list[float]], **limit: int) -> list[tuple[str, int, int, int]]:
    """One list a part of the window."""
    memories = Memories(Memory.model_validate({"window": "1h", **limit}))
    for part, values in enumerate(memories_mb):
        for number, rss_mb in enumerate(values):
            memories.add(part * 3_600_000 // PARTS + number, [process(rss_mb=rss_mb)])
    return list(memories.growing())


LEAK = [[100.0, 110.0], [120.0], [140.0], [160.0], [180.0], [200.0], [220.0]]


def test_memory_that_only_grows() -> None:
    assert growing(LEAK) == [("auth", 7, 100 * MB, 200 * MB)]


@pytest.mark.parametrize(
    "memories",
    [
        LEAK[:6],  # younger than the window
        [[90.0], *LEAK[:4], [160.0], [230.0]],  # it stood still once
        [*LEAK[:3], [160.0, 115.0, 160.0], *LEAK[4:]],  # it gave memory back
        [[x / 10 for x in part] for part in LEAK],  # ten megabytes
        [[1000 + x for x in part] for part in LEAK],  # ten percent
        [[100.0], [300.0], [300.0], [300.0], [300.0], [300.0], [300.0]],  # it has warmed up
        [[100.0, 500.0], [100.0, 600.0], [100.0, 700.0], [100.0], [100.0], [100.0], [100.0]],  # peaks
    ],
)
def test_memory_that_does_not(memories: list[list[float]]) -> None:
    assert growing(memories) == []


def test_another_process_of_the_same_number_begins_anew() -> None:
    memories = Memories(Memory())
    for part, values in enumerate(LEAK):
        began = 1 if part < 3 else 2
        memories.add(part * 3_600_000 // PARTS, [process(rss_mb=values[0], began=began)])
    assert list(memories.growing()) == []


def test_the_share_of_a_core_over_the_window() -> None:
    share = CpuShare(60_000)
    share.add(0, 100.0)
    assert share.percent is None
    for second in range(10, 61, 10):
        share.add(second * 1000, 100 + second * 0.9)
    assert (share.percent, share.whole) == (90.0, True)
    for second in range(70, 131, 10):
        share.add(second * 1000, 154.0)
    assert share.percent == 0.0
    share.add(140_000, 3.0)  # another start of the server
    assert (share.percent, share.whole) == (None, False)


def test_postfix_over_its_limit_for_a_whole_window(clock: Clock) -> None:
    used = iter([0.0, 9.0, 18.0, 27.0, 36.0, 45.0, 54.0])
    look = lambda _: [process(cpu_s=next(used), unit=SMTP), process(8, cpu_s=clock.ms, unit=IMAP)]  # noqa: E731
    probe = ProcessesProbe(SMTP, IMAP, PostfixCpu(), None, look, clock.now_ms)
    found = []
    for _ in range(7):
        found.append(asyncio.run(probe.read(ME)))
        clock.ms += 10_000
    assert [reading.code for reading in found] == [""] * 6 + ["MON_POSTFIX_CPU"]
    assert found[-1].reason == "Postfix uses 90 % of one core on average over 60 s > 80 %"


# ---- statements --------------------------------------------------------------------------------------------------


class Server:
    """Answers what it is told to."""

    def __init__(self) -> None:
        self.facts = StatementFacts(slow=100, counts_ms=1000)

    def statements(self, *, limit_ms: int, deadline_ms: int) -> Reading:
        """Answer."""
        assert (limit_ms, deadline_ms) == (1000, 4500)
        return Reading(Health.OK, facts=self.facts)

    def cancel(self) -> None:
        """Nothing ever hangs."""


def test_statements_that_the_server_counted_and_those_that_run(clock: Clock) -> None:
    server = Server()
    probe = StatementsProbe(server, SlowQueries(), deadline_ms=5000, clock=clock.now_ms)  # type: ignore[arg-type] # it has what is used

    def look(**changes: object) -> Reading:
        server.facts = replace(server.facts, **changes)
        clock.ms += 10_000
        return asyncio.run(probe.read(ME))

    assert look().health is Health.OK, "what was before is not known to be of this window"
    reading = look(slow=102)
    assert reading.reason == "2 statements took longer than 1000 ms within 300 s"
    reading = look(running=((41, "mail", 5210),))
    assert reading.reason == (
        "3 statements took longer than 1000 ms within 300 s; 1 run now, the longest for 5210 ms: session 41 of mail"
    )
    assert look(slow=1, running=()).code == "MON_SLOW_QUERIES", "it was started anew"
    clock.ms += 300_000
    assert look().health is Health.OK


def test_where_the_server_does_not_count_each_running_one_is_seen_once(clock: Clock) -> None:
    server = Server()
    probe = StatementsProbe(server, SlowQueries(least=2), deadline_ms=5000, clock=clock.now_ms)  # type: ignore[arg-type] # likewise

    def look(*running: tuple[int, str, int]) -> Reading:
        server.facts = StatementFacts(slow=100, counts_ms=10_000, running=running)
        return asyncio.run(probe.read(ME))

    assert look((41, "mail", 2000)).health is Health.OK
    clock.ms += 10_000
    assert look((41, "mail", 12_050)).health is Health.OK, "the same one"
    clock.ms += 10_000
    reading = look((41, "mail", 3000))
    assert reading.reason.startswith("2 statements took longer than 1000 ms within 300 s, at least: long_query_time")


# ---- sessions, and what runs where ------------------------------------------------------------------------------


def test_sessions_of_imap_are_summed_up_whatever_users_are_called() -> None:
    table = (
        "username\tconnections\tproto\tpids\tips\n"
        "a@b.test\t3\timap\t(1 2 3)\t(192.0.2.9)\n"
        "x\t99\timap\ty\t2\timap\t(4 5)\t(192.0.2.9)\n"
        "b@b.test\t1\tpop3\t(6)\t(192.0.2.9)\n"
        "canary@b.test\t1\timap\t(7)\t(192.0.2.9)\n"
    )
    assert imap_sessions(table.encode(), canary="canary@b.test") == 5
    assert imap_sessions(b"") == imap_sessions(b"\xff\n") == 0


def watched(config: Config) -> set[str]:
    class Database:
        def beside(self) -> Database:
            return self

    return {entry.name for entry in Watching(config, Database(), Clock()).entries}  # type: ignore[arg-type] # enough of one


def test_what_is_watched_where(config_file: Path, example: str) -> None:
    everything = {"latency", "logins", "sessions", "processes", "statements"}
    assert watched(load(config_file, "mail1")) == everything
    assert watched(load(config_file, "arbiter")) == {"latency"}
    keys = ("latency", "auth_failures", "auth_source", "postfix_cpu", "memory", "slow_queries")
    off = "monitoring: {gauges: off, " + ", ".join(f"{key}: off" for key in keys) + "}\n"
    before, _, _ = example.partition("monitoring:\n")
    config_file.write_text(before + off)
    assert watched(load(config_file, "mail1")) == set()
    config_file.write_text(before + off.replace("latency: off", "latency: on").replace("memory: off", "memory: on"))
    assert watched(load(config_file, "mail1")) == {"latency", "processes"}
