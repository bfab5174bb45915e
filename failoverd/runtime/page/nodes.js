// Every node with all that is known of it: a table, which a narrow screen shows as one card a node. Roles are spelled out
// because a browser may forget that a table is one once its cells are laid out otherwise.
import { h } from "./dom.js";
import { role } from "./topology.js";
import { badge, coded, duration, moment } from "./words.js";

const TERM_APART = 100_000; // transactions: a term begins with a number of its own, far beyond the last
const COLUMNS = ["Node", "Role", "Services", "SQL", "Replication", "Lag", "Position", "VIP", "Free disk", "Heard"];

export function nodes(view) {
  const { status } = view;
  const cells = [name, role, services, sql, replication, lag, position, vip, disk, heard];
  const news = status.nodes.flatMap((node) => newsOf(node, view));
  return [
    h(
      "table",
      { role: "table", class: "nodes" },
      h("caption", { class: "unseen" }, `The nodes of ${status.cluster}, as ${status.node} sees them`),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, COLUMNS.map((title) => h("th", { scope: "col", role: "columnheader" }, title)))),
      h(
        "tbody",
        { role: "rowgroup" },
        status.nodes.map((node) =>
          h(
            "tr",
            { role: "row", "data-key": node.name, class: node.fresh ? "" : "stale" },
            cells.map((cell, at) =>
              at === 0
                ? h("th", { scope: "row", role: "rowheader" }, cell(node, view))
                : h("td", { role: "cell", "data-label": COLUMNS[at] }, h("div", {}, cell(node, view) ?? empty())),
            ),
          ),
        ),
      ),
    ),
    news.length > 0 && h("ul", { class: "news", "aria-label": "What is not as it should be" }, news),
  ];
}

const empty = () => h("span", { class: "none" }, "–");
const dataOnly = (make) => (node, view) => (node.kind === "data" ? make(node, view) : null);
const sure = (node, kind) => (node.fresh ? kind : "unknown"); // what was said too long ago is not known to be so

function name(node) {
  return [
    h("strong", {}, node.name),
    " ",
    h("span", { class: "small" }, node.address),
    node.maintenance && [" ", badge("warn", "maintenance")],
    !node.fresh && [" ", badge("bad", "silent")],
  ];
}

const services = dataOnly((node) => {
  const kinds = { up: "good", down: "bad", degraded: "warn", unknown: "unknown" };
  const found = Object.entries(node.services).sort();
  if (found.length === 0) return "not known";
  return h(
    "ul",
    { class: "badges" },
    found.map(([service, { verdict }]) => h("li", {}, badge(kinds[verdict] ?? "unknown", `${service} ${verdict}`))),
  );
});

const sql = dataOnly((node) => {
  if (!node.database) return node.fresh ? badge("bad", "down") : badge("unknown", "not known");
  const right = node.database.read_only === (node.actual !== "primary");
  const words = node.database.read_only ? "ro" : "rw";
  return [badge(sure(node, right ? "good" : "bad"), words), h("span", { class: "unseen" }, node.database.read_only ? " read-only" : " writable")];
});

const replication = dataOnly((node, { status }) => {
  if (!node.database) return null;
  const { replication: stream, semi_sync, read_only } = node.database;
  if (!stream) {
    if (read_only) return badge(sure(node, "warn"), "none");
    if (!semi_sync.source) return badge(sure(node, status.bound ? "good" : "bad"), "asynchronous");
    return badge(sure(node, semi_sync.clients ? "good" : "bad"), `${semi_sync.clients} acknowledge`);
  }
  const source = status.nodes.find((one) => one.address === stream.source)?.name ?? stream.source;
  const thread = (what, state) => h("li", {}, badge(sure(node, state === "running" ? "good" : state === "connecting" ? "warn" : "bad"), `${what} ${state}`));
  return [
    `from ${source}`,
    h(
      "ul",
      { class: "badges" },
      thread("receiver", stream.receiver),
      thread("applier", stream.applier),
      !semi_sync.replica && h("li", {}, badge(sure(node, "warn"), "does not acknowledge")),
    ),
  ];
});

