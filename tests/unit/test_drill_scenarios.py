"""What each scenario does to this configuration, word by word, and that all of it is taken away again."""

from __future__ import annotations

import shlex
import subprocess
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, get_args

import pytest

from failoverd.config import load
from failoverd.config.drill import Drill, ScenarioName
from failoverd.config.model import Fencing
from failoverd.ctl.drill import NAMES
from failoverd.drill import CODES
from failoverd.drill.faults import unit_text
from failoverd.drill.model import OURSELVES, Cast, Fault
from failoverd.drill.ourselves import Ourselves
from failoverd.drill.scenarios import SCENARIOS
from failoverd.drill.scenarios.scenario import started

if TYPE_CHECKING:
    from pathlib import Path

    from failoverd.config import Config

CAST = Cast(
    coordinator="mail2",
    primary="mail1",
    heir="mail2",
    target="mail1",
    data_nodes=("mail1", "mail2", "mail3"),
    arbiters=("arbiter",),
    term=7,
)
PROGRAM = Ourselves(("/bin/true",), ("--config", "/etc/failoverd/failoverd.yaml"))
FAULTS = [name for name in SCENARIOS if name != "switchover"]


@pytest.fixture
def config(config_file: Path) -> Config:
    drill = Drill.model_validate({"enabled": True, "disk": "/srv/mail", "management": ["192.0.2.0/24"]})
    return load(config_file, "mail2").model_copy(update={"drill": drill})


def fault(config: Config, name: str, target: str = "mail1") -> Fault:
    made = SCENARIOS[name].fault(config, Cast(**{**fields(CAST), "target": target}))
    assert made is not None
    return made


def fields(cast: Cast) -> dict[str, object]:
    return {name: getattr(cast, name) for name in cast.__dataclass_fields__}


def lines(fault: Fault) -> list[str]:
    return [
        f"{side} {shlex.join(command)}"
        for side, commands in (("inject", fault.inject), ("undo", fault.undo), ("gone", fault.gone))
        for command in commands
    ]


def test_there_is_one_name_for_each_scenario_everywhere() -> None:
    assert tuple(SCENARIOS) == get_args(ScenarioName) == NAMES
    assert all(name == scenario.name for name, scenario in SCENARIOS.items())


def test_a_switchover_breaks_nothing(config: Config) -> None:
    assert SCENARIOS["switchover"].fault(config, CAST) is None


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_ends_by_itself_and_systemd_understands_it(config: Config, name: str, tmp_path: Path) -> None:
    made = fault(config, name, {"arbiter": "arbiter", "replica": "mail3"}.get(SCENARIOS[name].target, "mail1"))
    assert 60 <= made.limit_s <= 1800
    assert made.inject
    assert made.undo
    assert made.gone
    unit = tmp_path / "failoverd-fault.service"
    unit.write_text(unit_text(made, "20261129-020000-x", PROGRAM))
    verify = ["systemd-analyze", "verify", "--man=no", "--generators=no", str(unit)]
    checked = subprocess.run(verify, capture_output=True, text=True, check=False, timeout=60)
    told = [line for line in checked.stderr.splitlines() if unit.name in line]
    assert told == []
    assert checked.returncode == 0, checked.stderr


def test_power_is_cut_from_where_it_can_be_given_back(config: Config) -> None:
    made = fault(config, "primary-crash")
    assert made.node == CAST.coordinator
    assert lines(made) == [
        "inject failoverd drill-power off mail1",
        "undo failoverd drill-power on mail1",
        "gone failoverd drill-power is-on mail1",
    ]
    assert all(command[0] == OURSELVES for command in (*made.inject, *made.undo, *made.gone))


def test_a_dead_service_does_not_start_and_then_does(config: Config) -> None:
    put = "mkdir -p '/run/systemd/system/dovecot.service.d' && printf '[Unit]\\nAssertPathExists=/nonexistent/"
    take = "rm -f '/run/systemd/system/dovecot.service.d/failoverd-drill.conf' && systemctl daemon-reload"
    assert lines(fault(config, "service-death"))[1:] == [
        "inject systemctl kill --kill-whom=all --signal=SIGKILL dovecot.service",
        f"undo sh -ec {shlex.quote(take)}",
        "undo systemctl reset-failed dovecot.service",
        f"undo {shlex.join(started('dovecot.service'))}",
        "gone systemctl is-active --quiet dovecot.service",
    ]
    assert fault(config, "service-death").inject[0][2].startswith(put)
    without = config.mail.model_copy(update={"imap": None})
    smtp = SCENARIOS["service-death"].fault(config.model_copy(update={"mail": without}), CAST)
    assert smtp is not None
    assert smtp.undo[-1] == started(config.mail.smtp.unit if config.mail.smtp else "")


