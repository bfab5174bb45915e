"""What a server will be told at its next start, as root without the right to look through /proc/PID/root sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mariadb_servers import wait_for

from failoverd.databases.option_files import UnreadableError, is_on, options_of

pytestmark = pytest.mark.root

NOBODY = "65534"
FILES = """\
[client]
read_only = OFF
[mysqld]
init-rpl-role = SLAVE   # an end of line
[mariadb-10.11]
!include {included}
[mariadbd]
skip-read-only
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    included = tmp_path / "more.cnf"
    included.write_text('[server]\nread_only\nloose-x-y = "z"\n')
    path = tmp_path / "my.cnf"
    path.write_text(FILES.format(included=included))
    open_to_others(tmp_path)
    return path


def open_to_others(directory: Path) -> None:
    """Let another user come to it: pytest's directories are root's alone."""
    for place in (directory, *directory.parents):
        if place.stat().st_mode & 0o001:
            return
        place.chmod(0o755)


def started(directory: Path, *arguments: str, name: str = "mariadbd") -> subprocess.Popen[bytes]:
    """Start a process of another user that is called as the server is."""
    program = directory / name
    program.write_text("#!/bin/sh\nread forever\n")
    program.chmod(0o755)
    command = ["setpriv", "--reuid", NOBODY, "--clear-groups", str(program), *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    wait_for(lambda: Path(f"/proc/{process.pid}/comm").read_text().strip() == name, name="the program to start")
    return process


def ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


SHOW = "import sys; from failoverd.databases.option_files import options_of; print(options_of(int(sys.argv[1])))"


def test_the_last_one_counts_wherever_it_stands_and_the_unit_s_rights_are_enough(file: Path) -> None:
    process = started(file.parent, f"--defaults-file={file}", "--port=1")
    try:
        expected = {"init_rpl_role": "SLAVE", "x_y": "z", "read_only": "0", "defaults_file": str(file), "port": "1"}
        assert options_of(process.pid) == expected
        fewer = ["setpriv", "--bounding-set", "-sys_ptrace", sys.executable]
        refused = subprocess.run([*fewer, "-c", f"import os; os.stat('/proc/{process.pid}/root/')"], check=False)
        assert refused.returncode != 0
        shown = subprocess.run([*fewer, "-c", SHOW, str(process.pid)], check=True, capture_output=True, text=True)
        assert shown.stdout.strip() == str(options_of(process.pid))
    finally:
        ended(process)


def test_a_file_that_is_named_and_missing_is_not_known(tmp_path: Path) -> None:
    open_to_others(tmp_path)
    process = started(tmp_path, "--defaults-file=/nowhere/my.cnf")
    try:
        with pytest.raises(UnreadableError, match=r"^/nowhere/my\.cnf is not there$"):
            options_of(process.pid)
    finally:
        ended(process)


def test_a_proxy_behind_the_socket_is_not_the_server() -> None:
    with pytest.raises(UnreadableError, match=rf"^process {os.getpid()} behind the socket is "):
        options_of(os.getpid())


@pytest.mark.parametrize(
    ("value", "on"),
    [("", True), ("1", True), ("ON", True), ("true", True), ("0", False), ("OFF", False), (None, False)],
)
def test_a_switch(value: str | None, on: bool) -> None:
    assert is_on(value) is on
