"""`failoverctl drill`: a failover that is practised, with its evidence.

failoverctl drill run SCENARIO      begin one here, and look on; it goes on when this terminal closes
failoverctl drill list              the scenarios, and the drills that this node knows
failoverctl drill status            the one under way, or the newest: phase by phase
failoverctl drill abort             take everything back now
failoverctl drill report ID         what came of one, in ten lines; --html is the page
failoverctl drill compare ID ID     what differs between two

Exit codes of run: 0 passed, 1 failed or aborted and all is taken back, 3 refused and nothing touched, 5 it goes on.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from failoverd.ctl import completing, options, printed, when
from failoverd.ctl.client import Client
from failoverd.ctl.exits import EPILOG, Exit, UnreachableError
from failoverd.drill_files import DIRECTORY, PAGE, REPORT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from failoverd.ctl.place import Place
    from failoverd.drill.model import Report

LOOK_S = 1.0
BEGINS_S = 60.0  # failoverd-drill.service is started at once; a node under load takes its time to start a process
STATE = Path("/var/lib/failoverd")
NAMES = (
    "switchover",
    "primary-crash",
    "service-death",
    "service-hang",
    "disk-failure",
    "network-isolation",
    "replication-break",
    "database-crash",
    "arbiter-loss",
)
_state = click.option("--state", type=click.Path(path_type=Path), default=STATE, hidden=True)


def _window(_: click.Context, __: click.Parameter, text: str) -> str:
    if text:
        from failoverd.config.drill import window  # noqa: PLC0415 - slow to import and only needed here

        try:
            window(text)
        except ValueError:
            raise click.BadParameter(f"{text!r} is no window of a day: HH:MM-HH:MM, or always") from None
    return text


@click.group(no_args_is_help=True)
def drill() -> None:
    """Practise a failover on this cluster, without harm, and keep the evidence."""


@drill.command(epilog=EPILOG)
@click.argument("scenario", type=click.Choice(NAMES), metavar="SCENARIO")
@click.option(
    "--load", "users", type=click.IntRange(0, 5000), metavar="USERS", help="So many simulated users; 0: none."
)
@click.option(
    "--duration", "for_ms", type=when.DURATION, metavar="DURATION", help="How long the new primary is loaded."
)
@click.option(
    "--backup", type=click.Choice(["full", "incremental", "none"]), help="What is backed up and tried before."
)
@click.option(
    "--window",
    default="",
    metavar="HH:MM-HH:MM",
    callback=_window,
    help="When it may begin, instead of the configuration's; `always`: at any time.",
)
@click.option(
    "--target", default="", metavar="NODE", shell_complete=options.nodes, help="Which replica replication-break hits."
)
@click.option("-r", "--reason", default="", metavar="TEXT", help="Why, for the record.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and whether it may begin; nothing is touched.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--config", "file", type=click.Path(path_type=Path), default="/etc/failoverd/failoverd.yaml", hidden=True)
@_state
@options.socket
def run(
    *,
    scenario: str,
    users: int | None,
    for_ms: int | None,
    backup: str | None,
    window: str,
    target: str,
    reason: str,
    dry_run: bool,
    yes: bool,
    file: Path,
    socket: Place,
    state: Path,
) -> Exit:
    """Begin SCENARIO on this node, which its fault must not touch. `failoverctl drill list` tells the scenarios."""
    asked: dict[str, str | bool | int] = {"scenario": scenario, "window": window}
    asked |= {"target": target, "reason": reason}
    asked |= {name: value for name, value in (("users", users), ("backup", backup)) if value is not None}
    if for_ms is not None:
        asked["duration_s"] = max(1, for_ms // 1000)
    if dry_run:
        from failoverd.ctl.drill_plan import shown  # noqa: PLC0415 - it loads the configuration and all scenarios

        if not isinstance(socket, Path):
            raise click.UsageError("--dry-run asks every node's agent by a node's certificate: run it on the node")
        return shown(asked, file, socket)
    if not yes and not _agreed(scenario):
        click.echo("nothing was done", err=True)
        return Exit.USAGE
    client = Client(socket)
    code, body = client.post("/v1/drill", asked)
    if code == 409:
        click.echo("refused, nothing was touched: no drill can begin now", err=True)
        for why in json.loads(body)["reasons"]:
            click.echo(f"  {why['code']}  {why['reason']}", err=True)
        return Exit.REFUSED
    if code != 202:
        click.echo(f"failoverctl: {code} {body.decode(errors='replace')}", err=True)
        return Exit.USAGE if code == 400 else Exit.FAILED
    name = str(json.loads(body)["id"])
    return _look_on(client, name, state / DIRECTORY / name if isinstance(socket, Path) else None)


def _agreed(scenario: str) -> bool:
    text = f"This breaks something of the production cluster on purpose ({scenario}), and takes it back. Begin?"
    return sys.stdin.isatty() and click.confirm(text, err=True)


def _look_on(client: Client, name: str, place: Path | None) -> Exit:
    """Say what happens, as it happens, until it has ended."""
    click.echo(f"drill {name} begins; it goes on when this terminal closes")
    told: set[tuple[int, str]] = set()
    heard, until = False, time.monotonic() + BEGINS_S
    try:
        while True:
            state = _state_of(client, name)
            heard = heard or state is not None
            if not heard and time.monotonic() > until:
                click.echo("nothing was heard of it: journalctl -u failoverd-drill says why", err=True)
                return Exit.UNCLEAR
            news = [one for one in (_happened(state) if state else []) if one not in told]
            for at_ms, text in news:
                click.echo(f"{at_ms / 1000:10.1f} s  {text}".rstrip())
            told.update(news)
            if state is not None and state["outcome"] != "under-way" and (state["clean"] or _over(state)):
                return _ended(state, place)
            time.sleep(LOOK_S)
    except KeyboardInterrupt:
        click.echo(f"\nit goes on: failoverctl drill status; failoverctl drill abort ends {name}", err=True)
        return Exit.UNCLEAR


def _happened(state: dict[str, Any]) -> list[tuple[int, str]]:
    """Each phase's begin, how it ended where it did not pass, and each note, as they came."""
    found = []
    for phase in state["phases"]:
        found.append((phase["began_ms"], phase["name"]))
        if phase["ended_ms"] is not None and phase["outcome"] != "passed":
            found.append((phase["ended_ms"], f"{phase['name']} {phase['outcome']}: {phase['code']} {phase['reason']}"))
    found += [(note["at_ms"], f"  {note['text']}  {note['code']}") for note in state["notes"]]
    return sorted(found, key=lambda one: one[0])


