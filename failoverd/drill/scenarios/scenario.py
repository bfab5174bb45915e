"""What a scenario is: whom its fault hits, what that fault is, and what the cluster has to do about it.

All of it is a value or a pure function of the configuration and of who is who, so that `--dry-run` prints exactly what
`run` does, and a test compares it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from failoverd.config import Config
    from failoverd.config.drill import ScenarioName
    from failoverd.drill.model import Cast, Command, Fault

# Where the fault hits. "primary": the node that holds the lease when it begins.
Target = Literal["primary", "replica", "arbiter", "nobody"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One entry of SCENARIOS.

    `moves`: whether another node has to be primary afterwards; None: either is right, as long as clients are served.
    `by`: what brings it about: the fault, the fence agent's power, or an ordinary switchover.
    `fault`: None where nothing is broken. `refuses`: why this configuration cannot play it, "" where it can.
    """

    name: ScenarioName
    about: str
    target: Target
    moves: bool | None
    by: Literal["fault", "power", "switchover"]
    expects: str
    fault: Callable[[Config, Cast], Fault | None]
    refuses: Callable[[Config, str], tuple[str, str] | None] = lambda _config, _target: None


def unstartable(unit: str) -> tuple[Command, Command]:
    """Make a unit fail to start from now on, and take that away again.

    A drop-in in /run, which a boot forgets: `mask --runtime` would not hide a unit file of /etc. An assertion and no
    condition, since a unit that is skipped counts as started.
    """
    place = f"/run/systemd/system/{unit}.d"
    text = "[Unit]\\nAssertPathExists=/nonexistent/failoverd-drill\\n"
    put = f"mkdir -p '{place}' && printf '{text}' > '{place}/failoverd-drill.conf' && systemctl daemon-reload"
    take = f"rm -f '{place}/failoverd-drill.conf' && systemctl daemon-reload"
    return ("sh", "-ec", put), ("sh", "-ec", take)


def started(unit: str) -> Command:
    """Start a unit now.

    One that died and is to be started again by itself keeps every `systemctl start` waiting until its RestartSec is
    over, which is a minute for many a database: that one is restarted, which has nothing to end. No other is: it may
    run, or be on its way up through a long recovery.
    """
    dead = f"test \"$(systemctl show --property=SubState --value '{unit}')\" = auto-restart"
    return ("sh", "-ec", f"if {dead}; then exec systemctl restart '{unit}'; fi; exec systemctl start '{unit}'")


def cut_off(*, coordinator: str, port: int, management: Sequence[str]) -> tuple[Command, Command, Command]:
    """Cut a node off from everybody, but for administrators and the drill itself; take that away; see that it is gone.

    A table of its own, before every other: it says nothing of what failoverd's own table says.
    """
    open_in = [f"ip saddr {network} accept" for network in management]
    open_out = [f"ip daddr {network} accept" for network in management]
    rules_in = ["iif lo accept", *open_in, f"ip saddr {coordinator} tcp dport {port} accept", "drop"]
    rules_out = ["oif lo accept", *open_out, f"ip daddr {coordinator} tcp sport {port} accept", "drop"]
    return TABLE.put(rules_in, rules_out), TABLE.take, TABLE.gone


@dataclass(frozen=True, slots=True)
class _Table:
    """The drill's own nftables table."""

    name: str = "failoverd_drill"

    def put(self, rules_in: Sequence[str], rules_out: Sequence[str]) -> Command:
        """Make it, in one transaction."""
        chains = []
        for hook, rules in (("input", rules_in), ("output", rules_out)):
            head = f"type filter hook {hook} priority -400; policy accept;"
            chains.append(f"chain {hook} {{ {head} {'; '.join(rules)}; }};")
        return ("nft", f"table inet {self.name} {{ {' '.join(chains)} }}")

    @property
    def take(self) -> Command:
        """Remove it; nothing where there is none."""
        return ("nft", f"table inet {self.name}; delete table inet {self.name}")

    @property
    def gone(self) -> Command:
        """Succeed where there is none."""
        return ("sh", "-ec", f"! nft list table inet {self.name} >/dev/null 2>&1")


TABLE = _Table()
