"""config/ for other programs: read by those programs themselves, and asking only for what failoverd tells."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from test_public_metrics import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

TREE = Path(__file__).resolve().parents[2]
CONFIG = TREE / "config"
RULES = CONFIG / "prometheus/failoverd.rules.yml"
STORIES = CONFIG / "prometheus/failoverd.rules.test.yml"
TEMPLATE = CONFIG / "zabbix/failoverd-template.yaml"
DASHBOARD = CONFIG / "grafana/failoverd.json"
PROMETHEUS_OWN = {"up"}
# Labels that prometheus.yml gives to every target.
TARGET = {"cluster", "instance", "job"}


def run(*command: str, **environment: str) -> str:
    """Run it to its end; what it said, when it fails."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def rules() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def panels() -> list[dict[str, Any]]:
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]


def queries() -> dict[str, str]:
    """Every expression that is asked of Prometheus, by where it stands."""
    found = {name: rule["expr"] for name, rule in rules().items()}
    for panel in panels():
        for target in panel.get("targets", []):
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return found


def told_by(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:failoverd_\w+|up\b)", expression))


def page_is_there(page: str) -> bool:
    """Whether a path below runbooks/, with its anchor, leads somewhere."""
    path, _, anchor = page.partition("#")
    file = TREE / path
    if not file.is_file():
        return False
    titles = re.findall(r"^## (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return not anchor or anchor in {title.lower() for title in titles}


@pytest.mark.root
def test_prometheus_takes_its_configuration_and_fires_each_alert() -> None:
    run("promtool", "check", "config", str(CONFIG / "prometheus/prometheus.yml"))
    run("promtool", "check", "rules", str(RULES))
    run("promtool", "test", "rules", str(STORIES))


def test_each_alert_has_a_story_that_fires_it_and_one_story_fires_none() -> None:
    stories = yaml.safe_load(STORIES.read_text(encoding="utf-8"))["tests"]
    fired = [
        {re.sub(r".*\"(\w+)\".*", r"\1", sample["labels"]) for sample in story["promql_expr_test"][0]["exp_samples"]}
        for story in stories
    ]
    assert set().union(*fired) == rules().keys()
    assert fired[0] == set(), "the healthy cluster"


def test_each_alert_says_what_it_is_and_leads_to_its_page() -> None:
    for name, rule in rules().items():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}, name
        assert {"summary", "description", "runbook"} == rule["annotations"].keys(), name
        page = rule["annotations"]["runbook"]
        assert page == "runbooks/codes/{{ $labels.code }}.md" or page_is_there(page), f"{name}: {page}"


def test_each_section_of_the_page_of_alerts_is_led_to() -> None:
    led_to = {rule["annotations"]["runbook"].partition("monitoring-alerts.md#")[2] for rule in rules().values()}
    text = (TREE / "runbooks/monitoring-alerts.md").read_text(encoding="utf-8")
    assert {title.lower() for title in re.findall(r"^## (.+)$", text, re.MULTILINE)} == led_to - {""}


def test_what_is_asked_of_prometheus_is_told_on_metrics() -> None:
    for place, expression in queries().items():
        assert told_by(expression) <= NAMES.keys() | PROMETHEUS_OWN, place
        labels = set().union(TARGET, *(NAMES.get(name, set()) for name in told_by(expression)))
        for names in re.findall(r"(?:by|on|group_left) \(([^)]*)\)", expression):
            assert set(filter(None, names.replace(" ", "").split(","))) <= labels, place


@pytest.mark.root
def test_prometheus_can_read_each_expression(tmp_path: Path) -> None:
    asked = [text.replace("$__rate_interval", "1m").replace("$cluster", "lab") for text in queries().values()]
    records = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(asked)]
    rule = {"groups": [{"name": "panels", "rules": records}]}
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps(rule))
    run("promtool", "check", "rules", str(file))


@pytest.mark.root
def test_haproxy_takes_its_configuration() -> None:
    run("haproxy", "-c", "-f", str(CONFIG / "haproxy/haproxy.cfg"))
    run("haproxy", "-c", "-f", str(CONFIG / "haproxy/haproxy.cfg"), READ_PORT="3316")


@pytest.mark.root
def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    key, certificate = tmp_path / "mail.key", tmp_path / "mail.crt"
    made = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=mail")
    run("openssl", "req", "-x509", *made, "-keyout", str(key), "-out", str(certificate))
    text = (CONFIG / "nginx/nginx-mail.conf").read_text(encoding="utf-8")
    there = text.replace("/etc/ssl/mail/", f"{tmp_path}/").replace("/run/", f"{tmp_path}/")
    (tmp_path / "nginx.conf").write_text(there.replace("/var/log/nginx/", f"{tmp_path}/"))
    run("nginx", "-t", "-q", "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log"))


def test_the_dashboard_is_one_that_grafana_knows() -> None:
    """No Grafana could be had: what its JSON model demands of a dashboard and its panels is asked here instead."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert {"title", "uid", "schemaVersion", "time", "templating", "annotations", "panels"} <= dashboard.keys()
    assert [panel["id"] for panel in panels()] == list(range(1, len(panels()) + 1))
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert set(re.findall(r"\$\{?(?!__)(\w+)", DASHBOARD.read_text(encoding="utf-8"))) == variables
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        assert panel["type"] in {"row", "stat", "timeseries", "state-timeline", "table"}, panel["title"]
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, f"{panel['title']} lies on another"
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            references = [target["refId"] for target in panel["targets"]]
            assert references
            assert len(set(references)) == len(references)


def test_each_file_says_what_it_was_tried_with() -> None:
    files = [file for file in CONFIG.rglob("*") if file.is_file() and file.name != "README.md"]
    table = (CONFIG / "README.md").read_text(encoding="utf-8")
    for file in files:
        head = " ".join(file.read_text(encoding="utf-8").splitlines()[:12])
        assert re.search(r"\b[Tt]ried with \w+", head), file
        assert file.name in table or file == STORIES, file


def everything(value: object) -> Iterator[dict[str, Any]]:
    """Every mapping inside."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from everything(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from everything(inner)


def test_the_zabbix_template_asks_for_what_is_told_and_leads_to_pages() -> None:
    export = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))["zabbix_export"]
    asked = [
        step["parameters"][0] for step in everything(export) if str(step.get("type", "")).startswith("PROMETHEUS_")
    ]
    assert asked
    for pattern in asked:
        name, labels = re.fullmatch(r"(\w+)(\{.*\})?", pattern).groups()  # type: ignore[union-attr] # or it fails here
        assert name in NAMES, pattern
        assert set(re.findall(r"(\w+)=", labels or "")) <= NAMES[name], pattern
    triggers = [part for part in everything(export) if "priority" in part]
    assert triggers
    for trigger in triggers:
        page = trigger["url"].replace("{$FAILOVERD.RUNBOOKS}", "runbooks")
        assert page == "runbooks/codes/{#CODE}.md" or page_is_there(page), trigger["name"]
    numbers = [part["uuid"] for part in everything(export) if "uuid" in part]
    assert len(numbers) == len(set(numbers))
