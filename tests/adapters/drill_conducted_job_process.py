"""A job of an agent in a drill that is conducted for real: it answers as failoverd's own job does, or as a test wants.

PLACE/jobs.json has what a test wants, by kind or by kind and node: "hang", or what to say as the last line.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

_, COMMAND, PLACE, NODE, KIND = sys.argv
GTID = "0-1-512"
COUNTED_MS = 4_102_444_800_000  # CLOCK_REALTIME of 2100: all of it is before


def say(what: str, value: object) -> None:
    """One line."""
    sys.stdout.write(json.dumps({what: value}) + "\n")
    sys.stdout.flush()


def wanted() -> Any:
    """What a test wants of this job; None: nothing but what is right."""
    path = Path(PLACE) / "jobs.json"
    all_ = json.loads(path.read_text()) if path.exists() else {}
    return all_.get(f"{KIND} {NODE}", all_.get(KIND))


def tables() -> dict[str, object]:
    """Obey as tables.py does."""
    for line in sys.stdin:
        order = json.loads(line)
        if "hold" in order:
            say("progress", {"held": True})
        elif "open" in order:
            say("progress", {"opened": GTID})
        elif "sum" in order:
            break
    rows = [{"name": "mail.users", "rows": 3, "digest": "aa"}, {"name": "mail.aliases", "rows": 2, "digest": "bb"}]
    return {"node": NODE, "gtid": GTID, "tables": rows, "took_s": 0.1}


def done(asked: dict[str, Any]) -> dict[str, object]:
    """Return what the job comes to."""
    match KIND:
        case "backup":
            return {
                "node": NODE,
                "kind": asked["kind"],
                "directory": f"/var/backups/failoverd/{asked['drill']}",
                "bytes": 1_000_000,
                "sha256": "ab" * 32,
                "gtid": GTID,
                "server": "10.11.19-MariaDB",
                "tables": 2,
                "made_s": 0.1,
                "prepared_s": 0.1,
                "started_s": 0.1,
            }
        case "tables":
            return tables()
        case "mailboxes":
            found = {"<1@x>": 1, "<2@x>": 1}
            box = {"account": "a@x", "mailbox": "INBOX", "messages": 2, "content": "cc", "flags": "dd"}
            return {"node": NODE, "mailboxes": [box], "found": found, "took_s": 0.1}
        case "counters":
            news = NODE == "mail1" and asked["since_ms"] < COUNTED_MS  # what was counted is not counted again
            submitted = ["<1@x>"] if news else []
            return {"node": NODE, "logins": 2 if news else 0, "submitted": submitted, "until_ms": COUNTED_MS}
        case "audit":
            return {"node": NODE, "records": [{"time": f"2026-11-29T02:00:0{len(NODE)}.000Z", "node": NODE}]}
        case "clean":
            return {}
    raise SystemExit(f"{KIND}: not known here")


def main() -> None:
    """Do it, and write down that it was asked for."""
    asked = json.loads(sys.stdin.readline())
    with (Path(PLACE) / "jobs").open("a") as file:
        file.write(f"{KIND} {NODE}\n")
    want = wanted()
    if want == "hang":
        time.sleep(1000)
    right = done(asked)  # first: what is told wrong has come about like what is told right
    if want is None:
        say("done", right)
    else:
        sys.stdout.write(json.dumps(want) + "\n")


if __name__ == "__main__":
    assert COMMAND == "drill-job"
    main()
