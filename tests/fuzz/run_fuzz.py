"""See tests/fuzz/run: each target in turn, its share of the time, and a table at the end; 1 when anything was found."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
RSS_MB = 2048  # libFuzzer's limit
HANG_S = 60  # of the wall clock, for one input: what is slow is judged by processor time, this ends what never comes
GRACE_S = 90  # beyond its time: loading, and the input that is being tried
GROWTH_MB = 64.0  # beyond what was loaded: what a target keeps of its inputs
FAILED = re.compile(r"^==\d+== ?ERROR: libFuzzer: (.*)|^SUMMARY: libFuzzer: (.*)", re.MULTILINE)


@dataclass
class Outcome:
    """What came of one target."""

    name: str
    executions: int = 0
    seconds: float = 0.0
    covered: tuple[int, int] = (0, 0)
    slowest_ms: float = 0.0
    growth_mb: float = 0.0
    crashes: dict[str, str] = field(default_factory=dict)

    def row(self) -> list[str]:
        """For the table."""
        first, last = self.covered
        rate = self.executions / self.seconds if self.seconds else 0.0
        return [
            self.name, f"{self.executions}", f"{rate:.0f}", f"{first} → {last}", f"{self.slowest_ms:.0f}",
            f"{self.growth_mb:.1f}", f"{len(self.crashes)}",
        ]  # fmt: skip


class Fuzzing:
    """The process that has all targets loaded and instrumented, and forks for each."""

    def __init__(self, log: Path) -> None:
        command = [sys.executable, HERE / "fuzz_one.py"]
        self._log = log  # atheris names each module that it instruments
        with log.open("w") as said:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True
            )

    def one(self, asked: dict[str, object]) -> int:
        """Fuzz one target; how it has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(self._log.read_text()[-3000:])
        return int(json.loads(line)["code"])

    def end(self) -> None:
        """It is not needed any more."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def fuzzed(fuzzing: Fuzzing, name: str, seconds: float, corpus: Path, scratch: Path) -> Outcome:
    """Run one target for so long."""
    kept, seeds = corpus / name, scratch / f"{name}.seeds"
    stats, log = scratch / f"{name}.json", scratch / f"{name}.log"
    for made in (kept, seeds):
        made.mkdir(parents=True, exist_ok=True)
    log.touch()
    arguments = [
        f"-max_total_time={max(1, round(seconds))}", f"-rss_limit_mb={RSS_MB}", f"-timeout={HANG_S}",
        "-print_final_stats=1", f"-artifact_prefix={scratch}/{name}.",
    ]  # fmt: skip
    code = fuzzing.one({
        "name": name, "found": str(HERE / "seeds" / name), "stats": str(stats), "log": str(log), "corpus": str(kept),
        "seeds": str(seeds), "arguments": arguments, "within_s": seconds + GRACE_S,
    })  # fmt: skip
    said = log.read_text(errors="replace")
    outcome = Outcome(name, covered=_covered(said))
    if stats.exists():
        told = json.loads(stats.read_text())
        outcome.executions, outcome.seconds = told["executions"], told["seconds"]
        outcome.slowest_ms, outcome.growth_mb = told["slowest_ms"], told["rss_growth_mb"]
        outcome.crashes = told["crashes"]
    sys.stdout.write("".join(line + "\n" for line in said.splitlines() if line.startswith("FOUND")))
    if code != 0:
        failed = FAILED.search(said)
        words = next(filter(None, failed.groups()), "") if failed else f"ended with {code}"
        outcome.crashes[words] = _kept_artifacts(name, scratch)
        sys.stdout.write(f"FOUND {name}: {words}\n" + "\n".join(said.splitlines()[-15:]) + "\n")
    if outcome.growth_mb > GROWTH_MB:
        outcome.crashes["growth"] = ""
    return outcome


def _covered(said: str) -> tuple[int, int]:
    found = [int(number) for number in re.findall(r"^#\d+\s+\w+\s+cov: (\d+)", said, re.MULTILINE)]
    return (found[0], found[-1]) if found else (0, 0)


def _kept_artifacts(name: str, scratch: Path) -> str:
    """What libFuzzer itself has ended on, beside the seeds."""
    names = []
    for path in scratch.glob(f"{name}.*-*"):
        kept = HERE / "seeds" / name / path.name.removeprefix(f"{name}.")
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, kept)
        names.append(kept.name)
    return " ".join(names)


def table(outcomes: list[Outcome]) -> str:
    """The summary."""
    rows = [["target", "executions", "exec/s", "coverage", "slowest ms", "growth MB", "crashes"]]
    rows += [outcome.row() for outcome in outcomes]
    total = Outcome(
        "all",
        sum(o.executions for o in outcomes),
        sum(o.seconds for o in outcomes),
        (sum(o.covered[0] for o in outcomes), sum(o.covered[1] for o in outcomes)),
        max((o.slowest_ms for o in outcomes), default=0.0),
        max((o.growth_mb for o in outcomes), default=0.0),
        {f"{o.name}: {key}": "" for o in outcomes for key in o.crashes},
    )
    rows.append(total.row())
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    minutes = sum(o.seconds for o in outcomes) / 60
    return "\n".join([*lines, f"{minutes:.1f} minutes, {len(outcomes)} targets, {len(total.crashes)} found"])


def install() -> None:
    """Bring atheris into this environment: only this needs it."""
    try:
        import atheris  # noqa: F401, PLC0415 - whether it is there
    except ImportError:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--group", "fuzz"]
        subprocess.run(pip, cwd=HERE.parents[1], check=True)


def main() -> int:
    """0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="tests/fuzz/run", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="for all targets together")
    parser.add_argument("--target", action="append", default=[], help="only this one; again for more")
    parser.add_argument("--corpus", type=Path, help="kept from run to run (default: none is)")
    options = parser.parse_args()
    install()
    from targets import TARGETS  # noqa: PLC0415 - once all is there

    unknown = [name for name in options.target if name not in TARGETS]
    if unknown:
        parser.error(f"no target {unknown[0]!r}; there are: {', '.join(TARGETS)}")
    names = options.target or list(TARGETS)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="failoverd-fuzz-run-") as scratch:
        corpus = options.corpus or Path(scratch) / "corpus"
        fuzzing = Fuzzing(Path(scratch) / "instrumented.log")
        for number, name in enumerate(names):
            began = time.monotonic()
            outcome = fuzzed(fuzzing, name, options.minutes * 60 / len(names), corpus, Path(scratch))
            outcomes.append(outcome)
            took = time.monotonic() - began
            print(f"{number + 1}/{len(names)} {took:.0f} s  " + "  ".join(outcome.row()), flush=True)
        fuzzing.end()
    print("\n" + table(outcomes))
    return 1 if any(outcome.crashes for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
