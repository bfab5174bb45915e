"""What the daemon, failoverctl and a drill, three processes, leave for each other on disk.

    /run/failoverd/drill-request.json           the daemon's: what an operator has asked for, for the next coordinator
    /var/lib/failoverd/drill/ID/state.json      the coordinator's newest word: `drill.model.Drill`
    /var/lib/failoverd/drill/ID/report.json     and report.html: on every node, once it has ended
    /var/lib/failoverd/drill/current            the id of the drill that this node conducts, while it is not clean
    /var/lib/failoverd/drill/last.json          of the newest that was conducted here and passed
    /var/lib/failoverd/drill/wanted             the daemon's: since when a schedule wants them of this node
    /var/lib/failoverd/drill/lock               held by the process that conducts one here, or clears up

Apart from all three, since the daemon loads nothing of a drill.
"""

from __future__ import annotations

DIRECTORY = "drill"  # below the state directory
REQUEST = "drill-request.json"
STATE, REPORT, PAGE, LEDGER, LOAD, CURRENT, LAST, WANTED, LOCK = (
    "state.json",
    "report.json",
    "report.html",
    "ledger.jsonl",
    "load.jsonl",
    "current",
    "last.json",
    "wanted",
    "lock",
)
UNIT, AGENT_UNIT, FAULT_UNIT = "failoverd-drill.service", "failoverd-drill-agent.service", "failoverd-fault.service"
