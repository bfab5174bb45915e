"""failoverctl, the operator's tool: shows the cluster as the local daemon sees it, and asks it for changes.

Exit codes: 0 done · 1 failed · 2 usage · 3 refused, nothing touched · 4 daemon not reachable · 5 outcome not known
here yet, it goes on in the daemon · 6 warnings only. `failoverctl --help` prints them too; exits.py defines them.

click rather than typer: typer imports pydantic to parse the first option, which alone takes longer than all the rest.
"""

from __future__ import annotations

import click

from failoverd.ctl.acknowledge import acknowledge
from failoverd.ctl.alerts import alerts
from failoverd.ctl.audit import audit
from failoverd.ctl.check import check
from failoverd.ctl.completion import completion
from failoverd.ctl.config import config
from failoverd.ctl.confirm_fenced import confirm_fenced
from failoverd.ctl.exits import EPILOG, Exit, UnclearError, UnreachableError
from failoverd.ctl.explain import explain
from failoverd.ctl.history import history
from failoverd.ctl.maintenance import maintenance
from failoverd.ctl.pause import pause, resume
from failoverd.ctl.promote import promote
from failoverd.ctl.rejoin import rejoin
from failoverd.ctl.status import status
from failoverd.ctl.version import version
from failoverd.runtime.document import DocumentError

COMMANDS = (
    status,
    check,
    history,
    explain,
    audit,
    promote,
    rejoin,
    pause,
    resume,
    maintenance,
    acknowledge,
    confirm_fenced,
    alerts,
    config,
    version,
    completion,
)


class _App(click.Group):
    """Ends with what the command returned, or with what kept it from ending."""

    def invoke(self, ctx: click.Context) -> None:
        """Run the command that was given."""
        try:
            ended = Exit(super().invoke(ctx))
        except UnreachableError as error:
            click.echo(f"failoverctl: {error}", err=True)
            ended = Exit.UNREACHABLE
        except UnclearError as error:
            click.echo(f"failoverctl: {error}; ask `failoverctl status`", err=True)
            ended = Exit.UNCLEAR
        except DocumentError as error:
            click.echo(f"failoverctl: the daemon's answer is not understood (another version?): {error}", err=True)
            ended = Exit.FAILED
        ctx.exit(ended)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """List them in the order of COMMANDS, the most used first."""
        return list(self.commands)


app = _App(
    name="failoverctl",
    help="See and steer the mail cluster that failoverd keeps.",
    epilog=EPILOG,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in COMMANDS:
    _command.epilog = EPILOG
    app.add_command(_command)


def main() -> None:
    """Entry point."""
    app(prog_name="failoverctl")
