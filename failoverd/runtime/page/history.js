// The last changes of primary, the newest first and open: who and why, how long clients were without service, and each
// phase with where in time it lay.
import { h } from "./dom.js";
import { badge, code, coded, distance, duration, moment, rule, seconds } from "./words.js";

const SHOWN = 10;
const KINDS = { switchover: "Switchover", failover: "Failover", forced: "Forced failover", adoption: "Adoption" };
const OUTCOMES = { done: "good", failed: "bad", "under-way": "warn" };

export function history({ history: document, trouble, now }) {
  const failed = trouble.history && h("p", { class: "warned" }, badge("bad", "could not be read"), ` ${trouble.history}`);
  if (document === null) return [failed || h("p", {}, "Not read yet.")];
  const changes = document.changes.slice(0, SHOWN);
  const unseen = [document.unseen ?? []].flat();
  return [
    failed,
    changes.length === 0 && h("p", {}, "None is on record."),
    h("ol", { class: "changes" }, changes.map((change, at) => h("li", { "data-key": change.id }, one(change, at === 0, now)))),
    document.changes.length > SHOWN && h("p", { class: "small" }, `${document.changes.length - SHOWN} older ones: failoverctl history`),
    unseen.length > 0 && h("p", {}, "What could not be looked at: ", unseen.map((reason) => told(reason))),
  ];
}

const told = (reason) => (typeof reason === "string" ? `${reason} ` : [code(reason.code), ` ${reason.reason} `]);

function one(change, open, now) {
  const { kind, term, previous, holder, by, reason, began, ended, outcome, outage_ms, phases } = change;
  const from = previous && previous !== holder ? `${previous} → ${holder ?? "nobody"}` : (holder ?? "nobody");
  return h(
    "details",
    { open, class: "change" },
    h(
      "summary",
      {},
      badge(OUTCOMES[outcome] ?? "unknown", outcome),
      h("span", { class: "what" }, `${KINDS[kind] ?? kind} ${from}`),
      h("span", { class: "small" }, moment(began), ` · ${distance(began, now)}`),
      h("span", { class: "outage" }, outage(change)),
    ),
    h(
      "dl",
      { class: "facts" },
      fact("Term", String(term)),
      change.rule && fact("Rule", rule(change.rule)),
      by && fact("By", by),
      reason && fact("Why", coded(reason)),
      fact("Took", ended ? seconds(new Date(ended) - new Date(began)) : outcome === "under-way" ? "not ended yet" : "end not known"),
    ),
    phases.length > 0 ? timeline(phases) : h("p", { class: "small" }, "No phase is on record."),
  );
}

function outage({ kind, outage_ms, outcome }) {
  if (kind === "adoption") return "nothing moved";
  if (outage_ms !== null) return `outage ${seconds(outage_ms)}`;
  return outcome === "under-way" ? "outage not over" : "outage not known";
}

function fact(name, ...words) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, ...words));
}

function timeline(phases) {
  const last = Math.max(1, ...phases.map((phase) => phase.ended_ms ?? phase.began_ms));
  return h(
    "table",
    { role: "table", class: "phases" },
    h("caption", { class: "unseen" }, "Phases, in time after the beginning"),
    h(
      "thead",
      { role: "rowgroup" },
      h("tr", { role: "row" }, ["Phase", "Node", "At", "Took", "Outcome"].map((title) => h("th", { scope: "col", role: "columnheader" }, title)), h("td", { "aria-hidden": "true", class: "bar" })),
    ),
    h("tbody", { role: "rowgroup" }, phases.map((phase) => row(phase, last))),
  );
}

const ENDS = { succeeded: "good", done: "good", ok: "good", failed: "bad", unknown: "unknown", refused: "bad" };

function row({ name, node, began_ms, ended_ms, outcome, code: reason }, last) {
  const kind = ENDS[outcome] ?? "off";
  const begin = (100 * began_ms) / last;
  const width = Math.max(0.8, (100 * ((ended_ms ?? last) - began_ms)) / last);
  const cell = (label, ...words) => h("td", { role: "cell", "data-label": label }, ...words);
  return h(
    "tr",
    { role: "row" },
    h("th", { scope: "row", role: "rowheader" }, name),
    cell("Node", node),
    cell("At", `${(began_ms / 1000).toFixed(3)} s`),
    cell("Took", ended_ms === null ? "–" : duration(ended_ms - began_ms)),
    cell("Outcome", outcome ? badge(kind, outcome) : "–", reason && [" ", code(reason)]),
    h(
      "td",
      { "aria-hidden": "true", class: `bar ${kind}` },
      h("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none" }, h("rect", { x: Math.min(begin, 99.2), y: 0, width, height: 8, rx: 0.4 })),
    ),
  );
}
