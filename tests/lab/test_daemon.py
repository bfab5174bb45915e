"""The daemon stopped, killed, wedged, frozen, restarted: what clients and the other nodes see of it on real hosts."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from hosts import layout
from hosts.shell import wait_for
from test_failover import HOME_S, MOVED_S, kill_daemon, moved_from, never_restart
from trials.cluster import audit_of
from trials.watch import PATIENCE_S, Watch, now_ms

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hosts import Lab
    from trials.cluster import Cluster

pytestmark = pytest.mark.lab

DROP, GUARD, DAEMON = "failoverd-drop.service", "failoverd-guard.service", "failoverd.service"


def main_pid(lab: Lab, host: str, unit: str) -> str:
    return lab.exec(host, "systemctl", "show", "--property=MainPID", "--value", unit).stdout.strip()


def is_over(lab: Lab, host: str, unit: str) -> bool:
    shown = lab.exec(host, "systemctl", "show", "--property=ActiveState", "--value", unit).stdout.strip()
    return shown in {"inactive", "failed"}


def serves_on_without_a_pause(lab: Lab, cluster: Cluster, directory: Path, act: Callable[[str], None]) -> None:
    """Do something to the primary; nothing moves, no attempt of the client fails, until all that it began is over."""
    primary, term = cluster.primary(), cluster.term()
    with Watch(lab, directory, "watch", patience_s=PATIENCE_S) as watch:
        watch.wait_until_steady()
        began = now_ms()
        act(primary)
        wait_for("what watched the end of the daemon is gone", lambda: is_over(lab, primary, DROP), MOVED_S)
        wait_for("the daemon holds the lease", lambda: (cluster.lease_left_ms() or 0) > 0, MOVED_S)
        watch.wait_until_served(MOVED_S)
        watch.stop_client()
        assert watch.noticed(primary, began) == []
    assert (cluster.primary(), cluster.term()) == (primary, term)


def test_a_restarted_guard_neither_moves_the_role_nor_interrupts_a_client(
    lab: Lab, cluster: Cluster, tmp_path: Path
) -> None:
    serves_on_without_a_pause(lab, cluster, tmp_path, lambda host: void(lab, host, "systemctl", "restart", GUARD))


def void(lab: Lab, host: str, *command: str) -> None:
    lab.exec(host, *command)


def was_killed(lab: Lab, host: str) -> bool:
    """Tell whether the database server was killed and waits for systemd to start it again: a minute, in the lab."""
    shown = lab.exec(host, "systemctl", "show", "--property=SubState,Result", "--value", "mariadb.service").stdout
    return set(shown.split()) == {"auto-restart", "signal"}


def start_killed_database(lab: Lab, host: str) -> None:
    """As an administrator who does not wait; a start alone would wait for systemd's own."""
    lab.exec(host, "systemctl", "stop", "mariadb.service")
    lab.exec(host, "systemctl", "start", "mariadb.service")


def moves_with_one_writable(
    lab: Lab, cluster: Cluster, directory: Path, act: Callable[[str], None], heal: Callable[[str], None]
) -> str:
    """Do something to the primary that moves the role, and undo it: never two of anything. Return the old primary."""
    old = cluster.primary()
    with Watch(lab, directory, "watch") as watch:
        watch.wait_until_steady()
        began = now_ms()
        act(old)
        wait_for("another node is primary", lambda: moved_from(cluster, old), MOVED_S)
        watch.wait_until_served(MOVED_S)
        heal(old)
        wait_for(f"{old} is home as a replica", lambda: cluster.is_healthy_replica(old), HOME_S)
        watch.stop()
        for what in ("reachable", "vip", "writable"):
            assert watch.overlap_ms(what, began, now_ms()) == 0, f"two hosts were {what} at once"
    return old


def test_a_frozen_host_that_thaws_is_never_a_second_writable_one(lab: Lab, cluster: Cluster, tmp_path: Path) -> None:
    def thaw(host: str) -> None:
        lab.resume(host)
        wait_for("the kernel has ended the server with its lease", lambda: was_killed(lab, host), MOVED_S)
        start_killed_database(lab, host)

    moves_with_one_writable(lab, cluster, tmp_path, lab.pause, thaw)


def test_a_stopped_daemon_leaves_no_writable_database_behind(lab: Lab, cluster: Cluster, tmp_path: Path) -> None:
    servers = {host: main_pid(lab, host, "mariadb.service") for host in layout.DATA_NODES}

    def stop(host: str) -> None:
        lab.exec(host, "kill", "-STOP", main_pid(lab, host, DAEMON))

    old = moves_with_one_writable(lab, cluster, tmp_path, stop, lambda _: None)  # systemd's watchdog ends and starts it
    assert main_pid(lab, old, "mariadb.service") == servers[old], "SQL was enough: the server need not be ended"


def test_a_daemon_that_is_stopped_on_purpose_leaves_no_writable_database_behind(
    lab: Lab, cluster: Cluster, tmp_path: Path
) -> None:
    moves_with_one_writable(
        lab,
        cluster,
        tmp_path,
        lambda host: void(lab, host, "systemctl", "stop", DAEMON),
        lambda host: void(lab, host, "systemctl", "start", DAEMON),
    )


def test_without_a_guard_the_drop_unit_makes_the_database_read_only(lab: Lab, cluster: Cluster, tmp_path: Path) -> None:
    def kill(host: str) -> None:
        lab.exec(host, "systemctl", "stop", GUARD)
        never_restart(lab, host)
        kill_daemon(lab, host)

    def heal(host: str) -> None:
        lab.exec(host, "rm", "-rf", layout.DROP_IN)
        lab.exec(host, "systemctl", "daemon-reload")
        lab.exec(host, "systemctl", "start", DAEMON, GUARD)
        if was_killed(lab, host):  # where SQL was too slow
            start_killed_database(lab, host)

    moves_with_one_writable(lab, cluster, tmp_path, kill, heal)


def reaches(lab: Lab, host: str, port: int) -> bool:
    with lab.client_network(), socket.socket() as made:
        made.settimeout(1)
        return made.connect_ex((layout.ADDRESSES[host], port)) == 0


def test_a_gate_that_an_administrator_flushed_is_closed_again_and_audited(lab: Lab, cluster: Cluster) -> None:
    host = next(name for name in layout.DATA_NODES if name != cluster.primary())
    assert not reaches(lab, host, 993)
    audit = audit_of(host)
    audit.new()
    lab.exec(host, "nft", "flush", "ruleset")
    told: list[dict[str, object]] = []

    def closed_again() -> bool:
        told.extend(line for line in audit.new() if line.get("code") == "GATE_CHANGED")
        return bool(told)

    wait_for("the hand at the gate is told", closed_again, MOVED_S)
    assert not reaches(lab, host, 993)


def test_after_a_reboot_services_are_not_reachable_before_the_daemon_is_there(lab: Lab, cluster: Cluster) -> None:
    host = next(name for name in layout.DATA_NODES if name != cluster.primary())
    wants = f"/etc/systemd/system/multi-user.target.wants/{DAEMON}"
    lab.exec(host, "rm", wants)
    try:
        lab.kill(host)
        lab.boot(host)
        wait_for("Dovecot listens", lambda: listens(lab, host), MOVED_S)
        assert is_over(lab, host, DAEMON)
        assert not reaches(lab, host, 993)
    finally:
        lab.exec(host, "ln", "-s", f"/etc/systemd/system/{DAEMON}", wants)


def listens(lab: Lab, host: str) -> bool:
    return "LISTEN" in lab.exec(host, "ss", "-Hlt", "sport", "=", ":993").stdout
