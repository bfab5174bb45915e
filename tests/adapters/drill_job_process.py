"""A job of an agent that does what a test wants: `{"do": NAME}` is its first line. It is started as failoverd is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time


def say(what: str, value: object) -> None:
    """One line."""
    sys.stdout.write(json.dumps({what: value}) + "\n")
    sys.stdout.flush()


def started(*, alone: bool) -> int:
    """Start a child that has our stdout; in a session of its own, where it shall be `alone`."""
    return subprocess.Popen(["/bin/sleep", "1000"], start_new_session=alone).pid


def main() -> None:  # noqa: C901, PLR0912 - a row of small cases
    """Do it."""
    _, command, kind = sys.argv
    assert command == "drill-job"
    match json.loads(sys.stdin.readline())["do"]:
        case "echo":
            for line in sys.stdin:
                heard = json.loads(line)
                if "end" in heard:
                    break
                say("progress", heard)
            say("done", {"kind": kind, "environment": sorted(os.environ)})
        case "fail":
            say("failed", {"code": "DRILL_SPACE", "reason": "there is no room"})
            sys.exit(1)
        case "end without a word":
            sys.exit(3)
        case "crash":
            say("progress", {"child": started(alone=False)})
            os.kill(os.getpid(), signal.SIGKILL)
        case "leave a child":
            say("progress", {"child": started(alone=False)})
            say("done", {})
        case "obey":
            say("progress", {"child": started(alone=False)})
            time.sleep(1000)
        case "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            say("progress", {"children": [os.getpid(), started(alone=False), started(alone=True)]})
            time.sleep(1000)
        case "flood":
            while True:
                say("progress", {"text": "x" * 999_000})
        case "never end a line":
            while True:
                sys.stdout.write("x" * 999_000)


if __name__ == "__main__":
    main()