const lag = dataOnly((node) => {
  const stream = node.database?.replication;
  if (!stream) return null;
  return stream.lag_ms === null ? badge("unknown", "not known") : h("span", { class: "whole" }, duration(stream.lag_ms));
});

const position = dataOnly((node) => {
  if (!node.database) return null;
  const { behind, position: reached } = node.database;
  const words = behind >= TERM_APART ? "1 term behind" : `${behind} behind`;
  return [h("span", { class: "gtid" }, reached), behind > 0 && [" ", badge(sure(node, "warn"), words)]];
});

const vip = dataOnly((node) => {
  if (!node.vip) return badge("unknown", "not known");
  const right = node.vip.present === (node.actual === "primary");
  const kind = sure(node, !right || node.vip.others.length ? "bad" : node.vip.present ? "good" : "off");
  return badge(kind, node.vip.present ? "has it" : "no");
});

function disk(node) {
  if (!node.host) return null;
  const free = node.host.disk_free_percent;
  return [
    badge(sure(node, free < 5 ? "bad" : free < 15 ? "warn" : "good"), `${Math.round(free)} %`),
    " ",
    h("span", { class: "small" }, node.host.fullest_disk),
  ];
}

function heard(node, { status, age, old }) {
  if (node.name === status.node) return old ? badge("unknown", `${duration(age)} ago`) : "here";
  if (node.last_heard_ms === null) return badge("bad", "never");
  const words = `${duration(node.last_heard_ms + age)} ago`;
  return node.fresh && !old ? h("span", { class: "whole" }, words) : badge(node.fresh ? "unknown" : "bad", words);
}

// ---- what is not as it should be, and is no finding: each with its own words

function newsOf(node, { status, age }) {
  const found = [];
  const say = (what, words) => found.push(h("li", {}, h("strong", {}, node.name), " ", what, words && [": ", coded(words)]));
  if (node.maintenance) {
    const { by, reason, until } = node.maintenance;
    say("is in maintenance", `${by}, “${reason}”`);
    if (until) found.at(-1).append(", until ", moment(until));
  }
  if (!node.fresh) {
    const when = node.last_heard_ms === null ? "was never heard" : `was last heard ${duration(node.last_heard_ms + age)} ago`;
    say(when, node.last_heard_ms === null ? "" : "what it said of itself is from then");
  }
  for (const [service, { verdict, votes }] of Object.entries(node.services).sort()) {
    if (verdict === "up" || (verdict === "unknown" && !node.fresh)) continue;
    const against = Object.entries(votes).sort().filter(([, words]) => words !== "ok").map(([who, words]) => `${who}: ${words}`);
    say(`${service} ${verdict}`, against.join("; ") || "nobody has looked yet");
  }
  for (const unit of node.units) if (unit.active !== "active") say(unit.unit, `${unit.active} (${unit.sub})`);
  if (node.fresh && node.term !== null && node.term !== status.term) say(`is in term ${node.term}`, `and ${status.node} in term ${status.term}`);
  if (node.fresh && node.ready === false) say("is not ready", "its own services do not all answer its own probes");
  if (node.vip?.others.length) say("virtual IP", `also answered by ${node.vip.others.join(", ")}`);
  const stream = node.database?.replication;
  if (stream?.receiver_error) say("receiver", stream.receiver_error);
  if (stream?.applier_error) say("applier", stream.applier_error);
  if (node.rebuild?.code) say("the last rebuild failed", `${node.rebuild.code}: ${node.rebuild.reason}`);
  const versions = new Set(status.nodes.map((one) => one.software).filter(Boolean));
  if (versions.size > 1 && node.software) say("runs", `failoverd ${node.software}`);
  return found;
}
