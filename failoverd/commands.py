"""The command line of `failoverd`, by itself: the manual is made of it, and needs nothing of what it starts."""

from __future__ import annotations

import argparse
import re
import socket
from pathlib import Path

from failoverd import __version__

EX_CONFIG = 78  # sysexits.h; systemd does not restart on it
COMMANDS = {
    "run": "be this node",
    "check": "read the configuration, touch nothing",
    "guard": "make the database read-only, or end it, when the daemon lets the lease run out",
    "helper": "do for the daemon what its unit has no right to: mail store, disks, mail queue, fence agents",
    "drop": "give up the role now: close the gate, remove the virtual IP, make the database read-only",
    "close": "close the gate of a node that has been in a cluster, and hold its mail queue; touch nothing else",
    "donor": "give a backup of this node's database to a data node that is rebuilt",
    "rebuild": "make this node's database anew from another node's, after saving what the primary lacks",
    "drill": "conduct the drill that was asked for, or that is due",
    "drill-agent": "do for a drill what is to be done on this node, and take it away when the drill is gone",
    "drill-job": "do one thing for the drill agent, which starts it",
    "drill-load": "simulate the people of a drill, which starts it and tells it on stdin how many",
    "drill-power": "cut a node's power for a drill by its fence agents, or give it back",
}


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    made = argparse.ArgumentParser(prog="failoverd", description="Keeps one primary for a company's mail.")
    made.add_argument("--version", action="version", version=f"failoverd {__version__}")
    commands = made.add_subparsers(dest="command", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--config", type=Path, default=Path("/etc/failoverd/failoverd.yaml"))
        command.add_argument("--node", default=socket.gethostname(), help="this node's name (default: host name)")
        command.add_argument("--state", type=Path, default=Path("/var/lib/failoverd"), help=argparse.SUPPRESS)
        command.add_argument("--runtime", type=Path, default=Path("/run/failoverd"), help=argparse.SUPPRESS)
        if name == "run":
            help_text = "ask failoverd-helper for what this process may not do (the unit's)"
            command.add_argument("--helped", action="store_true", help=help_text)
        if name == "drop":
            help_text = "not now, but when the lease runs out, unless a daemon renews it"
            command.add_argument("--at-lease-end", action="store_true", help=help_text)
        if name in {"donor", "rebuild"}:
            command.add_argument("--programs", type=Path, help=argparse.SUPPRESS)  # a directory with MariaDB's
        if name == "rebuild":
            _add_rebuild(command)
        if name == "drill":
            command.add_argument("--recover", action="store_true", help="clear up after one that did not end by itself")
        if name == "drill-job":
            command.add_argument("kind", help="see failoverd/drill/jobs.py")
        if name == "drill-power":
            command.add_argument("action", choices=("off", "on", "is-on"))
            command.add_argument("of", metavar="NODE")
    return made


def _add_rebuild(command: argparse.ArgumentParser) -> None:
    command.add_argument("--from", dest="donor", metavar="NODE", help="the node whose data are copied: a replica")
    help_text = "NODE may be the primary, whose clients then share its disks with the backup"
    command.add_argument("--from-primary", action="store_true", help=help_text)
    help_text = "save all that this node logged after this one as well, whether the primary has it or not"
    command.add_argument("--save-since", type=_gtid, metavar="GTID", help=help_text)
    help_text = "save nothing: what this node has and the primary lacks is lost"
    command.add_argument("--without-ahead", action="store_true", help=help_text)
    help_text = "from the node that the daemon has asked for; else only what an earlier run has begun (the unit's)"
    command.add_argument("--requested", action="store_true", help=help_text)
    command.add_argument("--keep-old", action="store_true", help="keep the old data beside the data directory")


def _gtid(text: str) -> str:
    if re.fullmatch(r"[0-9]{1,10}-[0-9]{1,10}-[0-9]{1,20}", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no GTID, such as 0-1-500")
    return text
