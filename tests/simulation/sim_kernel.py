"""The kernel's part of the lease: what goes on while a host's processes stand still.

Production's KernelGate runs against this instead of nftables and netlink. It understands the few sentences that matter:
the element with its relative timeout, the absolute bound in whole seconds of the wall clock, the closed gate, and the
address with its lifetime.

    relative    element lives until     now + timeout        by CLOCK_BOOTTIME, from when the *kernel* got it
    absolute    `meta time < bound`     bound                by the wall clock, whoever sets that

Each call may hold its thread up for any time, as a kernel does that looks for memory, or a scheduler that has better
things to do: the world goes on below it, until the call comes back.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from failoverd.actions.nft import NftError

if TYPE_CHECKING:
    from sim_node import Node

FOREVER = 1 << 60
_ELEMENT = re.compile(r"inet failoverd lease \{ ipv4 timeout (\d+)ms")
_BOUND = re.compile(r"inet failoverd gate .*@lease meta time < (\d+) accept")
_TAKEN = re.compile(r"delete element inet failoverd turn \{ (\d+) \}")
_TURN = re.compile(r"flush set inet failoverd turn\nadd element inet failoverd turn \{ (\d+) \}")
_CLOSED = "add rule inet failoverd gate drop"
_UNENFORCED = "add rule inet failoverd gate accept"


class GoneError(Exception):
    """The thread does not come back from its call: its process was killed, or its host has lost its power."""


class Kernel:
    """Gate and virtual IP of one host. Implements gate.Ruleset and gate.Address."""

    __slots__ = (
        "_bound_s",
        "_element_until_ms",
        "_installed",
        "_node",
        "_turn",
        "_vip_until",
        "open_until",
        "unenforced",
    )

    def __init__(self, node: Node) -> None:
        self._node = node
        self.reset()

    def reset(self) -> None:
        """Boot: no table, no address."""
        self._installed = False
        self.unenforced = True
        self._element_until_ms = 0
        self._bound_s: int | None = None
        self._vip_until = 0
        self._turn = ""
        self.open_until = 0  # the world's time until which an enforced gate lets clients through

    # ---- what reaches clients ---------------------------------------------------------------------------------

    @property
    def lets_through(self) -> bool:
        """Whether the lease is open here: what the invariants are about."""
        return not self.unenforced and self._node.world.now < self.open_until

    @property
    def reachable(self) -> bool:
        """Whether clients get through: the address is here, and the gate is open or was never used."""
        now = self._node.world.now
        return now < self._vip_until and (self.unenforced or now < self.open_until)

    @property
    def has_address(self) -> bool:
        """Whether `ip address` would show it."""
        return self._node.world.now < self._vip_until

    # ---- administrators ---------------------------------------------------------------------------------------

    def add_address(self) -> None:
        """`ip address add`: for ever."""
        self._vip_until = FOREVER

    def drop_address(self) -> None:
        """`ip address del`."""
        self._vip_until = 0

    def wall_was_set(self) -> None:
        """The absolute bound lies elsewhere now."""
        self._bound_moved()

    # ---- nftables ---------------------------------------------------------------------------------------------

    def run(self, script: str) -> str:
        """See gate.Ruleset."""
        if script.startswith("list table"):
            if not self._installed:
                raise NftError("No such file or directory")
            return "chain gate"
        self._node.hold_up()
        taken, turn, element = _TAKEN.search(script), _TURN.search(script), _ELEMENT.search(script)
        if taken is not None and taken[1] != self._turn:
            raise NftError("Could not process rule: No such file or directory")
        self._turn = turn[1] if turn is not None else self._turn
        self._installed = True
        if element is not None:
            bound = _BOUND.search(script)
            self.unenforced = False
            self._element_until_ms = self._node.clock.now_ms() + int(element[1])
            self._bound_s = int(bound[1]) if bound else None
        elif _CLOSED in script:
            self.unenforced = False
            self._element_until_ms = 0
        elif _UNENFORCED in script:
            self.unenforced = True
        self._bound_moved()
        self._node.hold_up()
        return ""

    def _bound_moved(self) -> None:
        clock, until = self._node.clock, 0
        if self._element_until_ms:
            until = clock.true_time(self._element_until_ms)
            if self._bound_s is not None:
                until = min(until, clock.true_time_of_wall(self._bound_s * 1000))
        self.open_until = until
        if until > self._node.world.now:
            self._node.world.judge.gate_opened(self._node)

    # ---- the address ------------------------------------------------------------------------------------------

    def keep(self, rest_ms: int) -> None:
        """See gate.Address: whole seconds, at least one."""
        clock = self._node.clock
        self._vip_until = clock.true_time(clock.now_ms() + max(rest_ms // 1000, 1) * 1000)

    def remove(self) -> None:
        """See gate.Address."""
        self._vip_until = 0

    def release(self) -> None:
        """See gate.Address: there is no socket."""
