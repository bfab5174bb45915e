"""`failoverd run`: the daemon. `failoverd guard`, `failoverd drop`: what ends the role where the daemon does not.

`failoverd helper`: what the daemon has no right to do itself.

`failoverd rebuild`, `failoverd donor`: a data node's database made anew from another node's. `failoverd drill` and its
parts: a failure on purpose.

Exit codes: 0 stopped or done, 1 could not start or failed, 2 usage, 3 a rebuild or a drill was refused and nothing was
touched, 4 something of a drill may be left, 78 wrong configuration.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from failoverd.commands import EX_CONFIG, parser

if TYPE_CHECKING:
    import argparse

    from failoverd.config import Config


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `failoverd`."""
    options = parser().parse_args(arguments)
    if options.command in {"guard", "drill-load"}:
        return _without_configuration(options)
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
        code = _run(loaded, options)
        sys.stderr.flush()
        os._exit(code)  # all is closed; taking the interpreter apart would cost the next daemon a tenth of its lease
    return _program(loaded, options)


def _without_configuration(options: argparse.Namespace) -> int:
    if options.command == "guard":
        from failoverd.runtime import guard  # noqa: PLC0415 - it stays small, and reads the configuration by itself

        return guard.main(options)
    from failoverd.drill.load import main as load  # noqa: PLC0415 - all it needs is in its plan

    return load.main()


def _program(loaded: Config, options: argparse.Namespace) -> int:
    """Run what is no daemon of the cluster; each loads only what it needs itself."""
    if options.command == "donor":
        from failoverd.rebuild import donor  # noqa: PLC0415 - as above

        return donor.main(loaded, options)
    if options.command == "rebuild":
        from failoverd.rebuild import main as rebuild  # noqa: PLC0415 - as above

        return rebuild.main(loaded, options)
    if options.command == "helper":
        from failoverd.runtime import helper  # noqa: PLC0415 - as above

        return helper.main(loaded, options)
    if options.command.startswith("drill"):
        return _drill(loaded, options)
    from failoverd.runtime import drop  # noqa: PLC0415 - as above

    return drop.main(loaded, options)


def _drill(loaded: Config, options: argparse.Namespace) -> int:
    """Run a part of a drill."""
    if options.command == "drill":
        from failoverd.drill import main as drill  # noqa: PLC0415 - as above

        return drill.main(loaded, options)
    if options.command == "drill-agent":
        from failoverd.drill import agent  # noqa: PLC0415 - as above

        return agent.main(loaded, options)
    if options.command == "drill-job":
        from failoverd.drill import job  # noqa: PLC0415 - as above

        return job.main(loaded, options.kind)
    from failoverd.drill import power  # noqa: PLC0415 - as above

    return power.main(loaded, options.action, options.of)


def _run(loaded: object, options: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415 - as above

    import structlog  # noqa: PLC0415 - likewise

    from failoverd.config import Config  # noqa: PLC0415 - likewise
    from failoverd.runtime import assembly, helped, logging  # noqa: PLC0415 - likewise

    if not isinstance(loaded, Config):
        raise TypeError(type(loaded).__name__)
    end_log = logging.start(loaded.secrets)
    try:
        helper = options.runtime / helped.SOCKET if options.helped else None
        directories = assembly.Directories(options.state, options.runtime, helper)
        asyncio.run(assembly.run(loaded, directories, options.config))
    except Exception as error:  # noqa: BLE001 - the last word of the process: it is logged and told by the exit code
        structlog.get_logger(__name__).critical("failoverd ends", reason=str(error), exc_info=error)
        return 1
    finally:
        end_log()
    return 0


if __name__ == "__main__":
    sys.exit(main())
