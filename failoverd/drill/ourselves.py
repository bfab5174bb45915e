"""This program as a child of its own: the same interpreter, and what it was itself told to read and to be."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import argparse

    from failoverd.drill.model import Command


@dataclass(frozen=True, slots=True)
class Ourselves:
    """How it is started: `program`, its command, then `options`, which are the same for every command."""

    program: Command
    options: Command = ()

    @classmethod
    def of(cls, options: argparse.Namespace) -> Self:
        """As this process was: another configuration, node or place would be another node's."""
        places = ("--config", options.config.absolute(), "--state", options.state, "--runtime", options.runtime)
        return cls((sys.executable, "-m", "failoverd"), (*map(str, places), "--node", options.node))

    def command(self, name: str, *arguments: str) -> Command:
        """Return the command line of one command of this program."""
        return (*self.program, name, *self.options, *arguments)
