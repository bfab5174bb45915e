"""The Debian package on real hosts: installed, upgraded below a running client, refused to go, removed, purged.

The tests are one story on one set of hosts, in their order.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hosts import Lab, layout
from hosts.package import NEWER, newer, package
from hosts.shell import wait_for
from test_goes_on import patient
from trials.cluster import Cluster
from trials.watch import Watch, now_ms

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.lab

CONFIGURATION = "/etc/failoverd/failoverd.yaml"
RECORD = "/var/lib/failoverd/audit/audit.jsonl"
SERVED_S = 20.0
HOME_S = 60.0
APT = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", "--yes")


def install(lab: Lab, host: str, deb: Path, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    place = lab.path(host, "/root") / deb.name
    place.write_bytes(deb.read_bytes())
    return lab.exec(host, *APT, "install", f"/root/{deb.name}", check=check, timeout_s=120)


def states(lab: Lab, host: str) -> dict[str, str]:
    """Give each unit of failoverd and whether it is enabled; static ones are left out."""
    listed = lab.exec(host, "systemctl", "list-unit-files", "--no-legend", "failoverd*").stdout
    rows = [line.split() for line in listed.splitlines()]
    return {name: state for name, state, *_ in rows if state != "static"}


def running(lab: Lab, host: str) -> list[str]:
    listed = lab.exec(host, "systemctl", "list-units", "--no-legend", "--plain", "--state=active", "failoverd*").stdout
    return [line.split()[0] for line in listed.splitlines()]


def show(lab: Lab, host: str, unit: str, name: str) -> str:
    value: str = lab.exec(host, "systemctl", "show", f"--property={name}", "--value", unit).stdout.strip()
    return value


def version(lab: Lab, host: str) -> str:
    """Give the version that the daemon says it is; nothing while it does not answer yet."""
    line: str = lab.exec(host, "failoverctl", "version").stdout.splitlines()[1]
    return line.split()[1] if line.endswith(f" on {host}") else ""


def start(lab: Lab) -> None:
    """Start failoverd as README has it, with the configuration that the lab has for it."""
    for host in layout.HOSTS:
        lab.path(host, CONFIGURATION).write_text(patient((layout.TREE / "config/failoverd.yaml").read_text()))
    for host in (layout.ARBITER, *layout.DATA_NODES):
        switch_on(lab, host)


def switch_on(lab: Lab, host: str) -> None:
    lab.exec(host, "systemctl", "enable", "failoverd-gate")
    lab.exec(host, "systemctl", "enable", "--now", "failoverd-guard", "failoverd")
    if host in layout.DATA_NODES:
        lab.exec(host, "systemctl", "enable", "failoverd-rebuild")
        lab.exec(host, "systemctl", "enable", "--now", "failoverd-donor")


@pytest.fixture(scope="module")
def deb() -> Path:
    return package(print)


@pytest.fixture(scope="module")
def fresh(lab_of_the_session: Lab) -> Iterator[Lab]:
    """Give hosts without failoverd, and give the lab back as it was."""
    lab_of_the_session.up(installed=False)
    yield lab_of_the_session
    lab_of_the_session.up()


def test_an_installation_starts_and_enables_nothing(fresh: Lab, deb: Path) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda host: install(fresh, host, deb), layout.HOSTS))
    for host in layout.HOSTS:
        assert set(states(fresh, host).values()) == {"disabled"}
        assert running(fresh, host) == []
        assert not fresh.path(host, CONFIGURATION).exists()
    start(fresh)
    Cluster(fresh).wait_until_settled(HOME_S)
    assert Cluster(fresh).primary() == layout.FIRST_PRIMARY


def test_an_upgrade_restarts_the_daemons_and_no_client_notices(fresh: Lab, deb: Path, tmp_path: Path) -> None:
    cluster, release = Cluster(fresh), newer(deb, tmp_path)
    primary, term = cluster.primary(), cluster.term()
    replicas = [host for host in layout.DATA_NODES if host != primary]
    with Watch(fresh, tmp_path, "watch") as watch:
        watch.wait_until_steady()
        began = now_ms()
        for host in (*replicas, layout.ARBITER, primary):
            before = running(fresh, host)
            install(fresh, host, release)
            wait_for(f"{host} runs {NEWER}", lambda host=host: version(fresh, host) == NEWER, SERVED_S)  # type: ignore[misc]
            assert running(fresh, host) == before
            assert show(fresh, host, "failoverd.service", "NRestarts") == "0", "it was stopped, and did not die"
            cluster.wait_until_settled(HOME_S)
        watch.wait_until_served(SERVED_S)
        watch.stop_client()
        noticed = [attempt for attempt in watch.attempts if attempt.start >= began and not attempt.ok]
        assert [(one.protocol, one.error, round(one.start - began)) for one in noticed] == []
    assert (cluster.primary(), cluster.term()) == (primary, term)


def test_a_release_that_does_not_take_the_configuration_leaves_the_primary_serving(
    fresh: Lab, deb: Path, tmp_path: Path
) -> None:
    cluster, release = Cluster(fresh), newer(deb, tmp_path)
    primary, term = cluster.primary(), cluster.term()
    daemon = show(fresh, primary, "failoverd.service", "MainPID")
    good = fresh.path(primary, CONFIGURATION).read_text()
    fresh.path(primary, CONFIGURATION).write_text(good.replace("ttl: 6s", "ttl: soon"))
    refused = fresh.exec(primary, "dpkg", "--install", f"/root/{release.name}", check=False, timeout_s=120)
    assert refused.returncode != 0
    assert "CONFIG_REFUSED" in refused.stderr
    assert "lease.ttl" in refused.stderr
    assert show(fresh, primary, "failoverd.service", "MainPID") == daemon
    assert (cluster.primary(), cluster.term()) == (primary, term)

    fresh.path(primary, CONFIGURATION).write_text(good)
    fresh.exec(primary, "dpkg", "--configure", "failoverd", timeout_s=60)
    assert show(fresh, primary, "failoverd.service", "MainPID") != daemon
    cluster.wait_until_settled(HOME_S)
    assert (cluster.primary(), cluster.term()) == (primary, term)


def test_it_is_not_removed_from_the_primary_nor_from_the_arbiter(fresh: Lab) -> None:
    cluster = Cluster(fresh)
    primary, term = cluster.primary(), cluster.term()
    for host, code in ((primary, "PKG_HOLDS_LEASE"), (layout.ARBITER, "PKG_KEEPS_STORE")):
        before = running(fresh, host)
        refused = fresh.exec(host, *APT, "remove", "failoverd", check=False, timeout_s=60)
        assert refused.returncode != 0
        assert f"refused, nothing was touched: {code}: " in refused.stdout + refused.stderr
        assert running(fresh, host) == before
        assert (
            fresh.exec(host, "dpkg-query", "--show", "--showformat=${db:Status-Status}", "failoverd").stdout
            == "installed"
        )
    cluster.wait_until_settled(HOME_S)
    assert (cluster.primary(), cluster.term()) == (primary, term)


def test_whoever_removes_it_from_the_primary_all_the_same_has_it_dropped_there(fresh: Lab) -> None:
    cluster = Cluster(fresh)
    primary = cluster.primary()
    fresh.exec(primary, "env", "FAILOVERD_REMOVE=anyway", *APT, "remove", "failoverd", timeout_s=60)
    assert primary not in cluster.holders_of_vip()
    assert fresh.sql(primary, "SELECT @@read_only") == [["1"]]

    def moved() -> bool:
        return cluster.holders_of_vip() not in ([], [primary])

    wait_for("another node has the role", moved, HOME_S)

    # A removal keeps the configuration and what the node remembers: it comes home by being installed and started.
    fresh.exec(primary, *APT, "install", f"/root/failoverd_{NEWER}.deb", timeout_s=120)
    assert running(fresh, primary) == []
    switch_on(fresh, primary)
    cluster.wait_until_settled(HOME_S)
    assert cluster.is_healthy_replica(primary)


def test_removed_from_a_replica_it_keeps_what_is_there_and_purged_the_record(fresh: Lab, tmp_path: Path) -> None:
    cluster = Cluster(fresh)
    primary, term = cluster.primary(), cluster.term()
    host = next(host for host in reversed(layout.DATA_NODES) if host != primary)
    with Watch(fresh, tmp_path, "watch") as watch:
        watch.wait_until_steady()
        began = now_ms()
        fresh.exec(host, *APT, "remove", "failoverd", timeout_s=60)
        assert running(fresh, host) == []
        assert not fresh.path(host, "/opt/failoverd").exists()
        assert not fresh.path(host, "/lib/systemd/system/failoverd.service").exists()
        assert fresh.path(host, CONFIGURATION).exists()
        record = fresh.path(host, RECORD).read_bytes()
        assert record

        purged = fresh.exec(host, *APT, "purge", "failoverd", timeout_s=60)
        assert "/var/lib/failoverd/audit is kept" in purged.stdout
        assert not fresh.path(host, "/etc/failoverd").exists()
        assert {path.name for path in fresh.path(host, "/var/lib/failoverd").iterdir()} <= {"audit", "ahead", "drill"}
        assert fresh.path(host, RECORD).read_bytes() == record
        assert not list(fresh.path(host, "/etc/systemd/system").rglob("failoverd*"))

        shown = fresh.exec(host, "mariadb", "-e", "SHOW SLAVE STATUS\\G").stdout
        assert "Slave_IO_Running: Yes" in shown
        watch.wait_until_served(SERVED_S)
        watch.stop_client()
        noticed = [attempt for attempt in watch.attempts if attempt.start >= began and not attempt.ok]
        assert [(one.protocol, one.error, round(one.start - began)) for one in noticed] == []
    assert (cluster.primary(), cluster.term()) == (primary, term)
