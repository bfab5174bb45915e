"""Section `drill` against the rest of the file: what could not begin, or would fail at its end, does not load."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml

from failoverd.config import ConfigError, load, relations_drill
from failoverd.config.drill import SCENARIOS as NAMES
from failoverd.drill.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

SCHEDULE = {"node": "mail3", "scenario": "service-death"}


@pytest.fixture
def written(config_file: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write the example with drills allowed, and all that they need, changed by the test."""
    for name in ("drill", "accounts", "ipmi"):
        (tmp_path / name).write_text("drill@lab.test:drill-lab-password\n")
        (tmp_path / name).chmod(0o600)

    def write(change: Callable[[dict[str, Any]], None]) -> Path:
        shown = yaml.safe_load(config_file.read_text())
        shown.pop("monitoring", None)  # `on` is a truth to this reader
        shown["drill"] |= {"enabled": True, "password_file": str(tmp_path / "drill"), "schedule": dict(SCHEDULE)}
        shown["drill"]["load"]["accounts_file"] = str(tmp_path / "accounts")
        change(shown)
        config_file.write_text(yaml.safe_dump(shown, sort_keys=False))
        return config_file

    return write


def fences(tmp_path: Path, *nodes: str) -> dict[str, Any]:
    secret = str(tmp_path / "ipmi")
    return {"nodes": {node: [[{"agent": "fence_ipmilan", "secrets": {"password": secret}}]] for node in nodes}}


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, "mail1")
    return re.sub(r"^\S+ ", "", str(caught.value))


def test_with_all_that_it_needs_it_loads_and_shows_no_password(written: Callable[..., Path]) -> None:
    config = load(written(lambda _: None), "mail1")
    assert config.drill.enabled
    assert config.drill.schedule is not None
    assert (config.drill.schedule.days, config.drill.schedule.overdue_days) == (90, 100)
    assert "drill-lab-password" not in f"{config!r} {config.model_dump()} {config.model_dump_json()}"
    assert any("drill-lab-password" in secret.get_secret_value() for secret in config.secrets)


def test_the_arbiter_needs_no_password_to_read_rows(written: Callable[..., Path], tmp_path: Path) -> None:
    path = written(lambda shown: shown["drill"].update(password_file=str(tmp_path / "absent")))
    assert load(path, "arbiter").drill.enabled
    assert "drill.password_file" in refused(path)


@pytest.mark.parametrize(
    ("port", "section", "named"),
    [
        (7400, "peer", "is peer.port as well"),
        (7401, "peer", "is peer.rebuild_port as well"),
        (7480, "http", "is http.port as well"),
        (993, "gate", "is among gate.ports, which are closed on replicas"),
    ],
)
def test_the_agents_port_is_their_own(written: Callable[..., Path], port: int, section: str, named: str) -> None:
    path = written(lambda shown: shown["drill"].update(port=port))
    assert refused(path) == f"drill.port: value '{port}': {named}; allowed: a port of its own"

    def other(shown: dict[str, Any]) -> None:
        """Whoever had that port gives it up, or no drill is allowed at all."""
        if section == "http":
            shown["http"]["enabled"] = False
        else:
            shown["drill"]["enabled"] = False

    assert load(written(other), "mail1").drill.port == port


def test_mysql_has_neither_the_backup_nor_the_comparison(written: Callable[..., Path]) -> None:
    path = written(lambda shown: shown["database"].update(dialect="mysql"))
    assert refused(path).startswith("drill.enabled: value 'true': is for database.dialect: mariadb, and it is mysql")


def test_a_scenario_that_is_not_allowed_is_not_due_by_itself(written: Callable[..., Path]) -> None:
    path = written(lambda shown: shown["drill"].update(allow=["switchover", "arbiter-loss"]))
    assert refused(path) == (
        "drill.schedule.scenario: value 'service-death': service-death is not among drill.allow; "
        "allowed: switchover, arbiter-loss"
    )


def test_who_is_simulated_by_itself_has_an_account(written: Callable[..., Path]) -> None:
    path = written(lambda shown: shown["drill"]["load"].pop("accounts_file"))
    assert refused(path) == (
        "drill.load.users: value '500': 500 users need accounts that they can use, and drill.load.accounts_file is "
        "missing; allowed: accounts_file: FILE, or users: 0"
    )

    def nobody(shown: dict[str, Any]) -> None:
        shown["drill"]["load"]["users"] = 0
        del shown["drill"]["load"]["accounts_file"]

    assert load(written(nobody), "mail1").drill.load.users == 0

    def by_hand(shown: dict[str, Any]) -> None:
        del shown["drill"]["schedule"], shown["drill"]["load"]["accounts_file"]
        shown["drill"]["load"]["users"] = 500

    assert load(written(by_hand), "mail1").drill.schedule is None


def test_power_is_cut_only_where_each_data_node_has_a_fence(written: Callable[..., Path], tmp_path: Path) -> None:
    def crash(shown: dict[str, Any], *nodes: str) -> None:
        shown["drill"]["schedule"]["scenario"] = "primary-crash"
        shown["fencing"] = fences(tmp_path, *nodes)

    path = written(lambda shown: crash(shown, "mail1"))
    assert refused(path) == (
        "drill.schedule.scenario: value 'primary-crash': cuts the primary's power, and fencing.nodes has no agent for "
        "mail2, mail3; allowed: a fence agent for each data node, or another scenario"
    )
    config = load(written(lambda shown: crash(shown, "mail1", "mail2", "mail3")), "mail1")
    assert config.drill.schedule is not None
    assert config.drill.schedule.scenario == "primary-crash"


def test_a_file_system_is_frozen_only_where_one_is_named(written: Callable[..., Path]) -> None:
    path = written(lambda shown: shown["drill"]["schedule"].update(scenario="disk-failure"))
    assert refused(path).startswith("drill.schedule.scenario: value 'disk-failure': freezes drill.disk")

    def freeze(shown: dict[str, Any]) -> None:
        shown["drill"]["disk"] = "/var/lib/mysql"
        shown["drill"]["schedule"]["scenario"] = "disk-failure"

    written(freeze)
    assert str(load(path, "mail1").drill.disk) == "/var/lib/mysql"


def test_the_arbiter_cannot_conduct_what_it_is_hit_by_or_cannot_mend(
    written: Callable[..., Path], tmp_path: Path
) -> None:
    path = written(lambda shown: shown["drill"].update(schedule={"node": "arbiter", "scenario": "arbiter-loss"}))
    assert refused(path) == (
        "drill.schedule.node: value 'arbiter': is what arbiter-loss cuts off; allowed: a data node: mail1, mail2, mail3"
    )

    def isolate(shown: dict[str, Any]) -> None:
        shown["drill"]["schedule"] = {"node": "arbiter", "scenario": "network-isolation"}

    assert load(written(isolate), "mail1").drill.schedule is not None

    def fenced(shown: dict[str, Any]) -> None:
        isolate(shown)
        shown["fencing"] = fences(tmp_path, "mail1")

    path = written(fenced)
    assert refused(path).startswith("drill.schedule.node: value 'arbiter': has no fence agent's password")


def test_what_the_relations_know_of_the_scenarios_is_so() -> None:
    assert tuple(SCENARIOS) == NAMES
    assert {name for name, one in SCENARIOS.items() if one.target == "nobody"} == {relations_drill.NOBODY_HIT}
    assert {name for name, one in SCENARIOS.items() if one.target == "arbiter"} == {relations_drill.ARBITER_HIT}
    assert {name for name, one in SCENARIOS.items() if one.by == "power"} == {relations_drill.POWER_CUT}
