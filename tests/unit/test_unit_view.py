"""What a closed unit cannot read or write of what a configuration names, as `failoverctl config check` says it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from failoverd.config import load
from failoverd.config.lines import noting_files
from failoverd.ctl.unit_view import UNIT, unfit

CLOSED = {
    "CapabilityBoundingSet": "cap_net_admin cap_net_raw cap_ipc_lock",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "ProtectSystem": "strict",
    "ReadWritePaths": "",
}
OPEN = {"ProtectHome": "no", "PrivateTmp": "no"}  # of the temporary directory that a test has
NOBODY = 65534


def of(**changes: str) -> dict[str, str]:
    return CLOSED | OPEN | changes


@pytest.mark.parametrize("path", ["/home/anna/key.pem", "/root/canary", "/run/user/0/key"])
def test_a_file_in_a_home_is_not_seen(path: str) -> None:
    (words,) = unfit(CLOSED, reads=[Path(path)])
    assert words.startswith(f"{path}: {UNIT} cannot read it: it does not see /")
    assert words.endswith("(ProtectHome=yes)")


def test_a_drop_in_that_shows_homes_is_believed() -> None:
    assert [*unfit(of(ProtectHome="read-only"), reads=[Path("/home/anna/key.pem")])] == []


def test_neither_is_what_lies_in_tmp() -> None:
    (words,) = unfit(CLOSED, reads=[Path("/var/tmp/key.pem")])  # noqa: S108 - that is the point
    assert "(PrivateTmp=yes)" in words


def test_the_record_goes_where_the_unit_may_write() -> None:
    asked = [Path("/var/lib/failoverd/audit"), Path("/var/log/failoverd"), Path("/srv/record/mail")]
    assert [*unfit(of(ReadWritePaths="-/srv/record /opt/x"), writes=asked)] == [
        f"/var/log/failoverd: {UNIT} cannot write there: it is not among its ReadWritePaths="
    ]
    assert [*unfit(of(ProtectSystem="no"), writes=asked)] == []


def test_a_port_that_is_roots_takes_a_right_of_its_own() -> None:
    assert [*unfit(CLOSED, ports=[7400, 443])] == [
        f"port 443: {UNIT} cannot listen there: it has no CAP_NET_BIND_SERVICE"
    ]
    assert [*unfit(of(CapabilityBoundingSet="cap_net_bind_service"), ports=[443])] == []


@pytest.mark.root
@pytest.mark.parametrize(
    ("owner", "group", "mode", "readable"),
    [
        (0, 0, 0o600, True),
        (NOBODY, NOBODY, 0o600, False),
        (NOBODY, 0, 0o640, True),  # root's group
        (NOBODY, NOBODY, 0o644, True),
        (0, 0, 0o200, False),
    ],
)
def test_a_file_of_somebody_else_is_as_the_kernel_has_it_for_root_without_rights(
    tmp_path: Path, owner: int, group: int, mode: int, *, readable: bool
) -> None:
    file = tmp_path / "key"
    file.touch()
    os.chown(file, owner, group)
    file.chmod(mode)
    found = [*unfit(of(), reads=[file, file])]
    assert len(found) == (0 if readable else 1)
    assert readable or f"{file} is of user {owner}" in found[0]
    assert [*unfit(of(CapabilityBoundingSet="cap_dac_read_search"), reads=[file])] == []


@pytest.mark.root
def test_so_is_a_directory_that_root_may_not_pass(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o700)
    os.chown(tmp_path / "theirs", NOBODY, NOBODY)
    (tmp_path / "theirs/key").touch()
    (words,) = unfit(of(), reads=[tmp_path / "theirs/key"])
    assert f"{tmp_path / 'theirs'} is of user {NOBODY}, who does not let root pass through it (mode 0700)" in words


def test_every_file_of_a_configuration_is_noted(config_file: Path) -> None:
    with noting_files() as read:
        load(config_file, "mail1")
    assert config_file in read
    assert len(set(read)) > 5  # certificate, key, CA, passwords
    with noting_files() as again:
        pass
    assert again == []