def _over(state: dict[str, Any]) -> bool:
    """Its report phase has ended: it will not become clean by itself."""
    return any(phase["name"] == "report" and phase["ended_ms"] is not None for phase in state["phases"])


def _ended(state: dict[str, Any], place: Path | None) -> Exit:
    """`place`: where its report is, None where that is on another host."""
    outcome = state["outcome"]
    if place is None:
        click.echo(f"its report is on every node: failoverctl drill report {state['asked']['id']}")
    elif (place / REPORT).exists():
        _summed_up(place / REPORT)
    why = f": {state['code']}: {state['reason']}" if state["code"] else ""
    click.echo(f"{outcome}{why}")
    if not state["clean"]:
        click.echo("something of it may be left: runbooks/codes/DRILL_UNDO_FAILED.md", err=True)
    return {"passed": Exit.DONE, "skipped": Exit.REFUSED}.get(outcome, Exit.FAILED)


def _state_of(client: Client, name: str) -> dict[str, Any] | None:
    try:
        code, body = client.get(f"/v1/drills/{name}")
    except UnreachableError:  # the daemon may be what the drill restarts
        return None
    value = json.loads(body) if code == 200 else None
    return value if isinstance(value, dict) else None


@drill.command(name="list", epilog=EPILOG)
@options.socket
@options.output
def list_(socket: Place, output: str) -> Exit:
    """Show what can be practised, and what has been."""
    code, body = Client(socket).get("/v1/drills")
    if code != 200:
        click.echo(f"failoverctl: {code} {body.decode(errors='replace')}", err=True)
        return Exit.FAILED
    if output != "table":
        printed.document(body, output)
        return Exit.DONE
    from failoverd.drill.scenarios import SCENARIOS  # noqa: PLC0415 - slow to import and only needed here

    for scenario in SCENARIOS.values():
        click.echo(f"  {scenario.name:18} {scenario.about}; expected: {scenario.expects}")
    click.echo()
    known = json.loads(body)
    for state in known["drills"]:
        asked = state["asked"]
        click.echo(f"  {asked['id']:42} {state['outcome']:9} {state['code'] or ''}  by {asked['by']}")
    for name, why in known["unreadable"].items():
        click.echo(f"  {name:42} unreadable: {why}")
    return Exit.DONE


