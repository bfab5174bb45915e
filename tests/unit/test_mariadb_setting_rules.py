"""What no server of Debian 12 can be made to be: other versions, and one without semi-sync."""

from __future__ import annotations

from dataclasses import replace

import pytest

from failoverd.databases.mariadb_settings import RULES, Server

GOOD = Server(
    variables={
        "version": "10.11.19-MariaDB-0+deb12u1-log",
        "log_bin": "ON",
        "log_slave_updates": "ON",
        "binlog_format": "ROW",
        "gtid_strict_mode": "ON",
        "sync_binlog": "1",
        "innodb_flush_log_at_trx_commit": "3",
        "slave_net_timeout": "4",
        "rpl_semi_sync_master_enabled": "OFF",
        "rpl_semi_sync_slave_enabled": "ON",
    },
    row=None,
    binlog={},
    options={"read_only": "ON", "init_rpl_role": "SLAVE"},
    why_not="",
    tables=[],
    events=[],
)


def found(server: Server) -> dict[str, str]:
    return dict(finding for rule in RULES for finding in rule(server))


def test_a_good_one_has_none() -> None:
    assert found(GOOD) == {}


@pytest.mark.parametrize(
    ("version", "code"),
    [
        ("10.6.22-MariaDB", "SET_VERSION_HANGS"),
        ("10.6.23-MariaDB", ""),
        ("10.7.9-MariaDB", "SET_VERSION_HANGS"),  # ended before the fix
        ("10.11.13-MariaDB", "SET_VERSION_HANGS"),
        ("10.11.14-MariaDB", ""),
        ("11.3.2-MariaDB", "SET_VERSION_HANGS"),
        ("11.4.7-MariaDB", "SET_VERSION_HANGS"),
        ("11.4.8-MariaDB-ubu2404", ""),
        ("11.8.3-MariaDB", ""),
        ("12.0.2-MariaDB", ""),
        ("10.5.29-MariaDB", "SET_VERSION_TOO_OLD"),
        ("5.5.68-MariaDB", "SET_VERSION_TOO_OLD"),
        ("unknown", "SET_VERSION_TOO_OLD"),
    ],
)
def test_versions(version: str, code: str) -> None:
    assert list(found(replace(GOOD, variables=GOOD.variables | {"version": version}))) == ([code] if code else [])


def test_without_semi_sync_no_commit_would_be_acknowledged() -> None:
    fewer = {name: value for name, value in GOOD.variables.items() if name != "rpl_semi_sync_slave_enabled"}
    assert found(replace(GOOD, variables=fewer)) == {
        "SET_SEMI_SYNC": "there is no rpl_semi_sync_slave_enabled; allowed: semi-sync as source and as replica"
    }


def test_files_that_cannot_be_read_are_said_to_be_so() -> None:
    unread = replace(GOOD, options=None, why_not="process 1 behind the socket is systemd")
    assert list(found(unread)) == ["SET_FILES_UNREAD"]


def test_a_long_list_of_tables_is_cut() -> None:
    many = replace(GOOD, tables=[f"app.t{number} (MyISAM)" for number in range(6)])
    assert found(many)["SET_ENGINE"].startswith("app.t0 (MyISAM), app.t1 (MyISAM)")
    assert "app.t4 (MyISAM) and more; allowed: InnoDB" in found(many)["SET_ENGINE"]
