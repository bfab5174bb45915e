"""May this drill begin now, and who is who in it. Pure: of documents, facts and the time, nothing is asked here.

Everything that could hurt refuses, with its code, before anything is changed; all reasons are told at once.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from failoverd.config.drill import window
from failoverd.core.model import NodeName
from failoverd.drill.limits import too_low
from failoverd.drill.model import Cast
from failoverd.drill.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from failoverd.config import Config
    from failoverd.drill.model import Asked, NodeFacts
    from failoverd.drill.scenarios.scenario import Scenario
    from failoverd.runtime.document import CheckDocument, NodeStatus, StatusDocument

Why = tuple[str, str]  # (code, reason)
SPARE = 2.4  # of the database: the backup, and the copy that is tried
SPARE_BYTES = 256 << 20


def in_window(text: str, now: datetime) -> bool:
    """Whether a moment of a day lies in it; one that ends before it begins goes over midnight."""
    found = window(text)
    if found is None:
        return True
    begin, end = found
    at = now.time().replace(tzinfo=None)
    return begin <= at < end if begin < end else at >= begin or at < end


def cast_of(config: Config, asked: Asked, status: StatusDocument) -> Cast | None:
    """Who is who, None where there is no primary or nobody whom the fault could hit."""
    scenario = SCENARIOS[asked.scenario]
    data = tuple(node.name for node in status.nodes if node.kind == "data")
    if status.holder is None:
        return None
    heir = status.failover.candidate or ""
    replicas = [name for name in data if name != status.holder]
    target = {
        "primary": status.holder,
        # Not the heir's replication: whoever would take over has to stay able to.
        "replica": next((name for name in reversed(replicas) if name != heir), ""),
        "arbiter": next((name for name, member in config.members.items() if member.kind == "arbiter"), ""),
        "nobody": "",
    }[scenario.target]
    if asked.target and scenario.target == "replica" and asked.target in replicas:
        target = asked.target
    if scenario.target != "nobody" and not target:
        return None
    return Cast(
        coordinator=status.node,
        primary=status.holder,
        heir=status.holder if scenario.moves is False else heir,
        target=target,
        data_nodes=data,
        arbiters=tuple(node.name for node in status.nodes if node.kind != "data"),
        term=status.term,
    )


def backup_node(cast: Cast) -> str:
    """Who makes the backup: a replica, and not the heir, whose disk is about to be needed."""
    replicas = [name for name in cast.data_nodes if name != cast.primary]
    others = [name for name in replicas if name not in {cast.heir, cast.coordinator}]
    return (others or [name for name in replicas if name != cast.heir] or replicas)[0]


def early(config: Config, asked: Asked, now: datetime) -> list[Why]:
    """What can be told before anybody is asked."""
    scenario = SCENARIOS.get(asked.scenario)
    if scenario is None:
        return [("DRILL_DISABLED", f"{asked.scenario} is no scenario; scenarios are {', '.join(SCENARIOS)}")]
    found: list[Why] = []
    if not config.drill.enabled:
        found.append(("DRILL_DISABLED", "drill.enabled is false"))
    elif scenario.name not in config.drill.allow:
        found.append(("DRILL_DISABLED", f"drill.allow does not name {scenario.name}"))
    found += _of_time(config, asked, now)
    if asked.users and config.drill.load.accounts is None:
        found.append(("DRILL_NO_ACCOUNTS", "drill.load.accounts_file is missing: nobody can be simulated"))
    return found


def refusals(
    config: Config, asked: Asked, cast: Cast | None, status: StatusDocument, check: CheckDocument
) -> list[Why]:
    """Why it may not begin as the cluster is now."""
    if cast is None:
        return [("DRILL_NOT_FIT", "there is no primary, or nobody whom the fault could hit")]
    scenario = SCENARIOS[asked.scenario]
    if asked.target and asked.target != cast.target:
        why = f"{scenario.name} would hit {cast.target or 'nobody'}, and not {asked.target}"
        return [("DRILL_DISABLED", f"{why}: only which replica replication-break hits can be chosen")]
    return [
        *_of_the_cluster(status, check),
        *_of_candidates(status, scenario),
        *_of_orders(status),
        *_of_replicas(config, status),
        *_of_the_cast(config, cast, scenario),
    ]


def too_late(config: Config, asked: Asked, cast: Cast, status: StatusDocument, now: datetime) -> list[Why]:
    """Why the fault must not come any more: a backup may have taken hours, and the cluster went on meanwhile."""
    found = list(_of_time(config, asked, now))
    if (status.holder, status.term) != (cast.primary, cast.term):
        was = f"when the drill began it was {cast.primary} in term {cast.term}"
        found.append(("DRILL_NOT_FIT", f"{status.holder} is primary in term {status.term}: {was}"))
    return found


def unwell(config: Config, status: StatusDocument, check: CheckDocument) -> list[Why]:
    """Why the cluster is not as it was before a drill: what every drill waits for at its end."""
    return [*_of_the_cluster(status, check), *_of_replicas(config, status)]


def _of_time(config: Config, asked: Asked, now: datetime) -> Iterator[Why]:
    """The load has to fit in as well: the fault stays for as long."""
    wanted = asked.window or config.drill.window
    until = now + timedelta(seconds=asked.duration_s)
    if not in_window(wanted, now):
        yield "DRILL_WINDOW", f"it is {now:%H:%M}; drills are allowed {wanted}"
    elif not in_window(wanted, until):
        yield "DRILL_WINDOW", f"it is {now:%H:%M}, and the load would end at {until:%H:%M}; drills are allowed {wanted}"


def _of_the_cluster(status: StatusDocument, check: CheckDocument) -> Iterator[Why]:
    if status.lease.state != "held":
        yield "DRILL_NOT_FIT", f"the lease of {status.holder} is {status.lease.state}"
    if not status.store.reachable:
        yield "DRILL_NOT_FIT", f"the store is not reachable: {status.store.error}"
    for node in status.nodes:
        if not node.fresh:
            yield "DRILL_NOT_FIT", f"{node.name} is silent"
    if status.unproven:
        yield "DRILL_NOT_FIT", f"RPO unproven: {status.unproven}"
    if not status.failover.possible:
        whys = [*status.failover.blockers, *status.failover.rejected]
        yield "DRILL_NOT_FIT", "; ".join(f"{why.code}: {why.reason}" for why in whys) or "no failover is possible"
    for finding in check.findings:
        if finding.blocks:
            yield "DRILL_NOT_FIT", f"{finding.node}: {finding.code}: {finding.reason}"


def _of_candidates(status: StatusDocument, scenario: Scenario) -> Iterator[Why]:
    if scenario.moves is not False and status.failover.candidate is None:
        yield "DRILL_NOT_FIT", "nobody could take over"


def _of_orders(status: StatusDocument) -> Iterator[Why]:
    if status.paused:
        yield "DRILL_MAINTENANCE", f"paused by {status.paused}"
    if status.request is not None:
        yield "DRILL_MAINTENANCE", f"a switchover to {status.request.target} is under way"
    if status.scheduled is not None:
        yield "DRILL_MAINTENANCE", f"a switchover to {status.scheduled.target} is due at {status.scheduled.at}"
    for node in status.nodes:
        if node.maintenance is not None:
            yield "DRILL_MAINTENANCE", f"{node.name} is worked on by {node.maintenance.by}: {node.maintenance.reason}"
        if node.rebuild is not None and node.rebuild.under_way:
            yield "DRILL_MAINTENANCE", f"the database of {node.name} is being made anew"


def _of_replicas(config: Config, status: StatusDocument) -> Iterator[Why]:
    for node in status.nodes:
        if node.kind != "data" or node.name == status.holder:
            continue
        lag_ms = _lag_ms(node)
        if lag_ms is None:
            yield "DRILL_LAG", f"how far {node.name} is behind is not known"
        elif lag_ms > config.drill.max_lag_ms:
            yield "DRILL_LAG", f"{node.name} is {lag_ms} ms behind; allowed: {config.drill.max_lag_ms}"


def _lag_ms(node: NodeStatus) -> int | None:
    replication = node.database.replication if node.database is not None else None
    if replication is None or replication.receiver != "running" or replication.applier != "running":
        return None
    return replication.lag_ms


def _better_node(cast: Cast) -> str:
    """A data node that is not hit and does not become primary: its load goes over the wire, before and after."""
    others = [name for name in cast.data_nodes if name != cast.target]
    return next((name for name in others if name not in {cast.primary, cast.heir}), others[0])


def _of_the_cast(config: Config, cast: Cast, scenario: Scenario) -> Iterator[Why]:
    if cast.target and cast.coordinator == cast.target:
        why = f"{scenario.name} hits {cast.target}, where it was begun"
        yield "DRILL_WRONG_NODE", f"{why}: begin it on {_better_node(cast)}"
    elif config.fencing.nodes.get(NodeName(cast.target)) and cast.coordinator in cast.arbiters:
        # The cluster may switch it off meanwhile, and who has broken it has to switch it on again.
        why = f"{cast.target} may have to be given its power back, and {cast.coordinator} has no fence agent's password"
        yield "DRILL_WRONG_NODE", f"{why}: begin it on {_better_node(cast)}"
    refused = scenario.refuses(config, cast.target)
    if refused is not None:
        yield refused


def of_facts(config: Config, asked: Asked, cast: Cast, facts: Mapping[str, NodeFacts]) -> list[Why]:
    """Why it may not begin by what the agents know. Who could not be asked is not in `facts`."""
    return [*_of_agents(cast, facts), *_of_room(config, asked, cast, facts), *_of_the_disk(asked, cast, facts)]


def warnings(asked: Asked, facts: Mapping[str, NodeFacts], *, accounts: int) -> list[Why]:
    """What does not keep it from beginning, and may spoil what it measures."""
    return [
        ("DRILL_LIMITS", f"{name}: {words}")
        for name, known in facts.items()
        for words in too_low(known.limits, users=asked.users, accounts=accounts)
    ]


def _of_agents(cast: Cast, facts: Mapping[str, NodeFacts]) -> Iterator[Why]:
    own = facts.get(cast.coordinator)
    for name, known in facts.items():
        if not known.enabled:
            yield "DRILL_DISABLED", f"{name}: drill.enabled is false there"
        if known.drill or known.fault:
            yield "DRILL_RUNNING", f"{name} is in drill {known.drill or 'of which only the fault is left'}"
        if own is not None and (known.software, known.digest) != (own.software, own.digest):
            yield "DRILL_NO_AGENT", f"{name} runs {known.software} by another configuration or version than {own.node}"


def _of_room(config: Config, asked: Asked, cast: Cast, facts: Mapping[str, NodeFacts]) -> Iterator[Why]:
    node = backup_node(cast)
    known = facts.get(node)
    if asked.backup == "none" or known is None or known.free_bytes is None or known.data_bytes is None:
        return
    needed = int(known.data_bytes * SPARE) + SPARE_BYTES
    if known.free_bytes < needed:
        room = f"{needed / 1e9:.1f} GB are needed for a backup and its trial, {known.free_bytes / 1e9:.1f} GB are free"
        yield "DRILL_SPACE", f"{node}, {config.drill.backup.directory}: {room}"


def _of_the_disk(asked: Asked, cast: Cast, facts: Mapping[str, NodeFacts]) -> Iterator[Why]:
    known = facts.get(cast.target)
    if asked.scenario == "disk-failure" and known is not None and known.frozen_ok:
        yield "DRILL_DISK", f"{cast.target}: {known.frozen_ok}"


def most_users(*, wanted: int, own: int, connections: int | None, share_percent: float, least: int) -> int:
    """How many users may be simulated beside real ones: their share of all sessions stays below the ceiling.

    `connections` is what the primary counts, ours among them; None: not known, and then only `least` are allowed.
    """
    if share_percent >= 100:
        return wanted
    others = max(connections - own, 0) if connections is not None else 0
    return min(wanted, max(least, int(others * share_percent / (100 - share_percent))))


def in_words(reasons: Sequence[Why]) -> str:
    """Tell all reasons in one line; the first one's code is told beside it, others' here."""
    (_, first), *others = reasons or [("", "")]
    return "; ".join([first, *(f"{code}: {reason}" for code, reason in others)])
