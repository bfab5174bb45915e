"""The units: systemd takes them, they are closed as far as systemd/README.md says, and each rest has its reason."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from failoverd.commands import parser
from failoverd.runtime.persist import BOOT_ID_OF_UNIT
from failoverd.setup import steps

REPOSITORY = Path(__file__).parents[2]
UNITS = {path.name: path for path in (REPOSITORY / "systemd").glob("*.service")}
INSTALLED = "/opt/failoverd/bin/failoverd"
MOST = 2.5  # of failoverd.service
# What makes systemd build a mount namespace, which walks over every file system that is mounted.
NAMESPACE = re.compile(
    r"^(Protect(System|Home|Kernel\w+|ControlGroups|Proc)|Private(Tmp|Devices|Mounts)|\w+Paths|TemporaryFileSystem)=",
    re.MULTILINE,
)
MUST_START = {  # whatever hangs on the node
    "failoverd-helper.service",
    "failoverd-guard.service",
    "failoverd-drop.service",
    "failoverd-gate.service",
}
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
LEVEL = re.compile(r"^\| `(failoverd[a-z-]*)` \| ([0-9.]+) \| ", re.MULTILINE)

each_unit = pytest.mark.parametrize("name", sorted(UNITS))


def text(name: str) -> str:
    return UNITS[name].read_text(encoding="utf-8")


def settings(name: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", text(name), re.MULTILINE)


def version() -> int:
    shown = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=True).stdout
    return int(shown.split()[1])


def exposures(name: str) -> set[str]:
    """What systemd-analyze finds open in the unit."""
    command = ["systemd-analyze", "security", "--offline=yes", "--json=short", str(UNITS[name])]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout
    return {row["name"] for row in json.loads(shown) if row["set"] is False and row["exposure"]}


def level(name: str) -> float:
    """Its overall exposure level."""
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(UNITS[name])]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", shown)
    assert found is not None, shown
    return float(found[1])


def guide() -> str:
    return (REPOSITORY / "systemd/README.md").read_text(encoding="utf-8")


def explained() -> dict[str, set[str]]:
    """For each open setting, the units that the guide says it is open in."""
    found: dict[str, set[str]] = {}
    for setting, units, why in ROW.findall(guide().partition("## What is left open")[2]):
        assert len(why.strip()) > 20, f"{setting}: no reason"
        # `all but` is as good as a list, and shorter
        words = units.replace(",", " ").split()
        named = {unit_of(word) for word in words if word not in {"all", "but"}}
        found[setting.replace("¦", "|")] = set(UNITS) - named if words[0] == "all" else named
    return found


def unit_of(word: str) -> str:
    name = "failoverd.service" if word == "daemon" else f"failoverd-{word}.service"
    assert name in UNITS, word
    return name


@each_unit
def test_systemd_takes_it_without_a_word(name: str, tmp_path: Path) -> None:
    for unit, path in UNITS.items():
        program = path.read_text(encoding="utf-8").replace(f"{INSTALLED}ctl", sys.executable)
        (tmp_path / unit).write_text(program.replace(INSTALLED, sys.executable))
    verify = ["systemd-analyze", "verify", "--man=no", "--generators=no", str(tmp_path / name)]
    checked = subprocess.run(verify, capture_output=True, text=True, check=False, timeout=60)
    assert [line for line in checked.stderr.splitlines() if "failoverd" in line] == []


@each_unit
def test_what_it_starts_is_a_command_of_the_program(name: str) -> None:
    for line in settings(name, "ExecStart"):
        program, *arguments = shlex.split(line)
        assert program == INSTALLED
        assert parser().parse_args(arguments).config == Path("/etc/failoverd/failoverd.yaml")


@pytest.mark.skipif(version() != 252, reason="another systemd looks at other settings: the guide is of Debian 12's")
@each_unit
def test_whatever_it_leaves_open_has_its_reason_in_the_guide(name: str) -> None:
    told = {setting for setting, units in explained().items() if name in units}
    assert exposures(name) == told


@pytest.mark.skipif(version() != 252, reason="as above")
@each_unit
def test_its_level_is_as_the_guide_says(name: str) -> None:
    told = dict(LEVEL.findall(guide()))
    assert level(name) == float(told[name.removesuffix(".service")])


@each_unit
def test_it_is_told_the_name_of_the_boot_as_systemd_has_it(name: str) -> None:
    """Whoever compares leases: a view of /proc that is built for one unit may have another name for it."""
    assert any(f"{BOOT_ID_OF_UNIT}=%b" in words.split() for words in settings(name, "Environment"))


def test_the_daemon_is_closed_as_far_as_is_demanded() -> None:
    assert level("failoverd.service") <= MOST


@pytest.mark.parametrize("name", sorted(MUST_START))
def test_what_must_start_whatever_hangs_builds_no_mount_namespace(name: str) -> None:
    assert NAMESPACE.findall(text(name)) == []


def test_what_drops_the_role_is_started_outside_of_what_the_daemons_unit_builds() -> None:
    (command,) = settings("failoverd.service", "ExecStopPost")
    assert command.startswith("-+")
    assert "--no-block start failoverd-drop.service" in command


@each_unit
def test_it_leaves_no_core_and_gains_no_rights(name: str) -> None:
    assert settings(name, "LimitCORE") == ["0"], "a core holds the passwords"
    assert settings(name, "NoNewPrivileges") == ["yes"]
    assert settings(name, "SystemCallErrorNumber") == ["EPERM"], "a call that is refused is an error, and no death"


def test_the_daemon_asks_the_helper_which_comes_with_it_and_is_not_waited_for() -> None:
    (command,) = settings("failoverd.service", "ExecStart")
    assert parser().parse_args(shlex.split(command)[1:]).helped
    assert "failoverd-helper.service" in settings("failoverd.service", "Wants")[0].split()
    assert not any(
        "helper" in line for key in ("Requires", "After", "BindsTo") for line in settings("failoverd.service", key)
    )


def test_whoever_is_started_last_leaves_the_control_socket_reachable() -> None:
    """Each start of a unit with RuntimeDirectory= gives the directory its mode anew."""
    sharing = {name for name in UNITS if settings(name, "RuntimeDirectory") == ["failoverd"]}
    assert sharing == {"failoverd.service", "failoverd-guard.service", "failoverd-helper.service"}
    assert {(name, *settings(name, "RuntimeDirectoryMode")) for name in sharing} == {(name, "0711") for name in sharing}
    assert {(name, *settings(name, "RuntimeDirectoryPreserve")) for name in sharing} == {
        (name, "yes") for name in sharing
    }


def test_a_cluster_that_is_set_up_starts_the_helper_before_the_daemon_on_every_node() -> None:
    helper, daemon = steps.STARTED.index("failoverd-helper.service"), steps.STARTED.index("failoverd.service")
    assert helper < daemon
    assert "failoverd-helper.service" not in steps.NOT_OF_THE_ARBITER
