"""Names that the shell completes: the cluster's nodes and its drills, as the daemon knows them, if it says so at once.

Who presses Tab waits for it: a daemon that does not answer within a third of a second is not waited for, and nothing
is offered then.
"""

from __future__ import annotations

import json

import click

from failoverd.ctl import place
from failoverd.ctl.client import Client
from failoverd.ctl.exits import ForbiddenError, UnreachableError

ANSWER_S = 0.3


def _client(context: click.Context) -> Client:
    """The daemon that the command line, as far as it is typed, means. Raises click.UsageError."""
    given = {name: context.params.get(name) for name in place.NEEDED}
    return Client(place.chosen(context.params.get("socket"), context.params.get("host"), given), ANSWER_S, ANSWER_S)


def nodes(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The data nodes whose names begin with what is there: no command is about the arbiter."""
    try:
        code, body = _client(context).get("/v1/status")
        status = json.loads(body) if code == 200 else {}
        known = [node["name"] for node in status.get("nodes", ()) if node["kind"] == "data"]
    except (
        UnreachableError,
        ForbiddenError,
        click.UsageError,
        ValueError,
        KeyError,
    ):  # another version's words are no reason to fill the screen
        return []
    return [name for name in known if name.startswith(incomplete)]


def drills(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The drills that this node knows, newest first."""
    try:
        code, body = _client(context).get("/v1/drills")
        known = [state["asked"]["id"] for state in json.loads(body)["drills"]] if code == 200 else []
    except (UnreachableError, ForbiddenError, click.UsageError, ValueError, KeyError, TypeError):  # as above
        return []
    return [name for name in known if name.startswith(incomplete)]
