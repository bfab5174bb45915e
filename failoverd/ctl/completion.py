"""`failoverctl completion bash|zsh|fish`: the script by which a shell completes commands, options and node names.

failoverctl completion bash > /etc/bash_completion.d/failoverctl
"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from failoverd.ctl.exits import Exit

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> Exit:
    """Print the completion script for SHELL, to be put where that shell looks for it, or to be sourced."""
    found = get_completion_class(shell)
    assert found is not None  # noqa: S101 - click has all of SHELLS
    click.echo(found(context.find_root().command, {}, "failoverctl", "_FAILOVERCTL_COMPLETE").source())
    return Exit.DONE