@drill.command(epilog=EPILOG)
@click.argument("id", default="", shell_complete=completing.drills)
@options.socket
@options.output
def status(id: str, socket: Place, output: str) -> Exit:  # noqa: A002 - click names the argument by it
    """Show the drill under way, or the newest, or ID: each phase with its time."""
    code, body = Client(socket).get(f"/v1/drills/{id}" if id else "/v1/drills")
    if code not in (200, 404):
        click.echo(f"failoverctl: {code} {body.decode(errors='replace')}", err=True)
        return Exit.FAILED
    value = json.loads(body) if code == 200 else None
    state = value if id else next(iter(value["drills"]), None) if value else None
    if state is None:
        click.echo("failoverctl: no such drill" if id else "no drill was ever begun that this node knows of", err=True)
        return Exit.FAILED
    if output != "table":
        printed.document(state, output)
        return Exit.DONE
    click.echo("\n".join(_lines(state)))
    return Exit.DONE


def _lines(state: dict[str, Any]) -> Iterator[str]:
    asked = state["asked"]
    yield f"{asked['id']}  {state['outcome']}  by {asked['by']}  began {printed.local(state['began'])}"
    if state["cast"]:
        cast = state["cast"]
        hit = cast["target"] or "nobody"
        yield f"  primary {cast['primary']}, heir {cast['heir']}, hit {hit}, from {cast['coordinator']}"
    for phase in state["phases"]:
        took = "" if phase["ended_ms"] is None else f"{(phase['ended_ms'] - phase['began_ms']) / 1000:.1f} s"
        yield f"  {phase['name']:12} {phase['outcome']:10} {took:>9}  {phase['code']} {phase['reason']}".rstrip()
    if state["outcome"] != "under-way" and not state["clean"]:
        yield "  something of it may be left: runbooks/codes/DRILL_UNDO_FAILED.md"


@drill.command(epilog=EPILOG)
@options.socket
def abort(socket: Place) -> Exit:
    """End the drill that this node conducts: the fault is taken away first, then all nodes come home."""
    code, body = Client(socket).post("/v1/drill/abort", {})
    if code == 409:
        for why in json.loads(body)["reasons"]:
            click.echo(f"{why['code']}  {why['reason']}", err=True)
        return Exit.REFUSED
    if code != 202:
        click.echo(f"failoverctl: {code} {body.decode(errors='replace')}", err=True)
        return Exit.FAILED
    click.echo(f"{json.loads(body)['id']} ends; failoverctl drill status")
    return Exit.DONE


@drill.command(epilog=EPILOG)
@click.argument("id", shell_complete=completing.drills)
@click.option("--html", is_flag=True, help="Print the page instead, for a browser.")
@options.output
@_state
@options.here
def report(id: str, output: str, state: Path, *, html: bool) -> Exit:  # noqa: A002 - as above
    """Show what came of a drill. Every node keeps it: /var/lib/failoverd/drill/ID/report.html."""
    place = state / DIRECTORY / id
    if html:
        return _printed_file(place / PAGE)
    if output == "json":
        return _printed_file(place / REPORT)
    return Exit.DONE if _summed_up(place / REPORT) else Exit.FAILED


def _summed_up(path: Path) -> bool:
    found = _report(path)
    if found is None:
        return False
    from failoverd.drill.report.summary import lines  # noqa: PLC0415 - as above

    click.echo("\n".join(lines(found)))
    return True


def _printed_file(path: Path) -> Exit:
    try:
        click.echo(path.read_text(encoding="utf-8"), nl=False)
    except OSError as error:
        click.echo(f"failoverctl: {path}: {error.strerror}", err=True)
        return Exit.FAILED
    return Exit.DONE


def _report(path: Path) -> Report | None:
    from failoverd.drill.report import kept  # noqa: PLC0415 - as above

    try:
        return kept.read(path)
    except kept.UnreadableError as error:
        click.echo(f"failoverctl: {error}", err=True)
        return None


@drill.command(epilog=EPILOG)
@click.argument("before", shell_complete=completing.drills)
@click.argument("after", shell_complete=completing.drills)
@options.output
@_state
@options.here
def compare(before: str, after: str, output: str, state: Path) -> Exit:
    """Show what differs between two drills, and whether it is better or worse."""
    first, second = (_report(state / DIRECTORY / name / REPORT) for name in (before, after))
    if first is None or second is None:
        return Exit.FAILED
    from failoverd.drill.report import compare as comparing  # noqa: PLC0415 - as above

    found = comparing.compare(first, second)
    if output == "table":
        printed.table(comparing.table(found))
    else:
        printed.document(comparing.as_json(found), output)
    return Exit.DONE
