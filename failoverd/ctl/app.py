"""failoverctl, the operator's tool: shows the cluster as the local daemon sees it, and asks it for changes.

Exit codes: 0 done · 1 failed · 2 usage · 3 refused, nothing touched · 4 daemon not reachable · 5 outcome not known
here yet, it goes on in the daemon · 6 warnings only. `failoverctl --help` prints them too; exits.py defines them.

click rather than typer: typer imports pydantic to parse the first option, which alone takes longer than all the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import click

from failoverd.ctl.exits import EPILOG, Exit, ForbiddenError, UnclearError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Each command, the most used first, and the module that has it. Only the one that is asked for is loaded: all of them
# together take longer than `status` itself.
COMMANDS: Mapping[str, str] = {
    "status": "status",
    "top": "top",
    "check": "check",
    "history": "history",
    "explain": "explain",
    "audit": "audit",
    "promote": "promote",
    "rejoin": "rejoin",
    "pause": "pause",
    "resume": "pause",
    "maintenance": "maintenance",
    "acknowledge": "acknowledge",
    "confirm-fenced": "confirm_fenced",
    "drill": "drill",
    "store": "store",
    "fleet": "fleet",
    "alerts": "alerts",
    "config": "config",
    "certificate": "certificate",
    "init": "init",
    "join": "join",
    "version": "version",
    "removable": "removable",
    "units": "units",
    "man": "man",
    "completion": "completion",
}


class _App(click.Group):
    """Ends with what the command returned, or with what kept it from ending."""

    def invoke(self, ctx: click.Context) -> None:
        """Run the command that was given."""
        try:
            ended = Exit(super().invoke(ctx))
        except UnreachableError as error:
            click.echo(f"failoverctl: {error}", err=True)
            ended = Exit.UNREACHABLE
        except ForbiddenError as error:
            click.echo("refused, nothing was touched: you may not", err=True)
            click.echo(f"  {error.code}  {error.reason}\n  page  runbooks/codes/{error.code}.md", err=True)
            ended = Exit.REFUSED
        except UnclearError as error:
            click.echo(f"failoverctl: {error}; ask `failoverctl status`", err=True)
            ended = Exit.UNCLEAR
        except Exception as error:
            from failoverd.runtime.document import DocumentError  # noqa: PLC0415 - every command that asks has it
            from failoverd.setup.refused import Refused  # noqa: PLC0415 - of the commands that set up

            if isinstance(error, Refused):
                click.echo(f"failoverctl: {error}", err=True)
                ctx.exit(Exit.REFUSED)
            if not isinstance(error, DocumentError):
                raise
            click.echo(f"failoverctl: the daemon's answer is not understood (another version?): {error}", err=True)
            ended = Exit.FAILED
        ctx.exit(ended)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """List them in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        """Load the one of that name."""
        return load(cmd_name) if cmd_name in COMMANDS else None


def load(name: str) -> click.Command:
    """The command of COMMANDS that is called `name`."""
    command = getattr(import_module(f"failoverd.ctl.{COMMANDS[name]}"), name.replace("-", "_"))
    if not isinstance(command, click.Command):
        raise TypeError(f"failoverd.ctl.{COMMANDS[name]} has no command {name}")
    command.epilog = EPILOG
    return command


app = _App(
    name="failoverctl",
    help="See and steer the mail cluster that failoverd keeps.",
    epilog=EPILOG,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Entry point."""
    app(prog_name="failoverctl")
