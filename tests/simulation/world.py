"""A deterministic world: four nodes that run the production core, lease, store cell and gate in virtual time.

    World ── scheduler (one heap, integer milliseconds) ── network · chance (latencies, losses, worst moments)
      ├── Node x 4: clocks, power, disk, kernel, services, Database, one run of failoverd (Daemon: machine, outbox,
      │             executor with production's KernelGate, probes)
      ├── Store, at the arbiter        ├── Agents that cut power
      ├── Clients: open-loop writers through the virtual IP
      └── Judge: the invariants, looked at whenever something moves that they speak of

Stories (tests/scenarios) live in it without chance, seeds (simulate.py) with all of it. The same seed is the same
schedule, event by event.
"""

from __future__ import annotations

import heapq
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim_agents import Agents
from sim_chance import Chance
from sim_clients import Clients
from sim_judge import Judge
from sim_network import Network
from sim_node import Node
from sim_store import Store

from failoverd.core.model import Node as Member
from failoverd.core.model import NodeKind, NodeName
from failoverd.core.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim_database import Database

    from failoverd.core.effects import Entry

    Told = Callable[[int, str, Entry], None]

POLICY = Policy(
    services=(("imap", "dovecot.service", 3), ("smtp", "postfix@-.service", 3)),
    database_unit="mariadb.service",
    database_failures=3,
)
MEMBERS = (
    Member(NodeName("mail1"), NodeKind.DATA, "10.89.1.11", 100),
    Member(NodeName("mail2"), NodeKind.DATA, "10.89.1.12", 90),
    Member(NodeName("mail3"), NodeKind.DATA, "10.89.1.13", 80),
    Member(NodeName("arbiter"), NodeKind.ARBITER, "10.89.1.14"),
)
MEMORY = Path("/dev/shm")  # noqa: S108 - a directory with a random name below it; files that are synced cost nothing


class World:
    """Everything, and the time. `told` gets each audit entry as it is written."""

    def __init__(self, chance: Chance | None = None, policy: Policy = POLICY, told: Told | None = None) -> None:
        self.now = 0
        self.end = 1 << 60  # a call that is held up does not come back after this
        self.members = MEMBERS
        self.chance = chance or Chance()
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0
        self.made = 0  # transactions, on whatever server
        self._told = told
        self.tell: Callable[[str, str], None] = lambda _who, _text: None
        self.directory = Path(tempfile.mkdtemp(prefix="failoverd-", dir=MEMORY if MEMORY.is_dir() else None))
        weakref.finalize(self, shutil.rmtree, self.directory, ignore_errors=True)
        self.judge = Judge(self)
        self.network = Network(self)
        self._nodes: dict[str, Node] = {m.name: Node(self, m, policy, n) for n, m in enumerate(MEMBERS, start=1)}
        self.nodes = list(self._nodes.values())
        self.data_nodes = [node for node in self.nodes if node.is_data]
        self.databases = [node.database for node in self.data_nodes]
        self.agents = Agents(self)
        self.store = Store(self, self._nodes["arbiter"])
        self.clients = Clients(self)

    def lay_out(self) -> None:
        """Set the cluster up as its administrator would: mail1 writable with the address, the others replicate."""
        first, *others = self.data_nodes
        first.kernel.add_address()
        first.database.read_only = False
        first.database.semi_sync_source = True
        first.mounted = True
        for node in others:
            node.database.follow(first.name)
            for service in node.services.values():
                service.up = not node.policy.store_moves
        self.clients.start()

    # ---- time -------------------------------------------------------------------------------------------------

    def at(self, delay_ms: int, action: Callable[..., None], *arguments: Any) -> None:
        """Do it after `delay_ms`."""
        self._sequence = sequence = self._sequence + 1
        heapq.heappush(self._queue, (self.now + delay_ms, sequence, action, arguments))

    def run_until(self, end: int, reached: Callable[[], bool] | None = None) -> bool:
        """Let time pass until `end`, or until `reached` holds; whether it does."""
        queue, pop = self._queue, heapq.heappop
        while queue and queue[0][0] <= end:
            if reached is not None and reached():
                return True
            self.now, _, action, arguments = pop(queue)
            action(*arguments)
        self.now = max(self.now, end)
        return reached is not None and reached()

    # ---- who is who -------------------------------------------------------------------------------------------

    def node(self, name: str) -> Node:
        """The host of that name."""
        return self._nodes[name]

    def name_of(self, address: str) -> str:
        """The host at an address."""
        return next(m.name for m in MEMBERS if m.address == address)

    def replicas_of(self, source: Database) -> list[Database]:
        """Who has a connection to it."""
        return [d for d in self.databases if d.stream is not None and d.stream.source is source]

    def reachable(self) -> list[Node]:
        """The hosts whose kernel lets clients through."""
        return [node for node in self.data_nodes if node.kernel.reachable]

    def serving(self) -> Node | None:
        """The one host that takes writes and whose services work for clients."""
        for node in self.reachable():
            works = all(node.service_works(name) for name in node.services)
            if not node.frozen and works and not node.database.read_only and self.network.is_plugged(node.name):
                return node
        return None

    def told(self, name: str, entry: Entry) -> None:
        """A node wrote an audit record."""
        if self._told is not None:
            self._told(self.now, name, entry)

    def heal(self) -> None:
        """End every fault: network, store, power, processes, servers, configuration."""
        self.network.heal()
        self.store.heal()
        self.agents.heal()
        for node in self.nodes:
            node.heal()
