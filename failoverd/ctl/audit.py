"""`failoverctl audit`: the record of this node, as it is.

failoverctl audit show --term 7 --code BLK_LAG        newest last; -f goes on as records come
failoverctl audit verify                              whether it is whole, and where not
failoverctl audit export --format cef --since 24h     for others
"""

from __future__ import annotations

import io
import json
import re
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from failoverd.audit import reading
from failoverd.ctl import options, printed, source
from failoverd.ctl.exits import EPILOG, Exit, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from failoverd.audit.reading import Record
    from failoverd.ctl.place import Place

FOLLOW_S = 0.5
AGO = re.compile(r"(\d{1,6})(s|m|h|d)", re.ASCII)
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

C = TypeVar("C", bound="Callable[..., Any]")


def _moment(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    """`30m`, `24h`, `7d`: so long ago; or a date or time, local where it names no zone."""
    if value is None:
        return None
    ago = AGO.fullmatch(value)
    try:
        if ago is not None:
            return datetime.now(UTC) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
        return datetime.fromisoformat(value).astimezone()
    except (ValueError, OverflowError):  # the latter beyond the years that there are
        raise click.BadParameter(f"{value!r} is neither 30m, 24h, 7d nor a time like 2026-03-01T12:00:00Z") from None


def _filters(command: C) -> C:
    for option in (
        click.option("--request", default="", metavar="ID", help="Only what is about this request."),
        click.option("--rule", default="", metavar="RULE", help="Only under this rule."),
        click.option("--code", default="", metavar="CODE", help="Only with this code."),
        click.option("--kind", default="", metavar="KIND", help="Only of this kind: decision, step, blocked, term, …"),
        click.option("--actor", default="", metavar="NAME", help="Only what NAME asked for; failoverd: what it did."),
        click.option("--node", default="", metavar="NODE", help="Only of this node."),
        click.option("--term", type=click.IntRange(0), help="Only of this term."),
        click.option("--since", callback=_moment, metavar="WHEN", help="Not before: 30m, 24h, 7d, or a time."),
        click.option("--until", callback=_moment, metavar="WHEN", help="Not after: 30m, 24h, 7d, or a time."),
    ):
        command = option(command)
    return command


@click.group(no_args_is_help=True)
def audit() -> None:
    """Read, verify or export the record of this node's decisions and what came of them."""


@audit.command(epilog=EPILOG)
@_filters
@click.option("-n", "--number", type=click.IntRange(1), default=50, show_default=True, help="How many, the newest.")
@click.option("-f", "--follow", is_flag=True, help="Go on, as records come; end with Ctrl-C.")
@source.audit
@options.socket
@options.output
def show(*, directory: Path, socket: Place, output: str, number: int, follow: bool, **filters: Any) -> Exit:  # noqa: ANN401 - Wanted's fields
    """Show the newest records, the newest last."""
    wanted = reading.Wanted(**filters)
    kept, newest = source.newest(directory, socket, wanted, number)
    try:
        _print(kept, output)
        while follow:
            time.sleep(FOLLOW_S)
            for record in source.records(directory, socket, after=newest):
                newest = _number(record, newest)
                if wanted.has(record):
                    _print([record], output)
    except KeyboardInterrupt:
        return Exit.DONE
    return Exit.DONE


def _number(record: Record, newest: int) -> int:
    number = record.get("seq")
    return number if isinstance(number, int) and number > newest else newest


def _print(records: Any, output: str) -> None:  # noqa: ANN401 - any iterable of records
    for record in records:
        if output == "table":
            printed.line(_line(record))
        elif output == "json":
            click.echo(json.dumps(record, ensure_ascii=False, separators=(",", ":")))
        else:
            printed.document(record, output)


def _line(record: Record) -> str:
    when = printed.local(str(record.get("time")), precise=True)
    said = (record.get("kind") or record.get("event"), record.get("code"), record.get("text"))
    rest = " ".join(str(part) for part in said if part)
    has_input = "  (explain)" if isinstance(record.get("input"), dict) else ""
    return f"{record.get('seq')!s:>7}  {when}  {record.get('node')}  [{record.get('term')}]  {rest}{has_input}"


@audit.command(epilog=EPILOG)
@source.audit
@options.here
@options.socket_here
@options.output
def verify(*, directory: Path, socket: Path, output: str) -> Exit:
    """Say whether this node's audit is whole. Ends with 1 at what is not, and names the first place: file, line, byte.

    It is compared with the copies on the other nodes and with what the store holds of each term, through the daemon:
    the same, cut off, or another record, and from which number on. So are the copies here with what their nodes have.
    Who could not be asked is named; without a daemon only what is on this node is looked at.

    Notes are odd and may have an honest cause: a clock that was set, an input of another version.
    """
    from failoverd.audit import verify as looking  # noqa: PLC0415 - it imports pydantic, which is slow
    from failoverd.ctl import across  # noqa: PLC0415 - likewise

    asked, verified = across.ask(socket), looking.Verified()
    try:
        found = looking.verify(directory, verified, known_heads=asked.known_heads())
        others = list(across.compared(asked, directory, verified))
    except OSError as error:
        raise UnreachableError(f"{directory}: {error.strerror or error}") from None
    broken = [each for each in found if each.broken]
    differ = [each for each in others if each.broken]
    if output != "table":
        said = [
            {
                "file": f.place.file,
                "line": f.place.line,
                "byte": f.place.byte,
                "seq": f.seq or None,
                "what": f.what,
                "broken": f.broken,
            }
            for f in found
        ]
        whole = {"records": verified.records, "inputs": verified.inputs, "first": verified.first, "last": verified.last}
        elsewhere = [{"what": each.what, "broken": each.broken} for each in others]
        printed.document({"whole": not (broken or differ), **whole, "found": said, "others": elsewhere}, output)
        return Exit.FAILED if broken or differ else Exit.DONE
    for each in found:
        record = f", record {each.seq}" if each.seq else ""
        printed.line(f"{'BROKEN' if each.broken else 'note  '}  {each.place}{record}: {each.what}")
    for other in others:
        printed.line(f"{'BROKEN' if other.broken else 'note  '}  {other.what}")
    span = f", {verified.first} to {verified.last}" if verified.records else ""
    click.echo(f"{verified.records} records{span}, {verified.inputs} with their input")
    if broken:
        click.echo(f"NOT whole: {len(broken)} places, the first is {broken[0].place}")
        return Exit.FAILED
    if differ:
        click.echo(f"whole in itself, and NOT what others know: {len(differ)} differences")
        return Exit.FAILED
    click.echo("whole: every line is a record and holds the hash of the one before, every input is as it was written")
    return Exit.DONE


@audit.command(epilog=EPILOG)
@_filters
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "json", "cef"]),
    required=True,
    help="RFC 4180, JSON lines, or the Common Event Format of SIEMs.",
)
@source.audit
@options.socket
def export(*, directory: Path, socket: Place, form: str, **filters: Any) -> Exit:  # noqa: ANN401 - Wanted's fields
    """Write the records to standard output, oldest first, as they are read.

    json has all that a record has. csv has a row a record: seq, time, node, term, kind, rule, code, text, detail,
    input_digest, actor, result, prev (the hash of the record before); later versions add columns at the end only. cef
    has a line a record: rt, dvchost (node), externalId (seq), suser (actor), outcome (result), msg, then term, rule,
    code, input digest and prev as labelled custom fields.
    """
    from failoverd.audit import cef, table  # noqa: PLC0415 - only needed here

    wanted = reading.Wanted(**filters)
    records = (record for record in source.records(directory, socket, since=wanted.since) if wanted.has(record))
    out = io.TextIOWrapper(sys.stdout.buffer, "utf-8", newline="")  # whatever the locale says
    if form == "csv":
        table.write(records, out)
    elif form == "cef":
        cef.write(records, out)
    else:
        out.writelines(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n" for record in records)
    out.detach().flush()
    return Exit.DONE
