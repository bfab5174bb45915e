"""`failoverd run`: the daemon. `failoverd guard`, `failoverd drop`: what ends the role where the daemon does not.

Exit codes: 0 stopped, 1 could not start or failed, 2 usage, 78 wrong configuration.
"""

from __future__ import annotations

import argparse
import socket
import sys
from pathlib import Path

from failoverd import __version__

EX_CONFIG = 78  # sysexits.h; systemd does not restart on it
COMMANDS = {
    "run": "be this node",
    "check": "read the configuration, touch nothing",
    "guard": "make the database read-only, or end it, when the daemon lets the lease run out",
    "drop": "give up the role now: close the gate, remove the virtual IP, make the database read-only",
    "close": "close the gate of a node that has been in a cluster; touch nothing else",
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
    if options.command in {"drop", "close"}:
        from failoverd.runtime import drop  # noqa: PLC0415 - as above

        return drop.main(loaded, options)
    return _run(loaded, options)


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
    return parser


def _run(loaded: object, options: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415 - as above

    import structlog  # noqa: PLC0415 - likewise

    from failoverd.config import Config  # noqa: PLC0415 - likewise
    from failoverd.runtime import assembly, logging  # noqa: PLC0415 - likewise

    if not isinstance(loaded, Config):
        raise TypeError(type(loaded).__name__)
    sql = loaded.database
    secrets = [sql.password, sql.replication_password, *loaded.fencing.secrets]
    if loaded.mail.imap is not None:
        secrets.append(loaded.mail.imap.password)
    end_log = logging.start(secrets)
    try:
        asyncio.run(assembly.run(loaded, assembly.Directories(options.state, options.runtime)))
    except Exception as error:  # noqa: BLE001 - the last word of the process: it is logged and told by the exit code
        structlog.get_logger(__name__).critical("failoverd ends", reason=str(error), exc_info=error)
        return 1
    finally:
        end_log()
    return 0


if __name__ == "__main__":
    sys.exit(main())
