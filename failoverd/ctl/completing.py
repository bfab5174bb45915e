"""Names that the shell completes: the cluster's nodes and its drills, as the daemon knows them, if it says so at once.

Who presses Tab waits for it: a daemon that does not answer within a third of a second is not waited for, and nothing
is offered then.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from failoverd.ctl.client import Client
from failoverd.ctl.exits import UnreachableError

if TYPE_CHECKING:
    import click

ANSWER_S = 0.3
SOCKET = Path("/run/failoverd/control.sock")


def nodes(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The data nodes whose names begin with what is there: no command is about the arbiter."""
    try:
        code, body = Client(context.params.get("socket") or SOCKET, ANSWER_S).get("/v1/status")
        status = json.loads(body) if code == 200 else {}
        known = [node["name"] for node in status.get("nodes", ()) if node["kind"] == "data"]
    except (UnreachableError, ValueError, KeyError):  # another version's words are no reason to fill the screen
        return []
    return [name for name in known if name.startswith(incomplete)]


def drills(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The drills that this node knows, newest first."""
    try:
        code, body = Client(context.params.get("socket") or SOCKET, ANSWER_S).get("/v1/drills")
        known = [state["asked"]["id"] for state in json.loads(body)["drills"]] if code == 200 else []
    except (UnreachableError, ValueError, KeyError, TypeError):  # as above
        return []
    return [name for name in known if name.startswith(incomplete)]
