"""The commands of a story that break something or mend it, one method each: `power-cut mail1` is `do_power_cut`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from world import World


class Faults:
    """What can go wrong in `world`, by name."""

    world: World

    def say(self, who: str, text: str) -> None:
        """One line of the story."""
        raise NotImplementedError

    def do_power_cut(self, name: str) -> None:
        """Power loss."""
        self.world.node(name).power_off()

    def do_power_on(self, name: str) -> None:
        """Power back: the host boots."""
        self.world.node(name).power_on()

    def do_mail(self, name: str, count: str) -> None:
        """So many messages lie in its Postfix's queue; of every data node failoverd looks after it from now on."""
        for node in self.world.data_nodes:
            if node.mail is None:
                node.mail = 0
                self.do_restart_failoverd(node.name)
        self.world.node(name).mail = int(count)

    def do_kill_failoverd(self, name: str) -> None:
        """SIGKILL, and nobody starts it again."""
        self.world.node(name).kill_daemon()

    def do_start_failoverd(self, name: str) -> None:
        """Start it."""
        self.world.node(name).start_daemon()

    def do_restart_failoverd(self, name: str) -> None:
        """Kill it and start it 200 ms later, as systemd would."""
        node = self.world.node(name)
        node.kill_daemon()
        node.when_awake(200, node.start_daemon)

    def do_stop_service(self, name: str, service: str) -> None:
        """A mail service dies; a restart would work."""
        self.world.node(name).services[service].up = False

    def do_ruin_service(self, name: str, service: str) -> None:
        """It dies and cannot be started."""
        found = self.world.node(name).services[service]
        found.up = found.can_start = False

    def do_break_service(self, name: str, service: str) -> None:
        """Its unit runs and no client can use it, before and after a restart."""
        self.world.node(name).services[service].broken_for_clients = True

    def do_slow_service(self, name: str, service: str, took: str) -> None:
        """It works for clients again, and each has to wait so many milliseconds."""
        found = self.world.node(name).services[service]
        found.broken_for_clients, found.slow_ms = False, int(took)

    def do_kill_database(self, name: str) -> None:
        """The server crashes; systemd starts it again."""
        self.world.node(name).kill_database()

    def do_restart_replication(self, name: str) -> None:
        """STOP SLAVE; START SLAVE."""
        self.world.node(name).database.restart_replication()

    def do_ruin_database(self, name: str) -> None:
        """It crashes and cannot be started."""
        node = self.world.node(name)
        node.database.can_start = False
        node.kill_database()

    def do_refuse_rebuild(self, name: str) -> None:
        """Its rebuild fails before anything is touched."""
        self.world.node(name).rebuild.cannot = True

    def do_allow_rebuild(self, name: str) -> None:
        """It would work again."""
        self.world.node(name).rebuild.cannot = False

    def do_mend_database(self, name: str) -> None:
        """It can be started again, and is."""
        node = self.world.node(name)
        node.database.can_start = True
        node.database.start()

    def do_block_read_only(self, name: str) -> None:
        """SET GLOBAL read_only does not come back."""
        self.world.node(name).database.read_only_blocked = True

    def do_stop_waiting(self, name: str) -> None:
        """A hand: SET GLOBAL rpl_semi_sync_master_enabled = OFF."""
        self.world.node(name).database.stop_waiting()

    def do_set_read_only(self, name: str) -> None:
        """An administrator's hand."""
        self.world.node(name).database.read_only = True

    def do_set_writable(self, name: str) -> None:
        """Another."""
        self.world.node(name).database.read_only = False

    def do_drop_vip(self, name: str) -> None:
        """And another: the address is deleted."""
        self.world.node(name).kernel.drop_address()

    def do_lag(self, name: str, seconds: str) -> None:
        """The applier takes so long for each batch."""
        self.world.node(name).database.apply_ms = round(float(seconds.removesuffix("s")) * 1000)

    def do_write_on(self, name: str, count: str) -> None:
        """A transaction of its own, past failoverd: what nobody else will have."""
        self.world.node(name).database.write_errant(int(count))

    def do_freeze(self, name: str) -> None:
        """Every process of the host stands still."""
        self.world.node(name).freeze()

    def do_thaw(self, name: str) -> None:
        """They go on."""
        self.world.node(name).thaw()

    def do_cut(self, sender: str, receiver: str) -> None:
        """`cut A B`: B no longer hears A."""
        self.world.network.cut(sender, receiver)

    def do_unplug(self, name: str) -> None:
        """The cable is out."""
        self.world.network.unplug(name)

    def do_plug(self, name: str) -> None:
        """And in again."""
        self.world.network.plug(name)

    def do_heal_network(self) -> None:
        """All ways are open again, all cables in."""
        self.world.network.heal()

    def do_heal(self) -> None:
        """Every fault ends."""
        self.world.heal()

    def do_store_down(self) -> None:
        """The store does not answer."""
        self.world.store.down = True

    def do_store_up(self) -> None:
        """It does again."""
        self.world.store.down = False

    def do_store_old(self, copies: str) -> None:
        """The store is restored from a copy so many changes old."""
        self.world.store.restore(int(copies))

    def do_store_newest(self) -> None:
        """The right copy is put back."""
        self.world.store.put_back()

    def do_tell_term(self, name: str, term: str) -> None:
        """Its reports speak of a term that it was never given; 0: of its own again."""
        self.world.node(name).told_term = int(term)

    def do_busy_store(self, name: str) -> None:
        """Somebody stands in the mail store."""
        self.world.node(name).store_busy = True

    def do_leave_store(self, name: str) -> None:
        """And goes."""
        self.world.node(name).store_busy = False

    def do_refuse_store(self, name: str) -> None:
        """The program that moves the mail store says that this node cannot have it."""
        self.world.node(name).store_refused = True

    def do_mount(self, name: str) -> None:
        """An administrator mounts the mail store."""
        self.world.node(name).mounted = True

    def do_unmount(self, name: str) -> None:
        """Or unmounts it."""
        self.world.node(name).mounted = False

    def do_start_service(self, name: str, service: str) -> None:
        """Or starts a mail service."""
        self.world.node(name).services[service].up = True

    def do_mounts(self) -> None:
        """Where the mail store is, and on which nodes the services run."""
        for node in self.world.data_nodes:
            up = ", ".join(name for name, service in node.services.items() if service.up)
            state = f"{'mounted' if node.mounted else 'not mounted'}, running: {up or 'none'}"
            self.say(node.name, state if node.powered else "no power")

    def do_audit_fails(self, name: str) -> None:
        """The disk does not take the audit: what opens is not begun."""
        self.world.node(name).audit_fails = True

    def do_agents(self, manner: str) -> None:
        """Fence agents work, fail, hang, or fail though they worked."""
        self.world.agents.manner = lambda: manner

    def do_membership(self, name: str, digest: str) -> None:
        """The node runs with another configuration: failoverd is restarted with it."""
        self.world.node(name).membership = digest
        self.do_restart_failoverd(name)
