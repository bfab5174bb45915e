"""Break the lab in every way that the table knows, under a client's load, and see whether what is documented comes.

Prints what happens and a table, and writes it to the directory of --out: matrix.md, matrix.json, a line a trial in
trials.jsonl, and the story of each trial in logs/. A run that was stopped goes on with the same --out: what is in
trials.jsonl is not done again.

Exit code 0 only if no two were primary, nothing acknowledged is lost and every outcome is the documented one; 1 if not;
2 for wrong usage.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

from hosts import Lab, LabError
from rich.console import Console
from rich.markdown import Markdown
from trials.cluster import Cluster
from trials.sole import sole_use

from faultmatrix.results import Results
from faultmatrix.row import Row, expected
from faultmatrix.table import ROWS
from faultmatrix.trial import SETTLED_S, Result, Run, empty_mailboxes

NICE = -5
STORES = ("embedded", "etcd")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="matrix", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these rows; a name with * stands for several")
    parser.add_argument("--trials", type=_count, metavar="N", help="so many trials of each row (default: the table's)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the results go; goes on with what is there")
    parser.add_argument(
        "--store", choices=STORES, default=STORES[0], help="the store of the cluster (default: %(default)s)"
    )
    parser.add_argument("--list", action="store_true", help="print the rows and what is documented for them")
    parser.add_argument("--keep", action="store_true", help="leave the lab up")
    arguments = parser.parse_args()
    try:
        arguments.rows = chosen(arguments.only, arguments.store)
    except ValueError as error:
        parser.error(str(error))
    return arguments


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def chosen(names: list[str] | None, store: str = STORES[0]) -> list[Row]:
    """Give the rows of these names, those that need disks of their own or data late: the lab is built anew for them."""
    rows = [row for row in ROWS if store == "etcd" or not row.etcd]
    if names is not None:
        for name in names:
            if not any(_is_meant(row, name) for row in rows):
                raise ValueError(f"with --store {store} there is no row {name!r}: see --list")
        rows = [row for row in rows if any(_is_meant(row, name) for name in names)]
    return sorted(rows, key=lambda row: (row.disks, row.data_mb))


def _is_meant(row: Row, name: str) -> bool:
    return Path(row.name).match(name)


class Matrix:
    """Runs trials in one lab; builds it anew only where a trial has left it broken, or needs other disks."""

    def __init__(self, directory: Path, console: Console, store: str) -> None:
        self._directory, self._console, self._store = directory, console, store
        self._began = time.monotonic()
        self._lab = Lab(lambda words: self._say(f"  {words}"))
        self._cluster = Cluster(self._lab)
        self._usable = False
        self._data_mb = 0  # what the databases of this lab were filled with
        self.results = Results(directory)
        if others := {result.store for result in self.results.done} - {store}:
            raise LabError(f"{directory} has results of --store {' and '.join(others)}: use another --out")

    def run(self, rows: list[Row], trials: int | None) -> None:
        """Do what is not done yet."""
        for row in rows:
            for number in range(1, (trials or row.trials) + 1):
                if not self.results.has(row, number):
                    self._one(row, number)
        self._say("done")

    def end(self) -> None:
        """Take the lab down."""
        self._lab.down()

    def _one(self, row: Row, number: int) -> None:
        self._prepare(row)
        result = Run(self._lab, row, number, self._directory).run()
        if result.broken:
            self._usable = False
            result.problems.append("the lab was built anew afterwards")
        elif result.good:
            empty_mailboxes(self._lab)
        self.results.add(result)
        self._say(_summary(row, result))

    def _prepare(self, row: Row) -> None:
        """Have a lab that is well, with disks where the row needs them."""
        if self._usable and self._lab.has_disks == row.disks and self._data_mb == row.data_mb:
            try:
                self._cluster.wait_until_settled(SETTLED_S)
            except LabError as error:
                self._say(f"  building anew: {error}")
            else:
                return
        self._usable = False
        configure = configured_with_disks if row.disks else configured
        self._lab.up(disks=row.disks, configure=configure, store=self._store)
        self._cluster = Cluster(self._lab)
        self._cluster.wait_until_settled(SETTLED_S)
        self._fill(row.data_mb)
        self._usable = True

    def _fill(self, data_mb: int) -> None:
        """Give the databases something to hold: rows of a megabyte that cannot be compressed."""
        self._data_mb = data_mb
        if not data_mb:
            return
        row = "INSERT INTO app.ballast (data) VALUES (REPEAT(RANDOM_BYTES(1024), 1024))"
        statements = ["CREATE TABLE app.ballast (id INT AUTO_INCREMENT PRIMARY KEY, data LONGBLOB)", *[row] * data_mb]
        self._lab.sql(self._cluster.primary(), "; ".join(statements), timeout_s=120)
        self._cluster.wait_until_settled(SETTLED_S)
        self._say(f"  the databases hold {data_mb} MB")

    def _say(self, words: str) -> None:
        passed = time.monotonic() - self._began
        line = f"{passed // 60:3.0f}:{passed % 60:04.1f}  {words}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def configured(text: str) -> str:
    """The shipped configuration, but for the budget: a hundred failovers an hour is what this program is for."""
    return _with(text, "failovers: 3,", "failovers: 100,")


def configured_with_disks(text: str) -> str:
    """Let failoverd watch the database's own disk, too."""
    return _with(configured(text), "disks: [/, /srv/mail]", "disks: [/, /var/lib/mysql, /srv/mail]")


