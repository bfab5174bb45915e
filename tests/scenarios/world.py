"""A small deterministic world: four nodes that run the production `machine.step` in virtual time.

    World ── scheduler (one heap, integer milliseconds) ── network (latency, cuts)
      ├── Node x 4: clock, power, kernel gate, services, Database, one run of failoverd (machine, executor, probes)
      ├── Store, at the arbiter
      └── Clients: open-loop writers through the virtual IP

Without a seed every latency is its base value, so that a story reads the same on every machine. With one they are
drawn, and the same seed is the same schedule. The invariants are checked after every event.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from sim_clients import Clients
from sim_node import Node
from sim_store import Store

from failoverd.core.effects import Entry
from failoverd.core.model import Node as Member
from failoverd.core.model import NodeKind, NodeName
from failoverd.core.policy import Policy

if TYPE_CHECKING:
    from sim_database import Database, Stream

NETWORK_MS = 2
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
Told = Callable[[int, str, Entry], None]


class World:
    """Everything, and the time. `told` gets each audit entry as it is written."""

    def __init__(self, seed: int | None = None, policy: Policy = POLICY, told: Told | None = None) -> None:
        self.now = 0
        self.members = MEMBERS
        self._random = Random(seed) if seed is not None else None  # noqa: S311 - a schedule, no secret
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0
        self.made = 0  # transactions, on whatever server
        self._told = told
        self._cuts: set[tuple[str, str]] = set()
        self._unplugged: set[str] = set()
        self._nodes = {m.name: Node(self, m, policy, number) for number, m in enumerate(MEMBERS, start=1)}
        self._data = [node for node in self._nodes.values() if node.is_data]
        self.store = Store(self, "arbiter")
        self.clients = Clients(self)
        self.tell: Callable[[str, str], None] = lambda _who, _text: None

    def lay_out(self) -> None:
        """Set the cluster up as its administrator would: mail1 writable with the address, the others replicate."""
        first, *others = self._data
        first.gate.permanent = True
        first.database.read_only = False
        first.database.semi_sync_source = True
        for node in others:
            node.database.follow(first.name)
        self.clients.start()

    # ---- time -------------------------------------------------------------------------------------------------

    def at(self, delay_ms: int, action: Callable[..., None], *arguments: Any) -> None:
        """Do it after `delay_ms`."""
        self._sequence += 1
        heapq.heappush(self._queue, (self.now + delay_ms, self._sequence, action, arguments))

    def latency(self, base_ms: int) -> int:
        """How long something takes that usually takes `base_ms`."""
        if self._random is None:
            return base_ms
        return max(1, round(base_ms * self._random.choice((0.5, 0.8, 1, 1, 1.2, 1.5, 2, 5))))

    def run_until(self, end: int, reached: Callable[[], bool] | None = None) -> bool:
        """Let time pass until `end`, or until `reached` holds; whether it does."""
        while self._queue and self._queue[0][0] <= end:
            if reached is not None and reached():
                return True
            self.now, _, action, arguments = heapq.heappop(self._queue)
            action(*arguments)
            self._check()
        self.now = max(self.now, end)
        return reached is not None and reached()

    # ---- network ----------------------------------------------------------------------------------------------

    def connected(self, sender: str, receiver: str) -> bool:
        """Whether both ways are open and both hosts have power."""
        return self._passes(sender, receiver) and self._passes(receiver, sender)

    def _passes(self, sender: str, receiver: str) -> bool:
        up = self._nodes[NodeName(sender)].powered and self._nodes[NodeName(receiver)].powered
        cut = (sender, receiver) in self._cuts or sender in self._unplugged or receiver in self._unplugged
        return up and (sender == receiver or not cut)

    def send(self, sender: str, receiver: str, deliver: Callable[..., None], *arguments: Any) -> None:
        """One message. It is lost when the way is closed as it leaves or as it arrives."""
        if not self._passes(sender, receiver):
            return

        def arrive() -> None:
            if self._passes(sender, receiver):
                deliver(*arguments)

        self.at(self.latency(NETWORK_MS) if sender != receiver else 1, arrive)

    def cut(self, sender: str, receiver: str) -> None:
        """`receiver` no longer hears `sender`."""
        self._cuts.add((sender, receiver))

    def unplug(self, name: str) -> None:
        """The cable is out: neither peers nor clients."""
        self._unplugged.add(name)

    def plug(self, name: str) -> None:
        """It is in again."""
        self._unplugged.discard(name)

    def is_plugged(self, name: str) -> bool:
        """Whether its cable is in."""
        return name not in self._unplugged

    def heal_network(self) -> None:
        """All ways are open again, all cables in."""
        self._cuts.clear()
        self._unplugged.clear()

    def heal(self) -> None:
        """End every fault: network, store, power, processes, servers, configuration."""
        self.heal_network()
        self.store.down = False
        self.store.put_back()
        for node in self._nodes.values():
            node.heal()

    # ---- who is who -------------------------------------------------------------------------------------------

    def node(self, name: str) -> Node:
        """The host of that name."""
        return self._nodes[NodeName(name)]

    def address(self, name: str) -> str:
        """Its address."""
        return self.node(name).member.address

    def name_of(self, address: str) -> str:
        """The host at an address."""
        return next(m.name for m in MEMBERS if m.address == address)

    @property
    def nodes(self) -> list[Node]:
        """All hosts."""
        return list(self._nodes.values())

    @property
    def data_nodes(self) -> list[Node]:
        """Those that hold mail."""
        return self._data

    def databases(self) -> list[Database]:
        """All database servers."""
        return [node.database for node in self._data]

    def has_stream(self, stream: Stream) -> bool:
        """Whether some replica still has this connection."""
        return any(database.stream is stream for database in self.databases())

    def is_powered(self, name: str) -> bool:
        """Whether the host has power."""
        return self.node(name).powered

    def reachable(self) -> list[Node]:
        """The hosts whose kernel lets clients through."""
        return [node for node in self._data if node.powered and node.gate.is_open]

    def serving(self) -> Node | None:
        """The one host that takes writes and whose services work for clients."""
        for node in self.reachable():
            works = all(node.service_works(name) for name in node.services)
            if not node.frozen and works and not node.database.read_only and self.is_plugged(node.name):
                return node
        return None

    def told(self, name: str, entry: Entry) -> None:
        """A node wrote an audit record."""
        if self._told is not None:
            self._told(self.now, name, entry)

    # ---- invariants -------------------------------------------------------------------------------------------

    def _check(self) -> None:
        reachable = self.reachable()
        assert len(reachable) < 2, f"two primaries: {[node.name for node in reachable]}"
        for node in reachable:
            if not node.gate.permanent:
                newest = max(self.store.holders)
                assert node.gate.term == newest, f"{node.name} serves in term {node.gate.term}, it is {newest}"

    def check_promoted(self, name: str) -> None:
        """Nothing that a client was promised may be missing where clients will look for it."""
        lost = self.clients.acknowledged.difference(t.made for t in self.node(name).database.log)
        assert not lost, f"{name} serves and lacks {len(lost)} acknowledged writes, such as the {min(lost)}th made"
