"""What the manual pages say: the commands and options as the programs have them, and what no program can tell."""

from __future__ import annotations

import argparse
import re
from importlib import resources
from typing import TYPE_CHECKING

import click

from failoverd.ctl.exits import EPILOG
from failoverd.ctl.roff import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

FILES = {
    "/etc/failoverd/failoverd.yaml": "The configuration, the same on every node. See failoverd.yaml(5).",
    "/etc/failoverd/tls, /etc/failoverd/secrets": "What the node shows to others, and passwords, a file each; made by "
    "failoverctl init and join.",
    "/etc/failoverd/ca": "On the host of failoverctl init alone: the cluster's CA, and copies of what it has signed.",
    "/run/failoverd/control.sock": "The daemon's control socket, for root and whom access of the configuration names.",
    "~/.config/failoverd/failoverctl.toml": "host, certificate, key and ca: another default of the options so called.",
    "/run/failoverd/lease": "The lease as last renewed, for a daemon that is started again before it is over.",
    "/var/lib/failoverd/term": "The newest term that this node has seen. Not to be removed without need.",
    "/var/lib/failoverd/audit/audit.jsonl": "The record of every decision and effect, one JSON object a line, each "
    "with the hash of the one before. Beside it: audit-NUMBER.jsonl.gz, the closed files, by their first record.",
    "/var/lib/failoverd/audit/copies": "Copies of the other nodes' records, a directory a node and version.",
    "/var/lib/failoverd/drill/ID": "A drill: its state, and once it has ended report.json and report.html.",
    "/var/lib/failoverd/ahead": "What a node had and the primary lacked, saved as SQL before a rebuild.",
}
ENVIRONMENT = {
    "NO_COLOR": "Set to anything: no colours.",
}
SIGNALS = {
    "SIGTERM": "Ends the daemon and touches nothing. Started again within its lease it goes on as primary; otherwise "
    "the kernel withdraws the service at the lease's end.",
    "SIGHUP": "Reads the configuration again, as systemctl reload does, which also says whether it was taken.",
}
DAEMON_EXITS = {
    "0": "stopped, or done",
    "1": "could not start, or failed",
    "2": "usage: the command line was not understood",
    "3": "a rebuild or a drill was refused and nothing was touched",
    "4": "something of a drill may be left: see runbooks/codes/DRILL_UNDO_FAILED.md",
    "78": "wrong configuration; systemd does not start it again",
}
COMMON = 3  # commands that share an option: from here on it is described once


# ---- failoverctl(8) ---------------------------------------------------------------------------------------------


def failoverctl(group: click.Group) -> str:
    """The operator's tool."""
    context = click.Context(group, info_name="failoverctl")
    commands = [(path, command) for path, command in _commands(group, context, "failoverctl") if path != "failoverctl"]
    described = [_described(option) for _, command in commands for option in _options(command)]
    common = {each: None for each in described if described.count(each) >= COMMON}
    page = Page("failoverctl", 8, "see and steer the mail cluster that failoverd keeps")
    page.section("SYNOPSIS")
    page.text("failoverctl COMMAND [OPTIONS] [ARGUMENTS]")
    page.section("DESCRIPTION")
    page.text(
        "Shows the cluster as the daemon of this node sees it, and asks it for changes. A request that was accepted "
        "goes on when the terminal closes; failoverctl history tells how it ended.\n\nTables are for people and plain "
        "in a pipe; programs take json or yaml of --output."
    )
    page.section("COMMANDS")
    for path, command in commands:
        _command(page, path, command, common)
    page.section("COMMON OPTIONS")
    page.text("Of the commands above that name them.")
    for name, words in common:
        page.entry(name, words)
    page.entry("-h, --help", "Show the help of any command.")
    page.section("EXIT STATUS")
    for number, words in re.findall(r"^  (\d)  (.+)$", EPILOG, re.MULTILINE):
        page.entry(number, words)
    page.section("ENVIRONMENT")
    for name, words in _environment(commands, ENVIRONMENT).items():
        page.entry(name, words)
    _files(page)
    page.section("EXAMPLES")
    page.verbatim(
        "failoverctl status\n"
        "failoverctl promote --node mail2 --reason 'kernel update' --dry-run\n"
        "failoverctl explain why-not mail3\n"
        "failoverctl man failoverd.yaml | man -l -"
    )
    page.section("SEE ALSO")
    page.text("failoverd(8), failoverd.yaml(5), systemctl(1), nft(8)")
    return str(page)


