"""What the Debian package is built from fits the tree: its pinned dependencies, its scripts, its units."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from failoverd.ctl import removable
from failoverd.ctl.man_pages import PAGES

REPOSITORY = Path(__file__).parents[2]
DEBIAN = REPOSITORY / "systemd/debian"
SCRIPTS = ("build", "lock", "venv", *(f"failoverd.{kind}" for kind in ("preinst", "postinst", "prerm", "postrm")))
RELOCK = "run systemd/debian/lock and commit what it writes"


def locked(name: str) -> dict[str, str]:
    """Give the versions of a lock file; each must have hashes."""
    text = (DEBIAN / name).read_text(encoding="utf-8")
    pins = re.findall(r"^(\S+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.MULTILINE)
    assert len(pins) == len(re.findall(r"^\S", text, re.MULTILINE)), f"{name}: a line is no pin with its hashes"
    return {canonicalize_name(package): version for package, version, _ in pins}


@pytest.mark.parametrize(
    ("lock", "table", "key"),
    [("requirements.lock", "project", "dependencies"), ("requirements-build.lock", "build-system", "requires")],
)
def test_every_dependency_of_the_project_is_pinned_as_it_allows(lock: str, table: str, key: str) -> None:
    pins = locked(lock)
    for line in tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))[table][key]:
        wanted = Requirement(line)
        assert canonicalize_name(wanted.name) in pins, f"{wanted.name} is not in {lock}: {RELOCK}"
        assert pins[canonicalize_name(wanted.name)] in wanted.specifier, f"{line} is not what {lock} has: {RELOCK}"


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_shell_takes_it(name: str) -> None:
    checked = subprocess.run(["sh", "-n", str(DEBIAN / name)], capture_output=True, text=True, check=False, timeout=10)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_an_upgrade_restarts_every_unit_that_runs_all_the_time_and_no_other() -> None:
    (words,) = re.findall(r"^ +for unit in (.+); do$", (DEBIAN / "failoverd.postinst").read_text("utf-8"), re.MULTILINE)
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (REPOSITORY / "systemd").glob("*.service")}
    running = {name for name, text in texts.items() if re.search("^Type=notify", text, re.MULTILINE)}
    assert set(words.split()) == running


def test_the_units_name_pages_that_there_are_as_their_documentation() -> None:
    """The package has them by `failoverctl man --directory`; without it they are there by `failoverctl man PAGE`."""
    pages = {f"man:{name}({section})" for name, section in PAGES.items()}
    for unit in (REPOSITORY / "systemd").glob("failoverd*.*"):
        (line,) = re.findall(r"^Documentation=(.+)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(line.split()) <= pages, f"{unit.name}: {line}"


def test_what_the_scripts_say_has_a_page() -> None:
    said = {
        code
        for kind in ("preinst", "postinst", "prerm", "postrm")
        for code in re.findall(r"\b[A-Z]+_[A-Z_]+(?=:)", (DEBIAN / f"failoverd.{kind}").read_text(encoding="utf-8"))
    } - {"DPKG_ROOT", "FAILOVERD_REMOVE"}
    assert said == {"PKG_BUSY", "PKG_FOREIGN", "CONFIG_REFUSED"}
    assert said <= removable.CODES | {path.stem for path in (REPOSITORY / "runbooks/codes").iterdir()}
