"""Monitoring on a real primary: what clients do wrong is found and counted there, ends by itself, and moves nothing."""

from __future__ import annotations

import imaplib
import smtplib
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest
from hosts import layout
from hosts.shell import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hosts import Lab
    from trials.cluster import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.long]

FILE = "/etc/failoverd/failoverd.yaml"
SHORT = (("interval: 10s", "interval: 1s"), ("window: 5m}", "window: 10s}"), ("window: 1h}", "window: 10s}"))
FAILED, SESSIONS, MAILS = 60, 3, 5
SEEN_S, OVER_S = 20.0, 40.0
SLOW = "SELECT SLEEP(4)"


@pytest.fixture
def primary(lab: Lab, cluster: Cluster) -> Iterator[str]:
    """Give the primary, whose monitoring looks every second and forgets after ten; afterwards as shipped."""
    host = cluster.primary()
    file = lab.path(host, FILE)
    shipped = file.read_text()
    head, section, monitoring = shipped.partition("\nmonitoring:\n")
    for old, new in SHORT:
        assert old in monitoring
        monitoring = monitoring.replace(old, new)
    file.write_text(head + section + monitoring)
    yield host
    file.write_text(shipped)
    lab.exec(host, "systemctl", "restart", "failoverd")


def log_in(lab: Lab, password: str) -> imaplib.IMAP4_SSL:
    """Give a client's connection after its login. Raises imaplib.IMAP4.error when it is refused, by then logged out."""
    with lab.client_network():
        connection = imaplib.IMAP4_SSL(layout.VIP, ssl_context=trusting(lab), timeout=30)
    try:
        connection.login(layout.IMAP_USERS[0], password)
    except imaplib.IMAP4.error:
        connection.logout()
        raise
    return connection


def trusting(lab: Lab) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(lab.ca))
    context.check_hostname = False  # it is asked by its address
    return context


def fail_to_log_in(lab: Lab) -> bool:
    try:
        log_in(lab, "no password of anybody")
    except imaplib.IMAP4.error:
        return True
    return False


def send(lab: Lab) -> None:
    with lab.client_network():
        server = smtplib.SMTP(layout.VIP, 25, local_hostname="client.lab.test", timeout=30)
    with server:
        server.sendmail("sender@client.test", [layout.SMTP_USERS[0]], "Subject: monitored\r\n\r\nbody\r\n")


def metrics(lab: Lab, host: str) -> dict[str, float]:
    with lab.client_network(), urlopen(f"http://{layout.ADDRESSES[host]}:7480/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def found(cluster: Cluster, host: str) -> dict[str, str]:
    """Give the findings on a host, code -> reason."""
    status = cluster.status(host)
    own = next(node for node in status["nodes"] if node["name"] == host) if status else {"findings": []}
    return {finding["code"]: finding["reason"] for finding in own["findings"]}


def test_failed_logins_and_slow_statements_are_findings_that_end_and_nothing_moves(
    lab: Lab, cluster: Cluster, primary: str
) -> None:
    term = cluster.term()
    with ExitStack() as stack:
        for _ in range(SESSIONS):
            stack.callback(log_in(lab, layout.USER_PASSWORD).shutdown)
        lab.exec(primary, "systemctl", "restart", "failoverd")

        def counted() -> bool:
            """Where the daemon begins to read the journal is not told: logins are made until one is counted."""
            log_in(lab, layout.USER_PASSWORD).logout()
            return metrics(lab, primary).get('failoverd_mail_logins_total{result="accepted"}', 0) > 0

        wait_for("logins are counted", counted, SEEN_S, every_s=0.5, why_not=lambda: str(metrics(lab, primary)))
        wait_for(
            "Dovecot's own count of connections",
            lambda: metrics(lab, primary).get("failoverd_mail_imap_connections") == SESSIONS,
            SEEN_S,
            every_s=0.5,
        )
    latency = 'failoverd_mail_connect_latency_seconds{service="imap"}'
    wait_for("the looks have an average", lambda: metrics(lab, primary).get(latency, 0) > 0, SEEN_S, every_s=0.5)
    before = metrics(lab, primary)
    assert before['failoverd_mail_logins_total{result="refused"}'] == 0

    for _ in range(MAILS):
        send(lab)
    with ThreadPoolExecutor(FAILED) as pool:
        refused = [pool.submit(fail_to_log_in, lab) for _ in range(FAILED)]
        slow = lab.command(
            next(host for host in layout.DATA_NODES if host != primary),
            *("mariadb", "-h", layout.VIP, "-u", layout.APP_USER, f"-p{layout.APP_PASSWORD}", "-e", SLOW),
        )
        with subprocess.Popen(slow, stdout=subprocess.DEVNULL) as statement:
            wait_for("the statement is found", lambda: "MON_SLOW_QUERIES" in found(cluster, primary), SEEN_S)
            assert "session" in found(cluster, primary)["MON_SLOW_QUERIES"]
        assert statement.returncode == 0
        assert all(login.result() for login in refused)
    wanted = {"MON_AUTH_SOURCE", "MON_AUTH_FAILURES"}
    wait_for("the logins are found", lambda: wanted <= found(cluster, primary).keys(), SEEN_S)
    assert f"from {layout.CLIENT}" in found(cluster, primary)["MON_AUTH_SOURCE"]
    shown = lab.exec(primary, "failoverctl", "check", check=False).stdout
    assert all(f"{primary} warns   {code}" in shown for code in wanted), shown
    source = f'failoverd_finding{{code="MON_AUTH_SOURCE",node="{primary}",severity="warns"}}'
    assert metrics(lab, primary)[source] == 1
    # The findings are there once more than fifty are counted: the last ones may still be on their way.
    refusals = 'failoverd_mail_logins_total{result="refused"}'
    wait_for("each of them is counted", lambda: metrics(lab, primary)[refusals] >= FAILED, SEEN_S)
    wanted_mails = before["failoverd_mail_deliveries_total"] + MAILS
    wait_for(
        "so is each mail", lambda: metrics(lab, primary)["failoverd_mail_deliveries_total"] >= wanted_mails, SEEN_S
    )
    after = metrics(lab, primary)
    assert after[refusals] == FAILED

    ended = wanted | {"MON_SLOW_QUERIES"}
    wait_for("all of it is over", lambda: not ended & found(cluster, primary).keys(), OVER_S)
    assert (cluster.primary(), cluster.term()) == (primary, term)
