"""`failoverd run`: the daemon. `failoverd guard`, `failoverd drop`: what ends the role where the daemon does not.

`failoverd rebuild`, `failoverd donor`: a data node's database made anew from another node's.

Exit codes: 0 stopped or done, 1 could not start or failed, 2 usage, 3 a rebuild was refused and nothing was touched,
78 wrong configuration.
"""

from __future__ import annotations

import argparse
import re
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from failoverd import __version__

if TYPE_CHECKING:
    from failoverd.config import Config

EX_CONFIG = 78  # sysexits.h; systemd does not restart on it
COMMANDS = {
    "run": "be this node",
    "check": "read the configuration, touch nothing",
    "guard": "make the database read-only, or end it, when the daemon lets the lease run out",
    "drop": "give up the role now: close the gate, remove the virtual IP, make the database read-only",
    "close": "close the gate of a node that has been in a cluster, and hold its mail queue; touch nothing else",
    "donor": "give a backup of this node's database to a data node that is rebuilt",
    "rebuild": "make this node's database anew from another node's, after saving what the primary lacks",
}


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `failoverd`."""
    options = _parser().parse_args(arguments)
    if options.command == "guard":
        from failoverd.runtime import guard  # noqa: PLC0415 - it stays small, and reads the configuration by itself

        return guard.main(options)
    if options.command == "drop" and options.at_lease_end:
        from failoverd.runtime import lapse  # noqa: PLC0415 - nearly always it ends here, with next to nothing loaded

        if not lapse.is_ending(options.runtime):
            return 0

    from failoverd import config  # noqa: PLC0415 - --help and --version answer at once

    try:
        loaded = config.load(options.config, options.node)
    except config.ConfigError as error:
        sys.stderr.write(f"failoverd: {error}\n")
        return EX_CONFIG
    if options.command == "check":
        sys.stdout.write(f"{options.config}: fit for {options.node}\n")
        return 0
    if options.command == "run":
        return _run(loaded, options)
    return _program(loaded, options)


def _program(loaded: Config, options: argparse.Namespace) -> int:
    """Run what is no daemon of the cluster; each loads only what it needs itself."""
    if options.command == "donor":
        from failoverd.rebuild import donor  # noqa: PLC0415 - as above

        return donor.main(loaded, options)
    if options.command == "rebuild":
        from failoverd.rebuild import main as rebuild  # noqa: PLC0415 - as above

        return rebuild.main(loaded, options)
    from failoverd.runtime import drop  # noqa: PLC0415 - as above

    return drop.main(loaded, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="failoverd", description="Keeps one primary for a company's mail.")
    parser.add_argument("--version", action="version", version=f"failoverd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--config", type=Path, default=Path("/etc/failoverd/failoverd.yaml"))
        command.add_argument("--node", default=socket.gethostname(), help="this node's name (default: host name)")
        command.add_argument("--state", type=Path, default=Path("/var/lib/failoverd"), help=argparse.SUPPRESS)
        command.add_argument("--runtime", type=Path, default=Path("/run/failoverd"), help=argparse.SUPPRESS)
        if name == "drop":
            help_text = "not now, but when the lease runs out, unless a daemon renews it"
            command.add_argument("--at-lease-end", action="store_true", help=help_text)
        if name in {"donor", "rebuild"}:
            command.add_argument("--programs", type=Path, help=argparse.SUPPRESS)  # a directory with MariaDB's
        if name == "rebuild":
            _add_rebuild(command)
    return parser


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


def _run(loaded: object, options: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415 - as above

    import structlog  # noqa: PLC0415 - likewise

    from failoverd.config import Config  # noqa: PLC0415 - likewise
    from failoverd.runtime import assembly, logging  # noqa: PLC0415 - likewise

    if not isinstance(loaded, Config):
        raise TypeError(type(loaded).__name__)
    end_log = logging.start(loaded.secrets)
    try:
        asyncio.run(assembly.run(loaded, assembly.Directories(options.state, options.runtime), options.config))
    except Exception as error:  # noqa: BLE001 - the last word of the process: it is logged and told by the exit code
        structlog.get_logger(__name__).critical("failoverd ends", reason=str(error), exc_info=error)
        return 1
    finally:
        end_log()
    return 0


if __name__ == "__main__":
    sys.exit(main())
