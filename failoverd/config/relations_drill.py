"""What must hold between section `drill` and the rest: a drill that is allowed, or due by itself, can begin at all.

Better here than in the night it is due, or after an hour of load, when the rows are to be compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failoverd.config.error import wrong

if TYPE_CHECKING:
    from failoverd.config.model import Config

# What the scenarios of failoverd/drill break; a test holds these beside them.
NOBODY_HIT, ARBITER_HIT, POWER_CUT = "switchover", "arbiter-loss", "primary-crash"


def check(config: Config) -> None:
    """Raise `wrong(...)` for the first relation that does not hold."""
    schedule = config.drill.schedule
    if schedule is not None and schedule.node not in config.members:
        raise wrong("is no node of this file", ", ".join(config.members), key=("drill", "schedule", "node"))
    if not config.drill.enabled:  # then nothing of the section is used
        return
    _port_is_its_own(config)
    _rows_can_be_compared(config)
    _schedule_can_begin(config)


def _port_is_its_own(config: Config) -> None:
    taken = {"peer.port": config.peer.port, "peer.rebuild_port": config.peer.rebuild_port}
    if config.http.enabled:
        taken["http.port"] = config.http.port
    for name, port in taken.items():
        if config.drill.port == port:
            raise wrong(f"is {name} as well", "a port of its own", key=("drill", "port"))
    if config.drill.port in config.gate.ports:
        raise wrong("is among gate.ports, which are closed on replicas", "a port of its own", key=("drill", "port"))


def _rows_can_be_compared(config: Config) -> None:
    if config.database.dialect != "mariadb":
        raise wrong(
            f"is for database.dialect: mariadb, and it is {config.database.dialect}: the backup and the comparison of "
            "rows are MariaDB's",
            "false",
            key=("drill", "enabled"),
        )
    if config.drill.password is None:
        raise wrong(
            "needs drill.password_file: rows are compared by an account of its own (config/grants-drill-mariadb.sql)",
            "drill.password_file: FILE, or enabled: false",
            key=("drill", "enabled"),
        )


def _schedule_can_begin(config: Config) -> None:
    drill, schedule = config.drill, config.drill.schedule
    if schedule is None:
        return
    name = schedule.scenario
    if name not in drill.allow:
        raise wrong(f"{name} is not among drill.allow", ", ".join(drill.allow), key=("drill", "schedule", "scenario"))
    if drill.load.users and drill.load.accounts is None:
        raise wrong(
            f"{drill.load.users} users need accounts that they can use, and drill.load.accounts_file is missing",
            "accounts_file: FILE, or users: 0",
            key=("drill", "load", "users"),
        )
    data = [node for node, member in config.members.items() if member.kind == "data"]
    unfenced = [node for node in data if not config.fencing.nodes.get(node)]
    if name == POWER_CUT and unfenced:
        raise wrong(
            f"cuts the primary's power, and fencing.nodes has no agent for {', '.join(unfenced)}",
            "a fence agent for each data node, or another scenario",
            key=("drill", "schedule", "scenario"),
        )
    if name == "disk-failure" and drill.disk is None:
        raise wrong(
            "freezes drill.disk, and that is missing",
            "disk: PATH in drill, or another scenario",
            key=("drill", "schedule", "scenario"),
        )
    _schedule_is_not_its_own_victim(config)


def _schedule_is_not_its_own_victim(config: Config) -> None:
    schedule = config.drill.schedule
    if schedule is None or config.members[schedule.node].kind == "data":
        return  # a data node is hit only while it is the primary, or the replica that was chosen
    data = ", ".join(name for name, member in config.members.items() if member.kind == "data")
    if schedule.scenario == ARBITER_HIT:
        raise wrong(f"is what {ARBITER_HIT} cuts off", f"a data node: {data}", key=("drill", "schedule", "node"))
    if schedule.scenario != NOBODY_HIT and config.fencing.nodes:
        raise wrong(
            "has no fence agent's password: it could not give a node its power back that the cluster switches off",
            f"a data node: {data}",
            key=("drill", "schedule", "node"),
        )
