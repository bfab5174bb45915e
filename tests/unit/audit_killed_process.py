"""An audit that is written, rotated, packed and expired by a process that is killed before its n-th change of a file.

python audit_killed_process.py PLACE: for n = 1, 2, … until one comes to its end, PLACE/n is what the n-th has left. A
line a process: `{"directory": n, "at": what it was about to do, "seq": …, "hash": …}`, the newest answered record.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from itertools import count
from pathlib import Path

from audit_files import Stage

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.rename", "os.link", "os.remove", "os.truncate", "os.chmod", "open"}


def work(stage: Stage, told: int) -> None:
    """Some days, so that files are closed, packed and removed."""
    for _ in range(6):
        stage.day()
        os.write(told, json.dumps(stage.audit.head).encode() + b"\n")


def run(directory: Path, number: int, told: int) -> None:
    """Work, and be killed before change `number`."""
    left = number

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event not in CHANGES or (event == "open" and not int(str(arguments[2])) & WRITES):
            return
        left -= 1
        if left == 0:
            os.write(told, json.dumps(event).encode() + b"\n")
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    work(Stage(directory, retention_days=2), told)


def main(place: Path) -> None:
    """One process after the other."""
    for number in count(1):
        reading, told = os.pipe()
        process = os.fork()
        if process == 0:
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what it logs is no answer
            run(place / str(number), number, told)
            os._exit(0)
        os.close(told)
        with os.fdopen(reading) as file:
            said = [json.loads(line) for line in file]
        os.waitpid(process, 0)
        heads = [one for one in said if isinstance(one, list)]
        if not said or isinstance(said[-1], list):
            return  # not killed: there is no such change
        if heads:
            seq, hash_ = heads[-1]
            print(json.dumps({"directory": str(number), "at": said[-1], "seq": seq, "hash": hash_}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
