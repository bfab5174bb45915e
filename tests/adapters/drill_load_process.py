#!/usr/bin/python3 -SE
"""The drill's load as its coordinator sees it: told a plan and orders, saying what a test wants. No mail is sent.

It lies in PLACE/bin. PLACE/load.json: {"sessions": N, "failed": N, "do": "end" | "silence" | "garbage" | "stay"}, read
anew each time, so that a test can change it. PLACE/orders has what it was told.
"""

import json
import os
import select
import sys
import time
from pathlib import Path
from typing import Any

PLACE = Path(__file__).parent.parent
EVERY_S = 0.05  # it tells a second of load that often
DONE = {
    "logins": 2, "submitted": 1, "appended": 1, "gaps": [], "late_p50_ms": 0.1, "late_p99_ms": 1.0, "late_max_ms": 2.0,
    "cpu_s": 0.1, "rss_max_bytes": 10_000_000, "most_sessions": 2,
}  # fmt: skip


def say(what: str, value: object) -> None:
    """One line."""
    sys.stdout.write(json.dumps({what: value}) + "\n")
    sys.stdout.flush()


def second(stage: str, users: int, want: dict[str, int]) -> dict[str, object]:
    """One second of load."""
    tally = {"ok": 20, "failed": want.get("failed", 0), "latency": {"10.0": 20}, "beats_ok": 10}
    now = {"at_ms": time.time_ns() // 1_000_000, "stage": stage, "sessions": users, "users": users}
    return {**now, "imap": tally, "smtp": tally}


def acknowledge(directory: str) -> None:
    """Two messages for which a server has taken responsibility."""
    with (Path(directory) / "ledger.jsonl").open("w") as file:
        for number, how in (("1", "submit"), ("2", "append")):
            line = {"message_id": f"<{number}@x>", "account": "a@x", "mailbox": "INBOX", "how": how, "at_ms": 1}
            file.write(json.dumps({**line, "size": 100}) + "\n")


def main() -> None:
    """Until it is told to stop."""
    plan = json.loads(sys.stdin.buffer.readline())["plan"]
    (PLACE / "load.pid").write_text(str(os.getpid()))
    acknowledge(plan["directory"])
    stage, users, waiting = "baseline", plan["users"], b""
    want: dict[str, Any] = {}
    while True:
        readable, _, _ = select.select([0], [], [], EVERY_S)
        if readable:
            read = os.read(0, 1 << 16)
            if not read:
                return
            *lines, waiting = (waiting + read).split(b"\n")
            for order in map(json.loads, lines):
                with (PLACE / "orders").open("a") as file:
                    file.write(json.dumps(order) + "\n")
                stage, users = order.get("stage", stage), order.get("users", users)
                if "stop" in order and want.get("do") != "stay":
                    say("done", DONE)
                    return
        want = json.loads((PLACE / "load.json").read_text())
        match want.get("do"):
            case "end":
                sys.exit(7)
            case "silence":
                continue
            case "garbage":
                sys.stdout.write("Segmentation fault\n")
                sys.stdout.flush()
                continue
        say("now", {"sessions": min(users, want.get("sessions", users)), "users": users, "overdue": 0})
        say("second", second(stage, users, want))


if __name__ == "__main__":
    main()
