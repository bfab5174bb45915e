"""The Zabbix template at work: imported, linked to each node of the lab, values seen to arrive, a trigger to fire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hosts import LabError, layout
from hosts.shell import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from outside.zabbix_server import ZabbixServer

TEMPLATE = layout.TREE / "config/zabbix/failoverd-template.yaml"
GROUP, NODE, CLUSTER = "failoverd", "failoverd node by HTTP", "failoverd cluster"
TWO, NOBODY = "two nodes say that they are primary", "no node is primary"
WARNS = "(warns)"  # what this machine's kernel refuses is a finding of each of its hosts
VALUES_S, ALARM_S = 90.0, 120.0
_RULES = {
    "groups": {"createMissing": True, "updateExisting": True},
    "templates": {"createMissing": True, "updateExisting": True},
    "valueMaps": {"createMissing": True, "updateExisting": True},
    "items": {"createMissing": True, "updateExisting": True},
    "triggers": {"createMissing": True, "updateExisting": True},
    "discoveryRules": {"createMissing": True, "updateExisting": True},
}


class Monitored:
    """The lab's nodes as hosts of a Zabbix server."""

    def __init__(self, server: ZabbixServer, say: Callable[[str], None]) -> None:
        self._server, self._say = server, say

    def prepare(self) -> None:
        """Import the template by the API, and link a host for each node, as an administrator does in the frontend."""
        call = self._server.call
        text = TEMPLATE.read_text(encoding="utf-8")
        call("configuration.import", format="yaml", rules=_RULES, source=text)
        found = call("template.get", output=["host"], filter={"host": [NODE, CLUSTER]})
        templates = {template["host"]: {"templateid": template["templateid"]} for template in found}
        (group,) = call("hostgroup.create", name=GROUP)["groupids"]
        for host in layout.HOSTS:
            linked = [templates[NODE], *([templates[CLUSTER]] if host == layout.ARBITER else [])]
            interface = {"type": 1, "main": 1, "useip": 1, "ip": layout.ADDRESSES[host], "dns": "", "port": "10050"}
            call("host.create", host=host, interfaces=[interface], groups=[{"groupid": group}], templates=linked)
        self._say(f"Zabbix: {' and '.join(templates)} imported, linked to {len(layout.HOSTS)} hosts")

    def values(self, key: str) -> dict[str, str]:
        """The newest value of an item on each host that has one."""
        found = self._server.call(
            "item.get",
            output=["lastvalue", "lastclock", "key_"],
            filter={"key_": key},
            selectHosts=["host"],
            monitored=True,
        )
        return {item["hosts"][0]["host"]: item["lastvalue"] for item in found if item["lastclock"] != "0"}

    def wait_for_values(self, primary: str) -> None:
        """Wait until each node's numbers, those of discovered members, and the cluster's sum have come."""
        expected = {host: "1" if host == primary else "0" for host in layout.HOSTS}
        self._wait("failoverd.primary", expected)
        self._wait("failoverd.cluster.primaries", {layout.ARBITER: "1"})
        self._wait("failoverd.holder", dict.fromkeys(layout.HOSTS, primary))
        replica = next(host for host in layout.DATA_NODES if host != primary)
        self._wait(f"failoverd.node.role[{replica}]", dict.fromkeys(layout.HOSTS, "replica"))
        self._wait(f"failoverd.service[{replica},imap]", dict.fromkeys(layout.HOSTS, "1"))
        broken = self._server.call(
            "item.get", output=["key_", "error"], filter={"state": 1}, monitored=True, group=GROUP
        )
        if broken:
            raise LabError(f"Zabbix: items not supported: {broken}")
        count = self._server.call("item.get", countOutput=True, monitored=True, group=GROUP)
        self._say(f"Zabbix: values from all nodes, one primary, {primary}; {count} items, all supported")

    def _wait(self, key: str, expected: dict[str, str]) -> None:
        wait_for(
            f"Zabbix: {key}", lambda: self.values(key) == expected, VALUES_S, 0.5, why_not=lambda: str(self.values(key))
        )

    def problems(self) -> dict[str, str]:
        """The triggers of the lab's hosts that fire, as `HOST: NAME`, each with the page that it leads to."""
        found = self._server.call(
            "trigger.get",
            output=["description", "url"],
            selectHosts=["host"],
            filter={"value": 1},
            group=GROUP,
            expandDescription=True,
            monitored=True,
        )
        return {f"{trigger['hosts'][0]['host']}: {trigger['description']}": trigger["url"] for trigger in found}

    def wait_for_alarm(self, dead: str, primary: str) -> None:
        """Wait for the triggers of the node that lost its power, and of the role's move."""
        replica = next(host for host in layout.DATA_NODES if host not in {dead, primary})
        wanted = {f"{dead}: {_gone(dead)}", f"{replica}: failoverd: {replica} does not hear {dead}"}
        seen: dict[str, str] = {}

        def all_fire() -> bool:
            seen.update(self.problems())
            return wanted <= seen.keys()

        wait_for(f"Zabbix: {' and '.join(wanted)}", all_fire, ALARM_S, 0.5, why_not=lambda: str(self.problems()))
        self._wait("failoverd.primary", self._primary_is(primary, dead))
        self._wait("failoverd.cluster.answering", {layout.ARBITER: str(len(layout.HOSTS) - 1)})
        for name, page in sorted(seen.items()):
            self._say(f"Zabbix: {name}  -> {page}")
        moved = self._fired("the role has moved")
        if not moved:
            raise LabError("Zabbix: no trigger has told that the role has moved")
        self._say(f"Zabbix: {'; '.join(moved)}")

    def wait_for_the_all_clear(self, back: str) -> None:
        """Wait until the triggers of the node that was dead have resolved, and see that none was too much."""

        def left() -> list[str]:
            return [name for name in self.problems() if back in name and WARNS not in name]

        wait_for(f"Zabbix: nothing more is wrong with {back}", lambda: not left(), ALARM_S, 0.5, lambda: str(left()))
        self._say(f"Zabbix: {_gone(back)}, and what came of it, has resolved")
        if wrong := self._fired(TWO, NOBODY):
            raise LabError(f"Zabbix: told what was not so: {'; '.join(wrong)}")

    def _primary_is(self, primary: str, dead: str) -> dict[str, str]:
        """The last word of a dead node stays."""
        word = dict.fromkeys(layout.HOSTS, "0")
        return word | {primary: "1", dead: self.values("failoverd.primary")[dead]}

    def _fired(self, *texts: str) -> list[str]:
        """The events with one of the texts that have begun, from the first, with their time."""
        found = self._server.call(
            "event.get", output=["name", "clock"], selectHosts=["host"], value=1, source=0, sortfield=["clock"]
        )
        return [
            f"{event['hosts'][0]['host']}: {event['name']}"
            for event in found
            if any(text in event["name"] for text in texts)
        ]


def _gone(host: str) -> str:
    return f"failoverd: {host} does not answer"
