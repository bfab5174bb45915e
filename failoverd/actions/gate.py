"""The lease, kept by the kernel: what reaches clients ends by itself at the deadline, whatever becomes of failoverd.

    packets of the VIP ───────────────────────┐
    service ports of the own address,         ├──> chain `gate`:   lease element alive  (relative, to the millisecond)
      unless the peer is a cluster node,      │                    and time < bound     (absolute, whole seconds)
    and of every IPv6 address ────────────────┘
    ARP answers for the VIP ─────────────────────> likewise        otherwise drop

Input and output are both gated: a server that wakes up late must not get an answer out either. Nothing is accepted
before the gate because it is established.

*Why two bounds.* A timeout is relative: a process that was frozen between computing it and setting it would open the
gate long after the deadline. The absolute bound in the same transaction does not care when it is set. nftables knows
whole seconds of wall-clock time here, so it is rounded down: it closes up to a second early, at a moment when a holder
that cannot renew is letting go anyway (demote_budget). A wall clock that is set back lengthens only this bound, not
the other; both must be open.

*Why a turn.* An opening call that the kernel holds up may come true when its thread was given up for long, and
another one has closed; a role that was handed over ends before its deadline, so that neither bound would help. So each
closing begins a new turn, a number in the set `turn`, and an opening transaction takes that of its own out and puts it
back: where another stands there, the kernel refuses the whole of it.

*Somebody else's hand.* Each renewal sets the open gate anew, with all that leads to it. A closed one is looked at by
`verify`: whatever empties the ruleset (a firewall's restart) would otherwise leave it open for good.

*Unenforced.* A table made by `install` lets everything pass until the first `open` or `close`: a cluster that runs and
has not been adopted yet must not be cut off by starting failoverd.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Protocol

from failoverd.actions import arp
from failoverd.actions.nft import Nft, NftError
from failoverd.actions.vip import Vip, VipError
from failoverd.core.model import Outcome
from failoverd.ports import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from failoverd.ports import Clock

TABLES = ("inet", "arp")
TURNS_A_MS = 100

_CLOSED = "".join(
    f"flush set {family} failoverd lease\nflush chain {family} failoverd gate\nadd rule {family} failoverd gate drop\n"
    for family in TABLES
)


def _skeleton(*, vip: str, own: str, cluster: Sequence[str], ports: Sequence[int]) -> str:
    """Everything but the gate's state. Run again it changes nothing that is open, and puts right what was changed."""
    peers, served = ", ".join(cluster), ", ".join(map(str, ports))
    return f"""
add table inet failoverd
add set inet failoverd lease {{ typeof meta nfproto; flags timeout; }}
add set inet failoverd turn {{ typeof meta mark; }}
add chain inet failoverd gate
add chain inet failoverd input {{ type filter hook input priority -10; policy accept; }}
add chain inet failoverd output {{ type filter hook output priority -10; policy accept; }}
flush chain inet failoverd input
flush chain inet failoverd output
add rule inet failoverd input ip daddr {vip} goto gate
add rule inet failoverd input iifname "lo" accept
add rule inet failoverd input ip daddr {own} ip saddr != {{ {peers} }} tcp dport {{ {served} }} goto gate
add rule inet failoverd input meta nfproto ipv6 tcp dport {{ {served} }} goto gate
add rule inet failoverd output ip saddr {vip} goto gate
add rule inet failoverd output oifname "lo" accept
add rule inet failoverd output ip saddr {own} ip daddr != {{ {peers} }} tcp sport {{ {served} }} goto gate
add rule inet failoverd output meta nfproto ipv6 tcp sport {{ {served} }} goto gate
add table arp failoverd
add set arp failoverd lease {{ typeof arp operation; flags timeout; }}
add chain arp failoverd gate
add chain arp failoverd output {{ type filter hook output priority 0; policy accept; }}
flush chain arp failoverd output
add rule arp failoverd output arp saddr ip {vip} goto gate
"""


def _opened(turn: int, rest_ms: int, bound_s: int) -> str:
    return f"""
delete element inet failoverd turn {{ {turn} }}
add element inet failoverd turn {{ {turn} }}
flush set inet failoverd lease
add element inet failoverd lease {{ ipv4 timeout {rest_ms}ms }}
add element inet failoverd lease {{ ipv6 timeout {rest_ms}ms }}
flush chain inet failoverd gate
add rule inet failoverd gate meta nfproto @lease meta time < {bound_s} accept
add rule inet failoverd gate drop
flush set arp failoverd lease
add element arp failoverd lease {{ request timeout {rest_ms}ms, reply timeout {rest_ms}ms }}
flush chain arp failoverd gate
add rule arp failoverd gate arp operation @lease meta time < {bound_s} accept
add rule arp failoverd gate drop
"""


class Ruleset(Protocol):
    """What the gate needs of nftables: see nft.Nft. The simulator has a kernel of its own behind it."""

    def run(self, script: str) -> str:
        """Run `script` as one transaction and return what it prints. Raises NftError."""
        ...


class Address(Protocol):
    """What the gate needs of the virtual IP: see vip.Vip."""

    def keep(self, rest_ms: int) -> None:
        """Have it for at most `rest_ms`. Raises VipError."""
        ...

    def remove(self) -> None:
        """Not have it. Raises VipError."""
        ...

    def release(self) -> None:
        """Close what the calling thread holds open."""
        ...