def _commands(command: click.Command, context: click.Context, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield from _commands(found, click.Context(found, context, name), f"{path} {name}")


def _command(page: Page, path: str, command: click.Command, common: Mapping[tuple[str, str], None]) -> None:
    context = click.Context(command)
    arguments = [p.make_metavar(context) for p in command.params if isinstance(p, click.Argument)]
    if isinstance(command, click.Group):
        arguments.append("[COMMAND]" if command.invoke_without_command else "COMMAND")
    page.subsection(" ".join([path, *arguments]))
    page.text(re.sub(r"[\b\f]", "", command.help or ""))
    shared = []
    for option in _options(command):
        described = _described(option)
        if described in common:
            shared.append(max(option.opts, key=len))
        else:
            page.entry(*described)
    if shared:
        page.text(f"Also {', '.join(shared)}: see COMMON OPTIONS.")


def _options(command: click.Command) -> list[click.Option]:
    return [option for option in command.params if isinstance(option, click.Option) and not option.hidden]


def _described(option: click.Option) -> tuple[str, str]:
    record = option.get_help_record(click.Context(click.Command("failoverctl")))
    return record or (", ".join(option.opts), "")


def _environment(commands: list[tuple[str, click.Command]], others: Mapping[str, str]) -> Mapping[str, str]:
    given = {
        str(option.envvar): f"Another default of {max(option.opts, key=len)}."
        for _, command in commands
        for option in _options(command)
        if option.envvar
    }
    return {**given, **others}


def _files(page: Page) -> None:
    page.section("FILES")
    for name, words in FILES.items():
        page.entry(name, words)


# ---- failoverd(8) -----------------------------------------------------------------------------------------------


def failoverd(parser: argparse.ArgumentParser) -> str:
    """The daemon, and the programs beside it."""
    page = Page("failoverd", 8, "keep one primary for a company's mail")
    page.section("SYNOPSIS")
    page.text("failoverd COMMAND [OPTIONS]")
    page.section("DESCRIPTION")
    page.text(
        "The failover controller of a cluster of Postfix, Dovecot and MariaDB: three data nodes, one arbiter, one "
        "virtual IP. systemd starts it; failoverctl(8) is for people."
    )
    page.section("COMMANDS")
    common: dict[str, argparse.Action] = {}
    for name, command in _subcommands(parser).items():
        page.subsection(f"failoverd {name}")
        page.text(command.description or "")
        for action in _actions(command):
            if action.dest in {"config", "node"}:
                common[action.dest] = action
            else:
                _argument(page, action)
    page.section("OPTIONS")
    for action in [*common.values(), *_actions(parser)]:
        _argument(page, action)
    page.entry("-h, --help", "Show the help, also of a command.")
    page.section("EXIT STATUS")
    for number, words in DAEMON_EXITS.items():
        page.entry(number, words)
    page.section("SIGNALS")
    for name, words in SIGNALS.items():
        page.entry(name, words)
    _files(page)
    page.section("SEE ALSO")
    page.text("failoverctl(8), failoverd.yaml(5), systemd.service(5)")
    return str(page)


def _subcommands(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to look at what it was given
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - likewise
            return dict(action.choices)
    return {}


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    shown = (action for action in parser._actions if action.help != argparse.SUPPRESS)  # noqa: SLF001 - likewise
    return [action for action in shown if action.option_strings and action.dest != "help"]


def _argument(page: Page, action: argparse.Action) -> None:
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    default = f" Default: {action.default}." if action.dest == "config" else ""
    page.entry(", ".join(action.option_strings) + value, f"{action.help or 'The configuration file.'}{default}")


# ---- failoverd.yaml(5) ------------------------------------------------------------------------------------------


def configuration(schema: Mapping[str, object]) -> str:
    """The configuration file: an example with every default and why it is so, then every key."""
    page = Page("failoverd.yaml", 5, "configuration of failoverd")
    page.section("SYNOPSIS")
    page.text("/etc/failoverd/failoverd.yaml")
    page.section("DESCRIPTION")
    page.text(
        "One YAML file, the same on every node. Anchors, aliases and tags are refused, and a key that is not known is "
        "an error. failoverctl config check says whether a daemon would start with it; failoverctl config schema "
        "prints its shape as JSON Schema."
    )
    page.section("EXAMPLE")
    page.verbatim(resources.files("failoverd.config").joinpath("example.yaml").read_text(encoding="utf-8"))
    page.section("KEYS")
    for name, words in _keys(schema, schema, ""):
        page.entry(name, words)
    _files(page)
    page.section("SEE ALSO")
    page.text("failoverd(8), failoverctl(8)")
    return str(page)


def _keys(whole: Mapping[str, object], shape: object, path: str) -> Iterator[tuple[str, str]]:
    """Every key below `shape`, with what it may be; NAME stands for a name of one's own, [] for each of a list."""
    shape = _resolved(whole, shape)
    properties, named, items = shape.get("properties"), shape.get("additionalProperties"), shape.get("items")
    if isinstance(properties, dict):
        needed = shape.get("required")
        for key, inner in properties.items():
            at = f"{path}.{key}" if path else key
            below = list(_keys(whole, inner, at))
            yield from below or [(at, _said(whole, inner, needed=isinstance(needed, list) and key in needed))]
    elif isinstance(named, dict):
        yield from _keys(whole, named, f"{path}.NAME")
    elif isinstance(items, dict):
        yield from _keys(whole, items, f"{path}[]")


def _resolved(whole: Mapping[str, object], shape: object) -> dict[str, object]:
    if not isinstance(shape, dict):
        return {}
    for choice in shape.get("anyOf", ()):
        if "$ref" in choice:  # an optional section
            return _resolved(whole, choice)
    reference = str(shape.get("$ref", ""))
    definitions = whole.get("$defs")
    if reference and isinstance(definitions, dict):
        return _resolved(whole, definitions[reference.rpartition("/")[2]])
    return shape


def _said(whole: Mapping[str, object], inner: object, *, needed: bool) -> str:
    given = inner if isinstance(inner, dict) else {}
    kinds = [_kind(_resolved(whole, each)) for each in given.get("anyOf", [given])]
    words = " or ".join(dict.fromkeys(kind for kind in kinds if kind and kind != "null")) or "a value"
    if needed:
        return f"{words}. Must be given."
    default = given.get("default")
    return f"{words}." if default is None else f"{words}. Default: {default}."


def _kind(shape: Mapping[str, object]) -> str:
    choices = shape.get("enum")
    if isinstance(choices, list):
        return " or ".join(map(str, choices))
    if "const" in shape:
        return str(shape["const"])
    return str(shape.get("description") or shape.get("type") or "")


PAGES: Mapping[str, int] = {"failoverctl": 8, "failoverd": 8, "failoverd.yaml": 5}


def made() -> Mapping[str, Callable[[], str]]:
    """Each page of PAGES, and what makes it."""
    from failoverd.commands import parser  # noqa: PLC0415 - it is needed here only
    from failoverd.config.schema import schema  # noqa: PLC0415 - likewise
    from failoverd.ctl.app import app  # noqa: PLC0415 - it has this command

    return {
        "failoverctl": lambda: failoverctl(app),
        "failoverd": lambda: failoverd(parser()),
        "failoverd.yaml": lambda: configuration(schema()),
    }