def _with(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise LabError(f"the shipped configuration does not say {old!r} once")
    return text.replace(old, new)


def _summary(row: Row, result: Result) -> str:
    outages = " ".join(f"{protocol} {ms / 1000:.2f}" for protocol, ms in result.outage_ms.items())
    two = max(result.two_vip_ms, result.two_writable_ms, result.two_reachable_ms)
    words = (
        f"{'good' if result.good else 'BAD '} {row.name} {result.number}: {outages} s, two {two / 1000:.2f} s, "
        f"lost {result.lost if result.lost >= 0 else '?'}, {result.term_changes} changes of term, "
        f"{result.victim} -> {result.primary or '?'}, {result.took_s:.0f} s"
        + (f", etcd without a leader for {result.election_s:.2f} s" if result.election_s >= 0 else "")
        + (f", rebuilt in {result.rebuild_s:.1f} s" if result.rebuild_s >= 0 else "")
    )
    return words + "".join(f"\n             - {problem}" for problem in result.problems)


def main() -> int:
    """Run it and print the table."""
    arguments = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 200)
    if arguments.list:
        for row in arguments.rows:
            print(f"{row.name:28} {row.trials} trials  {expected(row):44} {row.words}")
        return 0
    if os.geteuid() != 0:
        console.print("matrix: the lab needs root", style="red")
        return 1
    directory = arguments.out or Path(tempfile.mkdtemp(prefix="failoverd-matrix-"))
    directory.mkdir(parents=True, exist_ok=True)
    console.print(f"matrix: {len(arguments.rows)} rows; the results go to {directory}", highlight=False)
    # What else this machine has to do must not look like a fault: hosts and client inherit this.
    with contextlib.suppress(OSError):
        os.nice(NICE)
    try:
        matrix = Matrix(directory, console, arguments.store)
    except LabError as error:
        console.print(f"matrix: {error}", style="red", markup=False, highlight=False)
        return 2
    try:
        with sole_use("matrix", console.print):
            matrix.run(arguments.rows, arguments.trials)
            if not arguments.keep:
                matrix.end()
    except LabError as error:
        console.print(f"matrix: {error}", style="red", markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print(f"matrix: interrupted; go on with --out {directory}")
        return 130
    finally:
        table = matrix.results.write()
    console.print(Markdown(table) if sys.stdout.isatty() else table, markup=False, highlight=False, soft_wrap=True)
    names = {row.name for row in arguments.rows}
    return 0 if all(result.good for result in matrix.results.done if result.row in names) else 1


if __name__ == "__main__":
    sys.exit(main())