class KernelGate:
    """Implements ports.Gate for one virtual IP. Called from one thread at a time."""

    def __init__(
        self,
        *,
        interface: str,
        vip: str,
        prefix: int,
        own_address: str,
        cluster_addresses: Sequence[str],
        ports: Sequence[int],
        clock: Clock,
        ruleset: Ruleset | None = None,
        held_address: Address | None = None,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._interface = interface
        self._address = vip
        self._vip: Address = held_address or Vip(interface, vip, prefix)
        self._skeleton = _skeleton(vip=vip, own=own_address, cluster=cluster_addresses, ports=ports)
        self._clock = clock
        self._wall_ns = wall_ns
        self._nft: Ruleset = ruleset or Nft()
        self._closings = 0
        self._turns = itertools.count(clock.now_ms() * TURNS_A_MS)  # others in each process; threads share it
        self._turn = next(self._turns)
        self._as_closed: dict[str, str] | None = None  # each table as `close` left it; None: open, or never closed

    def install(self) -> Result:
        """See ports.Gate. An open gate stays open, a closed one closed; a new one lets pass until it is first used."""
        try:
            known = {family: "chain gate" in self._listed(family) for family in TABLES}
            fresh = "".join(f"add rule {family} failoverd gate accept\n" for family in TABLES if not known[family])
            self._nft.run(self._skeleton + fresh + self._new_turn())
        except NftError as error:
            return Result(Outcome.FAILED, "GATE_NFT", str(error))
        return Result(Outcome.SUCCEEDED)

    def _new_turn(self) -> str:
        self._turn = next(self._turns) % (1 << 32)
        return f"flush set inet failoverd turn\nadd element inet failoverd turn {{ {self._turn} }}\n"

    def _listed(self, family: str) -> str:
        try:
            return self._nft.run(f"list table {family} failoverd")
        except NftError:
            return ""  # there is none yet; if it cannot be made either, that is what fails

    @property
    def closings(self) -> int:
        """See ports.Gate."""
        return self._closings

    def open(self, *, until_ms: int, announce: bool, closings: int | None = None) -> Result:
        """See ports.Gate."""
        now, turn = self._closings, self._turn  # a closing counts first and takes its turn then
        if closings not in {None, now} or self._closings != now:
            return Result(Outcome.FAILED, "GATE_LATE", "it was closed after it was to be opened: it stays closed")
        return self._open_in(turn, now, until_ms=until_ms, announce=announce)

    def _open_in(self, turn: int, closings: int, *, until_ms: int, announce: bool) -> Result:
        self._as_closed = None
        # The wall clock first: frozen between the two, the bound comes out too early and not too late.
        wall_ns = self._wall_ns()
        rest_ms = until_ms - self._clock.now_ms()
        if rest_ms <= 0:
            return self._too_late(until_ms)
        bound_s = (wall_ns + rest_ms * 1_000_000) // 1_000_000_000
        try:
            self._set_open(turn, closings, rest_ms, bound_s)
            if self._closings == closings:
                self._vip.keep(rest_ms)
        except NftError as error:
            return Result(Outcome.FAILED, "GATE_NFT", str(error))
        except VipError as error:
            return Result(Outcome.FAILED, error.code, str(error))
        if self._closings != closings:
            # By another thread, while the kernel held this one up: closing has the last word.
            self.close()
            return Result(Outcome.FAILED, "GATE_LATE", "it was closed while it was being opened: closed again")
        if self._clock.now_ms() >= until_ms:
            return self._too_late(until_ms)
        return self._announced() if announce else Result(Outcome.SUCCEEDED)

    def _set_open(self, turn: int, closings: int, rest_ms: int, bound_s: int) -> None:
        try:
            self._change(_opened(turn, rest_ms, bound_s))
        except NftError:
            if self._closings != closings:
                return  # refused for good reason
            # Somebody has emptied the ruleset, or another process has closed: this one holds the lease, and goes on, in
            # a turn that no call has which is still on its way.
            begun = self._new_turn()
            turn = self._turn
            self._change(begun)
            if self._closings == closings:
                self._change(_opened(turn, rest_ms, bound_s))

    def _change(self, script: str) -> None:
        """Set the gate's state, and all that leads to it: an administrator's hand is put right in one transaction."""
        self._nft.run(self._skeleton + script)

    def _too_late(self, until_ms: int) -> Result:
        closed = self.close()
        if closed.outcome is not Outcome.SUCCEEDED:
            return closed
        late_ms = self._clock.now_ms() - until_ms
        return Result(Outcome.FAILED, "GATE_LATE", f"the lease had ended {late_ms} ms before: closed")

    def _announced(self) -> Result:
        try:
            arp.announce(self._interface, self._address)
        except OSError as error:
            return Result(Outcome.FAILED, "ARP_NOT_SENT", f"{self._interface}: {error.strerror}")
        return Result(Outcome.SUCCEEDED)

    def close(self) -> Result:
        """See ports.Gate. The address goes even where nftables refuses, and the other way round."""
        self._closings += 1
        self._as_closed = None
        failure: Result | None = None
        try:
            self._change(_CLOSED + self._new_turn())
            self._as_closed = {family: self._listed(family) for family in TABLES}
        except NftError as error:
            failure = Result(Outcome.FAILED, "GATE_NFT", str(error))
        try:
            self._vip.remove()
        except VipError as error:
            failure = failure or Result(Outcome.FAILED, error.code, str(error))
        return failure or Result(Outcome.SUCCEEDED)

    def verify(self) -> Result:
        """See ports.Gate."""
        left = self._as_closed
        changed = [family for family, text in (left or {}).items() if self._listed(family) != text]
        if not changed:
            return Result(Outcome.SUCCEEDED)
        closed = self.close()
        if closed.outcome is not Outcome.SUCCEEDED:
            return closed
        tables = " and ".join(f"{family} failoverd" for family in changed)
        return Result(Outcome.FAILED, "GATE_CHANGED", f"the table {tables} was removed or changed: closed again")

    def release(self) -> None:
        """Give up what the calling thread holds open. The kernel's state stays as it is."""
        self._vip.release()