@pytest.mark.parametrize(
    ("sub", "verb"),
    [("auto-restart", "restart"), ("running", "start"), ("dead", "start"), ("failed", "start"), ("start", "start")],
)
def test_only_a_service_that_waits_for_its_next_start_is_restarted(tmp_path: Path, sub: str, verb: str) -> None:
    """A start waits for RestartSec then, a minute on many a host; any other restart would end what works."""
    asked = tmp_path / "asked"
    program = tmp_path / "systemctl"
    program.write_text(f'#!/bin/sh\nif test "$1" = show; then echo {sub}; else echo "$*" >> {asked}; fi\n')
    program.chmod(0o755)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    subprocess.run(started("mariadb.service"), env=path, check=True, timeout=30)
    assert asked.read_text() == f"{verb} mariadb.service\n"


def test_a_database_that_crashed_is_the_configurations(config: Config) -> None:
    made = fault(config, "database-crash")
    assert made.node == "mail1"
    assert ("systemctl", "kill", "--kill-whom=all", "--signal=SIGKILL", config.database.unit) in made.inject


def test_a_disk_is_thawed_before_anything_that_waits_for_it(config: Config) -> None:
    assert lines(fault(config, "disk-failure")) == [
        "inject fsfreeze --freeze /srv/mail",
        "undo fsfreeze --unfreeze /srv/mail",
        f"undo {shlex.join(started('mariadb.service'))}",
        "gone sh -ec '! fsfreeze --unfreeze '\"'\"'/srv/mail'\"'\"' 2>/dev/null'",
        "gone systemctl is-active --quiet mariadb.service",
    ]


def test_who_is_cut_off_hears_only_administrators_and_the_drill(config: Config) -> None:
    (put,) = fault(config, "network-isolation").inject
    assert put[0] == "nft"
    assert put[1] == (
        "table inet failoverd_drill {"
        " chain input { type filter hook input priority -400; policy accept; iif lo accept;"
        " ip saddr 192.0.2.0/24 accept; ip saddr 10.89.1.12 tcp dport 7402 accept; drop; };"
        " chain output { type filter hook output priority -400; policy accept; oif lo accept;"
        " ip daddr 192.0.2.0/24 accept; ip daddr 10.89.1.12 tcp sport 7402 accept; drop; }; }"
    )
    arbiter = fault(config, "arbiter-loss", "arbiter")
    assert (arbiter.node, arbiter.inject) == ("arbiter", (put,))
    assert config.drill.management == (IPv4Network("192.0.2.0/24"),)


def test_a_broken_replication_is_from_and_to_every_other_data_node(config: Config) -> None:
    made = fault(config, "replication-break", "mail3")
    assert made.node == "mail3"
    (rules,) = (command[1] for command in made.inject)
    for other in ("10.89.1.11", "10.89.1.12"):
        assert f"ip saddr {other} tcp sport 3306 drop" in rules
        assert f"ip daddr {other} tcp dport 3306 drop" in rules
    assert "10.89.1.13" not in rules


# What commands do is shown by running them, each in a network of its own.
IN_PRIVATE = ("unshare", "--net", "sh", "-ec")


@pytest.mark.root
@pytest.mark.parametrize("name", ["network-isolation", "replication-break"])
def test_the_drills_own_table_comes_and_goes(config: Config, name: str) -> None:
    made = fault(config, name)
    (put,), (take,), (gone,) = made.inject, made.undo, made.gone
    show = ("nft", "list", "chain", "inet", "failoverd_drill", "input")
    steps = [
        (gone, True), (take, True), (put, True), (gone, False), (show, True), (take, True),
        (gone, True), (take, True), (gone, True),
    ]  # fmt: skip
    script = "\n".join(f"{'' if well else '! '}{shlex.join(command)}" for command, well in steps)
    ran = subprocess.run([*IN_PRIVATE, script], capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.root
def test_who_is_cut_off_is_cut_off(config: Config) -> None:
    (put,), (take,) = fault(config, "network-isolation").inject, fault(config, "network-isolation").undo
    wire = (
        "ip link set lo up; ip link add one type veth peer name two; ip addr add 10.89.1.11/24 dev one;"
        " ip link set one up; ip link set two up;"
    )
    # Through the output hook: what leaves for nobody is refused with EPERM, and otherwise goes out into nothing.
    send = "python3 -c 'import socket as s; s.socket(s.AF_INET, s.SOCK_DGRAM).sendto(bytes(1), (\"{}\", 9))'"
    script = (
        f"{wire} {send.format('10.89.1.13')}; {shlex.join(put)}; ! {send.format('10.89.1.13')} 2>/dev/null;"
        f" ! {send.format('10.89.1.12')} 2>/dev/null; {send.format('127.0.0.1')};"
        f" {shlex.join(take)}; {send.format('10.89.1.13')}"
    )
    ran = subprocess.run([*IN_PRIVATE, script], capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr


def test_what_cannot_be_played_says_why(config: Config) -> None:
    nothing = config.model_copy(update={"drill": Drill(), "fencing": Fencing()})
    for name in SCENARIOS:
        why = SCENARIOS[name].refuses(nothing, "mail1")
        expected = {"primary-crash": "DRILL_NO_FENCE", "disk-failure": "DRILL_DISK"}.get(name)
        assert (why[0] if why else None) == expected
        assert why is None or why[0] in CODES
    assert SCENARIOS["disk-failure"].refuses(config, "mail1") is None
    assert SCENARIOS["disk-failure"].fault(nothing, CAST) is None
