"""Without a Debian package: pip installs the tree anywhere, and the units are made for that place."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root  # half a minute, and systemd's own program looks at the units

TREE = Path(__file__).resolve().parents[2]


def run(*command: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the programs of an installation of the tree, as README has it but for its place."""
    venv = tmp_path_factory.mktemp("installed") / "failoverd"
    copy = tmp_path_factory.mktemp("copied")  # setuptools writes beside what it builds
    for name in ("pyproject.toml", "README.md", "failoverd", "config", "runbooks", "systemd"):
        run("cp", "-a", TREE / name, copy)
    run(sys.executable, "-m", "venv", venv)
    run(venv / "bin/python", "-m", "pip", "-qq", "--disable-pip-version-check", "install", copy)
    return venv / "bin"


def test_both_programs_run(programs: Path) -> None:
    version = re.search(r'^version = "(.+)"$', (TREE / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert run(programs / "failoverd", "--version").stdout.strip() == f"failoverd {version[1]}"
    assert run(programs / "failoverctl", "version").stdout.startswith(f"failoverctl {version[1]}\n")
    for page in ("failoverctl", "failoverd", "failoverd.yaml"):
        assert ".TH " in run(programs / "failoverctl", "man", page).stdout


def test_the_units_are_for_this_place_and_systemd_takes_them(programs: Path, tmp_path: Path) -> None:
    written = run(programs / "failoverctl", "units", "--directory", tmp_path).stdout.split()
    units = sorted(
        path.name for path in (TREE / "systemd").iterdir() if path.suffix in {".service", ".timer", ".socket"}
    )
    assert sorted(written) == sorted(
        [*(f"{tmp_path}/{name}" for name in units), f"{tmp_path}/mariadb.service.d/failoverd.conf"]
    )
    for name in units:
        text = (tmp_path / name).read_text()
        assert "/opt/failoverd/bin" not in text
        assert text.replace(f"{programs}/", "/opt/failoverd/bin/") == (TREE / "systemd" / name).read_text()
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--generators=no", *(tmp_path / name for name in units)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert [line for line in checked.stderr.splitlines() if "failoverd" in line] == []
    assert checked.returncode == 0, checked.stderr


def test_without_a_directory_it_says_what_it_would_write(programs: Path) -> None:
    said = run(programs / "failoverctl", "units").stdout.split()
    assert {"failoverd.service", "failoverd-drill.timer", "mariadb.service.d/failoverd.conf"} <= set(said)
    assert not [name for name in said if name.startswith("/")]


def test_units_never_name_a_program_that_they_cannot_see(programs: Path) -> None:
    """Pipx without more puts everything below the home directory, which systemd hides from the units."""
    script = "import sys, sysconfig; sysconfig.get_path = lambda _: '/root/.local/share/pipx/venvs/failoverd/bin'"
    program = f"{script}; from failoverd.ctl.app import main; sys.argv[1:] = ['units']; main()"
    refused = run(programs / "python", "-c", program, code=1)
    assert "/root/.local/share/pipx/venvs/failoverd/bin" in refused.stderr
    assert "Install it elsewhere" in refused.stderr


def test_a_directory_that_cannot_be_written_is_said(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = run(programs / "failoverctl", "units", "--directory", tmp_path / "file/below", code=1)
    assert "Not a directory" in refused.stderr
