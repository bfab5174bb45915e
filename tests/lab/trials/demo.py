"""Four hosts, a power cut, a switchover back, and what a mail client noticed of it.

Boots the lab (at the first time it builds it, which takes a few minutes), lets a client write through the virtual IP,
cuts the power of the primary, switches it on again, gives it its role back, and prints the figures.

Exit code 0 only if both changes happened, at no time two primaries could be reached, and nothing that was acknowledged
is lost; 1 if not; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from hosts import Lab, LabError, layout
from rich.console import Console

from trials import report
from trials.cluster import Cluster
from trials.sole import sole_use
from trials.trial import Trial, Trials


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--trials",
        type=_count,
        default=1,
        metavar="N",
        help="repeat power cut, return and switchover; the table then has min, median and max",
    )
    parser.add_argument("--keep", action="store_true", help="leave the lab up, and the records, to look at")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file as well")
    return parser.parse_args()


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _run(arguments: argparse.Namespace, console: Console, directory: Path) -> list[Trial]:
    began = time.monotonic()

    def say(words: str) -> None:
        console.print(words, markup=False, highlight=False, soft_wrap=True)

    def say_with_time(words: str) -> None:
        say(f"  {time.monotonic() - began:8.3f} s  {words}")

    say("[1/5] The lab: three mail servers and an arbiter, each a host with its own systemd")
    lab = Lab(say_with_time)
    lab.up()
    cluster = Cluster(lab)
    cluster.wait_until_settled()
    say("\n  $ failoverctl status")
    for line in cluster.shown_status().splitlines():
        say(f"  | {line}")
    say("\n[2/5] A client writes through the virtual IP: a new SQL insert, SMTP delivery and IMAP append every 50 ms")
    trials = Trials(lab, directory, say)
    done: list[Trial] = []
    for number in range(1, arguments.trials + 1):
        if arguments.trials > 1:
            say(f"\n======== trial {number} of {arguments.trials}")
        trial = trials.run(layout.FIRST_PRIMARY)
        done.append(trial)
        if trial.problems:
            break  # the next one would begin where this one has left the cluster
    if arguments.keep:
        say(f"\nThe lab is still up (tests/lab/lab --help); the records are in {directory}")
    else:
        lab.down()
    return done


def main() -> int:
    """Run it and print the table."""
    arguments = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 118)
    if os.geteuid() != 0:
        console.print("demo: the lab needs root", style="red")
        return 1
    directory = Path(tempfile.mkdtemp(prefix="failoverd-demo-"))
    try:
        with sole_use("demo", console.print):
            trials = _run(arguments, console, directory)
    except LabError as error:
        console.print(f"demo: {error}", style="red", markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("demo: interrupted; the lab may still be up (tests/lab/lab down)")
        return 130
    finally:
        if not arguments.keep:
            shutil.rmtree(directory)
    console.print()
    console.print(report.table(trials))
    for words in report.notes(trials):
        console.print(words, highlight=False, style="dim")
    if arguments.json is not None:
        report.write(arguments.json, trials)
    good = len(trials) == arguments.trials and all(trial.good for trial in trials)
    problems = [problem for trial in trials for problem in trial.problems]
    console.print(
        "Good: no two primaries, nothing lost."
        if good
        else "NOT good." + "".join(f"\n- {problem}" for problem in problems),
        style="bold green" if good else "bold red",
        markup=False,
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
