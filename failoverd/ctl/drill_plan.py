"""`failoverctl drill run --dry-run`: who is who, what would be done on which node, and whether it may begin now."""

from __future__ import annotations

import asyncio
import shlex
import socket as network
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from failoverd.config import ConfigError, load
from failoverd.ctl.exits import Exit
from failoverd.drill import DrillError, accounts, preflight
from failoverd.drill.calls import Agents
from failoverd.drill.local import LocalDaemon
from failoverd.drill.model import Asked, NodeFacts, PhaseName
from failoverd.drill.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from failoverd.config import Config
    from failoverd.drill.model import Cast
    from failoverd.drill.preflight import Why


def shown(asked: Mapping[str, Any], file: Path, socket: Path) -> Exit:
    """Print it. Ends with 3 where the drill would be refused."""
    try:
        config = load(file, network.gethostname())
    except ConfigError as error:
        click.echo(f"failoverctl: {error}", err=True)
        return Exit.FAILED
    drill = config.drill
    meant = Asked(
        id="a-drill",
        scenario=str(asked["scenario"]),
        by="",  # nobody yet
        users=int(asked.get("users", drill.load.users)),
        duration_s=int(asked.get("duration_s", drill.load.duration_ms // 1000)),
        backup=asked.get("backup", drill.backup.kind),
        window=str(asked["window"]),
        target=str(asked["target"]),
    )
    try:
        cast, whys, warnings = asyncio.run(_looked(config, meant, socket))
    except DrillError as error:
        click.echo(f"failoverctl: {error}", err=True)
        return Exit.UNREACHABLE
    click.echo("\n".join(_lines(config, meant, cast)))
    if warnings:
        click.echo("\nwould refuse some of the load:")
        for code, reason in warnings:
            click.echo(f"  {code}  {reason}")
    if whys:
        click.echo("\nwould be refused:")
        for code, reason in whys:
            click.echo(f"  {code}  {reason}")
        return Exit.REFUSED
    click.echo("\nwould begin")
    return Exit.DONE


async def _looked(config: Config, asked: Asked, socket: Path) -> tuple[Cast | None, list[Why], list[Why]]:
    whys = preflight.early(config, asked, datetime.now(UTC).astimezone())
    async with LocalDaemon(socket) as daemon, Agents(config) as agents:
        status, check = await daemon.status(), await daemon.check()
        cast = preflight.cast_of(config, asked, status)
        whys += preflight.refusals(config, asked, cast, status, check)
        facts: dict[str, NodeFacts] = {}
        for node in config.nodes:
            try:
                facts[str(node)] = await agents.facts(str(node))
            except DrillError as error:
                whys.append((error.code, error.reason))
        try:
            simulated = len(accounts.read(config.drill.load.accounts)) if config.drill.load.accounts else 0
        except DrillError as error:
            simulated = 0
            whys.append((error.code, error.reason))
    if cast is not None:
        whys += preflight.of_facts(config, asked, cast, facts)
    return cast, whys, preflight.warnings(asked, facts, accounts=simulated)


def _lines(config: Config, asked: Asked, cast: Cast | None) -> Iterator[str]:
    scenario = SCENARIOS[asked.scenario]
    yield f"{scenario.name}: {scenario.about}"
    yield f"  expected    {scenario.expects}"
    if cast is None:
        return
    hit = cast.target or "nobody"
    yield f"  primary     {cast.primary}; heir {cast.heir}; hit {hit}; conducted from {cast.coordinator}"
    yield f"  phases      {', '.join(PhaseName)}"
    backup = f"{asked.backup}, on {preflight.backup_node(cast)}" if asked.backup != "none" else "none"
    yield f"  backup      {backup}"
    yield f"  load        {asked.users} users, {asked.duration_s} s on the new primary"
    fault = scenario.fault(config, cast)
    if fault is None:
        return
    yield f"  fault       on {fault.node}, at most {fault.limit_s} s: {fault.words}"
    for title, commands in (("inject", fault.inject), ("undo", fault.undo), ("gone", fault.gone)):
        for command in commands:
            yield f"    {title:8}  {shlex.join(command)}"
