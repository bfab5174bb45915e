"""The Debian package on real hosts: installed by README, to the letter, upgraded, refused to go, removed, purged.

The tests are one story on one set of hosts, which have never seen failoverd before, in their order.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hosts import Lab, layout
from hosts.package import NEWER, newer, package
from hosts.shell import wait_for
from trials import readme
from trials.cluster import Cluster
from trials.watch import PATIENCE_S, Watch, now_ms

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

pytestmark = pytest.mark.lab

CONFIGURATION = "/etc/failoverd/failoverd.yaml"
RECORD = "/var/lib/failoverd/audit/audit.jsonl"
LEASE = "\nlease: {ttl: 12s}\n"
MOST_COMMANDS, WITHIN_S = 10, 600.0
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
def release(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the package after this one."""
    return newer(deb, tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def fresh(lab_of_the_session: Lab) -> Lab:
    """Give hosts without failoverd and all that it needs, and the mailbox's password where README says."""
    lab_of_the_session.up(installed=False, prepared=False)
    password = lab_of_the_session.path(layout.FIRST_PRIMARY, "/root") / "canary"
    password.write_text(f"{layout.CANARY_PASSWORD}\n")
    password.chmod(0o600)
    return lab_of_the_session


def is_installed_and_nothing_more(lab: Lab, host: str) -> bool:
    """Whether the package is there, and has neither enabled nor started nor configured anything."""
    assert set(states(lab, host).values()) == {"disabled"}
    assert running(lab, host) == []
    return not lab.path(host, CONFIGURATION).exists()


def test_from_nothing_to_a_running_cluster_by_the_readme_and_no_client_notices(
    fresh: Lab, deb: Path, tmp_path: Path
) -> None:
    cluster, commands = Cluster(fresh), readme.commands()
    assert {place for place, _ in commands} <= {readme.OUTSIDE, *layout.HOSTS}
    transcript = []
    with Watch(fresh, tmp_path, "watch", patience_s=PATIENCE_S) as watch:
        watch.wait_until_steady()
        began, began_ms = time.monotonic(), now_ms()
        for place, command in commands:
            printed = readme.typed(fresh, place, command, tmp_path)
            transcript.append(f"{place}# {command}\n{printed}")
            if "apt-get install" in command:
                assert all(is_installed_and_nothing_more(fresh, host) for host in layout.HOSTS)
        took_s = time.monotonic() - began
        cluster.wait_until_settled(HOME_S)
        watch.wait_until_served(HOME_S)
        watch.stop_client()
        noticed = watch.noticed(layout.FIRST_PRIMARY, began_ms)
    print("\n".join(transcript))
    print(f"{len(commands)} commands, {took_s:.0f} s")
    assert len(commands) <= MOST_COMMANDS
    assert took_s < WITHIN_S
    assert noticed == []
    assert cluster.primary() == layout.FIRST_PRIMARY
    checked = fresh.exec(layout.FIRST_PRIMARY, "failoverctl", "check", check=False)
    assert checked.returncode in {0, 6}, checked.stdout
    for host in layout.HOSTS:
        assert fresh.exec(host, "systemctl", "is-enabled", "failoverd").stdout.strip() == "enabled"
    (built,) = (layout.TREE / "dist").glob("failoverd_*.deb")
    assert built.read_bytes() == deb.read_bytes(), "the same tree gives the same package"

    # All of it once more changes nothing.
    (init,) = (command for _, command in commands if command.startswith("failoverctl init "))
    assert "nothing to change" in readme.typed(fresh, layout.FIRST_PRIMARY, init, tmp_path)
    assert "nothing to change" in readme.typed(fresh, "mail2", "failoverctl join --yes mail2.join", tmp_path)

    # It is not only there, it can move the role.
    fresh.exec("mail2", "failoverctl", "promote", "--node", "mail2")
    cluster.wait_until_settled(HOME_S)
    assert cluster.primary() == "mail2"


@pytest.fixture(scope="module")
def patient(fresh: Lab) -> Lab:
    """Give the installed cluster a lease that restarts beside a client have time for: see test_goes_on."""
    for host in (layout.ARBITER, *layout.DATA_NODES):
        with fresh.path(host, CONFIGURATION).open("a") as file:
            file.write(LEASE)
        fresh.exec(host, "systemctl", "restart", "failoverd")
    Cluster(fresh).wait_until_settled(HOME_S)
    return fresh


def test_an_upgrade_restarts_the_daemons_and_no_client_notices(patient: Lab, release: Path, tmp_path: Path) -> None:
    cluster = Cluster(patient)
    primary, term = cluster.primary(), cluster.term()
    replicas = [host for host in layout.DATA_NODES if host != primary]
    with Watch(patient, tmp_path, "watch", patience_s=PATIENCE_S) as watch:
        watch.wait_until_steady()
        began = now_ms()
        for host in (*replicas, layout.ARBITER, primary):
            before = running(patient, host)
            install(patient, host, release)
            wait_for(f"{host} runs {NEWER}", lambda host=host: version(patient, host) == NEWER, SERVED_S)  # type: ignore[misc]
            assert running(patient, host) == before
            assert show(patient, host, "failoverd.service", "NRestarts") == "0", "it was stopped, and did not die"
            cluster.wait_until_settled(HOME_S)
        watch.wait_until_served(SERVED_S)
        watch.stop_client()
        assert watch.noticed(primary, began) == []
    assert (cluster.primary(), cluster.term()) == (primary, term)


def test_a_release_that_does_not_take_the_configuration_leaves_the_primary_serving(patient: Lab, release: Path) -> None:
    cluster = Cluster(patient)
    primary, term = cluster.primary(), cluster.term()
    daemon = show(patient, primary, "failoverd.service", "MainPID")
    good = patient.path(primary, CONFIGURATION).read_text()
    patient.path(primary, CONFIGURATION).write_text(good.replace(LEASE, LEASE.replace("12s", "soon")))
    refused = patient.exec(primary, "dpkg", "--install", f"/root/{release.name}", check=False, timeout_s=120)
    assert refused.returncode != 0
    assert "CONFIG_REFUSED" in refused.stderr
    assert "lease.ttl" in refused.stderr
    assert show(patient, primary, "failoverd.service", "MainPID") == daemon
    assert (cluster.primary(), cluster.term()) == (primary, term)

    patient.path(primary, CONFIGURATION).write_text(good)
    patient.exec(primary, "dpkg", "--configure", "failoverd", timeout_s=60)
    assert show(patient, primary, "failoverd.service", "MainPID") != daemon
    cluster.wait_until_settled(HOME_S)
    assert (cluster.primary(), cluster.term()) == (primary, term)


def test_it_is_not_removed_from_the_primary_nor_from_the_arbiter(patient: Lab) -> None:
    cluster = Cluster(patient)
    primary, term = cluster.primary(), cluster.term()
    for host, code in ((primary, "PKG_HOLDS_LEASE"), (layout.ARBITER, "PKG_KEEPS_STORE")):
        before = running(patient, host)
        refused = patient.exec(host, *APT, "remove", "failoverd", check=False, timeout_s=60)
        assert refused.returncode != 0
        assert f"refused, nothing was touched: {code}: " in refused.stdout + refused.stderr
        assert running(patient, host) == before
        assert (
            patient.exec(host, "dpkg-query", "--show", "--showformat=${db:Status-Status}", "failoverd").stdout
            == "installed"
        )
    cluster.wait_until_settled(HOME_S)
    assert (cluster.primary(), cluster.term()) == (primary, term)


def test_whoever_removes_it_from_the_primary_all_the_same_has_it_dropped_there(patient: Lab) -> None:
    cluster = Cluster(patient)
    primary = cluster.primary()
    patient.exec(primary, "env", "FAILOVERD_REMOVE=anyway", *APT, "remove", "failoverd", timeout_s=60)
    assert primary not in cluster.holders_of_vip()
    assert patient.sql(primary, "SELECT @@read_only") == [["1"]]

    def moved() -> bool:
        return cluster.holders_of_vip() not in ([], [primary])

    wait_for("another node has the role", moved, HOME_S)

    # A removal keeps the configuration and what the node remembers: it comes home by being installed and started.
    patient.exec(primary, *APT, "install", f"/root/failoverd_{NEWER}.deb", timeout_s=120)
    assert running(patient, primary) == []
    switch_on(patient, primary)
    cluster.wait_until_settled(HOME_S)
    assert cluster.is_healthy_replica(primary)


def test_removed_from_a_replica_it_keeps_what_is_there_and_purged_the_record(patient: Lab, tmp_path: Path) -> None:
    cluster = Cluster(patient)
    primary, term = cluster.primary(), cluster.term()
    host = next(host for host in reversed(layout.DATA_NODES) if host != primary)
    with Watch(patient, tmp_path, "watch", patience_s=PATIENCE_S) as watch:
        watch.wait_until_steady()
        began = now_ms()
        patient.exec(host, *APT, "remove", "failoverd", timeout_s=60)
        assert running(patient, host) == []
        assert not patient.path(host, "/opt/failoverd").exists()
        assert not patient.path(host, "/lib/systemd/system/failoverd.service").exists()
        assert patient.path(host, CONFIGURATION).exists()
        record = patient.path(host, RECORD).read_bytes()
        assert record

        purged = patient.exec(host, *APT, "purge", "failoverd", timeout_s=60)
        assert "/var/lib/failoverd/audit is kept" in purged.stdout
        assert not patient.path(host, "/etc/failoverd").exists()
        assert {path.name for path in patient.path(host, "/var/lib/failoverd").iterdir()} <= {"audit", "ahead", "drill"}
        assert patient.path(host, RECORD).read_bytes() == record
        assert not list(patient.path(host, "/etc/systemd/system").rglob("failoverd*"))

        shown = patient.exec(host, "mariadb", "-e", "SHOW SLAVE STATUS\\G").stdout
        assert "Slave_IO_Running: Yes" in shown
        watch.wait_until_served(SERVED_S)
        watch.stop_client()
        assert watch.noticed(primary, began) == []
    assert (cluster.primary(), cluster.term()) == (primary, term)
