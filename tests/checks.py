"""What `tests/run` runs: the linters, then pytest in parts, then one summary line over all of them.

A linter counts as one check. Each part has a time limit of its own, so that one that hangs is a failure with a name
and the whole stays under half an hour. What that has no room for on two processors is marked `long`: `tests/run --all`
runs it as well, before a release.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TREE = Path(__file__).resolve().parents[1]
IMPORTS = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command([]))"
LINTERS = {
    "ruff": ["-m", "ruff", "check", "."],
    "ruff format": ["-m", "ruff", "format", "--check", "."],
    "mypy": ["-m", "mypy"],
    "imports": ["-c", IMPORTS],
}
LINTER_LIMIT_S = 60
CLEAN_UP_S = 60
INTERRUPTED = threading.Event()
NOTHING_COLLECTED = 5  # pytest's exit code
DEBIAN = {  # what root and browser tests call on this machine: a program, and the packages that bring it
    "nft": "nftables",
    "ip": "iproute2",
    "fence_dummy": "fence-agents",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "promtool": "prometheus",
    "haproxy": "haproxy",
    "nginx": "nginx libnginx-mod-mail",
    "chromium": "chromium",
    "groff": "groff-base",  # the manual pages are read by both
    "mandoc": "mandoc",
    "etcd": "etcd-server etcd-client",
    "dh": "debhelper",  # the Debian package is built
    "lintian": "lintian",
    "/lib/systemd/systemd-journal-remote": "systemd-journal-remote",  # it writes a journal from a text
}


@dataclass(frozen=True)
class Part:
    """One run of pytest: its name, which tests it selects, and how long it may take."""

    name: str
    arguments: tuple[str, ...]
    limit_s: int
    gives_way: bool = False  # it only computes: what runs beside it, and may wait for something, comes first


NEITHER = "not root and not lab and not simulation and not browser"
COMPUTING = ("tests/unit", "tests/core", "tests/scenarios", "tests/simulation")  # the others wait for servers
# Where the tests of each kind are: to look for them everywhere takes 17 s a part. test_checks holds it complete.
PLACES = {
    "simulation": ("tests/simulation", "tests/unit/test_audit_tampering.py"),
    "root": ("tests/adapters", "tests/contracts", "tests/lab", "tests/package", "tests/unit"),
    "browser": ("tests/browser", "tests/lab"),
    "lab": ("tests/adapters", "tests/contracts", "tests/lab"),
}
# Several files at once, each as a whole: on both processors, or more of them where servers are waited for.
BOTH = ("-n", "2", "--dist", "loadfile")
AT_ONCE = ("-n", "3", "--dist", "loadfile")
HOSTS = "tests/lab"  # has the four hosts, and nothing beside it
# What stands in one line runs side by side, and the lines one after the other.
FAST = ((Part("tests", ("--fast", *AT_ONCE), 900),),)
ALL = (
    (
        Part("tests that compute", ("-m", NEITHER, *BOTH, *COMPUTING), 420, gives_way=True),
        Part("tests with servers", ("-m", NEITHER, *AT_ONCE, *(f"--ignore={place}" for place in COMPUTING)), 540),
    ),
    (Part("simulated seeds", ("-m", "simulation", *PLACES["simulation"]), 240),),  # on all cores
    (
        Part("root tests", ("-m", "root and not lab", *BOTH, *PLACES["root"]), 400),
        Part("browser tests", ("-m", "browser and not lab", *PLACES["browser"]), 300),
    ),
    (
        Part(
            "tests with the lab's servers",
            ("-m", "lab", *AT_ONCE, *(place for place in PLACES["lab"] if place != HOSTS)),
            400,
        ),
    ),
    (Part("lab tests", ("-m", "lab and not long", HOSTS), 960),),
)
LONG = ((Part("long lab tests", ("-m", "lab and long", HOSTS), 1200),),)


@dataclass
class Tally:
    """How many passed, failed and were skipped."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def run(command: list[str], limit_s: int, output: IO[bytes] | None = None) -> int | None:
    """Run in the tree, in a process group of its own. Return the exit code, None when it had to be ended."""
    until = time.monotonic() + limit_s
    with subprocess.Popen(command, cwd=TREE, start_new_session=True, stdout=output, stderr=output) as child:
        try:
            while time.monotonic() < until and not INTERRUPTED.is_set():
                try:
                    return child.wait(1)
                except subprocess.TimeoutExpired:
                    continue
            return None
        finally:
            if child.poll() is None:
                child.send_signal(signal.SIGINT)  # pytest's fixtures clean up, and it tells what has failed so far
                try:
                    child.wait(CLEAN_UP_S)
                except subprocess.TimeoutExpired:
                    os.killpg(child.pid, signal.SIGKILL)


def lint(arguments: list[str]) -> Tally:
    """Run one linter: one check."""
    good = run([sys.executable, *arguments], LINTER_LIMIT_S) == 0
    return Tally(passed=int(good), failed=int(not good))


def tests(group: tuple[Part, ...]) -> Iterator[tuple[Part, Tally, float]]:
    """Run parts side by side; give each with what it came to and how long it took, once all have ended."""
    if len(group) == 1:
        yield from (timed(part) for part in group)
        return
    with contextlib.ExitStack() as files, ThreadPoolExecutor(len(group)) as pool:
        outputs = [files.enter_context(tempfile.TemporaryFile()) for _ in group]
        try:
            ended = list(pool.map(timed, group, outputs))
        except KeyboardInterrupt:
            INTERRUPTED.set()
            raise
        for found, output in zip(ended, outputs, strict=True):
            output.seek(0)
            print(output.read().decode(errors="replace"), end="")
            yield found


def timed(part: Part, output: IO[bytes] | None = None) -> tuple[Part, Tally, float]:
    """Run one part and look at the clock."""
    began = time.monotonic()
    tally = test(part, output)
    return part, tally, time.monotonic() - began


def test(part: Part, output: IO[bytes] | None) -> Tally:
    """Run pytest once and count what it reports."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        first = ["nice", "-n", "19"] if part.gives_way else []
        command = [
            *first,
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--durations=5",
            f"--junit-xml={report}",
            *part.arguments,
        ]
        code = run(command, part.limit_s, output)
        tally = counted(report)
    if code is None:
        print(f"{part.name}: ended after {part.limit_s} s")
    elif code == NOTHING_COLLECTED:
        return tally
    if code != 0 and tally.failed == 0:
        tally.failed = 1  # pytest itself failed, or was ended
    return tally


def counted(report: Path) -> Tally:
    """Count the tests of a JUnit file; nothing where there is none. One that errs at its end as well counts once."""
    if not report.exists():
        return Tally()
    tests: dict[tuple[str | None, str | None], str] = {}
    rank = ("passed", "skipped", "failed")
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote it just now
        tags = {child.tag for child in case}
        outcome = "failed" if tags & {"failure", "error"} else "skipped" if "skipped" in tags else "passed"
        name = case.get("classname"), case.get("name")
        tests[name] = max(outcome, tests.get(name, outcome), key=rank.index)
    outcomes = list(tests.values())
    return Tally(outcomes.count("passed"), outcomes.count("failed"), outcomes.count("skipped"))


def install_missing() -> None:
    """Install the Debian packages of programs that tests call."""
    lacking = [packages for program, packages in DEBIAN.items() if shutil.which(program) is None]
    missing = sorted({package for packages in lacking for package in packages.split()})
    if missing:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "SYSTEMD_OFFLINE": "1"}  # no service is started
        subprocess.run(["apt-get", "-qq", "update"], check=True)
        subprocess.run(["apt-get", "-qq", "-y", "--no-install-recommends", "install", *missing], check=True, env=quiet)


def main() -> int:
    """Run what was asked for; 0 when nothing failed, 1 when something did, 2 when it cannot be run here."""
    parser = argparse.ArgumentParser(prog="tests/run", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--fast", action="store_true", help="no root, no lab: what answers in some minutes")
    parser.add_argument("--all", action="store_true", help="the lab tests for which half an hour has no room, too")
    asked = parser.parse_args()
    fast = asked.fast
    # `nohup` has the one ignored, a shell's `&` the other, and tests look at what dies of them.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not fast:
        if os.geteuid() != 0:
            print("tests/run needs root for namespaces and the lab; tests/run --fast does not", file=sys.stderr)
            return 2
        install_missing()
    total = Tally()
    durations: list[str] = []

    def tally(name: str, found: Tally, took_s: float) -> Tally:
        line = f"{took_s:7.1f} s  {name}: {found}"
        durations.append(line)
        print(line, flush=True)
        return found

    for name, arguments in LINTERS.items():
        began = time.monotonic()
        total += tally(name, lint(arguments), time.monotonic() - began)
    for group in FAST if fast else (*ALL, *LONG) if asked.all else ALL:
        for part, found, took_s in tests(group):
            total += tally(part.name, found, took_s)
    print("\n" + "\n".join(durations) + f"\n{total}", flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
